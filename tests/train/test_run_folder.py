"""A run's folder: its record, its checkpoints, its log, and what it says when a run stops."""

import csv
import json

import numpy as np
import pytest

from rafa.files import sha256
from rafa.net.backend import keras, tf
from rafa.pose import AXES
from rafa.script import InputError
from rafa.train.recipe import compile_rafa_net, training_step
from rafa.train.run_folder import DivergedError, RunFolder
from rafa_model import build_rafa_net

RECORD = {"options": {"epochs": 7}, "lists": [[{"sha256": "a"}]], "images": [8, 4]}
RNG = np.random.default_rng(0)
BATCH = RNG.integers(0, 256, (2, 224, 224, 3)).astype("uint8"), dict.fromkeys(AXES, np.ones((2, 1), np.float32))


def network(seed):
    keras.utils.set_random_seed(seed)
    model = build_rafa_net("tiny", weights=None)
    compile_rafa_net(model)
    return model


@pytest.fixture(scope="module")
def trained():
    """A network after one step."""
    model = network(5)
    training_step(model)(*BATCH)
    return model


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "my run", keep_every=2)
    folder.start(RECORD)
    return folder


def row(epoch):
    return {"epoch": epoch, "seconds": 1.5, "learning_rate": 1e-3, "loss": 1 / epoch, "test_mae": ""}


def epochs_in(run):
    with run.log_file.open(encoding="utf-8") as file:
        return [line["epoch"] for line in csv.DictReader(file)]


# --- Taking the folder ---
def test_a_new_run_takes_a_folder_that_is_empty_or_not_there(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "deep/new"):
        RunFolder(tmp_path / name).refuse_if_used()
        RunFolder(tmp_path / name).start(RECORD)
        assert json.loads((tmp_path / name / "run.json").read_text()) == RECORD


def test_two_runs_never_share_a_folder(run, tmp_path):
    (tmp_path / "file").touch()
    for used in (run.path, tmp_path / "file", tmp_path):
        with pytest.raises(InputError, match="--run-dir, or --resume"):
            RunFolder(used).refuse_if_used()
    other = {**RECORD, "images": [1, 1]}
    with pytest.raises(InputError, match="--run-dir, or --resume"):
        RunFolder(run.path).start(other)
    assert run.record() == RECORD


def test_a_machine_that_is_not_the_first_writes_nothing(run, trained):
    follower = RunFolder(run.path, keep_every=1, writes=False)
    before = sorted(run.path.iterdir())
    follower.refuse_if_used()
    follower.start({})
    follower.log(row(1))
    follower.save(trained, 1)
    assert sorted(run.path.iterdir()) == before and run.record() == RECORD


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path):
    with pytest.raises(InputError, match=r"run\.json: no such file"):
        RunFolder(tmp_path).record()
    (tmp_path / "run.json").write_text('{"options": {"watch_every": 5}}')
    with pytest.raises(InputError, match="no run of this version"):
        RunFolder(tmp_path).record()


# --- Checkpoints ---
def test_a_checkpoint_holds_epoch_network_and_optimizer_to_the_last_bit(run, trained):
    run.save(trained, 7)
    other, again = network(6), RunFolder(run.path)
    assert again.restore(other, RECORD) == again.epochs_saved == 7
    pairs = ((trained.variables, other.variables), (trained.optimizer.variables, other.optimizer.variables))
    for ours, theirs in pairs:
        for one, two in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one.numpy(), two.numpy())
    assert int(other.optimizer.iterations) == 1


def test_every_second_checkpoint_is_kept_with_its_hash_in_the_record(run, trained):
    for epoch in (1, 2, 3):
        run.save(trained, epoch)
    assert [file.name for file in sorted(run.path.glob("*.keras"))] == ["epoch-002.keras", "last.keras"]
    run.note_weights(run.checkpoint)
    hashes = {name: sha256(run.path / name) for name in ("epoch-002.keras", "last.keras")}
    assert run.record() == {**RECORD, "weights": hashes} and len(set(hashes.values())) == 2


def test_a_stop_while_a_checkpoint_is_kept_leaves_the_run_at_the_epoch_before(run, trained, monkeypatch):
    run.save(trained, 1)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "note_weights", stop)
    with pytest.raises(KeyboardInterrupt):
        run.save(trained, 2)
    assert RunFolder(run.path).restore(trained, RECORD) == 1


def test_a_run_cannot_become_shorter_than_it_is(run, trained):
    run.save(trained, 4)
    with pytest.raises(InputError, match="--epochs is 3"):
        run.restore(trained, {**RECORD, "options": {"epochs": 3}})


@pytest.mark.parametrize("change", [{"lists": [[{"sha256": "b"}]]}, {"images": [7, 4]}])
def test_other_lists_or_images_than_those_of_the_run_are_refused(run, trained, change):
    run.save(trained, 1)
    with pytest.raises(InputError, match="lists or images"):
        run.restore(trained, {**RECORD, **change})


def test_a_failed_save_leaves_the_last_checkpoint(run, trained, monkeypatch):
    run.save(trained, 1)
    saved = run.checkpoint.read_bytes()

    def fail(path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(trained, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        run.save(trained, 2)
    assert run.checkpoint.read_bytes() == saved and run.epochs_saved == 1
    assert sorted(file.name for file in run.path.iterdir()) == ["last.keras", "run.json"]


def test_weights_that_are_not_finite_are_not_saved(run):
    model = network(5)
    run.save(model, 1)
    saved = run.checkpoint.read_bytes()
    for variable in (model.get_layer("conv1_bn").moving_variance, model.optimizer.variables[-1]):
        kept = variable.numpy()
        variable.assign(np.full(variable.shape, np.nan))
        with pytest.raises(DivergedError, match="not finite"):
            run.save(model, 2)
        variable.assign(kept)
    assert run.checkpoint.read_bytes() == saved


# --- The log ---
def test_the_log_has_a_row_per_epoch_and_is_printed(run, capsys):
    run.log(row(1))
    run.log(row(3))
    assert (
        run.log_file.read_text() == "epoch,seconds,learning_rate,loss,test_mae\n1,1.5,0.001,1,\n3,1.5,0.001,0.333333,\n"
    )
    assert capsys.readouterr().out.splitlines()[1] == "epoch 3, seconds 1.5, learning_rate 0.001, loss 0.333333"


@pytest.mark.parametrize("torn", ["", "2,1.5,0.0"])
def test_a_resume_drops_rows_and_curves_of_epochs_that_were_not_saved(run, trained, torn):
    run.log(row(1))
    run.save(trained, 1)
    run.log(row(2))
    run.log_file.write_text(run.log_file.read_text().replace("2,1.5,0.001,0.5,\n", torn))
    again = RunFolder(run.path)
    again.restore(trained, RECORD)
    again.start({**RECORD, "options": {"epochs": 5}, "commit": "c"}, resumed=True)
    again.log(row(2))
    assert epochs_in(run) == ["1", "2"]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = EventAccumulator(str(run.curves), size_guidance={"tensors": 0}).Reload().Tensors("loss")
    assert [(event.step, float(tf.make_ndarray(event.tensor_proto))) for event in curves] == [(1, 1), (2, 0.5)]
    (resume,) = run.record()["resumed"]
    assert (resume["after_epoch"], resume["commit"], run.record()["options"]) == (1, "c", {"epochs": 5})
    assert "commit" not in run.record()


def test_a_run_that_is_resumed_before_its_first_checkpoint_logs_from_the_beginning(run, trained):
    run.log(row(1))
    again, mended = RunFolder(run.path), {**RECORD, "images": [9, 4]}
    again.start(mended, resumed=True)
    again.log(row(1))
    assert epochs_in(run) == ["1"] and run.record() == mended  # lists may be put right before the first checkpoint


# --- What stops a run ---
@pytest.mark.parametrize(
    "stop", [KeyboardInterrupt(), OSError(28, "No space left on device"), InputError("a.jpg is bad")]
)
@pytest.mark.parametrize("saved", [0, 3])
def test_whatever_stops_a_run_says_in_one_line_what_is_saved_and_how_to_go_on(run, stop, saved):
    run.epochs_saved = saved
    with pytest.raises((KeyboardInterrupt, InputError)) as caught, run.saying_how_to_go_on():
        raise stop
    state = "holds the run up to epoch 3" if saved else "no epoch is saved"
    said = str(caught.value)
    assert isinstance(caught.value, KeyboardInterrupt) == isinstance(stop, KeyboardInterrupt)
    assert str(stop) in said and f"{state}; to go on: python train_rafa-net.py --run-dir '{run.path}' --resume" in said
    assert "\n" not in said


def test_a_run_that_diverged_is_not_to_be_resumed(run):
    with pytest.raises(InputError, match="loss nan") as caught, run.saying_how_to_go_on():
        raise DivergedError("loss nan")
    assert "no epoch is saved" in str(caught.value) and "--resume" not in str(caught.value)

"""A training run's parts: the learning rate, one step, the folder with its log and checkpoints."""

import csv
import json

import numpy as np
import pytest

from rafa.net.backend import keras, tf
from rafa.net.keras224 import BatchNormalization, count_steps
from rafa.pose import AXES
from rafa.script import InputError
from rafa.train import recipe as training
from rafa.train import run_folder
from rafa.train.devices import LostMachineError
from rafa.train.recipe import (
    LARGEST_ERROR,
    PAPER_LOSSES,
    ExpectedTime,
    compile_rafa_net,
    learning_rate_of,
    refuse_diverged,
    training_step,
)
from rafa.train.run_folder import DivergedError, RunFolder
from rafa_model import build_rafa_net

RNG = np.random.default_rng(0)
CROPS = RNG.integers(0, 256, (4, 224, 224, 3)).astype("uint8")
TRUE = {axis: RNG.uniform(-1, 1, (4, 1)).astype("float32") for axis in AXES}
LISTS = [[{"sha256": "a"}, {"sha256": "b"}], [{"sha256": "c"}, {"sha256": "d"}]]
RECORD = {"options": {"epochs": 3}, "lists": LISTS, "steps_per_epoch": 2, "suite": "0.2.0"}


def network():
    keras.utils.set_random_seed(5)
    model = build_rafa_net("tiny", weights=None)
    compile_rafa_net(model)
    return model


@pytest.fixture(scope="module")
def trained():
    """A network after two steps, their losses, and the step."""
    model = network()
    step = training_step(model)
    return model, [{axis: float(loss) for axis, loss in step(CROPS, TRUE).items()} for _ in range(2)], step


def row(epoch):
    return {"epoch": epoch, "seconds": 1.5, "learning_rate": 1e-3, "loss": 1 / epoch}


def test_the_learning_rate_is_divided_by_ten():
    assert [learning_rate_of(epoch, 1e-3, 25) for epoch in (0, 24, 25, 49, 50, 75)] == pytest.approx(
        [1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-6]
    )
    assert learning_rate_of(99, 1e-3, 0) == 1e-3


def test_a_step_gives_the_errors_from_before_its_update_and_moves_every_average_to_the_batch(trained):
    model = network()
    model.optimizer.learning_rate = 0.0
    norm = model.get_layer("conv1_bn")
    inner = keras.Model(model.input, norm.input)(CROPS.astype("float32"))  # before the update
    found = training_step(model)(CROPS, TRUE)
    np.testing.assert_allclose(norm.moving_mean.numpy(), np.mean(inner, axis=(0, 1, 2)), rtol=1e-3, atol=1e-3)
    assert all(
        layer.moving_variance.numpy().max() != 1 for layer in model.layers if isinstance(layer, BatchNormalization)
    )
    angles = model(CROPS.astype("float32"), training=True)
    for axis in AXES:
        assert float(found[axis]) == pytest.approx(float(np.mean((angles[axis] - TRUE[axis]) ** 2)), rel=1e-4)
        assert float(found[axis]) == pytest.approx(trained[1][0][axis], rel=1e-4)


@pytest.mark.slow
def test_a_step_updates_every_trainable_weight_as_keras_train_on_batch_does():
    networks = network(), network()
    for (
        model
    ) in networks:  # RMSprop's first step is nearly the gradient's sign, rounding included; this is the gradient
        optimizer = keras.optimizers.SGD(1e-2)
        model.compile(optimizer, loss=dict.fromkeys(AXES, "mean_squared_error"), jit_compile=False)
        count_steps(model, optimizer)
    start = [weight.numpy() for weight in networks[0].trainable_variables]
    training_step(networks[0])(CROPS, TRUE)
    networks[1].train_on_batch(CROPS.astype("float32"), TRUE)
    for before, ours, theirs in zip(start, *(model.trainable_variables for model in networks), strict=True):
        np.testing.assert_allclose(ours.numpy() - before, theirs.numpy() - before, rtol=1e-2, atol=1e-4)
    assert int(networks[0].optimizer.iterations) == 1


def test_a_checkpoint_continues_to_the_last_bit(trained, tmp_path):
    run, (model, _, step) = RunFolder(tmp_path / "run"), trained
    run.path.mkdir()
    run.start(RECORD)
    run.log(row(1))
    run.save(model, 1, last=False)
    run.log(row(2))
    other = network()
    assert RunFolder(tmp_path / "run").resume(other, RECORD) == (1, [])
    assert [line["epoch"] for line in csv.DictReader(run.log_file.open())] == ["1"]
    assert int(other.optimizer.iterations) == int(model.optimizer.iterations) == 2
    for ours, theirs in ((model.variables, other.variables), (model.optimizer.variables, other.optimizer.variables)):
        for before, after in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(before.numpy(), after.numpy())
    losses = [{axis: float(loss) for axis, loss in each(CROPS, TRUE).items()} for each in (step, training_step(other))]
    assert losses[0] == losses[1]


def test_epochs_are_kept_on_request_and_the_others_are_half_a_minute_apart(model, tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(run_folder.time, "monotonic", lambda: now[0])
    run = RunFolder(tmp_path, keep_every=5)
    saved = []
    monkeypatch.setattr(model, "save", lambda path: (path.write_bytes(b"network"), saved.append(now[0])))
    for epoch in range(1, 8):
        run.save(model, epoch, last=epoch == 7)
        now[0] += 12
    assert saved == [100, 136, 148, 172]  # epochs 1, 4, 5 and the last
    assert sorted(file.name for file in tmp_path.iterdir()) == ["epoch-005.keras", "last.keras"]


def test_a_failed_save_leaves_the_last_checkpoint(model, tmp_path, monkeypatch):
    run = RunFolder(tmp_path)
    run.checkpoint.write_bytes(b"good")

    def fail(path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(model, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        run.save(model, 1, last=True)
    assert [file.name for file in tmp_path.iterdir()] == ["last.keras"] and run.checkpoint.read_bytes() == b"good"


def begin(folder):
    """A new run in a folder, as the training script starts it."""
    run = RunFolder(folder)
    with run.taken(resume=False):
        run.start(RECORD)
    return run


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="is not empty; give another --run-dir, or --resume"):
        begin(tmp_path)
    begin(tmp_path / "new")
    with pytest.raises(InputError, match="is not empty"):
        begin(tmp_path / "new")
    assert json.loads((tmp_path / "new/run.json").read_text()) == RECORD
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["run.json"]


@pytest.mark.parametrize("resume", [False, True])
def test_of_two_runs_in_one_folder_at_once_one_is_refused(resume, tmp_path):
    with (
        RunFolder(tmp_path).taken(resume=False),  # and has not written yet
        pytest.raises(InputError, match="is in use by another run; give another --run-dir"),
        RunFolder(tmp_path).taken(resume),
    ):
        pass
    begin(tmp_path)


def test_a_killed_run_leaves_nothing_that_hinders_the_next(tmp_path):
    (tmp_path / run_folder.LOCK).touch()
    begin(tmp_path)
    (tmp_path / run_folder.LOCK).touch()
    (tmp_path / ".4711-last.keras").touch()
    with RunFolder(tmp_path).taken(resume=True):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(28, "No space left on device", "last.keras")])
@pytest.mark.parametrize("saved", [None, 0, 3])
def test_what_stops_a_run_says_what_is_saved_and_how_to_go_on(stop, saved, tmp_path):
    run = RunFolder(tmp_path / "my run")
    with pytest.raises((KeyboardInterrupt, InputError, OSError)) as caught, run.taken(resume=False):
        run.epochs_saved = saved
        raise stop
    go_on = f"go on with: python train_rafa-net.py --run-dir '{run.path}' --resume"
    state = {None: "", 0: f"no epoch was saved; {go_on}", 3: f"last.keras holds the run up to epoch 3; {go_on}"}[saved]
    assert str(caught.value).endswith(state) and "\n" not in str(caught.value)
    if isinstance(stop, KeyboardInterrupt) and saved is None:
        assert str(stop) == "no epoch was saved"
    if isinstance(stop, OSError) and saved is not None:
        assert str(caught.value).startswith("last.keras: No space left on device; ")


def test_a_run_that_diverged_is_not_to_be_resumed(tmp_path):
    run = begin(tmp_path)
    with pytest.raises(InputError) as caught, run.taken(resume=True):
        raise DivergedError("the loss is nan")
    assert str(caught.value) == "the loss is nan; no epoch was saved"


def test_a_run_that_lost_a_machine_has_one_instruction(tmp_path):
    run = begin(tmp_path)
    with pytest.raises(InputError) as caught, run.taken(resume=True):
        raise LostMachineError("start all again with --resume")
    assert str(caught.value) == "start all again with --resume; no epoch was saved"


@pytest.mark.parametrize(("keep_every", "epochs", "checkpoints"), [(0, 100, 2), (5, 100, 22), (5, 4, 2)])
def test_a_disk_too_small_for_the_checkpoints_is_said(keep_every, epochs, checkpoints, trained, tmp_path, monkeypatch):
    variables = (*trained[0].variables, *trained[0].optimizer.variables)
    needed = 4 * sum(int(np.prod(variable.shape)) for variable in variables) * checkpoints
    run, usage = RunFolder(tmp_path, keep_every), run_folder.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(run_folder.shutil, "disk_usage", lambda _: usage._replace(free=needed))
    run.check_disk(trained[0], 0, epochs)
    monkeypatch.setattr(run_folder.shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(InputError, match="are free: make room, or give another --run-dir"):
        run.check_disk(trained[0], 0, epochs)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), LARGEST_ERROR**2 * 1.01])
def test_a_loss_beyond_any_angle_is_refused_with_its_step(loss):
    fine = {"yaw": LARGEST_ERROR**2, "pitch": 1.0, "roll": 0.0}
    refuse_diverged(fine, PAPER_LOSSES, "epoch 2, step 7")
    with pytest.raises(InputError, match=r"epoch 2, step 7: the roll loss is .* lower --learning-rate"):
        refuse_diverged({**fine, "roll": loss}, PAPER_LOSSES, "epoch 2, step 7")


def test_weights_that_are_not_finite_are_not_saved(begun):
    model = network()
    begun.save(model, 1, last=True)
    saved = begun.checkpoint.read_bytes()
    for variable in (model.get_layer("conv1_bn").moving_variance, model.optimizer.variables[-1]):
        kept = variable.numpy()
        variable.assign(np.full(variable.shape, np.nan))
        with pytest.raises(InputError, match=r"epoch 2: .* is not finite: the training has diverged; lower --learning"):
            begun.save(model, 2, last=True)
        variable.assign(kept)
    assert begun.checkpoint.read_bytes() == saved and begun.epochs_saved == 1


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"options": 3, "suite": "0.2.0"}', '{"options": {}'])
def test_a_folder_without_a_record_cannot_be_resumed(content, tmp_path):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match="is not the folder of a run that can be resumed"):
        RunFolder(tmp_path).record()


def test_a_run_of_the_first_version_is_not_resumed(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"options": {}, "lists": [], "versions": {}}))
    with pytest.raises(InputError, match=r"started by version 0\.1 of this suite, whose batch normalisation differs"):
        RunFolder(tmp_path).record()


@pytest.fixture
def begun(tmp_path):
    return begin(tmp_path / "run")


def test_a_run_without_a_checkpoint_starts_again(begun, model, capsys):
    begun.log(row(1))
    assert begun.resume(model, RECORD) == (0, [])
    assert "holds no checkpoint yet: the run starts again at epoch 1" in capsys.readouterr().out
    assert begun.log_file.read_text() == ""
    begun.log(row(1))
    assert len(begun.log_file.read_text().splitlines()) == 2


@pytest.mark.parametrize("lists", [None, 5, [[{}]]])
def test_a_record_with_damaged_lists_is_refused(lists, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({**RECORD, "lists": lists}))
    with pytest.raises(InputError, match="is not the folder of a run that can be resumed"):
        RunFolder(tmp_path).record()


@pytest.mark.parametrize("content", [b"epoch,seconds\nabc,1\n,,\n", b"\xff\xfe\n1\n", b"epoch,loss\n1,2", None])
def test_rows_that_are_lost_are_said(begun, trained, content, capsys):
    begun.save(trained[0], 1, last=True)
    if content:
        begun.log_file.write_bytes(content)
    steps = int(trained[0].optimizer.iterations)
    assert begun.resume(trained[0], {**RECORD, "steps_per_epoch": steps}) == (1, [])
    assert "metrics.csv holds 0 of the 1 epochs done; the other rows are lost" in capsys.readouterr().out


def test_a_lost_or_damaged_checkpoint_is_said_with_the_way_on(begun, trained):
    model, steps = trained[0], int(trained[0].optimizer.iterations)
    again = {**RECORD, "steps_per_epoch": steps}
    begun.log(row(1))
    begun.log(row(2))
    with pytest.raises(InputError, match=r"last\.keras is missing; start a new run"):
        begun.resume(model, again)
    model.save(begun.path / "epoch-005.keras")
    (begun.path / "epoch-010.keras").write_bytes(b"damaged too")
    build_rafa_net("tiny", None).save(begun.path / "epoch-1000.keras")  # of no training run
    begun.checkpoint.write_bytes(b"not a network")
    with pytest.raises(InputError, match=r"damaged.*copy .*epoch-005\.keras to last\.keras"):
        begun.resume(model, again)
    assert len(begun.log_file.read_text().splitlines()) == 3


def test_a_checkpoint_without_an_optimizer_is_not_resumed(begun):
    build_rafa_net("tiny", None).save(begun.checkpoint)
    with pytest.raises(InputError, match=r"last\.keras holds no finite numbers for .*; start a new run"):
        begun.resume(network(), RECORD)


def test_other_lists_than_those_of_the_run_are_refused(begun, model):
    other = [LISTS[0], [{"sha256": "c"}, {"sha256": "changed"}]]
    with pytest.raises(InputError, match=r"the lists are not those that .* started with"):
        begun.resume(model, {**RECORD, "lists": other})


def test_a_changed_number_of_steps_is_refused(begun, trained):
    begun.save(trained[0], 1, last=True)
    done = int(trained[0].optimizer.iterations)
    with pytest.raises(
        InputError, match=rf"has done {done} steps, which is not a whole number of epochs of {done + 1} steps"
    ):
        begun.resume(network(), {**RECORD, "steps_per_epoch": done + 1})


def test_a_checkpoint_that_was_to_be_kept_is_kept_on_resume(begun, trained):
    steps = {**RECORD, "steps_per_epoch": int(trained[0].optimizer.iterations)}
    begun.save(trained[0], 1, last=True)
    again = RunFolder(begun.path, keep_every=1)
    again.resume(trained[0], steps)
    assert (begun.path / "epoch-001.keras").read_bytes() == begun.checkpoint.read_bytes()


def test_a_folder_in_which_a_run_was_killed_before_its_record_is_free(tmp_path):
    for name in (".lock", ".123-run.json"):
        (tmp_path / name).touch()
    RunFolder(tmp_path).refuse_if_used()
    (tmp_path / ".123-notes.txt").touch()
    with pytest.raises(InputError, match="is not empty"):
        RunFolder(tmp_path).refuse_if_used()


def test_a_run_that_was_stopped_in_an_epoch_goes_on_there(begun, trained):
    model, done = trained[0], int(trained[0].optimizer.iterations)
    losses = [dict.fromkeys(AXES, 0.1)] * (done - 1)
    begun.save_unfinished(model, 1, losses)
    assert begun._saved() == f"{begun.checkpoint} holds the run up to step {done - 1} of epoch 2"
    again, steps = RunFolder(begun.path), {**RECORD, "steps_per_epoch": 1}
    assert again.resume(model, steps) == (1, losses)
    assert again._saved() == begun._saved()
    again.save(model, done, last=True)
    assert not again.unfinished_file.exists() and again._saved().endswith(f"up to epoch {done}")


@pytest.mark.parametrize("content", ['{"steps": %d, "losses": [{"zaw": 1.0}]}', "{"])
def test_a_damaged_record_of_an_unfinished_epoch_is_named(begun, trained, content):
    model, done = trained[0], int(trained[0].optimizer.iterations)
    begun.save_unfinished(model, 0, [dict.fromkeys(AXES, 0.1)])
    begun.unfinished_file.write_text(content.replace("%d", str(done)))
    with pytest.raises(InputError, match=r"or unfinished\.json, .*, is missing or damaged; start a new run"):
        begun.resume(model, {**RECORD, "steps_per_epoch": done + 1})


@pytest.mark.parametrize("content", ['{"steps": 999, "losses": [{"yaw": 1.0}]}', '{"steps": 2, "losses": 5}', "[", "5"])
def test_losses_that_are_not_of_the_checkpoint_are_left_out(begun, trained, content):
    begun.save(trained[0], 1, last=True)
    begun.unfinished_file.write_text(content)
    steps = int(trained[0].optimizer.iterations)
    assert begun.resume(trained[0], {**RECORD, "steps_per_epoch": steps}) == (1, [])
    assert not begun.unfinished_file.exists()


@pytest.mark.parametrize("losses", [[], [{"yaw": 0.1, "pitch": 0.1, "roll": 0.1}]])
def test_a_run_cannot_become_shorter_than_it_is(begun, trained, losses):
    model, done = trained[0], int(trained[0].optimizer.iterations)
    begun.save_unfinished(model, done - len(losses), losses)
    before = begun.record_file.read_bytes()
    with pytest.raises(InputError, match=f"--epochs is {done - 1}, and this run has begun more"):
        begun.resume(model, {**RECORD, "steps_per_epoch": 1, "options": {"epochs": done - 1}})
    assert begun.record_file.read_bytes() == before


def test_every_resume_is_recorded(begun, trained):
    begun.save(trained[0], 1, last=True)
    steps = int(trained[0].optimizer.iterations)
    for epochs in (4, 5):
        again = {**RECORD, "steps_per_epoch": steps, "options": {"epochs": epochs}, "commit": str(epochs)}
        begun.resume(trained[0], again)
    record = json.loads(begun.record_file.read_text())
    assert record["options"] == {"epochs": 5} and "commit" not in record
    assert [(again["after_epoch"], again["commit"]) for again in record["resumed"]] == [(1, "4"), (1, "5")]


def test_the_log_has_a_row_per_epoch_and_tensorboard_its_curves(begun):
    begun.log(row(1))
    begun.log(row(2))
    assert begun.log_file.read_text() == "epoch,seconds,learning_rate,loss\n1,1.5,0.001,1\n2,1.5,0.001,0.5\n"
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = EventAccumulator(str(begun.path / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    assert [(event.step, float(tf.make_ndarray(event.tensor_proto))) for event in curves.Tensors("loss")] == [
        (1, 1),
        (2, 0.5),
    ]


def test_the_curves_have_no_epoch_twice_after_a_resume(begun, trained):
    begun.save(trained[0], 1, last=True)
    for epoch in (1, 2):
        begun.log(row(epoch))
    again = RunFolder(begun.path)
    assert again.resume(trained[0], {**RECORD, "steps_per_epoch": int(trained[0].optimizer.iterations)}) == (1, [])
    again.log(row(2))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = EventAccumulator(str(begun.path / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    assert [event.step for event in curves.Tensors("loss")] == [1, 2]


def test_the_expected_time_leaves_out_the_first_steps(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    expected = ExpectedTime(steps=100, epochs=6)
    for step in range(40):
        now[0] += 50 if step < 5 else 3
        expected.count()
    assert capsys.readouterr().out == "expected: 300 s an epoch, 30 min for the run\n"

"""The training script, run as people run it."""

import csv
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.images import with_gap, write_image

from rafa.script import InputError
from rafa.train import recipe as training
from rafa.train.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / "train_rafa-net.py")
SMALL = ["--backbone", "tiny", "--weights", "none", "--batch-size", "4", "--watch-every", "0", "--workers", "2"]


@pytest.fixture(scope="module")
def main():
    return runpy.run_path(SCRIPT)["main"]


@pytest.fixture
def folder(tmp_path):
    """A data folder with eight images and their lists."""
    rng = np.random.default_rng(0)
    boxes, angles = [], []
    for index in range(8):
        cv2.imwrite(str(tmp_path / f"{index}.png"), rng.integers(0, 256, (60, 60, 3), np.uint8))
        boxes.append(f"./{index}.png\t5 5 40 40 ")
        angles.append(f"./{index}.png\t{10 * index}\t{-5 * index}\t{3 * index}")
    (tmp_path / "crop.txt").write_text("\n".join(boxes))
    (tmp_path / "angles.txt").write_text("\n".join(angles))
    return tmp_path


def options(folder, run_dir, *more):
    lists = [str(folder / "crop.txt"), str(folder / "angles.txt")]
    own = ["--train-lists", *lists, "--test-lists", *lists, "--angle-unit", "degrees", "--data-dir", str(folder)]
    return [*SMALL, *own, "--run-dir", str(run_dir), *more]


def run(*arguments):
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


def rows_of(run_dir):
    with (run_dir / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_very_numbers_of_an_uninterrupted_one(folder, main, monkeypatch):
    process = subprocess.Popen([sys.executable, SCRIPT, *options(folder, folder / "killed", "--epochs", "200")])
    deadline = time.monotonic() + 200
    while not (folder / "killed/last.keras").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert (folder / "killed/last.keras").exists()

    done = run("--run-dir", folder / "killed", "--resume", "--epochs", "3")
    assert done.returncode == 0, done.stderr
    assert "resume after epoch 1 of 3" in done.stdout or "resume after epoch 2 of 3" in done.stdout
    main(options(folder, folder / "whole", "--epochs", "3"))
    resumed, whole = rows_of(folder / "killed"), rows_of(folder / "whole")
    for row in (*resumed, *whole):
        row.pop("seconds")
    assert resumed == whole and [row["epoch"] for row in whole] == ["1", "2", "3"]
    assert (folder / "killed/predictions.csv").read_bytes() == (folder / "whole/predictions.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("last_step", [3, 4])  # the first of the second epoch, and its last
def test_a_run_that_is_stopped_in_an_epoch_loses_no_step(last_step, folder, main, monkeypatch):
    steps, count = [], training.ExpectedTime.count

    def counted(self):
        steps.append(count(self))
        if len(steps) == last_step:
            os.kill(os.getpid(), signal.SIGTERM)

    with (
        monkeypatch.context() as patch,
        pytest.raises(KeyboardInterrupt, match=f"up to step {last_step - 2} of epoch 2"),
    ):
        patch.setattr(training.ExpectedTime, "count", counted)
        main(options(folder, folder / "stopped", "--epochs", "3"))
    assert len(steps) == last_step
    main(["--run-dir", str(folder / "stopped"), "--resume"])
    main(options(folder, folder / "whole", "--epochs", "3"))
    stopped, whole = rows_of(folder / "stopped"), rows_of(folder / "whole")
    for row in (*stopped, *whole):
        row.pop("seconds")
    assert stopped == whole
    names = [{file.name for file in (folder / run).iterdir()} for run in ("stopped", "whole")]
    assert names[0] == names[1]
    assert (folder / "stopped/predictions.csv").read_bytes() == (folder / "whole/predictions.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("place", "saved"), [("watch", "step 2 of epoch 2"), ("log", "epoch 2;")])
def test_a_run_that_is_stopped_between_two_epochs_loses_nothing(place, saved, folder, main, monkeypatch):
    owner, calls = main.__globals__ if place == "watch" else vars(RunFolder), []
    original = owner[place]

    def stopped_at_the_second(*arguments):
        calls.append(place)
        if len(calls) == 2:
            if place == "watch":
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGTERM)  # held back
        return original(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match=f"up to {saved}"):
        if place == "watch":
            patch.setitem(owner, place, stopped_at_the_second)
        else:
            patch.setattr(RunFolder, place, stopped_at_the_second)
        main(options(folder, folder / "stopped", "--epochs", "3", "--watch-every", "1"))
    main(["--run-dir", str(folder / "stopped"), "--resume"])
    main(options(folder, folder / "whole", "--epochs", "3", "--watch-every", "1"))
    stopped, whole = rows_of(folder / "stopped"), rows_of(folder / "whole")
    for row in (*stopped, *whole):
        row.pop("seconds")
    assert stopped == whole and all(row["test_mae"] for row in whole)


def test_a_run_folder_tells_everything(folder, main, capsys):
    run_dir = folder / "run"
    write_image(folder / "3.jpg").write_bytes(with_gap((folder / "3.jpg").read_bytes()))
    for file in ("crop.txt", "angles.txt"):
        (folder / file).write_text((folder / file).read_text().replace("3.png", "3.jpg"))
    main(options(folder, run_dir, "--epochs", "5", "--decay-every", "2", "--watch-every", "3", "--keep-every", "5"))
    rows = rows_of(run_dir)
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5])
    assert [bool(row["test_mae"]) for row in rows] == [False, False, True, False, False]
    axes = [sum(float(row[f"{axis}_loss"]) for axis in ("yaw", "pitch", "roll")) for row in rows]
    assert axes == pytest.approx([float(row["loss"]) for row in rows], rel=1e-4)
    record = json.loads((run_dir / "run.json").read_text())
    assert record["options"]["batch_size"] == 4 and record["options"]["seed"] == 0 and record["steps_per_epoch"] == 2
    assert (record["devices"], record["machines"], record["precision"]) == (1, 1, "float32")
    assert record["options"]["mixed_precision"] is False and record["options"]["xla"] is False
    assert len(record["lists"]) == 2 and len(record["lists"][0][0]["sha256"]) == 64
    assert record["mean_pose"] == pytest.approx({"yaw": 10.5, "pitch": -17.5, "roll": 35})
    assert {"keras", "tensorflow", "python"} <= set(record["versions"]) and record["suite"]
    result = json.loads((run_dir / "result.json").read_text())["results"][0]
    true = np.arange(8)[:, None] * (3, -5, 10)
    assert result["baseline"]["mae"] == pytest.approx(np.abs(true - true.mean(axis=0)).mean())
    assert len((run_dir / "predictions.csv").read_text().splitlines()) == 9
    files = {"epoch-005.keras", "last.keras", "metrics.csv", "predictions.csv", "result.json", "result.md", "run.json"}
    assert {file.name for file in run_dir.iterdir()} == {*files, "tensorboard"}
    out = capsys.readouterr().out
    assert (run_dir / "result.md").read_text().strip() in out and all(name in out for name in files)
    damage = "1 DAMAGED: 3.jpg: the decoder warned"
    assert [part.count(f"note: {damage}") for part in out.split("epoch 1:")] == [2, 2]  # training and test list
    assert [notes[0].startswith(damage) for notes in record["notes"]] == [True, True]
    assert "the run was started on" not in out
    (run_dir / "run.json").write_text(json.dumps(record | {"devices": 2}))
    main(["--run-dir", str(run_dir), "--resume"])
    assert "note: the run was started on 2 device(s), and goes on with 1: batch normal" in capsys.readouterr().out


def test_margins_and_limit_reach_the_batches_and_the_score(folder, main, monkeypatch, capsys):
    seen, batches = [], training.training_batches

    def noted(listed, batch_size, max_margin, *more):
        seen.append((len(listed.records), max_margin))
        return batches(listed, batch_size, max_margin, *more)

    monkeypatch.setattr(training, "training_batches", noted)
    chosen = ["--epochs", "1", "--train-margin", "0.4", "--test-margin", "0.1", "--limit", "4"]
    main(options(folder, folder / "run", *chosen))
    with (folder / "run/predictions.csv").open() as file:
        assert seen == [(4, 0.4)] and [row["margin"] for row in csv.DictReader(file)] == ["0.1"] * 4
    result = json.loads((folder / "run/result.json").read_text())["results"][0]
    assert result["card"]["margin"] == 0.1
    assert capsys.readouterr().out.count("4 of 8 images") >= 2


def test_protocol_two_trains_on_the_other_videos_of_the_split_it_tests(tmp_path, main, monkeypatch, capsys):
    boxes, angles = [], []
    for video in ("01", "03", "06"):  # the split 16-8 tests 03 and 06
        for frame in range(2):
            name = f"BIWI/hpdb/{video}/frame_{frame:05d}_rgb.png"
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / name), np.full((50, 50, 3), 99, np.uint8))
            boxes.append(f"{name}\t5 5 30 30 ")
            angles.append(f"{name}\t1\t2\t3")
    (tmp_path / "biwi_rect.txt").write_text("\n".join(boxes))
    (tmp_path / "biwi_angle.txt").write_text("\n".join(angles))
    lists = []
    monkeypatch.setitem(main.__globals__, "train_and_score", lambda run, *given: lists.extend(given[:2]))
    main([*SMALL, "--protocol", "2", "--data-dir", str(tmp_path), "--run-dir", str(tmp_path / "run")])
    assert [sorted(set(listed.records["video"])) for listed in lists] == [["01"], ["03", "06"]]
    out = capsys.readouterr().out
    assert "train  BIWI, 16-8 train: 2 images" in out and "test   BIWI, 16-8 test: 4 images" in out


def test_an_unreadable_image_stops_the_run_by_name(folder):
    (folder / "3.png").write_bytes(b"not an image")
    done = run(*options(folder, folder / "run", "--epochs", "1"))
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: 1 of 8 listed images cannot be read (3.png)")
    assert "Traceback" not in done.stderr


def test_a_run_folder_in_use_is_refused_before_the_data_is_read(folder, main):
    (folder / "run").mkdir()
    (folder / "run/run.json").touch()
    with pytest.raises(InputError, match="is not empty; give another --run-dir, or --resume"):
        main(["--run-dir", str(folder / "run"), "--data-dir", "nowhere"])


def test_options_cannot_change_on_resume(tmp_path, main, capsys):
    saved = vars(runpy.run_path(SCRIPT)["parse_options"]([]))
    (tmp_path / "run.json").write_text(json.dumps({"options": saved, "lists": [], "suite": "0.2.0"}))
    for given, message in [
        (["--batch-size", "2"], "--batch-size is 16 in this run and cannot become 2"),
        (["--watch-every", "3"], "--watch-every is 5 in this run and cannot become 3"),
        (["--seed", "1"], "--seed is 0 in this run and cannot become 1"),
    ]:
        with pytest.raises(SystemExit) as end:
            main(["--run-dir", str(tmp_path), "--resume", *given])
        assert end.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": None},
        {"batch_size": 0},
        {"batch_size": True},
        {"epochs": [3]},
        {"allow_missing": None},
        {"data_dir": 5},
        {"train_lists": 5},
        {"train_lists": ["one"]},
        {"test_lists": [{}, "angles.txt"]},
        {"synthetic": "other"},
        {"bogus": 1},
        {"two\nlines": False},
        {"--epochs": 1},
        {"seed": ...},
        {"learning_rate": float("nan")},
        {"learning_rate": {"a": 1}},
    ],
)
def test_a_record_with_other_options_is_not_resumed(change, main, tmp_path):
    saved = vars(runpy.run_path(SCRIPT)["parse_options"]([])) | change
    saved = {name: value for name, value in saved.items() if value is not ...}
    (tmp_path / "run.json").write_text(json.dumps({"options": saved, "lists": [], "suite": "0.2.0"}))
    name = next(iter(change)).replace("_", ".").replace("\n", " ")
    with pytest.raises(InputError, match=f"does not hold this script's options: (see|argument|unrec).*{name}"):
        main(["--run-dir", str(tmp_path), "--resume"])


def test_a_record_from_before_an_option_that_may_change_is_resumed(tmp_path):
    parse = runpy.run_path(SCRIPT)["parse_options"]
    saved = vars(parse(["--train-lists", "a b", "c", "--limit", "3"]))
    del saved["keep_every"]
    (tmp_path / "run.json").write_text(json.dumps({"options": saved, "lists": [], "suite": "0.2.0"}))
    resumed = vars(parse(["--run-dir", str(tmp_path), "--resume"]))
    assert resumed == {**saved, "keep_every": 0, "resume": True, "run_dir": str(tmp_path)}


def test_missing_data_is_said_before_tensorflow_is_loaded(tmp_path):
    run_it = f"runpy.run_path({SCRIPT!r}, run_name='__main__')"
    code = f"import runpy, sys\ntry: {run_it}\nfinally: print('tensorflow' in sys.modules)"
    command = [sys.executable, "-c", code, "--data-dir", str(tmp_path), "--run-dir", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout.strip() == "False"
    assert "300wcrop.txt is neither in" in done.stderr and "--fetch-lists" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--epochs", "0"], "--epochs: expected a whole number of at least 1"),
        (["--backbone", "vgg"], "invalid choice: 'vgg'"),
        (["--learning-rate", "nan"], "--learning-rate: expected a number from"),
        (["--synthetic", "--decay-every", "-1"], "--decay-every: expected a whole number"),
        (["--resume"], "--resume needs the --run-dir"),
        (["--momentum", "1"], "unrecognized arguments"),
        (["--split", "17-7"], "--split belongs to --protocol 2"),
        (["--angle-unit", "degrees"], "--angle-unit belongs to --train-lists and --test-lists"),
        (["--synthetic", "--protocol", "2"], "--synthetic has its own training and test list"),
    ],
)
def test_a_wrong_option_is_refused(given, message, main, capsys):
    with pytest.raises(SystemExit) as end:
        main(given)
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_the_defaults_are_the_papers_and_synthetic_changes_its_own():
    parse = runpy.run_path(SCRIPT)["parse_options"]
    paper = vars(parse([]))
    expected = {"protocol": 1, "epochs": 100, "batch_size": 16, "learning_rate": 1e-3, "decay_every": 0}
    expected |= {"train_margin": 0.5, "test_margin": 0.2, "backbone": "resnet50", "weights": "imagenet"}
    assert {name: paper[name] for name in expected} == expected
    synthetic = vars(parse(["--synthetic", "--epochs", "100"]))
    assert (synthetic["epochs"], synthetic["backbone"], synthetic["weights"]) == (100, "small", "synthetic")


def test_help_answers_without_tensorflow():
    command = [sys.executable, "-X", "importtime", SCRIPT, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "--resume" in done.stdout and "(default: 100)" in done.stdout
    assert "tensorflow" not in done.stderr

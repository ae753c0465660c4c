"""The training script, run as people run it."""

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = [sys.executable, str(ROOT / "train_rafa-net.py")]
SMALL = ["--backbone", "tiny", "--weights", "none", "--batch-size", "4", "--watch-every", "1", "--workers", "2"]


@pytest.fixture
def folder(tmp_path):
    """A data folder with eight pictures and their lists."""
    rng = np.random.default_rng(0)
    boxes, angles = [], []
    for index in range(8):
        cv2.imwrite(str(tmp_path / f"{index}.png"), rng.integers(0, 256, (60, 60, 3), np.uint8))
        boxes.append(f"./{index}.png\t5 5 40 40 ")
        angles.append(f"./{index}.png\t{10 * index}\t{-5 * index}\t{3 * index}")
    (tmp_path / "crop.txt").write_text("\n".join(boxes))
    (tmp_path / "angles.txt").write_text("\n".join(angles))
    return tmp_path


def options(folder, run_dir):
    lists = [str(folder / "crop.txt"), str(folder / "angles.txt")]
    own = ["--train-lists", *lists, "--test-lists", *lists, "--angle-unit", "degrees", "--data-dir", str(folder)]
    return [*SCRIPT, *SMALL, *own, "--run-dir", str(run_dir)]


def run(command):
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


def test_a_killed_run_goes_on_from_its_last_checkpoint(folder):
    run_dir = folder / "run"
    process = subprocess.Popen([*options(folder, run_dir), "--epochs", "200"], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not (run_dir / "last.keras").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    process.kill()
    process.wait()
    assert (run_dir / "last.keras").exists()

    done = run([*SCRIPT, "--run-dir", str(run_dir), "--resume", "--epochs", "8"])
    assert done.returncode == 0, done.stderr
    assert "resume after epoch" in done.stdout
    with (run_dir / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, len(rows) + 1)) and len(rows) >= 8
    assert all(float(row["loss"]) >= 0 and float(row["test_mae"]) >= 0 for row in rows)

    record = json.loads((run_dir / "run.json").read_text())
    assert record["options"]["batch_size"] == 4 and record["options"]["seed"] == 0
    assert len(record["lists"]) == 2 and len(record["lists"][0][0]["sha256"]) == 64
    assert {"keras", "tensorflow", "python"} <= set(record["versions"])
    assert "| unknown / 8 / 8 |" in (run_dir / "result.md").read_text()
    assert len((run_dir / "predictions.csv").read_text().splitlines()) == 9
    assert list((run_dir / "tensorboard").rglob("events.out.*"))

    changed = run([*SCRIPT, "--run-dir", str(run_dir), "--resume", "--batch-size", "2"])
    assert changed.returncode == 2 and "--batch-size was 4 in this run and cannot become 2" in changed.stderr


def test_an_unreadable_picture_stops_the_run_by_name(folder):
    (folder / "3.png").write_bytes(b"not a picture")
    done = run([*options(folder, folder / "run"), "--epochs", "1"])
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith(f"error: {folder / '3.png'}: not a picture")
    assert "Traceback" not in done.stderr


def test_a_run_folder_in_use_is_left_alone_and_zero_counts_as_given(folder):
    (folder / "run").mkdir()
    (folder / "run" / "run.json").write_text(json.dumps({"options": {"watch_every": 5, "epochs": 1}}))
    done = run([*options(folder, folder / "run"), "--epochs", "1"])
    assert done.returncode == 1 and "is not empty; give another --run-dir, or --resume" in done.stderr
    done = run([*SCRIPT, "--run-dir", str(folder / "run"), "--resume", "--watch-every", "0"])
    assert done.returncode == 2 and "--watch-every was 5 in this run and cannot become 0" in done.stderr


def test_missing_data_is_said_before_the_network_is_built(tmp_path):
    start = time.monotonic()
    done = run([*SCRIPT, "--data-dir", str(tmp_path), "--run-dir", str(tmp_path / "run")])
    assert done.returncode == 1
    assert "300wcrop.txt is neither in" in done.stderr and "--fetch-lists" in done.stderr
    assert not (tmp_path / "run").exists()
    assert time.monotonic() - start < 60


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--epochs", "0"], "--epochs must lie in 1"),
        (["--backbone", "vgg"], "invalid choice: 'vgg'"),
        (["--learning-rate", "-1"], "--learning-rate must lie in"),
        (["--learning-rate", "nan"], "--learning-rate must lie in"),
        (["--synthetic", "--decay-every", "-1"], "--decay-every must lie in"),
        (["--resume"], "--resume needs the --run-dir"),
        (["--resume", "--run-dir", "nowhere"], "not the folder of a run"),
        (["--momentum", "1"], "unrecognized arguments"),
    ],
)
def test_a_wrong_option_is_refused(given, message):
    done = run([*SCRIPT, *given])
    assert done.returncode == 2 and message in done.stderr


def test_help_answers_without_tensorflow():
    done = run([sys.executable, "-X", "importtime", *SCRIPT[1:], "--help"])
    assert done.returncode == 0 and "--resume" in done.stdout
    assert "tensorflow" not in done.stderr

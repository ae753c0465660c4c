"""The training script, run as people run it."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest
from helpers.runs import alike

from rafa.files import ROOT
from rafa.script import InputError

SCRIPT = str(ROOT / "train_rafa-net.py")
SMALL = ["--backbone", "tiny", "--weights", "none", "--batch-size", "4", "--evaluate-every", "0", "--workers", "2"]


@pytest.fixture
def eight(tmp_path):
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


def result_of(run_dir):
    return json.loads((run_dir / "result.json").read_text())["results"][0]


def test_a_run_tells_what_it_did(eight, training_script, capsys):
    run_dir = eight / "run"
    chosen = ["--epochs", "5", "--decay-every", "2", "--evaluate-every", "3", "--keep-every", "5"]
    training_script.main(options(eight, run_dir, *chosen, "--train-margin", "0.4", "--test-margin", "0.1"))
    with (run_dir / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5])
    assert [bool(row["test_mae"]) for row in rows] == [False, False, True, False, False]
    axes = [sum(float(row[f"{axis}_loss"]) for axis in ("yaw", "pitch", "roll")) for row in rows]
    assert axes == pytest.approx([float(row["loss"]) for row in rows], rel=1e-4)
    files = {"epoch-005.keras", "last.keras", "metrics.csv", "predictions.csv", "result.json", "result.md", "run.json"}
    assert {file.name for file in run_dir.iterdir()} == {*files, "tensorboard"}
    out = capsys.readouterr().out
    assert (run_dir / "result.md").read_text().strip() in out and all(name in out for name in files)


def test_the_record_says_how_a_run_was_made_and_the_result_is_credited_to_it(eight, training_script):
    run_dir = eight / "run"
    training_script.main(options(eight, run_dir, "--epochs", "1", "--limit", "4", "--test-margin", "0.1"))
    record = json.loads((run_dir / "run.json").read_text())
    assert (record["options"]["batch_size"], record["options"]["seed"], record["images"]) == (4, 0, [4, 4])
    assert (
        len(record["lists"]) == 2 and len(record["lists"][0][0]["sha256"]) == 64 and "last.keras" in record["weights"]
    )
    kept = np.linspace(0, 7, 4).astype(int)
    assert list(record["mean_pose"].values()) == pytest.approx(kept.mean() * np.array([3, -5, 10]))
    assert {"keras", "tensorflow", "python"} <= set(record["versions"]) and record["suite"]
    result, true = result_of(run_dir), kept[:, None] * (3, -5, 10)
    assert result["card"]["margin"] == 0.1 and result["card"]["weights"]["trained_by"]["seed"] == 0
    assert result["baseline"]["mae"] == pytest.approx(np.abs(true - true.mean(axis=0)).mean())
    with (run_dir / "predictions.csv").open() as file:
        assert [row["margin"] for row in csv.DictReader(file)] == ["0.1"] * 4


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_was_stopped_resumes_to_the_very_numbers_of_an_uninterrupted_one(
    eight, training_script, number, status
):
    command = [sys.executable, SCRIPT, *options(eight, eight / "cut", "--epochs", "200")]
    # A shell starts what runs in its background with Ctrl-C ignored, and children inherit that.
    taken = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)} if os.name == "posix" else {}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **taken)
    while not (eight / "cut/last.keras").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=200)
    assert process.returncode == status and "Traceback" not in said
    if number != signal.SIGKILL:
        last = said.splitlines()[-1]
        assert last.startswith("stopped: ") and "up to epoch" in last and f"--run-dir {eight}/cut --resume" in last
    done = len((eight / "cut/metrics.csv").read_text().splitlines()) + 1
    training_script.main(["--run-dir", str(eight / "cut"), "--resume", "--epochs", str(done)])
    training_script.main(options(eight, eight / "whole", "--epochs", str(done)))
    assert alike(eight / "cut", eight / "whole")


def test_training_works_in_a_thread(eight, training_script):
    thread = threading.Thread(target=training_script.main, args=(options(eight, eight / "run", "--epochs", "1"),))
    thread.start()
    thread.join()
    assert result_of(eight / "run")["card"]["images"]["scored"] == 8


def test_an_image_that_cannot_be_used_ends_the_run_in_its_first_epoch_with_its_row_and_the_way_on(
    eight, training_script
):
    good = (eight / "3.png").read_bytes()
    cv2.imwrite(str(eight / "3.png"), np.zeros((4, 4, 3), np.uint8))  # its box misses it
    more = ["--epochs", "2", "--batch-size", "5"]  # a batch leaves three images out
    with pytest.raises(InputError, match=r"crop\.txt, line 4, 3\.png: .*no epoch is saved; to go on: .* --resume$"):
        training_script.main(options(eight, eight / "run", *more))
    (eight / "3.png").write_bytes(good)
    training_script.main(["--run-dir", str(eight / "run"), "--resume"])
    training_script.main(options(eight, eight / "whole", *more))
    assert alike(eight / "run", eight / "whole")


def test_protocol_two_trains_on_the_other_videos_of_the_split_it_tests(tmp_path, training_script, capsys):
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
    given = training_script.parse_options(["--protocol", "2", "--data-dir", str(tmp_path)])
    lists = training_script.load_lists(given)
    assert [sorted(set(listed.records["video"])) for listed in lists] == [["01"], ["03", "06"]]
    out = capsys.readouterr().out
    assert "train  BIWI, 16-8 train: 2 images" in out and "test   BIWI, 16-8 test: 4 images" in out


# --- Options ---
def test_the_defaults_are_the_papers_and_synthetic_changes_its_own(training_script):
    paper = vars(training_script.parse_options([]))
    expected = {"protocol": 1, "epochs": 100, "batch_size": 16, "learning_rate": 1e-3, "decay_every": 0}
    expected |= {"train_margin": 0.5, "test_margin": 0.2, "backbone": "resnet50", "weights": "imagenet"}
    assert {name: paper[name] for name in expected} == expected and paper["run_dir"].startswith("runs/protocol1-")
    demo = training_script.parse_options(["--synthetic", "--epochs", "100"])
    assert (demo.epochs, demo.backbone, demo.data_dir) == (100, "small", "data/synthetic")
    assert training_script.parse_options(["--synthetic", "full"]).data_dir == "data/synthetic-full"


def saved_options(tmp_path, training_script, *given):
    saved = vars(training_script.parse_options([*given, "--run-dir", str(tmp_path)]))
    (tmp_path / "run.json").write_text(json.dumps({"options": saved, "lists": [], "images": []}))
    return saved


def test_a_resume_takes_the_options_of_the_run_and_those_that_may_change(tmp_path, training_script):
    saved = saved_options(tmp_path, training_script, "--train-lists", "a b", "c", "--limit", "3", "--epochs", "7")
    resume = ["--run-dir", str(tmp_path), "--resume"]
    assert vars(training_script.parse_options(resume)) == {**saved, "resume": True}
    more = {"--epochs": 9, "--workers": 3, "--cache": 0.5, "--keep-every": 2, "--data-dir": "moved"}
    changed = training_script.parse_options([*resume, *(str(part) for pair in more.items() for part in pair)])
    assert (changed.epochs, changed.workers, changed.cache, changed.keep_every, changed.limit) == (9, 3, 0.5, 2, 3)
    assert changed.data_dir == "moved"
    (tmp_path / "run.json").rename((tmp_path / "new").mkdir() or tmp_path / "new/run.json")
    moved = training_script.parse_options(["--run-dir", str(tmp_path / "new"), "--resume"])
    assert vars(moved) == {**saved, "resume": True, "run_dir": str(tmp_path / "new")}


def test_a_run_on_heads_of_another_version_is_not_resumed_and_they_stay(tmp_path, training_script, monkeypatch):
    monkeypatch.setattr("rafa.heads.dataset.ensure_dataset", lambda *_, **__: pytest.fail("drawn again"))
    saved_options(tmp_path, training_script, "--synthetic")
    with pytest.raises(InputError, match="version unknown"):
        training_script.main(["--run-dir", str(tmp_path), "--resume"])


@pytest.mark.parametrize(
    ("of_run", "given", "name"),
    [
        ([], ["--batch-size", "2"], "--batch-size is 16"),
        ([], ["--precision", "mixed_float16"], "--precision is float32"),
        (["--synthetic", "full"], ["--epochs", "25"], "--epochs is 45"),
    ],
)
def test_an_option_that_would_change_the_run_is_refused_by_name(of_run, given, name, tmp_path, training_script, capsys):
    saved_options(tmp_path, training_script, *of_run)
    with pytest.raises(SystemExit):
        training_script.main(["--run-dir", str(tmp_path), "--resume", *given])
    assert name in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--resume"], "--run-dir"),
        (["--synthetic", "--protocol", "2"], "--protocol 2"),
        (["--synthetic", "full", "--train-lists", "a", "b"], "--train-lists"),
        (["--synthetic", "full", "--decay-every", "3"], "--decay-every"),
        (["--split", "17-7"], "--protocol 2"),
    ],
)
def test_a_wrong_option_is_refused(given, named, training_script, capsys):
    with pytest.raises(SystemExit) as end:
        training_script.main(given)
    assert end.value.code == 2 and named in capsys.readouterr().err


def test_missing_data_is_said_before_tensorflow_is_loaded_and_leaves_no_folder(tmp_path):
    run_it = f"runpy.run_path({SCRIPT!r}, run_name='__main__')"
    code = f"import runpy, sys\ntry: {run_it}\nfinally: print('tensorflow' in sys.modules)"
    command = [sys.executable, "-c", code, "--data-dir", str(tmp_path), "--run-dir", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout.strip() == "False" and not (tmp_path / "run").exists()
    assert "300wcrop.txt" in done.stderr and "--fetch-lists" in done.stderr


def test_help_answers_without_tensorflow_and_scipy():
    command = [sys.executable, "-X", "importtime", SCRIPT, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "--resume" in done.stdout and "(default: 100)" in done.stdout
    assert "tensorflow" not in done.stderr and "scipy" not in done.stderr

"""What the tests of scores share: small data folders, predictions files, and reading what was printed."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

import evaluate
from rafa.datasets.lists import RECORD, Listed
from rafa.datasets.rows import ListFile
from rafa.datasets.sets import DATASETS
from rafa.score import protocol
from rafa.score.predictions import targets_of

HEADER = "path,split,video,person,margin,yaw_true,pitch_true,roll_true,yaw_predicted,pitch_predicted,roll_predicted"
# Errors of yaw 3, 1, 0; of pitch 1, 0, 3; of roll 5, 10, 3 degrees.
LIST_SIGNS = [
    "a.jpg,all,,,0.2,10,0,20,13,1,25",
    "b.jpg,all,,,0.2,-40,5,-30,-41,5,-20",
    "c.jpg,all,,,0.2,70,-5,0,70,-8,-3",
]
MAT_SIGNS = [
    "a.jpg,all,,,0.2,10,0,-20,13,1,-25",
    "b.jpg,all,,,0.2,-40,5,30,-41,5,20",
    "c.jpg,all,,,0.2,70,-5,0,70,-8,3",
]
FACES = 35
VIDEOS = ("01", "03", "04", "07", "09")  # tested by the split 16-8: 03, 09; by 17-7: 07, 09; by 17-7-b: 04, 09
FRAMES = 3  # of each video


def write_lists(folder, names, crop_list, angle_list, unit, rng):
    """Images of noise with a box each, and both lists, in the order of `names`."""
    boxes, angles = [], []
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 255, (4, 4, 3), np.uint8)
        cv2.imwrite(str(path), cv2.resize(noise, (60, 50), interpolation=cv2.INTER_CUBIC))
        boxes.append(f"{name}\t{rng.integers(0, 15)} {rng.integers(0, 15)} 30 30 ")
        degrees = rng.uniform(-85, 85, 3)
        angles.append("\t".join([name, *map(str, degrees if unit == "degrees" else np.radians(degrees))]))
    (folder / crop_list).write_text("\n".join(boxes) + "\n")
    (folder / angle_list).write_text("\n".join(angles) + "\n")


def write_data(folder):
    """A folder with the layout of AFLW2000 and BIWI, in an order that is not the alphabet's."""
    rng = np.random.default_rng(5)
    faces = [f"AFLW2000/image{number:05d}.jpg" for number in rng.permutation(90000)[:FACES]]
    write_lists(folder, faces, "Aflw2000crop.txt", "Aflw2000_euler_cls.txt", "radians", rng)
    frames = [f"BIWI/hpdb/{video}/frame_{n:05d}_rgb.png" for video in VIDEOS for n in range(FRAMES)]
    write_lists(folder, frames, "biwi_rect.txt", "biwi_angle.txt", "degrees", rng)
    return folder


def published(name, count, split="all", video=""):
    """A list as the published one would be read, and predictions for all of it at margin 0.2 without an error."""
    rng, dataset = np.random.default_rng(0), DATASETS[name]
    records = np.zeros(count, RECORD)
    records["path"] = [f"{n:05d}.jpg" for n in range(count)]
    records["angles"] = rng.uniform(-1, 1, (count, 3))
    records["video"] = records["person"] = video
    files = tuple(ListFile(name, dataset.rows or count, "0", True) for name in (dataset.crop_list, dataset.angle_list))
    listed = Listed(dataset, Path(), records, {}, files, split=split, usable=tuple(records["path"].tolist()))
    return listed, replace(targets_of(listed), margin=np.full(count, 0.2))


def a_result():
    """All of AFLW2000 by the published lists at margin 0.2, yaw, pitch and roll off by 1, 2 and 6 degrees."""
    listed, predictions = published("aflw2000", 1947)
    listed = replace(listed, rejected={"no box": ["a.jpg"] * 8})
    made = {"command": "evaluate.py aflw2000 --weights w", "date": "2031-05-06", "commit": "c0ffee"}
    made |= {"hardware": "9 cores", "versions": {"numpy": "1"}}
    run = {"command": "train_rafa-net.py", "date": "2030-01-01", "commit": "beef", "hardware": "a GPU", "seed": 77}
    run |= {"started_from": "imagenet", "resumed_by": ["train_rafa-net.py --resume", "train_rafa-net.py --epochs 9"]}
    run |= {"lists": [{"path": "lists/train.txt", "rows": 3, "sha256": "0", "published": False}]}
    run |= {"all_images": False, "mean_pose": {"yaw": 1.0, "pitch": 2.0, "roll": 3.0}}
    weights = {"file": "w.keras", "sha256": "ab" * 32, "backbone": "tiny", "trained_by": run}
    predictions = replace(predictions, predicted=predictions.target + np.array([1, -2, 6]))
    return protocol.score(listed, predictions, samples=5, made=made, weights=weights)


def run(capsys, *arguments):
    """What a command of evaluate.py prints."""
    evaluate.main([*map(str, arguments), "--bootstrap-samples", "50"])
    return capsys.readouterr().out


def errors_of(predictions):
    """(n, 3) absolute errors, wrapped at 360 degrees."""
    return np.abs((predictions.predicted - predictions.target + 180) % 360 - 180)


def results_of(path):
    """A result file, which must be JSON in the strict sense."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=refuse)


def cells_of(text):
    """Cells of every Markdown row of a text."""
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]


def file_of(path, rows):
    """A predictions file of these rows."""
    path.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return path


def foreign_file(path, listed, rows, offset=2.0):
    """Predictions of some other model, without true angles, with the roll of the .mat files, yaw off by `offset`."""
    lines = ["path,video,yaw_predicted,pitch_predicted,roll_predicted"]
    for record in listed.records[rows]:
        yaw, pitch, roll = np.degrees(record["angles"])
        lines.append(f"{record['path']},,{yaw + offset},{pitch},{-roll}")
    path.write_text("\n".join(lines) + "\n")
    return path

"""The dataset of synthetic heads: people and poses drawn at random, with images and lists as the real sets have."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from rafa.datasets.sets import DATASETS
from rafa.files import write_text, written_whole
from rafa.heads.augmentation import MIRRORED
from rafa.heads.renderer import render_head
from rafa.heads.shape import random_identity
from rafa.pose import AXES, LIST_ORDER, angles_of
from rafa.script import InputError, progress

VERSION = 17  # raise it whenever the same seed draws other images: folders of an older version are then redrawn
MANIFEST = "synthetic.json"
PARTS = {"300W_LP": DATASETS["synthetic-train"], "AFLW2000": DATASETS["synthetic"]}
LANDMARKS = "landmarks.npy"  # of the training images, (n, 3, 68) float32 in pixels, in the order of the lists
PER_PERSON = 8  # training images; several, because building a head takes longer than drawing it
PER_TEST_PERSON = 2
Row = tuple[str, str, np.ndarray]  # of the crop list, of the angle list, and landmarks (3, 68)
Job = tuple[str, int, str, int, int]  # data folder, seed, part, number of the person, images


def random_angles(rng: np.random.Generator) -> np.ndarray:
    """A random pose: radians, AXES order. Six of ten yaws are uniform, the others of people who look at a camera.

    In image axes R = Rz(twist) Rx(elevation) Ry(yaw) Rx(nod) Rz(tilt): the camera is held askew and stands higher or
    lower, the neck turns, nods and tilts. Spread and correlation of pitch and roll grow with yaw as in AFLW2000's list,
    up to 75°; there the noses of frontal heads point down by some degrees, those of profiles do not.
    """
    while True:
        wide = 2.5 if rng.random() < 0.12 else 1.0  # the list has more large angles than one normal distribution
        twist, nod, tilt = rng.normal(0, np.array([5, 7, 8]) * wide)
        elevation, yaw = rng.normal(2, 6), rng.uniform(-95, 95) if rng.random() < 0.6 else rng.normal(0, 25)
        nod -= 8 * np.cos(np.radians(yaw))
        rotation = Rotation.from_euler("ZXY", [twist, elevation, yaw], degrees=True)
        angles = angles_of((rotation * Rotation.from_euler("XZ", [nod, tilt], degrees=True)).as_matrix())
        if np.abs(angles).max() < np.radians(99):  # as the usual selection of AFLW2000
            return angles


def random_framing(rng: np.random.Generator) -> dict[str, Any]:
    """Scale and place of a head in an image of 450 × 450 pixels; one in eight may reach over the border."""
    spread = (32, 24) if rng.random() < 7 / 8 else (60, 50)
    return {"scale": float(rng.uniform(8.5, 16)), "centre": np.array([225, 212]) + rng.uniform(-1.7, 1.7, 2) * spread}


def _write_image(
    data_dir: str, name: str, image: np.ndarray, box: tuple[int, int, int], angles: np.ndarray, rng: np.random.Generator
) -> tuple[str, str]:
    """Write one JPEG; returns its rows of the crop list and of the angle list."""
    path = Path(data_dir, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 96))]
    path.write_bytes(cv2.imencode(".jpg", image[..., ::-1], quality)[1].tobytes())
    row, column, size = box
    values = [angles[AXES.index(axis)] for axis in LIST_ORDER]
    classes = [int(np.floor(np.degrees(value))) + 90 for value in values]
    angle_row = "\t".join([f"./{name}", *(f"{value:.12g}" for value in values), *map(str, classes)])
    return f"./{name}\t{row} {column} {size} {size} ", angle_row


def draw_person(job: Job) -> tuple[str, list[Row]]:
    """Draw one person's images. The random numbers depend on seed, part and number alone, never on the process."""
    data_dir, seed, part, person, count = job
    rng = np.random.default_rng([seed, list(PARTS).index(part), person])
    identity, rows = random_identity(rng), list[Row]()
    for pose in range(count):
        angles = random_angles(rng)
        image, facts = render_head(identity, angles, rng=rng, **random_framing(rng))
        row, column, size = facts["box"]
        if part == "AFLW2000":  # whose images are numbered from 2
            names = [f"image{person * PER_TEST_PERSON + pose + 2:05d}.jpg"]
        else:
            folder = ("AFW", "HELEN")[person % 2]
            names = [f"{place}/{folder}_{person:06d}_1_{pose}.jpg" for place in (folder, f"{folder}_Flip")]
        width, landmarks = image.shape[1], facts["landmarks"]
        seen = (image, facts["box"], angles), landmarks
        flipped = np.array([[width - 1], [0], [0]]) + landmarks[:, MIRRORED] * [[-1], [1], [1]]
        mirrored = (image[:, ::-1], (row, width - column - size, size), angles * (-1, 1, -1)), flipped
        for name, (view, points) in zip(names, (seen, mirrored), strict=False):
            rows.append((*_write_image(data_dir, f"{part}/{name}", *view, rng), points))
            if len(rows) == count:
                return part, rows
    return part, rows


def write_dataset(
    data_dir: str | Path,
    train: int = 1000,
    test: int = 200,
    seed: int = 0,
    workers: int | None = None,
    per_person: int = PER_PERSON,
) -> None:
    """Draw the dataset; the same seed gives the same bytes of every file, for any number of workers.

    Args:
        data_dir: folder to make; a dataset that this program wrote before is replaced.
        train: images in 300W_LP, mirrored copies included.
        test: images in AFLW2000, of people who are not in 300W_LP.
        seed: whole number from 0.
        workers: processes; None: one for each core.
        per_person: images of one person in 300W_LP, half of them mirrored.

    Raises:
        InputError: if data_dir holds files that this program did not write, or there is nothing to draw.
    """
    if min(train, test) < 0 or train + test == 0:
        raise InputError(f"{train} images to train on and {test} to test on: give at least one image in all.")
    _refuse_other_files(Path(data_dir))
    for folder in (*PARTS, "lists"):
        shutil.rmtree(Path(data_dir, folder), ignore_errors=True)
    manifest = {"program": "synthetic_heads.py", "version": VERSION, "complete": False}
    manifest["arguments"] = {"train": train, "test": test, "seed": seed, "per_person": per_person}
    write_text(Path(data_dir, MANIFEST), json.dumps(manifest, indent=2) + "\n")
    jobs = [
        (str(data_dir), seed, part, person, min(each, images - start))
        for part, images, each in (("300W_LP", train, per_person), ("AFLW2000", test, PER_TEST_PERSON))
        for person, start in enumerate(range(0, images, each))
    ]
    drawn = ((part, row) for part, rows in _run(jobs, workers or os.cpu_count() or 1) for row in rows)
    written: dict[str, list[Row]] = {part: [] for part in PARTS}
    for part, row in progress(drawn, train + test, "drawing synthetic heads"):
        written[part].append(row)
    for part, dataset in PARTS.items():
        for column, name in enumerate((dataset.crop_list, dataset.angle_list)):
            write_text(Path(data_dir, "lists", name), "".join(f"{row[column]}\n" for row in written[part]))
    with written_whole(Path(data_dir, "lists", LANDMARKS)) as unfinished:
        np.save(unfinished, np.array([row[2] for row in written["300W_LP"]], np.float32).reshape(-1, 3, 68))
    write_text(Path(data_dir, MANIFEST), json.dumps({**manifest, "complete": True}, indent=2) + "\n")


def _run(jobs: list[Job], workers: int) -> Iterator[tuple[str, list[Row]]]:
    """The results of the jobs, in their order."""
    if workers == 1:
        yield from map(draw_person, jobs)
        return
    # Not "fork": a process that has started TensorFlow must not be copied.
    with multiprocessing.get_context("spawn").Pool(workers, cv2.setNumThreads, (1,)) as pool:
        yield from pool.imap(draw_person, jobs)


def _refuse_other_files(data_dir: Path) -> None:
    arguments = _manifest(data_dir).get("arguments")
    own = arguments["train"] + arguments["test"] + 6 if arguments else 0  # images, four lists, landmarks, manifest
    files = sum(path.is_file() and not path.name.startswith(".") for path in data_dir.rglob("*"))
    if files > own:
        raise InputError(
            f"{data_dir} holds {files:,} files, {own:,} of them written by this program: nothing was changed. "
            "Give a new folder for the synthetic heads."
        )


def _manifest(data_dir: str | Path) -> dict[str, Any]:
    """What was written about the dataset in this folder; empty where there is none."""
    file = Path(data_dir, MANIFEST)
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def ensure_dataset(
    data_dir: str | Path, train: int = 1000, test: int = 200, seed: int = 0, per_person: int = PER_PERSON
) -> None:
    """`write_dataset`, unless data_dir already holds the whole of this dataset.

    One that was begun, or that another version of this program drew, is drawn again.

    Raises:
        InputError: data_dir holds another whole dataset of this version, or files that this program did not write.
    """
    wanted = {"train": train, "test": test, "seed": seed, "per_person": per_person}
    manifest = _manifest(data_dir)
    if manifest.get("version") != VERSION or not manifest["complete"]:
        write_dataset(data_dir, **wanted)
    elif (drawn := manifest["arguments"]) != wanted:
        given, expected = (", ".join(f"{name} {value}" for name, value in each.items()) for each in (drawn, wanted))
        raise InputError(
            f"{data_dir} holds other synthetic heads ({given}); expected {expected}: give another folder, or delete it"
        )

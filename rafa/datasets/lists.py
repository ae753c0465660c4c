"""Pairs of lists joined by the paths of their images: records with a path, a box and angles.

`load_dataset` reads the lists of a dataset by its name, `read_lists` your own; `limited` takes fewer of the records.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rafa.datasets.images import read_image
from rafa.datasets.rows import (
    PATH_LENGTH,
    Angles,
    Box,
    ListFile,
    Rejected,
    RowError,
    check_box,
    line_of,
    parse_angles,
    parse_box,
    read_rows,
)
from rafa.datasets.sets import BIWI_PERSON, BIWI_SPLITS, DATASETS, PAPER_DATASETS, Dataset
from rafa.pose import AXES, LIST_ORDER
from rafa.script import InputError

RECORD = [("path", f"U{PATH_LENGTH}"), ("row", "i8"), ("column", "i8"), ("size", "i8"), ("angles", "f8", (3,))]
RECORD += [("video", "U8"), ("person", "U8")]

_VIDEO = re.compile(r"BIWI/hpdb/(\d+)/")


@dataclass(frozen=True)
class Listed:
    """What a pair of lists holds, and which part of it is used.

    `records` is a structured array of dtype RECORD: the path under the data folder, the square box (top row, left
    column, side, in pixels), `angles` (3,) in radians in the order of AXES and the signs of the lists, and the video
    and the person where they are known ("" where not).  `select_split`, `keep_present` and `limited` leave some out.
    """

    dataset: Dataset
    data_dir: Path
    records: np.ndarray
    rejected: Rejected
    files: tuple[ListFile, ...] = ()  # the crop list and the angle list
    notes: tuple[str, ...] = ()  # what a reader of a result should know
    missing: int = 0  # images that were listed, absent, and skipped on request
    split: str = "all"  # as printed: "all", "16-8 test"
    usable: tuple[str, ...] = ()  # paths of all usable rows of the split, in order, those left out later too

    @property
    def published(self) -> bool:
        """Whether both lists are the published ones, byte for byte."""
        return bool(self.files) and all(file.published for file in self.files)

    def summary(self) -> str:
        """What it holds and what was left out, and a line for each note."""
        rejected = "".join(f", {len(paths):,} rejected: {reason}" for reason, paths in self.rejected.items())
        absent = f", {self.missing:,} images absent" if self.missing else ""
        text = f"{self.dataset.title}, {self.split}: {len(self.records):,} images{rejected}{absent}"
        return "\n       note: ".join([text, *self.notes])


# --- Reading ----------------------------------------------------------------------------------------------------------
def read_lists(
    crop_list: str | Path, angle_list: str | Path, unit: str, data_dir: str | Path, dataset: Dataset | None = None
) -> Listed:
    """Join a list of boxes and a list of angles by the paths of their images.

    Images without a box, and those that only one of the lists names, are counted by reason.  So are rows of the
    published lists that cannot be used; in your own lists those are errors.

    Args:
        crop_list: file of rows `path TAB row column size size`, in pixels; or the path alone: an image without a box.
        angle_list: file of rows `path TAB roll TAB pitch TAB yaw`, in list signs, with or without three class columns.
        unit: of the angles, "radians" or "degrees".
        data_dir: the folder at which the paths start.
        dataset: what the lists are; None: your own.

    Returns:
        `Listed`, in the order of the crop list; its notes say where lists differ from the published ones.

    Raises:
        InputError: your own lists have a malformed row (file and line) or name an image twice; no row can be used; or
            the published list of angles is not in this unit.
    """
    dataset = dataset or Dataset("your own lists", Path(crop_list).name, Path(angle_list).name, unit)
    boxes, crop_file, bad_boxes = read_rows(crop_list, parse_box)
    angles, angle_file, bad_angles = read_rows(angle_list, lambda text: parse_angles(text, unit))
    units = {DATASETS[name].angle_list: DATASETS[name].unit for name in PAPER_DATASETS}
    if angle_file.published and unit != (right := units[Path(angle_list).name]):
        raise InputError(f"{angle_list} is the published list, which is in {right}: give that unit, not {unit}")
    files, published = (crop_file, angle_file), crop_file.published and angle_file.published
    paths, rejected = _joined(boxes, bad_boxes, angles, bad_angles, crop_file.published)
    if not paths:
        why = "".join(f"; {len(rows):,} {reason}" for reason, rows in rejected.items())
        raise InputError(f"{crop_list} and {angle_list} hold no image with a box and angles{why}")
    notes = _differences(dataset, files, len(paths))
    usable = set(paths)
    if paths != [path for path in angles if path in usable]:
        notes.append("the two lists name their images in different orders; they were joined by path")
    records = _records(paths, boxes, angles, BIWI_PERSON if published else {})
    return Listed(dataset, Path(data_dir), records, rejected, files, tuple(notes), usable=tuple(paths))


def _joined(
    boxes: dict[str, Box | None], bad_boxes: Rejected, angles: dict[str, Angles], bad_angles: Rejected, published: bool
) -> tuple[list[str], Rejected]:
    """The images with a box and angles, and why the others cannot be used: each counted once."""
    rejected = {reason: list(paths) for reason, paths in bad_boxes.items()}
    why = {path: reason for reason, paths in bad_angles.items() for path in paths}
    usable = []
    for path, box in boxes.items():
        if box is None:
            reason = "no box"
        elif published and min(box) < 0:
            reason = "box starts outside the image"  # which the released loader skips
        elif path not in angles:
            reason = why.get(path, "not in the angle list")
        else:
            usable.append(path)
            continue
        rejected.setdefault(reason, []).append(path)
    in_crop_list = {*boxes, *(path for paths in bad_boxes.values() for path in paths)}
    if only_angles := [path for path in {**angles, **why} if path not in in_crop_list]:
        rejected["not in the crop list"] = only_angles
    return usable, rejected


def _differences(dataset: Dataset, files: tuple[ListFile, ListFile], usable: int) -> list[str]:
    """Notes on where the lists of one of the paper's datasets differ from the published ones."""
    if dataset not in [DATASETS[name] for name in PAPER_DATASETS]:
        return []
    rows = files[0].rows
    notes = [f"{Path(file.path).name} is not the published list" for file in files if not file.published]
    if dataset.usable and (rows, usable) != (dataset.rows, dataset.usable):
        expected = f"the published lists have {dataset.rows:,} rows, {dataset.usable:,} usable"
        notes.append(f"{rows:,} rows, {usable:,} usable; {expected}")
    return notes


def _records(
    paths: list[str], boxes: dict[str, Box | None], angles: dict[str, Angles], persons: Mapping[str, str]
) -> np.ndarray:
    records = np.zeros(len(paths), RECORD)
    records["path"] = paths
    records["row"], records["column"], records["size"] = np.array([boxes[path] for path in paths]).T
    in_list_order = np.array([angles[path] for path in paths])
    records["angles"] = in_list_order[:, [LIST_ORDER.index(axis) for axis in AXES]]
    records["video"] = [match[1] if (match := _VIDEO.match(path)) else "" for path in paths]
    records["person"] = [persons.get(video, video) for video in records["video"].tolist()]
    return records


def load_dataset(name: str, data_dir: str | Path, split: str = "all", part: str = "test") -> Listed:
    """Read the lists of a dataset of DATASETS from the data folder or its `lists/`.

    For BIWI, `split` may be a key of BIWI_SPLITS, of which `part` is "train" or "test".

    Raises:
        InputError: lists that are missing or malformed, a split that does not exist or is empty.
    """
    dataset = DATASETS[name]
    crop_list, angle_list = (find_list(data_dir, file) for file in (dataset.crop_list, dataset.angle_list))
    if not (crop_list and angle_list):
        raise InputError(
            f"{dataset.angle_list if crop_list else dataset.crop_list} is neither in {data_dir} nor in "
            f"{Path(data_dir, 'lists')}; get it with: python data_loaders.py --data-dir {data_dir} --fetch-lists"
        )
    listed = read_lists(crop_list, angle_list, dataset.unit, data_dir, dataset)
    return listed if split == "all" else select_split(listed, split, part)


def select_split(listed: Listed, split: str, part: str) -> Listed:
    """The training ("train") or test ("test") videos of a BIWI split."""
    if split not in BIWI_SPLITS or not listed.records["video"].all():
        raise InputError(f"{listed.dataset.title} has no split {split!r}; BIWI has all, {', '.join(BIWI_SPLITS)}")
    chosen = np.isin(listed.records["video"], BIWI_SPLITS[split]) == (part == "test")
    if not chosen.any():
        raise InputError(f"the {part} part of the split {split} is empty: the lists hold none of its videos")
    records = listed.records[chosen]
    return replace(listed, records=records, split=f"{split} {part}", usable=tuple(records["path"].tolist()))


def has_lists(name: str, data_dir: str | Path) -> bool:
    """Whether both lists of a dataset of DATASETS are in the data folder or its `lists/`."""
    return all(find_list(data_dir, file) for file in (DATASETS[name].crop_list, DATASETS[name].angle_list))


def find_list(data_dir: str | Path, name: str) -> Path | None:
    """The path of a list in the data folder or in its `lists/`; None where it is in neither."""
    return next((path for path in (Path(data_dir, name), Path(data_dir, "lists", name)) if path.is_file()), None)


def limited(listed: Listed, n: int) -> Listed:
    """At most `n` records, evenly spaced over the list; all of them for n = 0."""
    total = len(listed.records)
    if not 0 < n < total:
        return listed
    chosen = np.linspace(0, total - 1, n).astype(int)
    note = f"limited to {n:,} of {total:,} images, evenly spaced"
    return replace(listed, records=listed.records[chosen], notes=(*listed.notes, note))


# --- Records and their images -----------------------------------------------------------------------------------------
def image_path(listed: Listed, record: np.void) -> Path:
    """Where the image of a record lies; a system may have decomposed the letters of its name (Unicode NFD)."""
    name = str(record["path"])
    path = listed.data_dir / name
    return path if name.isascii() or path.exists() else listed.data_dir / unicodedata.normalize("NFD", name)


def box_of(record: np.void) -> Box:
    """The box of a record: row, column and size, in pixels."""
    return int(record["row"]), int(record["column"]), int(record["size"])


def listed_image(listed: Listed, record: np.void) -> np.ndarray:
    """The image of a record, (h, w, 3) uint8 RGB.

    Raises:
        InputError: it cannot be read, or the box does not fit it; with file, line and path of its row.
    """
    try:
        image = read_image(image_path(listed, record))
        check_box(box_of(record), *image.shape[:2])
    except (InputError, RowError) as error:
        file, path = listed.files[0].path, record["path"]
        raise InputError(f"{file}, line {line_of(file, path)}, {path}: {error}") from error
    return image

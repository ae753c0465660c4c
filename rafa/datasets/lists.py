"""Lists in the published format: their rows, checked one by one, and what a pair of lists cannot use.

Rows of the published lists, which cannot be changed, are rejected by reason; bad rows of your own lists are errors.
"""

import collections
import hashlib
import itertools
import math
import re
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TypeVar

import numpy as np

from rafa.datasets.images import SUFFIXES
from rafa.datasets.sets import BIWI_PERSON, BIWI_SPLITS, DATASETS, PAPER_DATASETS, Dataset
from rafa.pose import AXES, LIST_ORDER
from rafa.script import InputError, first_three

# The six published lists, recognised by their git blob ids (github.com/MingzhenShao/HeadPose, commit cf42054).
PUBLISHED_BLOBS = {
    "300wcrop.txt": "e73f6105d07e0ff186ab99b766562d3462c2f808",
    "300w_euler_cls.txt": "56a93b39a8d779fd25ed5d6e405dad4062d0128b",
    "Aflw2000crop.txt": "0f3050d79514b205af810b00f9f2384f515be9ff",
    "Aflw2000_euler_cls.txt": "d48f7384c43e2ba6362239c6315abd1e0d2b04b5",
    "biwi_rect.txt": "2b434fdc1fcd616b04d27a3f0e605e74e248098a",
    "biwi_angle.txt": "2dc6bc43004b2fefc96fa65553838f05dda78e34",
}
PATH_LENGTH = 160  # characters
LARGEST_BOX = 4  # times the image's longer side

Box = tuple[int, int, int]  # row, column, size in pixels
Angles = tuple[float, float, float]  # roll, pitch, yaw in radians: the order of the lists
Rejected = dict[str, list[str]]  # paths of the rows that cannot be used, by reason
Values = TypeVar("Values")


@dataclass(frozen=True)
class ListFile:
    """A list as it was read: its path, its number of rows, its SHA-256 and whether it is the published one."""

    path: str
    rows: int
    sha256: str
    published: bool


class RowError(ValueError):
    """A row of a list that cannot be used: the reason in a few words, and what was expected."""

    def __init__(self, reason: str, expected: str):
        super().__init__(f"{reason}: expected {expected}")
        self.reason = reason


def read_rows(file: str | Path, parse: Callable[[str, bool], Values]) -> tuple[dict[str, Values], ListFile, Rejected]:
    """Read a list row by row.

    Args:
        file: rows `path TAB values`, in UTF-8, with any line endings; empty lines are skipped.
        parse: gives the values of a text after the tab and whether the list is published; RowError for a bad row.

    Returns:
        The values by path in the list's order, what file it was, and the rejected rows of a published list.

    Raises:
        InputError: a file that cannot be read; a bad row of a list that is not the published one.
    """
    file = Path(file)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: the list cannot be read: {error.strerror}") from error
    published = PUBLISHED_BLOBS.get(file.name) == blob_id(content)
    rows: dict[str, Values] = {}
    lines: dict[str, int] = {}
    rejected: Rejected = {}
    for number, line in enumerate(content.decode("utf-8-sig", "replace").splitlines(), start=1):
        if not line.strip():
            continue
        name, _, text = line.partition("\t")
        path = name.strip()
        try:
            path = _relative_path(path, published)
            if path in rows:
                raise RowError("listed twice", f"each image once, and line {lines[path]} has this one")
            rows[path], lines[path] = parse(text, published), number
        except RowError as error:
            if not published:
                raise InputError(f"{file}, line {number}: {error}; got {line.strip()!r}") from error
            rejected.setdefault(error.reason, []).append(path)
    count = len(rows) + sum(map(len, rejected.values()))
    return rows, ListFile(str(file), count, hashlib.sha256(content).hexdigest(), published), rejected


def line_of(file: str | Path, path: str) -> int:
    """The line, from 1, in which a list that `read_rows` has read names an image."""
    lines = Path(file).read_text(encoding="utf-8-sig", errors="replace").splitlines()
    names = (listed_path(line.partition("\t")[0].strip().lstrip("/\\")) for line in lines)
    return next((number for number, name in enumerate(names, start=1) if name == path), 0)


def listed_path(text: str) -> str:
    """The one spelling of a path in lists and predictions files: forward slashes, none doubled, and no "./"."""
    return PureWindowsPath(text.strip()).as_posix()


def known_end(path: str, known: Container[str]) -> str | None:
    """The longest end of a path that is a known name, as `AFLW2000/a.jpg` is of `/data/AFLW2000/a.jpg`."""
    parts = listed_path(path).split("/")
    return next((end for start in range(len(parts)) if (end := "/".join(parts[start:])) in known), None)


def spelling_hint(first: Iterable[str], second: Iterable[str]) -> str:
    """In what two names of perhaps the same image differ, where there is such a pair, for messages."""
    others = {PurePosixPath(name).stem.casefold(): name for name in second}
    for path in map(PurePosixPath, first):
        if other := others.get(path.stem.casefold()):
            same_name = path.name.casefold() == PurePosixPath(other).name.casefold()
            same_folder = path.parent.as_posix().casefold() == PurePosixPath(other).parent.as_posix().casefold()
            what = ("capitals" if same_name else "suffix") if same_folder else "folder"
            return f"; {path.as_posix()!r} and {other!r} differ in their {what}: give both the same path"
    return ""


def _relative_path(text: str, published: bool) -> str:
    """The path of a row's image under the data folder, with forward slashes."""
    if "\N{REPLACEMENT CHARACTER}" in text:
        raise RowError("not UTF-8 text", "a list saved in UTF-8")
    if any(symbol < " " for symbol in text):
        raise RowError("control character in the path", "the path of an image, of printable characters")
    path = PureWindowsPath(text.lstrip("/\\") if published else text)  # reads slashes and backslashes
    if path.anchor or ".." in path.parts:
        raise RowError("path outside the data folder", "a path that starts at the data folder and stays in it")
    if path.suffix.lower() not in SUFFIXES:
        raise RowError("not the path of an image", "the path of an image, then a tab")
    if len(path.as_posix()) > PATH_LENGTH:
        raise RowError("path too long", f"at most {PATH_LENGTH} characters")
    return path.as_posix()


def parse_box(text: str, published: bool = False) -> Box | None:
    """(row, column, size) in pixels of a crop list's row `row column size size`; None where it has no box.

    In the published lists a size may have a fraction, which is cut, and a box that starts outside the image is not
    used: the released loader does both.

    Raises:
        RowError: a malformed box.
    """
    fields = text.split()
    if not fields:
        return None
    size_pattern = r"\d{1,6}(\.\d*)?" if published else r"\d{1,6}"
    patterns = [r"-?\d{1,6}", r"-?\d{1,6}", size_pattern, size_pattern]
    if len(fields) != 4 or not all(map(re.fullmatch, patterns, fields)):
        raise RowError("malformed box", "four whole numbers, row column size size")
    row, column, size, again = (int(float(value)) for value in fields)
    if size != again or size <= 0:
        raise RowError("box not square", "the same size twice, above 0")
    if published and min(row, column) < 0:
        raise RowError("box starts outside the image", "a row and column of at least 0")
    return row, column, size


def check_box(box: Box, height: int, width: int) -> None:
    """The one rule for a box and its image: it covers some of it, and is not more than LARGEST_BOX times as large.

    Args:
        box: row, column and size, in pixels.
        height, width: of the image, in pixels.

    Raises:
        RowError: the box does not fit.
    """
    row, column, size = box
    expected = f"row, column and size in pixels, from the top left corner of {height} rows and {width} columns"
    if not 0 < size <= LARGEST_BOX * max(height, width):
        raise RowError(f"box of over {LARGEST_BOX} times its image, or of none", f"{expected}; got the size {size}")
    if not (-size < row < height and -size < column < width):
        raise RowError("box outside its image", f"{expected}; got row {row}, column {column}, size {size}")


def parse_angles(text: str, unit: str, published: bool = False) -> Angles:
    """Roll, pitch and yaw in radians of an angle list's row; what follows, the class columns, is not used.

    Args:
        text: `roll TAB pitch TAB yaw`, and three class columns or none.
        unit: "radians" or "degrees".
        published: whether the list is the published one.

    Raises:
        RowError: malformed angles, or an angle beyond 360 degrees.
    """
    fields = text.split()
    if len(fields) not in (3, 6) and not (published and len(fields) > 3):
        raise RowError("malformed angles", "roll, pitch and yaw, and three class columns or none")
    try:
        roll, pitch, yaw = map(float, fields[:3])
    except ValueError as error:
        raise RowError("malformed angles", "three numbers: roll, pitch and yaw") from error
    turn = 360 if unit == "degrees" else 2 * math.pi
    if not all(abs(angle) <= turn for angle in (roll, pitch, yaw)):  # NaN is out of range too
        raise RowError("angle out of range", f"-360 to 360 degrees; is the unit really {unit}?")
    return (math.radians(roll), math.radians(pitch), math.radians(yaw)) if unit == "degrees" else (roll, pitch, yaw)


def unusable_rows(
    crops: tuple[dict[str, Box | None], ListFile, Rejected], poses: tuple[dict[str, Angles], ListFile, Rejected]
) -> Rejected:
    """Why rows of a pair of lists cannot be used: every such row of the crop list, and what only the angle list has.

    Args:
        crops: the crop list, from `read_rows`.
        poses: the angle list.

    Raises:
        InputError: one of the lists is not the published one, and an image is in one of them alone.
    """
    (boxes, crop_file, bad_boxes), (angles, angle_file, bad_angles) = crops, poses
    rejected = collections.defaultdict(list, {reason: list(paths) for reason, paths in bad_boxes.items()})
    in_crop_list = {*boxes, *itertools.chain(*bad_boxes.values())}
    bad_angle = {path: reason for reason, paths in bad_angles.items() for path in paths}
    for path, box in boxes.items():
        if path not in angles and path not in bad_angle:
            rejected["not in the angle list"].append(path)
        elif box is None or path not in angles:
            rejected["no box" if box is None else bad_angle[path]].append(path)
    if only_angles := [path for path in angles if path not in in_crop_list]:
        rejected["not in the crop list"] += only_angles
    for reason, paths in bad_angles.items():  # an image that has angles already has one row too many
        if alone := [path for path in paths if path not in in_crop_list or path in angles]:
            rejected[reason] += alone
    first, second = (rejected.get(f"not in the {kind} list", []) for kind in ("angle", "crop"))
    if (first or second) and not (crop_file.published and angle_file.published):
        raise InputError(
            f"{crop_file.path} and {angle_file.path} disagree: only the first names {len(first):,} images, "
            f"only the second {len(second):,} ({first_three([*first, *second])}); both lists must name the same images"
            f"{spelling_hint(first, second)}"
        )
    return dict(rejected)


def blob_id(content: bytes) -> str:
    """Git's name for a file's content, which recognises the published lists."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


RECORD = [("path", f"U{PATH_LENGTH}"), ("row", "i8"), ("column", "i8"), ("size", "i8"), ("angles", "f8", (3,))]
RECORD += [("video", "U8"), ("person", "U8")]


_VIDEO = re.compile(r"BIWI/hpdb/(\d+)/")


@dataclass(frozen=True)
class Listed:
    """What a pair of lists holds.

    `records` is a structured array of dtype RECORD: the path under the data folder, the square box (top row, left
    column, side, in pixels), `angles` (3,) in radians in the order of AXES and the signs of the lists, and the video
    and the person where they are known ("" where not).
    """

    dataset: Dataset
    data_dir: Path
    records: np.ndarray
    rejected: Rejected
    files: tuple[ListFile, ...] = ()  # the crop list and the angle list
    notes: tuple[str, ...] = ()  # what a reader of a result should know
    missing: int = 0  # images that were listed, absent, and skipped on request
    split: str = "all"  # as printed: "all", "16-8 test"
    usable: tuple[str, ...] = ()  # paths of all usable rows, in order, whatever is left out of `records` later

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


def read_lists(
    crop_list: str | Path, angle_list: str | Path, unit: str, data_dir: str | Path, dataset: Dataset | None = None
) -> Listed:
    """Join a list of boxes and a list of angles by the paths of their images.

    Rows of the published lists that cannot be used are counted by reason; in your own lists they are errors, but for
    an image without a box.

    Args:
        crop_list: file of rows `path TAB row column size size`, in pixels; or the path alone: an image without a box.
        angle_list: file of rows `path TAB roll TAB pitch TAB yaw`, in list signs, with or without three class columns.
        unit: of the angles, "radians" or "degrees".
        data_dir: the folder at which the paths start.
        dataset: what the lists are; None: your own.

    Returns:
        `Listed`, in the order of the crop list; its notes say where lists differ from the published ones.

    Raises:
        InputError: your own lists have a malformed row (file and line), name an image twice, or name different images;
            or no row can be used.
    """
    dataset = dataset or Dataset("your own lists", Path(crop_list).name, Path(angle_list).name, unit)
    crops = read_rows(crop_list, parse_box)
    poses = read_rows(angle_list, lambda text, published: parse_angles(text, unit, published))
    rejected = unusable_rows(crops, poses)
    (boxes, crop_file, _), (angles, angle_file, _) = crops, poses
    paths = [path for path, box in boxes.items() if box and path in angles]
    if not paths:
        why = "".join(f"; {len(rows):,} {reason}" for reason, rows in rejected.items())
        raise InputError(f"{crop_list} and {angle_list} hold no image with a box and angles{why}")
    records = np.zeros(len(paths), RECORD)
    records["path"] = paths
    records["row"], records["column"], records["size"] = np.array([boxes[path] for path in paths]).T
    in_list_order = np.array([angles[path] for path in paths])
    records["angles"] = in_list_order[:, [LIST_ORDER.index(axis) for axis in AXES]]
    records["video"] = [match[1] if (match := _VIDEO.match(path)) else "" for path in paths]
    persons = BIWI_PERSON if crop_file.published and angle_file.published else {}
    records["person"] = [persons.get(video, video) for video in records["video"]]
    files = (crop_file, angle_file)
    notes = []
    if dataset in [DATASETS[name] for name in PAPER_DATASETS]:
        notes += [f"{Path(file.path).name} is not the published list" for file in files if not file.published]
        if dataset.usable and (crop_file.rows, len(paths)) != (dataset.rows, dataset.usable):
            counts = f"the published lists have {dataset.rows:,} rows, {dataset.usable:,} usable"
            notes.append(f"{crop_file.rows:,} rows, {len(paths):,} usable; {counts}")
    if paths != [path for path in angles if boxes.get(path)]:
        notes.append("the two lists name their images in different orders; they were joined by path")
    return Listed(dataset, Path(data_dir), records, rejected, files, tuple(notes), usable=tuple(paths))


def load_dataset(name: str, data_dir: str | Path, split: str = "all", part: str = "test") -> Listed:
    """Read the lists of a dataset of DATASETS from the data folder or its `lists/`.

    For BIWI, `split` may be a key of BIWI_SPLITS, of which `part` is "train" or "test".

    Raises:
        InputError: lists that are missing or malformed, a split that does not exist or is empty.
    """
    dataset = DATASETS[name]
    crop_list, angle_list = (find_list(data_dir, file) for file in (dataset.crop_list, dataset.angle_list))
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


def find_list(data_dir: str | Path, name: str) -> Path:
    """The path of a list in the data folder or in its `lists/`."""
    for path in (Path(data_dir, name), Path(data_dir, "lists", name)):
        if path.is_file():
            return path
    raise InputError(
        f"{name} is neither in {data_dir} nor in {Path(data_dir, 'lists')}; "
        f"get it with: python data_loaders.py --data-dir {data_dir} --fetch-lists"
    )


def image_path(listed: Listed, record: np.void) -> Path:
    """Where the image of a record lies."""
    return listed.data_dir / record["path"]


def box_error(record: np.void, shape: tuple[int, ...]) -> RowError | None:
    """Why the box of a record does not fit an image of this shape; None where it does."""
    try:
        check_box((record["row"], record["column"], record["size"]), *shape[:2])
    except RowError as error:
        return error
    return None


def row_of(listed: Listed, path: str) -> str:
    """Where the box of an image comes from, for messages."""
    file = listed.files[0].path
    return f"{file}, line {line_of(file, path)}, {path}"


def limited(listed: Listed, n: int) -> Listed:
    """At most `n` records, evenly spaced over the list; all of them for n = 0."""
    total = len(listed.records)
    if not 0 < n < total:
        return listed
    chosen = np.linspace(0, total - 1, n).astype(int)
    note = f"limited to {n:,} of {total:,} images, evenly spaced"
    return replace(listed, records=listed.records[chosen], notes=(*listed.notes, note))

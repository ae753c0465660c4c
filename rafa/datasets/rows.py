"""One list in the published format: a file of rows, each the path of an image and its box, or its angles.

Rows of the published lists, which cannot be changed, are rejected by reason; bad rows of your own lists are errors.
"""

import hashlib
import math
import posixpath
import re
import unicodedata
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from rafa.datasets.images import SUFFIXES
from rafa.script import InputError

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


def read_rows(file: str | Path, parse: Callable[[str], Values]) -> tuple[dict[str, Values], ListFile, Rejected]:
    """Read a list row by row.

    Args:
        file: rows `path TAB values`, in UTF-8, with any line endings; empty lines are skipped.
        parse: gives the values of the text after the tab; RowError for a bad row.

    Returns:
        The values by path in the list's order, what file it was, and the rejected rows of a published list.

    Raises:
        InputError: a file that cannot be read; a bad row of a list that is not the published one.
    """
    file = Path(file)
    try:
        content = file.read_bytes()
        lines = content.decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: the list cannot be read as text in UTF-8: {error}") from error
    published = PUBLISHED_BLOBS.get(file.name) == blob_id(content)
    rows: dict[str, Values] = {}
    rejected: Rejected = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, _, text = line.partition("\t")
        path = listed_path(name).lstrip("/")
        try:
            _check_path(path)
            if path in rows:
                raise RowError("listed twice", "each image once")
            rows[path] = parse(text)
        except RowError as error:
            if not published:
                raise InputError(f"{file}, line {number}: {error}; got {line.strip()!r}") from error
            rejected.setdefault(error.reason, []).append(path)
    count = len(rows) + sum(map(len, rejected.values()))
    return rows, ListFile(str(file), count, hashlib.sha256(content).hexdigest(), published), rejected


def line_of(file: str | Path, path: str) -> int:
    """The line, from 1, in which a list that `read_rows` has read names an image; 0 if it has changed since."""
    names = (line.partition("\t")[0] for line in Path(file).read_text("utf-8-sig").splitlines())
    return next((number for number, name in enumerate(names, start=1) if listed_path(name).lstrip("/") == path), 0)


def blob_id(content: bytes) -> str:
    """Git's name for a file's content, which recognises the published lists."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


# --- Paths ------------------------------------------------------------------------------------------------------------
def listed_path(text: str) -> str:
    """The one spelling of a path in lists and predictions files: slashes, none doubled, no "./" first, Unicode NFC."""
    return unicodedata.normalize("NFC", posixpath.normpath(text.strip().replace("\\", "/")))


def known_end(path: str, known: Container[str]) -> str | None:
    """The longest end of a path that is a known name, as `AFLW2000/a.jpg` is of `/data/AFLW2000/a.jpg`."""
    parts = listed_path(path).split("/")
    return next((end for start in range(len(parts)) if (end := "/".join(parts[start:])) in known), None)


def _check_path(path: str) -> None:
    if PurePosixPath(path).suffix.lower() not in SUFFIXES:
        raise RowError("not the path of an image", "the path of an image, then a tab")
    if len(path) > PATH_LENGTH:
        raise RowError("path too long", f"at most {PATH_LENGTH} characters")


# --- Boxes and angles -------------------------------------------------------------------------------------------------
def parse_box(text: str) -> Box | None:
    """(row, column, size) in pixels of a crop list's row `row column size size`; None where it has no box.

    A size may have a fraction, which is cut, as in the released loader.

    Raises:
        RowError: a malformed box.
    """
    if not text.strip():
        return None
    place, side = r"(-?\d{1,6})", r"(\d{1,6})(?:\.\d*)?"
    fields = re.fullmatch(rf"{place}\s+{place}\s+{side}\s+{side}", text.strip())
    if not fields:
        raise RowError("malformed box", "four whole numbers, row column size size")
    row, column, size, again = map(int, fields.groups())
    if size != again or size == 0:
        raise RowError("box not square", "the same size twice, above 0")
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


def parse_angles(text: str, unit: str) -> Angles:
    """Roll, pitch and yaw in radians of an angle list's row; what follows, the class columns, is not used.

    Args:
        text: `roll TAB pitch TAB yaw`, and more columns or none.
        unit: "radians" or "degrees".

    Raises:
        RowError: malformed angles, or an angle beyond 360 degrees.
    """
    try:
        roll, pitch, yaw = map(float, text.split("\t" if "\t" in text.strip() else None)[:3])
    except ValueError as error:
        raise RowError("malformed angles", "three numbers: roll, pitch and yaw") from error
    turn = 360 if unit == "degrees" else 2 * math.pi
    if not all(abs(angle) <= turn for angle in (roll, pitch, yaw)):  # NaN is out of range too
        raise RowError("angle out of range", f"-360 to 360 degrees; is the unit really {unit}?")
    return (math.radians(roll), math.radians(pitch), math.radians(yaw)) if unit == "degrees" else (roll, pitch, yaw)

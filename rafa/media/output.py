"""The rows that `predict.py` writes: one per face, with its place, its angles in degrees, and what was asked for."""

import csv
import json
from collections.abc import Callable
from typing import Any, TextIO

import numpy as np

from rafa.media.sources import Face, Frame
from rafa.pose import AXES, rotation_matrix

Rows = list[dict[str, Any]]

ROTATION_FIELDS: dict[str, tuple[str, ...]] = {
    "none": (),
    "matrix": tuple(f"r{row}{column}" for row in (1, 2, 3) for column in (1, 2, 3)),
    "quaternion": ("qx", "qy", "qz", "qw"),
}


def row_fields(rotation: str = "none", uncertainty: bool = False) -> tuple[str, ...]:
    """The names of a row's fields, in order."""
    spreads = tuple(f"{axis}_spread" for axis in AXES) if uncertainty else ()
    where = ("source", "frame", "seconds", "face", "row", "column", "size", "confidence")
    return (*where, *AXES, *spreads, *ROTATION_FIELDS[rotation], "status")


def rows_of(frame: Frame, roll_sign: str = "list", rotation: str = "none", uncertainty: bool = False) -> Rows:
    """One dict per face with the keys of `row_fields`; for a frame without faces, one whose status says why.

    Args:
        roll_sign: "list", or "mat" for the opposite sign of the `.mat` files.
        rotation: a key of ROTATION_FIELDS; the rotation of `rafa.pose.rotation_matrix`, whatever the roll's sign.
        uncertainty: also the standard deviation of each angle over the views.
    """
    empty = dict.fromkeys(row_fields(rotation, uncertainty))
    empty |= {"source": frame.source.path, "frame": frame.number}
    empty["seconds"] = None if frame.seconds is None else round(frame.seconds, 4)
    if not frame.faces:
        return [empty | {"status": frame.problem}]
    return [empty | _values(face, roll_sign, rotation, uncertainty) for face in frame.faces]


def _values(face: Face, roll_sign: str, rotation: str, uncertainty: bool) -> dict[str, Any]:
    """The fields of one face."""
    values = dict(zip(("row", "column", "size"), face.box, strict=True)) | {"face": face.number, "status": "ok"}
    values["confidence"] = None if face.confidence is None else round(face.confidence, 4)
    degrees = np.degrees(face.angles) * (1, 1, -1 if roll_sign == "mat" else 1)
    values |= zip(AXES, degrees.round(4).tolist(), strict=True)
    if uncertainty:
        spreads = np.degrees(face.spread).round(4).tolist()
        values |= zip((f"{axis}_spread" for axis in AXES), spreads, strict=True)
    return values | dict(zip(ROTATION_FIELDS[rotation], _rotation(face.angles, rotation), strict=True))


def _rotation(angles: np.ndarray, rotation: str) -> list[float]:
    """The values of ROTATION_FIELDS."""
    if rotation == "none":
        return []
    matrix = rotation_matrix(angles)
    if rotation == "matrix":
        return matrix.ravel().round(6).tolist()
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(matrix).as_quat(canonical=True).round(6).tolist()


def row_writer(stream: TextIO, form: str, fields: tuple[str, ...]) -> Callable[[Rows], None]:
    """A function that writes rows to a stream, as CSV below a header or as JSON lines ("jsonl")."""
    if form == "jsonl":
        return lambda rows: stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    writer = csv.DictWriter(stream, fields, lineterminator="\n")
    writer.writeheader()
    return writer.writerows

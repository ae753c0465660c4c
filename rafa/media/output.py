"""The rows that `predict.py` writes: one per face, with its place, its angles in degrees, and what was asked for."""

import csv
import json
from typing import Any, TextIO

import numpy as np

from rafa.media.sources import Face, Frame
from rafa.pose import AXES

FORMATS = ("csv", "jsonl", "openface")
ROTATION_FIELDS: dict[str, tuple[str, ...]] = {
    "none": (),
    "matrix": tuple(f"r{row}{column}" for row in (1, 2, 3) for column in (1, 2, 3)),
    "quaternion": ("qx", "qy", "qz", "qw"),
}
OPENFACE_POSE = ("pose_Rx", "pose_Ry", "pose_Rz")
OPENFACE_FIELDS = ("frame", "face_id", "timestamp", "confidence", "success", *OPENFACE_POSE)


class Rows:
    """Writes the rows of frames to a stream: CSV below a header, JSON lines, or the CSV of OpenFace 2.2.

    Args:
        form: one of FORMATS; for "openface" see `openface_rows`.
        options: of `rows_of`.
    """

    def __init__(self, stream: TextIO, form: str = "csv", **options: Any) -> None:
        self.stream, self.form, self.options = stream, form, options
        fields = OPENFACE_FIELDS if form == "openface" else row_fields(**options)
        self.csv = csv.DictWriter(stream, fields, lineterminator="\n")
        if form != "jsonl":
            self.csv.writeheader()

    def write(self, frame: Frame) -> None:
        """Add the rows of a frame, at once."""
        rows = openface_rows(frame) if self.form == "openface" else rows_of(frame, **self.options)
        if self.form == "jsonl":
            self.stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:
            self.csv.writerows(rows)
        self.stream.flush()


# --- Rows of this suite -----------------------------------------------------------------------------------------------
def row_fields(roll_sign: str = "list", rotation: str = "none", uncertainty: bool = False) -> tuple[str, ...]:
    """The names of a row's fields, in order; the arguments are those of `rows_of`."""
    spreads = tuple(f"{axis}_spread" for axis in AXES) if uncertainty else ()
    where = ("source", "frame", "seconds", "face", "row", "column", "size", "confidence")
    return (*where, *AXES, *spreads, *ROTATION_FIELDS[rotation], "status")


def rows_of(
    frame: Frame, roll_sign: str = "list", rotation: str = "none", uncertainty: bool = False
) -> list[dict[str, Any]]:
    """One dict per face with the keys of `row_fields`; for a frame without faces, one whose status says why.

    Args:
        roll_sign: "list", or "mat" for the opposite sign of the `.mat` files.
        rotation: a key of ROTATION_FIELDS; the rotation of `rafa.pose.rotation_matrix`, whatever the roll's sign.
        uncertainty: also the standard deviation of each angle over the views.
    """
    empty = dict.fromkeys(row_fields(roll_sign, rotation, uncertainty))
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
    if rotation == "matrix":
        values |= zip(ROTATION_FIELDS["matrix"], face.rotation.ravel().round(6).tolist(), strict=True)
    if rotation == "quaternion":
        from scipy.spatial.transform import Rotation

        quaternion = Rotation.from_matrix(face.rotation).as_quat(canonical=True)
        values |= zip(ROTATION_FIELDS["quaternion"], quaternion.round(6).tolist(), strict=True)
    return values


# --- Rows of OpenFace -------------------------------------------------------------------------------------------------
def openface_rows(frame: Frame) -> list[dict[str, Any]]:
    """One dict per face with OPENFACE_FIELDS, angles in radians; for a frame without faces, one of zeros.

    Frames count from 1, as in OpenFace, and what follows the last frame that could be read has no row.

    OpenFace rotates the head by R' = Rx(pose_Rx) Ry(pose_Ry) Rz(pose_Rz) in axes x right, y down, z away from the
    viewer, where z is that of this suite reversed.  With S = diag(1, 1, -1), R' = S R S, and S Rx(a) S = Rx(-a),
    S Ry(a) S = Ry(-a), S Rz(a) S = Rz(a).  From R = Rx(pitch) Ry(-yaw) Rz(-roll), list signs, follows
    R' = Rx(-pitch) Ry(yaw) Rz(-roll).
    """
    if frame.image is None:
        return []
    row: dict[str, Any] = dict.fromkeys(OPENFACE_FIELDS, 0)
    row |= {"frame": (frame.number or 0) + 1, "timestamp": round(frame.seconds or 0.0, 3)}
    rows = []
    for face in frame.faces:
        yaw, pitch, roll = face.angles
        pose = dict(zip(OPENFACE_POSE, np.round((-pitch, yaw, -roll), 5).tolist(), strict=True))
        sure = 1.0 if face.confidence is None else round(face.confidence, 2)
        rows.append(row | pose | {"face_id": face.number, "confidence": sure, "success": 1})
    return rows or [row]

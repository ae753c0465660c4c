"""A row holds the place and the pose of one face, in degrees and in the signs asked for."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.images import NOISE
from scipy.spatial.transform import Rotation

from rafa.media.output import OPENFACE_FIELDS, Rows, openface_rows, row_fields, rows_of
from rafa.media.sources import Face, Frame, Source
from rafa.pose import AXES, rotation_matrix

IMAGE = Source("ä.png", Path("ä.png"), "image")


def frame_at(*degrees, spread=(0, 0, 0)):
    """A frame with a face of known pose."""
    face = Face((20, 30, 60), angles=np.radians(degrees), spread=np.radians(spread))
    return Frame(IMAGE, None, NOISE, faces=[face])


def test_a_row_holds_where_the_face_is_and_its_angles_in_degrees():
    frame = Frame(Source("v.mp4", Path("v.mp4"), "video"), 7, NOISE, seconds=7 / 30)
    frame.faces = [
        Face((1, 2, 3), angles=np.radians([10, -20, 30]), confidence=0.912345),
        Face((4, 5, 6), angles=np.radians([-1, 2, -3]), number=1),
    ]
    first, second = rows_of(frame)
    assert first == {
        "source": "v.mp4", "frame": 7, "seconds": 0.2333, "face": 0, "row": 1, "column": 2, "size": 3,
        "confidence": 0.9123, "yaw": 10.0, "pitch": -20.0, "roll": 30.0, "status": "ok",
    }  # fmt: skip
    assert tuple(first) == row_fields()
    assert (second["face"], second["row"], second["yaw"], second["roll"]) == (1, 4, -1.0, -3.0)
    assert second["confidence"] is None


def test_a_frame_without_faces_has_a_row_that_says_why():
    (row,) = rows_of(Frame(IMAGE, 3, NOISE, problem="no face"), rotation="quaternion")
    assert tuple(row) == row_fields(rotation="quaternion")
    given = {key: value for key, value in row.items() if value is not None}
    assert given == {"source": "ä.png", "frame": 3, "status": "no face"}


def test_the_sign_of_the_mat_files_changes_roll_alone():
    frame = frame_at(10, -20, 30)
    (in_list,), (in_mat,) = (rows_of(frame, sign, "matrix") for sign in ("list", "mat"))
    assert (in_list["roll"], in_mat["roll"]) == (30, -30)
    assert {name for name in in_list if in_list[name] != in_mat[name]} == {"roll"}


def test_the_spread_is_in_degrees_and_only_there_when_asked_for():
    (row,) = rows_of(frame_at(10, -20, 30, spread=(1, 2, 3)), uncertainty=True)
    assert [row[f"{axis}_spread"] for axis in AXES] == [1, 2, 3] and tuple(row) == row_fields(uncertainty=True)
    assert "yaw_spread" not in rows_of(frame_at(1, 2, 3))[0]


@pytest.mark.parametrize("degrees", [(10, -20, 30), (170, 0, 0)])
def test_matrix_and_quaternion_are_the_rotation_of_the_head(degrees):
    frame, turned = frame_at(*degrees), rotation_matrix(np.radians(degrees))
    (matrix,), (quaternion,) = (rows_of(frame, rotation=form) for form in ("matrix", "quaternion"))
    values = [[matrix[f"r{row}{column}"] for column in (1, 2, 3)] for row in (1, 2, 3)]
    assert np.array(values) == pytest.approx(turned, abs=1e-6)
    values = [quaternion[name] for name in ("qx", "qy", "qz", "qw")]
    assert Rotation.from_quat(values).as_matrix() == pytest.approx(turned, abs=1e-5)
    assert values[3] > 0  # of the two quaternions of a rotation, this one


@pytest.mark.parametrize(("degrees", "nose"), [((30, 0, 0), (-0.5, 0, 0.75**0.5)), ((0, 30, 0), (0, -0.5, 0.75**0.5))])
def test_the_nose_is_where_the_angles_say(degrees, nose):
    (row,) = rows_of(frame_at(*degrees), rotation="matrix")  # yaw > 0: to the left of the image; pitch > 0: up
    assert (row["r13"], row["r23"], row["r33"]) == pytest.approx(nose, abs=1e-6)


def written(form, *frames, **options):
    """What is written of frames."""
    stream = io.StringIO()
    rows = Rows(stream, form, **options)
    for frame in frames:
        rows.write(frame)
    return stream.getvalue()


def test_json_lines_hold_what_the_csv_holds():
    frame = frame_at(10, -20, 30, spread=(1, 2, 3))
    (in_csv,) = csv.DictReader(io.StringIO(written("csv", frame, uncertainty=True)))
    lines = written("jsonl", frame, uncertainty=True)
    in_json = json.loads(lines)
    assert list(in_csv) == list(in_json) and "ä.png" in lines and [in_json] == rows_of(frame, uncertainty=True)
    assert {name: "" if value is None else str(value) for name, value in in_json.items()} == in_csv


# --- OpenFace ---------------------------------------------------------------------------------------------------------
def euler_to_matrix(angles):
    """OpenFace 2.2's `Utilities::Euler2RotationMatrix`."""
    (s1, s2, s3), (c1, c2, c3) = np.sin(angles), np.cos(angles)
    return np.array(
        [
            (c2 * c3, -c2 * s3, s2),
            (c1 * s3 + c3 * s1 * s2, c1 * c3 - s1 * s2 * s3, -c2 * s1),
            (s1 * s3 - c1 * c3 * s2, c3 * s1 + c1 * s2 * s3, c1 * c2),
        ]
    )


@pytest.mark.parametrize("degrees", [(40, 0, 0), (0, 30, 0), (0, 0, 20), (40, -30, 20), (-80, 10, -50)])
def test_openface_s_angles_turn_the_head_as_this_suite_s(degrees):
    (row,) = openface_rows(frame_at(*degrees))
    away = np.diag((1, 1, -1))  # z away from the viewer, and not towards
    turned = euler_to_matrix([row[name] for name in ("pose_Rx", "pose_Ry", "pose_Rz")])
    assert turned == pytest.approx(away @ rotation_matrix(np.radians(degrees)) @ away, abs=1e-4)


def test_openface_s_rows_count_frames_from_one_and_say_where_there_is_no_face():
    video = Source("v.mp4", Path("v.webm"), "video")
    face = Face((1, 2, 3), angles=np.array((0.1, 0.2, 0.3)), confidence=0.876, number=2)
    frames = (
        Frame(video, 0, NOISE, seconds=0.0, faces=[face]),
        Frame(video, 1, NOISE, seconds=1 / 30, problem="no face"),
        Frame(video, problem="cut off"),
    )
    header, *lines = written("openface", *frames).splitlines()
    assert header == "frame,face_id,timestamp,confidence,success,pose_Rx,pose_Ry,pose_Rz" == ",".join(OPENFACE_FIELDS)
    assert lines == ["1,2,0.0,0.88,1,-0.2,0.1,-0.3", "2,0,0.033,0,0,0,0,0"]

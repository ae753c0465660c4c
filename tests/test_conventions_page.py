"""doc/conventions.md: its formulas give the rotation that the other program means."""

import re

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rafa.datasets.annotations import read_angles
from rafa.files import ROOT
from rafa.pose import AXES, CHANNEL_MEANS, LIST_ORDER, angles_of, rotation_matrix

TEXT = (ROOT / "doc" / "conventions.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("|")]
POSES = np.radians(np.random.default_rng(0).uniform((-80, -60, -70), (80, 60, 70), (20, 3)))
# A head at rest: the directions of its own left, of its chin and of its nose, as columns; and how x and y of the image
# come from the frame.
IMAGE = np.eye(3), np.eye(3)[:2]  # x to the right, y down, z towards the viewer
CAMERA = np.diag([1, 1, -1]), np.eye(3)[:2]  # x to the right, y down, z away from the camera
UPRIGHT = np.diag([1, -1, 1]), np.array([[1, 0, 0], [0, -1, 0]])  # x to the right, y up, z towards the viewer


def turn(axis, angle):
    """The rotation about x, y or z (0, 1, 2), written out."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array(
        [
            [[1, 0, 0], [0, c, -s], [0, s, c]],
            [[c, 0, s], [0, 1, 0], [-s, 0, c]],
            [[c, -s, 0], [s, c, 0], [0, 0, 1]],
        ][axis]
    )


def xyz(a, b, c):
    return turn(0, a) @ turn(1, b) @ turn(2, c)


def formulas(program):
    """The cells yaw, pitch and roll of a program's row."""
    return next(cells[2:] for cells in ROWS if cells[0].startswith(program))


def converted(program, **written):
    """Angles (3,) of this suite, by the formulas in the document."""
    cells = [re.fullmatch(r"`(-?)(\w+)`", cell) for cell in formulas(program)]
    return np.array([written[cell[2]] * (-1 if cell[1] else 1) for cell in cells])


def mat_rotation(pitch, yaw, roll):
    return turn(0, pitch) @ turn(1, -yaw) @ turn(2, roll)


LABELS = ("pitch", "yaw", "roll")
PROGRAMS = {  # start of the row → names of the three angles, the rotation that they mean, its frame
    "`.mat`": (LABELS, mat_rotation, IMAGE),
    "Hopenet": (LABELS, mat_rotation, IMAGE),
    "6DRepNet": (LABELS, mat_rotation, IMAGE),
    "OpenFace": (("pose_Rx", "pose_Ry", "pose_Rz"), xyz, CAMERA),
    "BIWI": ("abc", xyz, CAMERA),
    "MediaPipe": ("abc", xyz, UPRIGHT),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_formulas_of_a_program_show_the_head_as_it_does(program):
    names, rotation_of, (at_rest, picture) = PROGRAMS[program]
    for pose in POSES:
        ours = rotation_matrix(converted(program, **dict(zip(names, pose, strict=True))))
        rotation = rotation_of(*pose)
        np.testing.assert_allclose(ours[:2], picture @ rotation @ at_rest, atol=1e-12)  # left, chin, nose in the image
        np.testing.assert_allclose(ours, at_rest @ rotation @ at_rest, atol=1e-12)  # R = F · rotation · F
    flip = ", ".join(f"{value:g}" for value in np.diag(at_rest)).replace("-", "−")
    assert at_rest is IMAGE[0] or f"F = diag({flip})" in TEXT


def test_every_row_is_tested():
    start = ROWS.index(["Program", "writes", *AXES])
    assert [next(name for name in PROGRAMS if row[0].startswith(name)) for row in ROWS[start + 2 :]] == [*PROGRAMS]


def test_6drepnet_gives_the_angles_of_its_labels_by_a_matrix_that_is_not_the_rotation_of_the_head():
    for pitch, yaw, roll in POSES:
        matrix = turn(2, roll) @ turn(1, yaw) @ turn(0, pitch)
        answer = (
            np.arctan2(matrix[2, 1], matrix[2, 2]),
            np.arctan2(-matrix[2, 0], np.hypot(matrix[0, 0], matrix[1, 0])),
            np.arctan2(matrix[1, 0], matrix[0, 0]),
        )
        np.testing.assert_allclose(answer, (pitch, yaw, roll))
        flips = [np.diag(flip) for flip in ((1, 1, 1), (1, 1, -1), (1, -1, 1), (-1, 1, 1))]
        apart = [Rotation.from_matrix(flip @ matrix @ flip @ mat_rotation(pitch, yaw, roll).T) for flip in flips]
        assert min(np.degrees(each.magnitude()) for each in apart) > 0.1


def test_pose_files_of_biwi_are_read_as_the_row_says(tmp_path):
    for a, b, c in POSES[:5]:
        np.savetxt(tmp_path / "frame_00003_pose.txt", [*xyz(a, b, c), (0, 0, 900)])
        np.testing.assert_allclose(read_angles(tmp_path / "frame_00003_pose.txt"), converted("BIWI", a=a, b=b, c=c))


def test_the_colour_camera_of_biwi_sees_the_head_one_degree_away():
    cameras = [
        [0.999947, 0.00432361, 0.00929419],
        [-0.00446314, 0.999877, 0.0150443],
        [-0.009228, -0.015085, 0.999844],
    ]
    assert np.degrees(Rotation.from_matrix(cameras).magnitude()) == pytest.approx(1.04, abs=0.01)


def test_the_matrix_in_the_text_is_that_of_the_example():
    numbers = re.search(r"R = \[([\d. ;-]+)\]", TEXT)[1].replace(";", " ").split()
    yaw, pitch, roll = map(int, re.search(r"yaw (\d+)°, pitch (\d+)° and roll (\d+)° give", TEXT).groups())
    written = np.array(numbers, float).reshape(3, 3)
    np.testing.assert_allclose(rotation_matrix(np.radians([yaw, pitch, roll])), written, atol=5.1e-4)
    np.testing.assert_allclose(np.degrees(angles_of(written)), [yaw, pitch, roll], atol=0.1)


def test_order_and_means_are_those_of_the_suite():
    places = dict(row[0::2] for row in ROWS if row[0] in AXES)
    assert [places[axis] for axis in LIST_ORDER] == ["first", "second", "third"]
    assert str(CHANNEL_MEANS) in TEXT

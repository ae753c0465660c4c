"""The conventions: signs, rotation matrices and back."""

import numpy as np
import pytest

from rafa.pose import AXES, angles_of, rotation_matrix


@pytest.mark.parametrize(
    ("axis", "vector", "component", "sign"),
    [("yaw", (0, 0, 1), 0, -1), ("pitch", (0, 0, 1), 1, -1), ("roll", (1, 0, 0), 1, -1)],
)
def test_positive_angles_turn_left_up_and_counter_clockwise(axis, vector, component, sign):
    angles = np.radians(30) * (np.array(AXES) == axis)
    turned = rotation_matrix(angles) @ np.array(vector, float)
    assert turned[component] == pytest.approx(sign * 0.5)


def test_the_matrix_is_rx_pitch_ry_minus_yaw_rz_minus_roll():
    yaw, pitch, roll = 0.5, -0.3, 0.2
    c, s = np.cos, np.sin
    rx = np.array([[1, 0, 0], [0, c(pitch), -s(pitch)], [0, s(pitch), c(pitch)]])
    ry = np.array([[c(-yaw), 0, s(-yaw)], [0, 1, 0], [-s(-yaw), 0, c(-yaw)]])
    rz = np.array([[c(-roll), -s(-roll), 0], [s(-roll), c(-roll), 0], [0, 0, 1]])
    np.testing.assert_allclose(rotation_matrix([yaw, pitch, roll]), rx @ ry @ rz, atol=1e-12)


def test_many_poses_have_a_matrix_each_and_their_angles_again():
    angles = np.random.default_rng(0).uniform(-1.5, 1.5, (2, 4, 3))
    matrices = rotation_matrix(angles)
    assert matrices.shape == (2, 4, 3, 3)
    np.testing.assert_allclose(matrices[1, 2], rotation_matrix(angles[1, 2]), atol=1e-12)
    np.testing.assert_allclose(angles_of(matrices), angles, atol=1e-9)
    np.testing.assert_allclose(angles_of(matrices[0, 0]), angles[0, 0], atol=1e-9)

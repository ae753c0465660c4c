"""The annotations beside the images: `.mat` files of 300W-LP and AFLW2000, pose files of BIWI."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from rafa.datasets.rows import Box
from rafa.pose import angles_of
from rafa.script import InputError

# A box from the landmarks without the jaw, S being the square root of their width times their height, in pixels: the
# side in S, and how far below their mean its centre lies.  Medians of the published boxes of 394 images of AFLW2000.
MAT_SIDE, MAT_DOWN = 1.38, 0.033
# Millimetres: side of BIWI's boxes at the distance of the head, by three frames of which box and pose are published.
BIWI_SIDE = 164

Value = TypeVar("Value")


def annotation_path(image: Path) -> Path:
    """Where the annotation of an image lies, if it has one."""
    frame = image.name.removesuffix("_rgb.png")
    return image.with_suffix(".mat") if frame == image.name else image.with_name(f"{frame}_pose.txt")


def read_angles(annotation: Path) -> np.ndarray:
    """Angles (3,) in AXES order, radians, list signs, of a `.mat` file or a pose file: a rotation (3, 3) and a place.

    Those of a `.mat` file are the published lists' times π / 3.14.

    Raises:
        InputError: a file that cannot be read, or holds no pose.
    """
    return _read(annotation, _angles_of_mat if annotation.suffix == ".mat" else _angles_of_pose_file)


def read_box(annotation: Path) -> Box:
    """A square around the face, (row, column, size) in pixels, near the one in the published lists.

    Of a `.mat` file by its landmarks, of a pose file of BIWI by the place of the head and `rgb.cal` beside it.

    Raises:
        InputError: a file that cannot be read, or holds no landmarks or no place.
    """
    square = _square_of_mat if annotation.suffix == ".mat" else _square_of_pose_file

    def box(file: Path) -> Box:
        x, y, size = square(file)
        return round(y - size / 2), round(x - size / 2), round(size)

    return _read(annotation, box)


def _read(annotation: Path, read: Callable[[Path], Value]) -> Value:
    try:
        return read(annotation)
    except Exception as error:  # SciPy raises many kinds for a broken file
        raise InputError(f"{annotation} is not an annotation that can be read: {error}; get it again") from error


# --- 300W-LP and AFLW2000 ---------------------------------------------------------------------------------------------
def _angles_of_mat(file: Path) -> np.ndarray:
    from scipy.io import loadmat

    pitch, yaw, roll = np.asarray(loadmat(file, variable_names="Pose_Para")["Pose_Para"], float).ravel()[:3]
    return np.array([yaw, pitch, -roll])


def _square_of_mat(file: Path) -> tuple[float, float, float]:
    """Centre x, y and side; AFLW2000's `pt2d` lacks the landmarks that are hidden, 300W-LP has no `pt3d_68`."""
    from scipy.io import loadmat

    mat = loadmat(file, variable_names=["pt3d_68", "pt2d"])
    points = mat["pt3d_68" if "pt3d_68" in mat else "pt2d"][:2]
    inner = points.reshape(2, 68)[:, 17:]  # x and y, without the jaw
    scale = np.sqrt(np.ptp(inner, axis=1).prod())
    x, y = inner.mean(axis=1)
    return x, y + MAT_DOWN * scale, MAT_SIDE * scale


# --- BIWI -------------------------------------------------------------------------------------------------------------
def _angles_of_pose_file(file: Path) -> np.ndarray:
    rotation = np.loadtxt(file)[:3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):
        raise ValueError("no rotation matrix in its first three rows")
    return angles_of(rotation) * (-1, -1, 1)


def _square_of_pose_file(file: Path) -> tuple[float, float, float]:
    """Centre x, y and side: the place of the head, in the depth camera's millimetres, seen by the colour camera."""
    calibration = np.array(file.with_name("rgb.cal").read_text(encoding="utf-8").split(), float)
    camera, rotation = calibration[:9].reshape(3, 3), calibration[13:22].reshape(3, 3)  # between them, the distortion
    place = rotation @ np.loadtxt(file)[3] + calibration[22:25]
    x, y, _ = camera @ place / place[2]
    return x, y, BIWI_SIDE * camera[0, 0] / place[2]

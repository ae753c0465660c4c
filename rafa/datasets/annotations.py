"""The annotations beside the images: `.mat` files of 300W-LP and AFLW2000, pose files of BIWI."""

from pathlib import Path

import numpy as np

from rafa.pose import angles_of
from rafa.script import InputError


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
    try:
        return (_angles_of_mat if annotation.suffix == ".mat" else _angles_of_pose_file)(annotation)
    except Exception as error:  # SciPy raises many kinds for a broken file
        raise InputError(f"{annotation} is not an annotation that can be read: {error}; get it again") from error


def _angles_of_mat(file: Path) -> np.ndarray:
    from scipy.io import loadmat

    pitch, yaw, roll = np.asarray(loadmat(file, variable_names="Pose_Para")["Pose_Para"], float).ravel()[:3]
    return np.array([yaw, pitch, -roll])


def _angles_of_pose_file(file: Path) -> np.ndarray:
    rotation = np.loadtxt(file)[:3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):
        raise ValueError("no rotation matrix in its first three rows")
    return angles_of(rotation) * (-1, -1, 1)

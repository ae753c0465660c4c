"""Published lists → records → crops → batches, for 300W-LP, AFLW2000, BIWI and lists of one's own.

Run it to check a data folder, or to fetch the published lists:

    python data_loaders.py --data-dir data
    python data_loaders.py --data-dir data --fetch-lists
"""

import numpy as np

# --- Conventions ------------------------------------------------------------------------------------------------------
# Everything inside the suite is in radians, in the axis order of AXES and in the signs of the published lists:
#   yaw   > 0  turns the nose to the left of the picture,
#   pitch > 0  looks up,
#   roll  > 0  tilts the head counter-clockwise in the picture (the negative of the `.mat` files' roll).
# Rotations act on the image axes: x to the right, y down, z out of the picture towards the viewer.  A head that looks
# straight into the camera has its nose along +z, its chin along +y and its own right eye on the side of -x.
AXES = ("yaw", "pitch", "roll")
LIST_ORDER = ("roll", "pitch", "yaw")  # the order of the angles in a row of the published angle lists
EULER_ORDER = "XYZ"  # intrinsic: R = Rx(pitch) Ry(yaw) Rz(roll) in list signs, x mirrored; see rotation_matrix
_MIRROR_X = np.diag([-1.0, 1.0, 1.0])


class DataError(ValueError):
    """Bad input data: the message says what was given, what was expected, and how to mend it."""


def rotation_matrix(angles):
    """Rotation of the head in image axes (x right, y down, z towards the viewer).

    `R @ (0, 0, 1)` is the direction of the nose; the columns are the head's own axes.  In the signs of the `.mat`
    files this is Rx(pitch) Ry(-yaw) Rz(roll), which derotates the `pt3d_68` landmarks of AFLW2000.

    Args:
        angles: (..., 3) yaw, pitch, roll in radians, list signs.

    Returns:
        (..., 3, 3) rotation matrices.
    """
    angles = np.asarray(angles, float)
    matrices = _rotation(angles.reshape(-1, 3)).as_matrix()
    return (_MIRROR_X @ matrices @ _MIRROR_X).reshape(*angles.shape[:-1], 3, 3)


def rotation_angles(matrices):
    """The inverse of `rotation_matrix`: (..., 3, 3) → (..., 3) yaw, pitch, roll in radians, list signs."""
    from scipy.spatial.transform import Rotation

    matrices = np.asarray(matrices, float)
    mirrored = _MIRROR_X @ matrices.reshape(-1, 3, 3) @ _MIRROR_X
    pitch, yaw, roll = Rotation.from_matrix(mirrored).as_euler(EULER_ORDER).T
    return np.stack([yaw, pitch, roll], axis=-1).reshape(*matrices.shape[:-2], 3)


def _rotation(angles):
    """scipy `Rotation`s of (n, 3) yaw, pitch, roll in list signs (x mirrored against the image axes)."""
    from scipy.spatial.transform import Rotation

    yaw, pitch, roll = angles.T
    return Rotation.from_euler(EULER_ORDER, np.stack([pitch, yaw, roll], axis=-1))

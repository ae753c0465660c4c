"""The conventions of the suite: axes, signs, rotation matrices, the network's input, and the colours of the axes."""

import numpy as np
from numpy.typing import ArrayLike

# --- Angles -----------------------------------------------------------------------------------------------------------
# Inside the suite angles are in radians, in the order of AXES and in the signs of the published lists:
#   yaw   > 0  turns the nose to the left of the image,
#   pitch > 0  looks up,
#   roll  > 0  tilts the head counter-clockwise in the image (the negative of the `.mat` files' roll).
# Image axes: x to the right, y down, z out of the image towards the viewer: a left-handed frame.  A head that looks
# straight into the camera has its nose along +z, its chin along +y and its own right eye on the side of -x.
AXES = ("yaw", "pitch", "roll")
LIST_ORDER = ("roll", "pitch", "yaw")  # of the angles in a row of the published angle lists
EULER_ORDER = "R = Rx(pitch) Ry(-yaw) Rz(-roll), list signs; x right, y down, z towards the viewer"

# Images are (height, width, 3) uint8, RGB.
CROP_SIZE = 224  # pixels: side of the network's input
# The authors handed a BGR image to a preprocessor that reverses the channels before it subtracts the means meant for
# BGR: the network sees RGB minus these values, in this order.
CHANNEL_MEANS = (103.939, 116.779, 123.68)


def rotation_matrix(angles: ArrayLike) -> np.ndarray:
    """(..., 3, 3) rotations R of the head, see EULER_ORDER, from (..., 3) yaw, pitch, roll in radians, list signs.

    `R @ (0, 0, 1)` is the direction of the nose.  R derotates the `pt3d_68` landmarks of AFLW2000.
    """
    from scipy.spatial.transform import Rotation

    angles = np.asarray(angles, float)
    pitch_yaw_roll = angles.reshape(-1, 3)[:, [1, 0, 2]] * (1, -1, -1)
    return Rotation.from_euler("XYZ", pitch_yaw_roll).as_matrix().reshape(*angles.shape, 3)


def angles_of(rotation: np.ndarray) -> np.ndarray:
    """The inverse of `rotation_matrix`: (..., 3) yaw, pitch, roll in radians of (..., 3, 3), yaw within ±90°."""
    from scipy.spatial.transform import Rotation

    pitch_yaw_roll = Rotation.from_matrix(np.reshape(rotation, (-1, 3, 3))).as_euler("XYZ")
    return (pitch_yaw_roll * (1, -1, -1))[:, [1, 0, 2]].reshape(*np.shape(rotation)[:-1])


def angle_errors(true: np.ndarray, predicted: np.ndarray | float) -> np.ndarray:
    """Absolute differences of angles in degrees, any shape, wrapped at 360° only: 350° off is 10°, 170° off is 170°."""
    difference = np.abs(np.asarray(predicted, float) - np.asarray(true, float)) % 360
    return np.minimum(difference, 360 - difference)


# --- Colours ----------------------------------------------------------------------------------------------------------
# Hues that colour-blind readers can tell apart, one for each angle, in every figure.
# Reference: Okabe and Ito, "Color Universal Design", 2008.
Colour = tuple[int, int, int]  # RGB, 0...255

BLACK, WHITE, GREY, YELLOW = (0, 0, 0), (255, 255, 255), (110, 110, 110), (240, 228, 66)
AXIS_COLOURS: dict[str, Colour] = {"yaw": (0, 158, 115), "pitch": (213, 94, 0), "roll": (0, 114, 178)}

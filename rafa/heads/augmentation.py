"""Augmentation of synthetic heads for training: what lies between a drawn head and a photograph.

`augmented` cuts a crop out of an image by one affine transform (margin, place, turn, mirror), then changes its light,
its colours, its sharpness and what covers it.  Angles and landmarks follow.  It is no part of the paper's recipe.
"""

import functools
from collections.abc import Callable

import cv2
import numpy as np

from rafa.pose import CROP_SIZE, angles_of, rotation_matrix

SHIFT = 0.05  # standard deviation of the crop's centre, as a share of its side
TURN = np.radians(10)  # standard deviation of the rotation in the image
# The 68 landmarks of the mirrored face, in their usual order.
# fmt: off
MIRRORED = np.array([
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38, 37, 36,
    41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
])
# fmt: on

Image = np.ndarray  # (224, 224, 3) uint8 RGB
Other = Callable[[], np.ndarray]


# --- Place and turn ---------------------------------------------------------------------------------------------------
def augmented(
    image: np.ndarray,
    box: tuple[int, int, int],
    angles: np.ndarray,
    landmarks: np.ndarray,
    other: Other,
    max_margin: float,
    rng: np.random.Generator,
) -> tuple[Image, np.ndarray, np.ndarray]:
    """One training example.

    Args:
        image: (h, w, 3) uint8 RGB.
        box: row, column and side of the face, in pixels.
        angles: (3,) yaw, pitch, roll in radians, list signs.
        landmarks: (3, 68) x and y in pixels of the image, z in pixels towards the viewer.
        other: gives another image (h, w, 3), of which pieces may cover this one; asked where one does.
        max_margin: the box grows by a random share of it, up to this one, on each side.

    Returns:
        The crop (224, 224, 3) uint8; the angles (3,) after the turn in the image; the landmarks (3, 68) in the crop,
        whose middle is 0 and whose half is 1.
    """
    row, column, size = (float(value) for value in box)
    side = size * (1 + 2 * rng.uniform(0, max_margin))
    centre = np.array([column, row]) + size / 2 + rng.normal(0, SHIFT * side, 2)
    turn, mirror = rng.normal(0, TURN), rng.random() < 0.5
    cosine, sine = np.cos(turn), np.sin(turn)
    linear = np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([-1.0 if mirror else 1.0, 1.0])
    scale = CROP_SIZE / side
    affine = np.column_stack([linear * scale, CROP_SIZE / 2 - linear @ centre * scale])
    border = cv2.BORDER_CONSTANT if rng.random() < 0.5 else cv2.BORDER_REFLECT_101
    pixel = affine.copy()
    pixel[:, 2] += affine[:, :2].sum(axis=1) / 2 - 0.5  # pixel centres lie at half a pixel
    crop = cv2.warpAffine(image, pixel, (CROP_SIZE, CROP_SIZE), flags=cv2.INTER_LINEAR, borderMode=border)

    if mirror:
        angles, landmarks = angles * (-1, 1, -1), landmarks[:, MIRRORED]
    about_z = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    angles = angles_of(about_z @ rotation_matrix(angles))
    placed = np.empty((3, 68))
    placed[:2] = (affine[:, :2] @ landmarks[:2] + affine[:, 2:]) * (2 / CROP_SIZE) - 1
    placed[2] = landmarks[2] * scale * (2 / CROP_SIZE)
    return photographed(crop, other, rng), angles, placed


# --- Light, colour, sharpness, cover ----------------------------------------------------------------------------------
def photographed(crop: Image, other: Other, rng: np.random.Generator) -> Image:
    """Every change of CHANGES with its probability; `other` as for `augmented`."""
    chances = rng.random(len(CHANGES))
    for chance, (change, probability) in zip(chances, CHANGES.items(), strict=True):
        if chance < probability:
            crop = change(crop, other, rng)
    return crop


def _side_light(crop: Image, other: Other, rng: np.random.Generator) -> Image:
    """One side darker, behind a soft or a hard edge through the image."""
    small = CROP_SIZE // 4
    y, x = np.mgrid[:small, :small].astype(np.float32) / small - 0.5
    direction, place = rng.uniform(0, 2 * np.pi), rng.uniform(-0.25, 0.25)
    distance = x * np.cos(direction) + y * np.sin(direction) - place
    width, dark = np.exp(rng.uniform(np.log(0.02), np.log(0.8))), rng.uniform(0.05, 0.6)
    light = np.clip(distance / width + 0.5, 0, 1) * (1 - dark) + dark
    light = cv2.resize(light.astype(np.float32), (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_LINEAR)
    return cv2.multiply(crop, cv2.merge([light] * 3), dtype=cv2.CV_8U)


def _tones(crop: Image, other: Other, rng: np.random.Generator) -> Image:
    """Gains of the channels, gamma, contrast and brightness, as one table."""
    values = np.arange(256)[:, None] / 255 * np.ones(3)
    if rng.random() < 0.65:
        values = values * np.exp(rng.normal(0, 0.18, 3))
    if rng.random() < 0.7:
        values = values ** np.exp(rng.uniform(-0.5, 0.5))
    if rng.random() < 0.65:
        values = (values - 0.5) * rng.uniform(0.6, 1.5) + 0.5 + rng.uniform(-30, 30) / 255
    return cv2.LUT(crop, np.clip(values * 255, 0, 255).astype(np.uint8)[None])


def _saturation(crop: Image, other: Other, rng: np.random.Generator) -> Image:
    """Grey, or colours weaker or stronger."""
    amount = 0.0 if rng.random() < 0.55 else rng.uniform(0.2, 1.6)
    grey = np.ones((3, 1)) * np.array([[0.299, 0.587, 0.114]])
    return cv2.transform(crop, amount * np.eye(3) + (1 - amount) * grey)


def _covered(crop: Image, other: Other, rng: np.random.Generator) -> Image:
    """One or two shapes before the face, of one colour or filled with another place or another image."""
    crop = crop.copy()
    for _ in range(1 + (rng.random() < 0.25)):
        shape = np.zeros(crop.shape[:2], np.uint8)
        centre, radius = rng.uniform(0, CROP_SIZE, 2), rng.uniform(15, 90)
        if rng.random() < 0.5:
            axes, turn = (radius * rng.uniform(0.3, 1, 2)).astype(int).tolist(), float(rng.uniform(0, 180))
            cv2.ellipse(shape, centre.astype(int).tolist(), axes, turn, 0, 360, 255, -1)
        else:
            corners = centre + rng.normal(0, 0.6 * radius, (rng.integers(3, 7), 2))
            cv2.fillPoly(shape, [corners.astype(np.int32)], 255)
        filling = rng.random()
        if filling < 0.4:
            crop[shape > 0] = rng.integers(0, 256, 3)
            continue
        if filling < 0.6:
            source = np.roll(crop, rng.integers(20, CROP_SIZE - 20, 2), axis=(0, 1))
        else:
            whole = other()
            top, left = (int(rng.integers(0, length - CROP_SIZE + 1)) for length in whole.shape[:2])
            source = whole[top : top + CROP_SIZE, left : left + CROP_SIZE]
        cv2.copyTo(source, shape, crop)
    return crop


def _blurred(crop: Image, other: Other, rng: np.random.Generator) -> Image:
    return cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.6, 3))


def _coarse(crop: Image, other: Other, rng: np.random.Generator) -> Image:
    """Reduced, and enlarged again by one of three interpolations."""
    small = round(CROP_SIZE / rng.uniform(1.5, 6))
    method = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[rng.integers(3)]
    reduced = cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA)
    return cv2.resize(reduced, (CROP_SIZE, CROP_SIZE), interpolation=method)


@functools.cache
def _noise_bank() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2 * CROP_SIZE, 2 * CROP_SIZE, 3)).astype(np.float32)


def _noisy(crop: Image, other: Other, rng: np.random.Generator) -> Image:
    """A window of one fixed field of noise: drawing normal numbers anew takes longer than all the rest."""
    top, left = rng.integers(0, CROP_SIZE, 2)
    noise = _noise_bank()[top : top + CROP_SIZE, left : left + CROP_SIZE]
    amount = float(np.exp(rng.uniform(np.log(2), np.log(18))))
    return cv2.scaleAdd(noise, amount, crop.astype(np.float32)).clip(0, 255).astype(np.uint8)


def _compressed(crop: Image, other: Other, rng: np.random.Generator) -> Image:
    encoded = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(12, 76))])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))


def _black_borders(crop: Image, other: Other, rng: np.random.Generator) -> Image:
    """Black up to a third on each side, as where a box reaches over the image's border."""
    crop = crop.copy()
    top, bottom, left, right = (rng.integers(1, CROP_SIZE // 3, 4) * (rng.random(4) < 0.4)).tolist()
    crop[:top] = crop[CROP_SIZE - bottom :] = 0
    crop[:, :left] = crop[:, CROP_SIZE - right :] = 0
    return crop


CHANGES: dict[Callable[[Image, Other, np.random.Generator], Image], float] = {
    _side_light: 0.15,
    _tones: 0.60,
    _saturation: 0.30,
    _covered: 0.25,
    _blurred: 0.15,
    _coarse: 0.20,
    _noisy: 0.20,
    _compressed: 0.25,
    _black_borders: 0.10,
}

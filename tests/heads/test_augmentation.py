"""Augmentation of synthetic heads: angles and landmarks follow the image; every change changes it."""

import cv2
import numpy as np
import pytest

from data_loaders import crop
from rafa.heads import augmentation
from rafa.heads.augmentation import MIRRORED, augmented
from rafa.pose import rotation_matrix

BOX = (120, 140, 180)  # row, column, side
ANGLES = np.radians((30.0, -20.0, 10.0))
OTHER = np.full((450, 450, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def landmarks():
    """Points of a turned head about the middle of the box: x, y, z in pixels."""
    points = rotation_matrix(ANGLES) @ np.random.default_rng(1).normal(0, 30, (3, 68))
    return points + np.array([[230], [210], [0]])


@pytest.fixture
def plain(monkeypatch):
    """Place and turn alone, with bright spots that can be found again."""
    monkeypatch.setattr(augmentation, "photographed", lambda crop, other, rng: crop)


def example(landmarks, seed, image=OTHER, max_margin=0.5):
    return augmented(image, BOX, ANGLES, landmarks, lambda: OTHER, max_margin, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(6))
def test_landmarks_follow_the_image(landmarks, plain, seed):
    for number in (8, 36, 45):
        image = np.zeros((450, 450, 3), np.uint8)
        x, y = landmarks[:2, number].round().astype(int)
        cv2.circle(image, (int(x), int(y)), 4, (255, 255, 255), -1)
        view, _, placed = example(landmarks, seed, image)
        rows, columns = np.nonzero(view[..., 0] > 128)
        where = (np.array([columns.mean(), rows.mean()]) + 0.5) / 112 - 1
        distances = np.hypot(*(placed[:2].T - where).T)
        assert distances[number if distances[number] < 0.02 else MIRRORED[number]] < 0.02


@pytest.mark.parametrize("seed", range(6))
def test_angles_follow_the_landmarks(landmarks, plain, seed):
    """The rotation that carries the derotated points to the placed ones is that of the new angles."""
    _, angles, placed = example(landmarks, seed)
    face = rotation_matrix(ANGLES).T @ (landmarks - landmarks.mean(axis=1, keepdims=True))
    mirrored_face = (face * [[-1], [1], [1]])[:, MIRRORED]
    placed = placed - placed.mean(axis=1, keepdims=True)
    residuals = []
    for shape in (face, mirrored_face):
        turned = rotation_matrix(angles) @ shape
        scale = (turned * placed).sum() / (turned**2).sum()
        residuals.append(np.abs(scale * turned - placed).max())
    assert min(residuals) < 1e-9 < max(residuals)


def test_without_shift_turn_and_mirror_the_crop_is_the_papers(landmarks, plain, monkeypatch):
    monkeypatch.setattr(augmentation, "SHIFT", 0)
    monkeypatch.setattr(augmentation, "TURN", 0)
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (450, 450, 3), np.uint8), (0, 0), 3)
    wanted = crop(image, *BOX, 0).astype(int)
    crops = [example(landmarks, seed, image, max_margin=0)[0].astype(int) for seed in range(8)]
    same, mirrored = (sum(np.abs(view - wanted).max() <= 2 for view in views) for views in (crops, np.flip(crops, 2)))
    assert same + mirrored == 8 and 0 < same < 8


def test_mirrored_landmarks_are_their_own_inverse_and_swap_the_sides():
    assert (MIRRORED[MIRRORED] == np.arange(68)).all()
    assert [MIRRORED[i] for i in (0, 8, 17, 30, 36, 48, 60, 64)] == [16, 8, 26, 30, 45, 54, 64, 60]


def test_every_change_changes_the_image_and_keeps_its_form():
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8), (0, 0), 2)
    for change in augmentation.CHANGES:
        changed = change(image.copy(), lambda: OTHER, np.random.default_rng(3))
        assert changed.shape == image.shape and changed.dtype == np.uint8
        assert np.abs(changed.astype(int) - image).mean() > 0.5, change


def test_the_same_seed_gives_the_same_example_and_another_seed_another(landmarks):
    image = np.random.default_rng(0).integers(0, 256, (450, 450, 3), np.uint8)
    one, again, other = (example(landmarks, seed, image) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(one, again, strict=True))
    assert not (one[0] == other[0]).all()

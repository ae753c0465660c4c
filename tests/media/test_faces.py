"""Faces are cut where their boxes are, set right by a first answer, and each gets its own angles."""

from pathlib import Path

import numpy as np
import pytest
from helpers.images import NOISE

from data_loaders import crop
from rafa.media import faces
from rafa.media.detectors import FoundFace, listed_box
from rafa.media.faces import ListedBoxes, find_faces, predict_faces, predict_frames
from rafa.media.sources import Face, Frame, Source
from rafa.script import InputError

IMAGE = Source("a.png", Path("a.png"), "image")
BOX = (20, 30, 60)


# --- Boxes ------------------------------------------------------------------------------------------------------------
def test_faces_have_the_boxes_that_are_found_for_a_path_and_an_image():
    frame, asked = Frame(IMAGE, image=NOISE), []
    found = [FoundFace(BOX), FoundFace((50, 10, 40), 0.8, (5, 45, 50))]
    find_faces(frame, lambda *given: asked.append(given) or found)
    assert asked[0][0] == "a.png" and asked[0][1] is NOISE and frame.problem == ""
    assert [(face.box, face.confidence, face.square, face.number) for face in frame.faces] == [
        (BOX, None, None, 0), ((50, 10, 40), 0.8, (5, 45, 50), 1)
    ]  # fmt: skip
    assert np.isnan(frame.faces[0].angles).all()


def test_a_frame_without_faces_says_so_and_one_that_could_not_be_read_keeps_its_problem():
    empty, unread = Frame(IMAGE, image=NOISE), Frame(IMAGE, problem="cut off")
    for frame in (empty, unread):
        find_faces(frame, lambda path, image: [])
    assert empty.problem == "no face" and unread.problem == "cut off"


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ((119, 159, 10), ""),
        ((120, 0, 10), "outside"),
        ((0, 160, 10), "outside"),
        ((-9, -9, 10), ""),
        ((-10, 0, 10), "outside"),
        ((0, -10, 10), "outside"),
        ((0, 0, 640), ""),  # four times the longer side
        ((0, 0, 641), "over 4 times"),
    ],
)
def test_a_box_must_touch_its_image_and_not_be_huge(box, problem):
    frame = Frame(IMAGE, image=NOISE)
    find_faces(frame, lambda path, image: [FoundFace(BOX), FoundFace(box)])
    assert len(frame.faces) == (0 if problem else 2) and problem in frame.problem
    assert bool(frame.problem) == bool(problem)


def test_a_list_gives_the_box_of_the_longest_row_that_ends_the_path(tmp_path, monkeypatch):
    boxes = tmp_path / "boxes.txt"
    boxes.write_text("a.png\t1 2 3 3\nSET/a.png\t20 30 60 60 \r\nb.png\t\n")
    find = ListedBoxes(str(boxes))
    assert find("data/SET/a.png", NOISE) == [FoundFace(BOX)]
    assert find("OTHERSET/a.png", NOISE) == [FoundFace((1, 2, 3))]
    for path, problem in (("b.png", "has no box"), ("aa.png", "no row of .*boxes.txt")):
        with pytest.raises(InputError, match=problem):
            find(path, NOISE)
    (tmp_path / "SET").mkdir()
    monkeypatch.chdir(tmp_path / "SET")
    assert find("a.png", NOISE) == [FoundFace(BOX)]  # the path is made absolute


# --- Angles -----------------------------------------------------------------------------------------------------------
def brightness(crops):
    """Angles that say which crop they are of, in radians."""
    return crops.mean(axis=(1, 2)) * (0.01, -0.01, 0.02)


def test_the_box_of_a_detected_face_is_set_right_once_by_the_yaw_of_a_first_answer():
    square, asked = (20, 30, 80), []
    face, given = Face(listed_box(square), square=square), Face(BOX)
    predict = lambda crops: asked.append(crops) or brightness(crops)  # noqa: E731
    predict_faces(predict, [NOISE, 255 - NOISE], [face, given], 0.3)
    frontal = crop(NOISE, *listed_box(square), 0.3)
    corrected = listed_box(square, brightness(frontal[None])[0, 0])
    assert face.box == corrected != listed_box(square) and given.box == BOX
    assert (asked[0] == frontal[None]).all() and len(asked) == 2
    assert (face.crop == crop(NOISE, *corrected, 0.3)).all() and (asked[1][0] == face.crop).all()
    assert face.angles == pytest.approx(brightness(face.crop[None])[0])
    assert given.angles == pytest.approx(brightness(crop(255 - NOISE, *BOX, 0.3)[None])[0])


def test_the_answer_to_six_views_is_their_mean_with_its_spread_and_the_first_answer_to_one():
    sizes, face = [], Face((20, 30, 60), square=(20, 30, 70))
    answers = np.radians([(10, 1, 5), (-20, 2, -6), (10, 3, 5), (-20, 4, -6), (10, 5, 5), (-20, 6, -6)])
    predict_faces(lambda crops: sizes.append(len(crops)) or answers[: len(crops)], [NOISE], [face], 0.2, 6)
    assert sizes == [1, 6]
    assert np.degrees(face.angles) == pytest.approx((15, 3.5, 5.5))
    assert np.degrees(face.spread) == pytest.approx((5, np.std(range(1, 7)), 0.5))


@pytest.mark.parametrize(("limit", "ahead"), [(2**28, 4), (2 * NOISE.nbytes, 2)])
def test_no_more_frames_are_read_ahead_than_a_batch_and_the_buffer_hold(monkeypatch, limit, ahead):
    monkeypatch.setattr(faces, "BUFFERED_BYTES", limit)
    read = []

    def endless():
        while True:
            read.append(len(read))
            yield Frame(IMAGE, read[-1], NOISE)

    frames = predict_frames(brightness, endless(), lambda path, image: [], 0.2, 4)
    for number in range(12):
        assert next(frames).number == number
        assert len(read) == (number // ahead + 1) * ahead


def test_batches_hold_no_more_faces_than_asked_for_and_each_face_gets_its_own_angles():
    sizes, boxes, images = [], [(row, 20, 40) for row in range(0, 70, 10)], [NOISE, 255 - NOISE]
    frames = [Frame(IMAGE, number, image) for number, image in enumerate(images)]
    predict = lambda crops: sizes.append(len(crops)) or brightness(crops)  # noqa: E731
    done = list(predict_frames(predict, frames, lambda path, image: [FoundFace(box) for box in boxes], 0.2, 3))
    assert sizes == [3, 3, 1] * 2 and [frame.number for frame in done] == [0, 1]
    for frame, image in zip(done, images, strict=True):
        assert [face.box for face in frame.faces] == boxes
        for face in frame.faces:
            assert face.angles == pytest.approx(brightness(crop(image, *face.box, 0.2)[None])[0])

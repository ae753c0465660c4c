"""Faces are cut where their boxes are, and every face gets its own angles, whatever the batches."""

from pathlib import Path

import numpy as np
import pytest
from helpers.images import NOISE

from data_loaders import crop
from rafa.media import faces
from rafa.media.faces import ListedBoxes, cut_faces, predict_frames
from rafa.media.sources import Frame, Source
from rafa.script import InputError

IMAGE = Source("a.png", Path("a.png"), "image")
BOX = (20, 30, 60)


# --- Boxes and crops --------------------------------------------------------------------------------------------------
def test_faces_are_cut_at_row_column_size_with_the_margin():
    frame, asked = Frame(IMAGE, None, NOISE), []
    cut_faces(frame, lambda *given: asked.append(given) or [(BOX, None), ((50, 10, 40), 8)], 0.3)
    assert asked[0][0] == "a.png" and asked[0][1] is NOISE
    assert [face.box for face in frame.faces] == [BOX, (50, 10, 40)] and frame.problem == ""
    assert [(face.confidence, face.number) for face in frame.faces] == [(None, 0), (8, 1)]
    assert (frame.faces[1].crop == crop(NOISE, 50, 10, 40, 0.3)).all()
    assert (frame.faces[1].crop != crop(NOISE, 50, 10, 40, 0.2)).any()
    assert np.isnan(frame.faces[0].angles).all()


def test_a_frame_without_boxes_says_so_and_one_that_could_not_be_read_keeps_its_problem():
    empty, unread = Frame(IMAGE, None, NOISE), Frame(IMAGE, None, problem="cut off")
    for frame in (empty, unread):
        cut_faces(frame, lambda path, image: [], 0.2)
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
    frame = Frame(IMAGE, None, NOISE)
    cut_faces(frame, lambda path, image: [(BOX, 9), (box, 9)], 0)
    assert len(frame.faces) == (0 if problem else 2) and problem in frame.problem
    assert bool(frame.problem) == bool(problem)


def test_a_list_gives_the_box_of_the_longest_row_that_ends_the_path(tmp_path, monkeypatch):
    boxes = tmp_path / "boxes.txt"
    boxes.write_text("a.png\t1 2 3 3\nSET/a.png\t20 30 60 60 \r\nb.png\t\n")
    find = ListedBoxes(str(boxes))
    assert find("data/SET/a.png", NOISE) == [(BOX, None)]
    assert find("OTHERSET/a.png", NOISE) == [((1, 2, 3), None)]
    for path, problem in (("b.png", "has no box"), ("aa.png", "no row of .*boxes.txt")):
        with pytest.raises(InputError, match=problem):
            find(path, NOISE)
    (tmp_path / "SET").mkdir()
    monkeypatch.chdir(tmp_path / "SET")
    assert find("a.png", NOISE) == [(BOX, None)]  # the path is made absolute


# --- Predicting -------------------------------------------------------------------------------------------------------
def brightness(crops):
    """Angles that say which crop they are of."""
    means = crops.mean(axis=(1, 2))
    return means / 100


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
    sizes, boxes = [], [(row, 20, 40) for row in range(0, 70, 10)]
    images = [NOISE, 255 - NOISE]
    frames = [Frame(IMAGE, number, image) for number, image in enumerate(images)]
    predict = lambda crops: sizes.append(len(crops)) or brightness(crops)  # noqa: E731
    done = list(predict_frames(predict, frames, lambda path, image: [(box, 7) for box in boxes], 0.2, 3))
    assert sizes == [3, 3, 1] * 2 and [frame.number for frame in done] == [0, 1]
    for frame, image in zip(done, images, strict=True):
        assert [face.box for face in frame.faces] == boxes
        for face in frame.faces:
            assert face.angles == pytest.approx(brightness(crop(image, *face.box, 0.2)[None])[0])


def test_the_answer_to_six_views_is_their_mean_with_its_spread():
    answers = np.radians([(10, 1, 5), (-20, 2, -6), (10, 3, 5), (-20, 4, -6), (10, 5, 5), (-20, 6, -6)])
    (frame,) = predict_frames(lambda crops: answers, [Frame(IMAGE, 0, NOISE)], lambda *_: [(BOX, 1)], 0.2, 16, 6)
    (face,) = frame.faces
    assert face.views.shape == (6, 224, 224, 3)
    assert np.degrees(face.angles) == pytest.approx((15, 3.5, 5.5))
    assert np.degrees(face.spread) == pytest.approx((5, np.std(range(1, 7)), 0.5))

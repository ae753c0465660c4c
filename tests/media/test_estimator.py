"""From Python: a path, an array or a list of them gives the faces with their poses."""

import subprocess
import sys
import threading

import numpy as np
import pytest
from helpers.images import NOISE, noisy_video, write_image

from predict import PoseEstimator
from rafa.files import ROOT
from rafa.media.detectors import FoundFace
from rafa.net.inference import predict_angles
from rafa.pose import rotation_matrix
from rafa.script import InputError

BOX = (20, 30, 60)


@pytest.fixture
def estimate(loaded, weights):
    return PoseEstimator(weights, find=lambda path, image: [FoundFace(BOX, 0.9)])


def test_paths_and_arrays_give_the_same_faces_one_by_one_and_in_lists(estimate, model, tmp_path):
    path = write_image(tmp_path / "a.png")
    (face,) = estimate(path)
    assert face.box == BOX and face.confidence == 0.9 and np.isnan(face.spread).all()
    assert face.angles == pytest.approx(predict_angles(model, face.crop[None])[0], abs=1e-5)
    assert face.rotation == pytest.approx(rotation_matrix(face.angles))
    mirrored = NOISE[:, ::-1]
    several = estimate([str(path), NOISE, mirrored])
    assert [faces[0].angles == pytest.approx(face.angles, abs=1e-4) for faces in several] == [True, True, False]
    assert estimate([]) == []


def test_six_views_have_a_spread(loaded, weights):
    (face,) = PoseEstimator(weights, views=6, find=lambda path, image: [FoundFace(BOX)])(NOISE)
    assert (face.spread > 0).all()


def test_the_one_answer_that_is_asked_for_needs_no_compiled_network(weights, model):
    estimate = PoseEstimator(weights, find=lambda path, image: [FoundFace(BOX)], once=True)
    (face,) = estimate(NOISE)
    assert estimate.network.run_eagerly and not model.run_eagerly
    assert face.angles == pytest.approx(predict_angles(model, face.crop[None])[0], abs=1e-5)


def test_an_image_without_a_face_has_none_and_a_detector_is_there_by_default(loaded, weights):
    assert PoseEstimator(weights)(np.full((90, 90, 3), 128, np.uint8)) == []


def test_several_threads_share_an_estimator(estimate):
    images = [np.roll(NOISE, 9 * number, axis=1) for number in range(4)]
    expected, answers = [estimate(image)[0].angles for image in images], {}
    threads = [
        threading.Thread(target=lambda number=number: answers.update({number: estimate(images[number])[0].angles}))
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array([answers[number] for number in range(4)]) == pytest.approx(np.array(expected))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (NOISE[..., 0], "RGB"),
        (NOISE / 255, "uint8"),
        (NOISE[None], "RGB"),
        (NOISE[:0], "RGB"),
        ("none.png", "no such file"),
    ],
)
def test_what_is_no_image_is_refused(estimate, image, words):
    with pytest.raises(InputError, match=words):
        estimate(image)


def test_a_video_and_a_damaged_image_are_refused_by_name(estimate, tmp_path):
    with pytest.raises(InputError, match=r"v\.avi: expected an image"):
        estimate(noisy_video(tmp_path / "v.avi", 1))
    damaged = write_image(tmp_path / "a.png")
    damaged.write_bytes(damaged.read_bytes()[:200])
    with pytest.raises(InputError, match=r"a\.png: .*cut off"):
        estimate([NOISE, damaged])


def test_it_works_from_another_folder(weights, tmp_path):
    program = f"""
import sys
sys.path.append({str(ROOT)!r})
from predict import PoseEstimator
print(PoseEstimator({weights!r})("blank.png"))
"""
    write_image(tmp_path / "blank.png", np.full((90, 90, 3), 128, np.uint8))
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n" and not done.stderr

"""A still head is smoothed much, a moving one is delayed little, and each face keeps its number from frame to frame."""

from pathlib import Path

import numpy as np
import pytest
from helpers.images import NOISE

from rafa.media.sources import Face, Frame, Source
from rafa.media.tracking import OneEuro, Tracks, smoothed

RATE = 30  # frames per second
VIDEO = Source("v.mp4", Path("v.webm"), "video")


def filtered(signal, times):
    """A signal, (n, k) in degrees, after the filter."""
    smooth = OneEuro()
    return np.degrees([smooth(np.radians(angles), seconds) for angles, seconds in zip(signal, times, strict=True)])


def jitter(signal):
    """Standard deviation of the differences from frame to frame."""
    return np.diff(signal, axis=0).std()


def swinging(times, hertz, degrees):
    """A yaw that swings to both sides, with noise of 2 degrees."""
    noise = np.random.default_rng(1).normal(0, 2, len(times))
    return (degrees * np.sin(2 * np.pi * hertz * times) + noise)[:, None]


def delay(late, early, times, hertz):
    """Milliseconds by which the first of two signals swings later."""
    turns = np.exp(-2j * np.pi * hertz * times)[:, None]
    return 1000 * np.angle((early * turns).sum() / (late * turns).sum()) / (2 * np.pi * hertz)


# --- The filter -------------------------------------------------------------------------------------------------------


def test_the_jitter_of_a_still_head_becomes_a_fifth():
    times = np.arange(3000) / RATE
    noise = np.random.default_rng(0).normal(0, 2, (3000, 3))
    before, after = jitter(noise), jitter(filtered(noise, times)[60:])
    assert before == pytest.approx(2.82, abs=0.02) and after == pytest.approx(0.57, abs=0.02)  # README


@pytest.mark.parametrize(("hertz", "degrees", "milliseconds"), [(0.5, 40, 27), (1, 20, 38)])
def test_a_moving_head_is_delayed_by_about_a_frame(hertz, degrees, milliseconds):
    times = np.arange(60 * RATE) / RATE
    signal = swinging(times, hertz, degrees)
    late = delay(filtered(signal, times)[300:], signal[300:], times[300:], hertz)
    assert late == pytest.approx(milliseconds, abs=2)  # README


def test_the_delay_is_one_of_time_and_not_of_frames():
    times = np.sort(np.random.default_rng(2).uniform(0, 60, 60 * RATE))
    signal = swinging(times, 0.5, 40)
    assert delay(filtered(signal, times), signal, times, 0.5) == pytest.approx(27, abs=8)


def test_a_head_that_turns_beyond_half_a_turn_goes_the_short_way_round():
    times = np.arange(RATE) / RATE
    roll = (170 + 20 * times[:, None] + 180) % 360 - 180  # 170 to -170
    smooth = filtered(roll, times)
    assert (np.abs((smooth - roll + 180) % 360 - 180) < 5).all() and (np.abs(smooth) >= 170).all()


def test_the_first_angles_are_kept_and_a_time_that_stands_still_changes_nothing():
    smooth = OneEuro()
    assert smooth(np.array([0.5]), 3.0) == 0.5
    assert smooth(np.array([0.9]), 3.0) == 0.5
    assert 0.5 < smooth(np.array([0.9]), 3.1) < 0.9


# --- The faces of a video ---------------------------------------------------------------------------------------------


def numbers(tracks, boxes, seconds):
    return [track.number for track in tracks.update(boxes, seconds)]


def test_faces_keep_their_numbers_when_their_order_changes():
    tracks = Tracks()
    assert numbers(tracks, [(0, 0, 100), (0, 200, 90)], 0.0) == [0, 1]
    assert numbers(tracks, [(0, 205, 110), (5, 5, 95)], 0.1) == [1, 0]


def test_a_face_missed_for_a_moment_keeps_its_number_and_one_lost_for_long_gets_a_new_one():
    tracks = Tracks()
    assert numbers(tracks, [(0, 0, 100)], 0.0) == [0]
    assert numbers(tracks, [], 0.5) == []
    assert numbers(tracks, [(0, 10, 100)], 1.0) == [0]
    assert numbers(tracks, [(0, 10, 100)], 2.1) == [1]


def test_a_face_elsewhere_is_a_new_one_and_no_two_faces_share_a_number():
    tracks = Tracks()
    assert numbers(tracks, [(0, 0, 100)], 0.0) == [0]
    assert numbers(tracks, [(0, 300, 100)], 0.1) == [1]
    assert numbers(tracks, [(0, 310, 100), (0, 300, 100)], 0.2) == [2, 1]


def frame(source, number, *faces):
    """A frame of faces, each a box and a yaw in degrees."""
    found = [Face(box, angles=np.radians([yaw, 0, 0])) for box, yaw in faces]
    return Frame(source, number, NOISE, seconds=None if number is None else number / RATE, faces=found)


def test_each_face_is_smoothed_along_its_own_track_and_each_video_alone():
    left, right = (0, 0, 50), (0, 100, 50)
    other = Source("w.mp4", Path("w.webm"), "video")
    frames = [
        frame(VIDEO, 0, (left, 10), (right, -50)),
        frame(VIDEO, 1, (right, -52), (left, 12)),
        frame(other, 0, (right, 30)),
    ]
    _, second, third = smoothed(frames)
    assert [face.number for face in second.faces] == [1, 0] and third.faces[0].number == 0
    yaws = [np.degrees(face.angles[0]) for face in second.faces]
    assert -52 < yaws[0] < -50 and 10 < yaws[1] < 12
    assert np.degrees(third.faces[0].angles[0]) == pytest.approx(30)


def test_images_pass_unchanged():
    image = frame(Source("a.png", Path("a.png"), "image"), None, ((0, 0, 50), 10))
    (passed,) = smoothed([image])
    assert (
        passed is image and passed.faces[0].number == 0 and np.degrees(passed.faces[0].angles[0]) == pytest.approx(10)
    )

"""Copies keep colours, times and sizes, show the pose at the face alone, and are whole or an error."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.images import grey, read_rgb, read_video, times_of

from rafa.media.copies import DrawnCopies
from rafa.media.sources import Face, Frame, Source

RED = np.full((200, 300, 3), (250, 20, 10), np.uint8)
IMAGE = Source("in/a.png", Path("sub/a.png"), "image")
VIDEO = Source("v.mp4", Path("v.webm"), "video")


def written(folder, frames):
    """The frames of a drawn video."""
    copies = DrawnCopies(str(folder), "axes")
    for frame in frames:
        copies.write(frame)
    copies.close()
    return read_video(folder / "v.webm")


def test_a_drawn_image_keeps_colours_and_shows_the_pose_at_the_face_alone(tmp_path):
    image = np.tile(RED, (2, 1, 1))
    frame = Frame(IMAGE, image=image, faces=[Face((60, 100, 80), angles=np.zeros(3))])
    DrawnCopies(str(tmp_path), "both").write(frame)
    drawn = read_rgb(tmp_path / "sub/a.png")
    touched = (drawn != RED[0, 0]).any(axis=-1)
    assert touched[60:140, 100:180].any() and touched.mean() < 0.2
    assert not touched[:30].any() and not touched[170:].any()
    assert (frame.image == RED[0, 0]).all()


def test_what_could_not_be_read_has_no_copy(tmp_path):
    DrawnCopies(str(tmp_path), "axes").write(Frame(IMAGE, problem="cut off"))
    assert not list(tmp_path.iterdir())


def test_a_drawn_video_keeps_colours_and_times(tmp_path):
    times, colours = (0, 0.1, 0.45, 0.5), (RED, RED, RED[..., ::-1], RED)
    pairs = enumerate(zip(colours, times, strict=True))
    frames = [Frame(VIDEO, number, image, rate=12, seconds=seconds) for number, (image, seconds) in pairs]
    for drawn, image in zip(written(tmp_path, frames), colours, strict=True):
        assert np.abs(drawn.mean(axis=(0, 1)) - image[0, 0]).max() < 12
    assert times_of(tmp_path / "v.webm") == pytest.approx(times, abs=0.002)


def test_a_video_of_one_frame_has_a_copy_whatever_its_rate_is_said_to_be(tmp_path):
    assert len(written(tmp_path, [Frame(VIDEO, 0, RED, rate=90_000, seconds=0)])) == 1


def test_time_never_goes_back(tmp_path):
    seconds, times = (0, 0.1, 9000, 3, 3.1), (0, 0.1, 9000, 9000.001, 9000.002)
    written(tmp_path, [Frame(VIDEO, number, RED, rate=10, seconds=at) for number, at in enumerate(seconds)])
    assert times_of(tmp_path / "v.webm") == pytest.approx(times, abs=0.0005)


def test_each_video_has_a_copy_of_its_own_in_a_folder_made_for_it(tmp_path):
    frames = [
        Frame(Source(name, Path(f"{name}.webm"), "video"), number, RED, rate=10, seconds=number / 10)
        for name, count in (("v", 2), ("w", 3))
        for number in range(count)
    ]
    assert len(written(tmp_path / "new", frames)) == 2 and len(read_video(tmp_path / "new/w.webm")) == 3


def test_frames_with_odd_or_other_sides_still_make_a_video(tmp_path):
    frames = [
        Frame(VIDEO, number, grey(side, side - 22), seconds=number / 30) for number, side in enumerate((121, 121, 90))
    ]
    assert [drawn.shape for drawn in written(tmp_path, frames)] == [(121, 99, 3)] * 3


def test_browsers_play_the_copy(tmp_path):
    written(tmp_path, [Frame(VIDEO, number, RED, rate=25, seconds=number / 25) for number in range(3)])
    video = cv2.VideoCapture(str(tmp_path / "v.webm"))
    assert int(video.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little") in (b"VP80", b"VP90")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of processes are of POSIX systems")
def test_a_video_that_does_not_fit_on_the_disk_is_an_error(tmp_path):
    code = """
import resource, sys
from pathlib import Path
import numpy as np
from rafa.script import run_script
from rafa.media.copies import DrawnCopies
from rafa.media.sources import Frame, Source
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
def main():
    copies = DrawnCopies(sys.argv[1], "axes")
    for number in range(20):
        noise = np.random.default_rng(number).integers(0, 256, (240, 320, 3), np.uint8)
        copies.write(Frame(Source("v", Path("v.webm"), "video"), number, noise, rate=10, seconds=number / 10))
    copies.close()
run_script(main)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "v.webm" in done.stderr.splitlines()[-1], done.stderr
    assert not list(tmp_path.iterdir())

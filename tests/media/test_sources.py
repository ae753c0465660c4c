"""Images, folders, videos and cameras become frames in RGB, and copies keep their colours; what is bad is named."""

import itertools
import os
import re
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.images import NOISE, noisy_video, read_rgb, read_video, write_image, write_video
from PIL import Image

from rafa.media import sources
from rafa.media.sources import DrawnCopies, Face, Frame, Source, find_sources, read_frames
from rafa.script import InputError

RED = np.full((40, 60, 3), (250, 20, 10), np.uint8)
IMAGE = Source("a.png", Path("a.png"), "image")
CAMERA = Source("3", Path("camera3.webm"), "camera")
VIDEO = Source("v.mp4", Path("v.webm"), "video")


def read(*paths):
    """The frames of paths."""
    return list(read_frames(find_sources(map(str, paths))))


# --- Sources ----------------------------------------------------------------------------------------------------------


def test_a_folder_gives_its_images_and_videos_in_order_without_hidden_files(tmp_path):
    for name in ("b.PNG", "a.jpg", "below/it/c.mp4", "notes.txt", "README", "._a.png", ".thumbnails/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"-")
    found = find_sources([str(tmp_path)])
    assert [(source.path, str(source.copy), source.kind) for source in found] == [
        (str(tmp_path / "a.jpg"), "a.jpg", "image"),
        (str(tmp_path / "b.PNG"), "b.PNG", "image"),
        (str(tmp_path / "below/it/c.mp4"), "below/it/c.webm", "video"),
    ]
    assert [source.path for source in find_sources([str(tmp_path / "._a.png")])] == [str(tmp_path / "._a.png")]


def test_images_that_opencv_does_not_read_are_a_problem_of_their_own(tmp_path):
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    for path in (tmp_path, tmp_path / "a.HEIC"):
        (frame,) = read(path)
        assert frame.problem == "not an image that OpenCV can read; convert it to JPEG or PNG"


@pytest.mark.parametrize(("suffix", "copy"), [(".avif", ".avif"), (".jfif", ".jfif.png")])
def test_newer_names_of_images_are_known(suffix, copy, tmp_path):
    (tmp_path / f"a{suffix}").write_bytes(cv2.imencode(suffix.replace("jfif", "jpg"), NOISE)[1].tobytes())
    (frame,) = read(tmp_path)
    assert frame.image.shape == NOISE.shape and str(frame.source.copy) == f"a{copy}"


def test_a_file_named_by_hand_is_what_it_holds_whatever_its_suffix(tmp_path):
    image = write_image(tmp_path / "a.png").rename(tmp_path / "image.mp4")
    video = noisy_video(tmp_path / "v.avi", 3).rename(tmp_path / "video.jpg")
    other = write_image(tmp_path / "a.png").rename(tmp_path / "image.download")
    assert [source.kind for source in find_sources(map(str, (image, video, other)))] == ["image", "video", "image"]
    assert len(read(image, video, other)) == 5


def test_frames_of_a_gif_that_cannot_be_read_are_counted(tmp_path):
    pages = [Image.fromarray(NOISE), Image.fromarray(255 - NOISE)]
    pages[0].save(tmp_path / "a.gif", save_all=True, append_images=pages[1:])  # without a duration
    assert [frame.problem for frame in read(tmp_path / "a.gif")] == [
        "",
        "only 1 of 2 frames could be read; write it again with a duration for every frame",
    ]


def test_globs_and_numbers_are_found_where_no_file_has_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.png", "c.txt", "2"):
        Path(name).write_bytes(b"-")
    Path("d.png").mkdir()
    found = find_sources(["*.png", "1", "2"])
    assert [(source.path, str(source.copy), source.kind) for source in found] == [
        ("a.png", "a.png", "image"),
        ("b.png", "b.png", "image"),
        ("1", "camera1.webm", "camera"),
        ("2", "2.png", "image"),
    ]


def test_paths_that_name_nothing_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.png: no such file, folder or camera"):
        find_sources([str(tmp_path / "none.png")])
    with pytest.raises(InputError, match=r"no images or videos in it; looked for \.avi .*\.jpg"):
        find_sources([str(tmp_path)])


def test_copies_of_the_same_name_are_numbered(tmp_path):
    paths = [tmp_path / folder / name for folder in "abc" for name in ("x.png", "x.avi")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    copies = [str(source.copy) for source in find_sources(map(str, paths))]
    assert copies == ["x.png", "x.webm", "x-2.png", "x-2.webm", "x-3.png", "x-3.webm"]


def announcing(columns, rows):
    """The header of a BMP that announces a size, without pixels."""
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, columns, rows, 1, 24, 0, 0, 0, 0, 0, 0)


# --- Frames -----------------------------------------------------------------------------------------------------------


def test_images_and_videos_are_read_as_rgb(tmp_path):
    write_image(tmp_path / "a.png", RED)
    write_video(tmp_path / "v.avi", [RED] * 2, rate=12)
    image, *frames = read(tmp_path / "a.png", tmp_path / "v.avi")
    assert image.number is None and (image.image == RED).all()
    assert [frame.number for frame in frames] == [0, 1] and {frame.rate for frame in frames} == {12}
    for frame in frames:
        assert np.abs(frame.image.astype(int) - RED).max() < 12  # MJPG


def test_grey_sixteen_bit_and_transparent_images_are_read_as_their_plain_form(tmp_path):
    write_image(tmp_path / "deep.png", NOISE.astype(np.uint16) * 257)
    write_image(tmp_path / "grey.png", NOISE[..., 0])
    write_image(tmp_path / "transparent.png", np.dstack([NOISE, NOISE[..., 0]]))
    deep, grey, transparent = read(tmp_path)
    assert (deep.image == NOISE).all() and (transparent.image == NOISE).all()
    assert (grey.image == NOISE[..., :1]).all()


def test_an_image_that_cannot_be_read_has_a_problem_and_the_next_is_read(tmp_path):
    write_image(tmp_path / "z.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "z.jpg").read_bytes()[:300])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.bmp").write_text("not an image")
    (tmp_path / "vast.bmp").write_bytes(announcing(200000, 200000))
    *bad, good = read(tmp_path)
    assert {(frame.image, frame.number) for frame in bad} == {(None, None)}
    cannot = "not an image that OpenCV can read; get the file again"
    empty = "the image cannot be read: it is empty, or too large for OpenCV"
    assert [frame.problem for frame in bad[:3]] == [cannot, empty, cannot]
    assert bad[3].problem
    assert good.image is not None and good.problem == ""


def test_a_truncated_video_gives_the_frames_that_can_be_read_and_then_a_problem(tmp_path):
    video = noisy_video(tmp_path / "clip.avi")
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    readable = len(read_video(video))
    *frames, last = read(video)
    assert 0 < readable < 11 and [frame.number for frame in frames] == list(range(readable))
    assert last.problem == f"only {readable} of 12 frames could be read; the video may be cut off"
    assert last.image is None and last.number is None


@pytest.mark.parametrize(("announced", "problem"), [(2, False), (3, False), (4, True), (-1, False)])
def test_one_announced_frame_may_be_missing_because_containers_estimate(monkeypatch, announced, problem):
    monkeypatch.setattr(cv2, "VideoCapture", lambda path: Capture([RED, RED], announced))
    assert [bool(frame.problem) for frame in read_frames([VIDEO])] == [False, False] + [True] * problem


def test_a_video_that_cannot_be_opened_has_a_problem(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"not a video")
    (frame,) = read(tmp_path / "clip.mp4")
    assert frame.problem == "not read: the video cannot be opened; expected a video that OpenCV can read, and all of it"


def test_frames_of_a_video_have_its_own_times(tmp_path):
    images = [Image.fromarray(np.roll(NOISE, 9 * number, axis=1)) for number in range(4)]
    images[0].save(tmp_path / "v.gif", save_all=True, append_images=images[1:], duration=[100, 300, 50, 500])
    write_video(tmp_path / "v.avi", [RED] * 3, rate=8)
    for name, times in (("v.avi", [0, 0.125, 0.25]), ("v.gif", [0, 0.1, 0.4, 0.45])):
        assert [frame.seconds for frame in read(tmp_path / name)] == pytest.approx(times)


def test_where_a_video_has_no_times_its_rate_makes_them(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", lambda path: Capture([RED] * 3, 3))
    assert [frame.seconds for frame in read_frames([VIDEO])] == pytest.approx([0, 1 / 30, 2 / 30])


def test_a_camera_s_times_are_those_of_the_clock(monkeypatch):
    clock = itertools.count(100, 0.5)
    monkeypatch.setattr(sources.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: Capture([RED] * 3, -1))
    assert [frame.seconds for frame in read_frames([CAMERA])] == [0.5, 1.0, 1.5]


def test_devices_streams_and_the_standard_input_are_opened_as_what_they_are(monkeypatch):
    opened = []
    monkeypatch.setattr(cv2, "VideoCapture", lambda *asked: opened.append(asked) or Capture([RED], -1))
    monkeypatch.setattr(Path, "is_char_device", lambda path: str(path).startswith("/dev/"))
    found = find_sources(["/dev/video3", "rtsp://camera/1", "-", "http://camera/2"])
    assert [source.kind for source in found] == ["camera", "stream", "pipe", "stream"]
    assert [str(source.copy) for source in found] == ["video3.webm", "stream.webm", "pipe.webm", "stream-2.webm"]
    assert len(list(read_frames(found))) == 4
    ffmpeg = cv2.CAP_FFMPEG
    assert opened == [(3,), ("rtsp://camera/1", ffmpeg), ("pipe:0", ffmpeg), ("http://camera/2", ffmpeg)]


def test_a_source_that_cannot_be_opened_or_gives_nothing_is_not_read(monkeypatch):
    (frame,) = read("http://127.0.0.1:1/nothing.mp4")
    assert frame.problem.startswith("not read: the stream cannot be opened; check the address")
    monkeypatch.setattr(cv2, "VideoCapture", lambda *asked: Capture([], 0))
    (frame,) = read("rtsp://camera/1")
    assert frame.problem.startswith("not read: the stream gave no frame; check the address")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of POSIX systems")
@pytest.mark.parametrize("name", ["v.avi", "a.png", "text"])
def test_videos_and_images_come_through_pipes(tmp_path, name):
    noisy_video(tmp_path / "v.avi", 3)
    write_image(tmp_path / "a.png")
    (tmp_path / "text").write_text("neither\n")
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor() as pool:
        pool.submit((tmp_path / "pipe").write_bytes, (tmp_path / name).read_bytes())
        frames = read(tmp_path / "pipe")
    if name == "text":
        assert [frame.problem[:37] for frame in frames] == ["not read: the pipe cannot be opened; "]
    else:
        assert [frame.problem for frame in frames] == [""] * (1 if name == "a.png" else 3)
    assert name != "a.png" or (frames[0].image == NOISE).all()


def test_a_camera_is_opened_by_its_number_and_closed_at_the_end(monkeypatch):
    opened = []
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: opened.append((number, Capture([RED], -1))) or opened[0][1])
    frames = read_frames([CAMERA])
    next(frames)
    assert opened[0][0] == 3 and not opened[0][1].released
    frames.close()
    assert opened[0][1].released


class Capture:
    """Stands in for `cv2.VideoCapture`."""

    def __init__(self, frames, announced):
        self.frames, self.announced, self.released = iter(frames), announced, False

    def isOpened(self):  # noqa: N802 - OpenCV's name
        return True

    def get(self, what):
        return {cv2.CAP_PROP_FRAME_COUNT: self.announced, cv2.CAP_PROP_FPS: 0, cv2.CAP_PROP_POS_MSEC: 0}[what]

    def read(self):
        frame = next(self.frames, None)
        return frame is not None, frame

    def release(self):
        self.released = True


# --- Drawn copies -----------------------------------------------------------------------------------------------------


def face(*box):
    return Face(box, NOISE[None], np.zeros(3))


def test_a_drawn_copy_keeps_colours_and_shows_the_pose_at_the_face_alone(tmp_path):
    frame = Frame(Source("in/a.png", Path("sub/a.png"), "image"), None, np.tile(RED, (5, 5, 1)))
    frame.faces = [face(60, 100, 80)]
    DrawnCopies(str(tmp_path), "both").write(frame)
    drawn = read_rgb(tmp_path / "sub/a.png")
    touched = (drawn != RED[0, 0]).any(axis=-1)
    assert touched[60:140, 100:180].any() and touched.mean() < 0.2
    assert not touched[:30].any() and not touched[170:].any()
    assert (frame.image == RED[0, 0]).all()


def test_a_drawn_video_keeps_colours_rate_and_number_of_frames(tmp_path):
    copies = DrawnCopies(str(tmp_path), "axes")
    for number, image in enumerate((RED, RED, RED[..., ::-1])):
        copies.write(Frame(VIDEO, number, image, rate=12))
    copies.close()
    drawn = read_video(tmp_path / "v.webm")
    for frame, image in zip(drawn, (RED, RED, RED[..., ::-1]), strict=True):
        assert np.abs(frame.mean(axis=(0, 1)) - image[0, 0]).max() < 12
    assert cv2.VideoCapture(str(tmp_path / "v.webm")).get(cv2.CAP_PROP_FPS) == 12


def test_each_video_has_a_copy_of_its_own_in_a_folder_made_for_it(tmp_path):
    copies = DrawnCopies(str(tmp_path / "new"), "axes")
    for name, frames in (("v", 2), ("w", 3)):
        for number in range(frames):
            copies.write(Frame(Source(name, Path(f"{name}.webm"), "video"), number, RED, rate=10))
    copies.close()
    assert [len(read_video(tmp_path / "new" / name)) for name in ("v.webm", "w.webm")] == [2, 3]


def test_frames_with_odd_sides_and_without_a_rate_still_make_a_video(tmp_path):
    copies = DrawnCopies(str(tmp_path), "axes")
    for number, side in enumerate((121, 121, 90)):  # a VideoWriter cuts odd sides and drops frames of another size
        copies.write(Frame(VIDEO, number, np.zeros((side, side - 21, 3), np.uint8), rate=0.0))
    copies.close()
    assert [frame.shape for frame in read_video(tmp_path / "v.webm")] == [(122, 100, 3)] * 3
    assert cv2.VideoCapture(str(tmp_path / "v.webm")).get(cv2.CAP_PROP_FPS) == 30


def test_a_drawn_video_repeats_frames_where_the_next_one_comes_later(tmp_path):
    copies, colours = DrawnCopies(str(tmp_path), "axes"), (10, 90, 170, 250)
    for number, (colour, seconds) in enumerate(zip(colours, (5.0, 5.1, 5.5, 5.52), strict=True)):
        copies.write(Frame(VIDEO, number, np.full((48, 64, 3), colour, np.uint8), rate=10, seconds=seconds))
    copies.close()
    shown = [colours[np.abs(np.array(colours) - frame.mean()).argmin()] for frame in read_video(tmp_path / "v.webm")]
    assert shown == [10, 90, 90, 90, 90, 170, 250]


def test_a_jump_of_a_video_s_times_does_not_fill_the_disk(tmp_path):
    copies = DrawnCopies(str(tmp_path), "axes")
    for number, seconds in enumerate((0, 0.1, 90000, 90000.1, 3, 3.1)):
        copies.write(Frame(VIDEO, number, RED, rate=10, seconds=seconds))
    copies.close()
    assert len(read_video(tmp_path / "v.webm")) == 6


@pytest.mark.skipif(sys.platform == "win32", reason="limits of processes are of POSIX systems")
def test_a_drawn_video_that_does_not_fit_on_the_disk_is_an_error(tmp_path):
    code = """
import resource, sys
from pathlib import Path
import numpy as np
from rafa.script import run_script
from rafa.media.sources import DrawnCopies, Frame, Source
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
def main():
    copies = DrawnCopies(sys.argv[1], "axes")
    for number in range(20):
        noise = np.random.default_rng(number).integers(0, 256, (240, 320, 3), np.uint8)
        copies.write(Frame(Source("v", Path("v.webm"), "video"), number, noise, rate=10))
    copies.close()
run_script(main)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert re.match(r"error: .*v\.webm: the drawn copy holds only \d+ of 20 frames; check the free space", line)

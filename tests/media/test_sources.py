"""Images, folders, videos, streams, pipes and cameras become frames in RGB, and what cannot be read is named."""

import functools
import http.server
import io
import itertools
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.images import NOISE, noisy_video, write_film, write_image

from rafa.media import sources
from rafa.media.sources import find_sources, read_frames
from rafa.script import InputError


def read(*paths):
    """The frames of paths."""
    return list(read_frames(find_sources(map(str, paths))))


def facts(paths):
    """Path, name of the copy and kind of the sources behind paths."""
    return [(source.path, str(source.copy), source.kind) for source in find_sources(map(str, paths))]


# --- Sources ----------------------------------------------------------------------------------------------------------
def test_a_folder_gives_its_images_and_videos_in_order_without_hidden_files(tmp_path):
    for name in ("b.PNG", "a.jpg", "._a.png", ".thumbnails/a.png"):
        write_image(tmp_path / name)
    noisy_video(tmp_path / "v.avi", 1).rename((tmp_path / "below").mkdir() or tmp_path / "below/c.mp4")
    for name in ("notes.txt", "README"):
        (tmp_path / name).write_text("-")
    expected = (("a.jpg", "a.jpg", "image"), ("b.PNG", "b.PNG", "image"), ("below/c.mp4", "below/c.webm", "video"))
    assert facts([tmp_path]) == [(str(tmp_path / path), copy, kind) for path, copy, kind in expected]
    assert facts([tmp_path / "._a.png"])[0][2] == "image"


def test_a_file_is_what_it_holds_whatever_its_suffix(tmp_path):
    image = write_image(tmp_path / "a.png").rename(tmp_path / "image.mp4")
    video = noisy_video(tmp_path / "v.avi", 3).rename(tmp_path / "video.jpg")
    other = write_image(tmp_path / "a.png").rename(tmp_path / "image.download")
    assert [kind for _, _, kind in facts((image, video, other))] == ["image", "video", "image"]
    assert len(read(image, video, other)) == 5


@pytest.mark.parametrize(("suffix", "copy"), [(".avif", ".avif"), (".jfif", ".jfif.png"), (".heic", ".heic.png")])
def test_copies_are_written_as_png_where_their_format_cannot_be(suffix, copy, tmp_path):
    write_image(tmp_path / "a.jpg").rename(tmp_path / f"a{suffix}")
    (frame,) = read(tmp_path)
    assert frame.image.shape == NOISE.shape and str(frame.source.copy) == f"a{copy}"


def test_globs_and_numbers_are_found_where_no_file_has_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.png"):
        write_image(Path(name))
    write_image(Path("2.png")).rename("2")
    Path("d.png").mkdir()
    images = [("a.png", "a.png", "image"), ("b.png", "b.png", "image")]
    assert facts(["*.png", "1", "2"]) == [*images, ("1", "camera1.webm", "camera"), ("2", "2.png", "image")]


def test_paths_that_name_nothing_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.png: no such file"):
        find_sources([str(tmp_path / "none.png")])
    with pytest.raises(InputError, match=r"no images or videos .*\.avi .*\.jpg"):
        find_sources([str(tmp_path)])


def test_copies_of_the_same_name_are_numbered(tmp_path):
    paths = [tmp_path / folder / "x.png" for folder in "abc"]
    for path in paths:
        write_image(path)
    noisy_video(tmp_path / "x.avi", 1)
    copies = [copy for _, copy, _ in facts([*paths, tmp_path / "x.avi", tmp_path / "x.avi"])]
    assert copies == ["x.png", "x-2.png", "x-3.png", "x.webm", "x-2.webm"]
    still = write_image(tmp_path / "stream.png")  # as the copy of an address that holds an image is called
    assert [copy for _, copy, _ in facts(["http://127.0.0.1/a", still])] == ["stream.webm", "stream-2.png"]
    assert [copy for _, copy, _ in facts([still, "http://127.0.0.1/a"])] == ["stream.png", "stream-2.webm"]


# --- Frames -----------------------------------------------------------------------------------------------------------
def test_images_and_videos_are_frames_in_rgb(tmp_path):
    red = np.full((40, 60, 3), (250, 20, 10), np.uint8)
    write_image(tmp_path / "a.png", red)
    write_film(tmp_path / "v.mp4", [red] * 2, [0, 0.125])
    image, *frames = read(tmp_path / "a.png", tmp_path / "v.mp4")
    assert image.number is None and image.seconds is None and (image.image == red).all()
    assert [(frame.number, frame.seconds) for frame in frames] == [(0, 0), (1, 0.125)]
    for frame in frames:
        assert np.abs(frame.image.astype(int) - red).max() < 12


def test_what_cannot_be_read_has_a_problem_and_the_next_is_read(tmp_path):
    write_image(tmp_path / "z.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "z.jpg").read_bytes()[:300])
    (tmp_path / "clip.mp4").write_bytes(b"not a video")
    write_image(tmp_path / "a.tiff").rename(tmp_path / "raw.NEF")  # of a raw file, what can be read is the preview
    noisy_video(tmp_path / "v.avi", 1).rename(tmp_path / "raw.cr3")
    for name in ("empty.png", "text.bmp"):
        (tmp_path / name).write_text("text" if name == "text.bmp" else "")
    *bad, good = read(tmp_path)
    assert [(frame.image, frame.number) for frame in bad] == [(None, None)] * 6
    assert [frame.problem.split(":")[0] for frame in bad] == [
        "not a video or image that can be read",
        "the image is damaged or cut off",
        *["not an image that can be read; convert it to JPEG or PNG"] * 4,
    ]
    assert good.image is not None and good.problem == ""


def test_a_video_that_was_cut_off_gives_its_frames_and_then_a_problem(tmp_path):
    video = noisy_video(tmp_path / "clip.avi")
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    *frames, last = read(video)
    assert [frame.number for frame in frames] == list(range(len(frames))) and 0 < len(frames) < 11
    assert "cut off" in last.problem and last.image is None and last.number is None


def test_a_colon_in_a_name_is_no_protocol(tmp_path, monkeypatch):
    noisy_video(tmp_path / "v.avi", 3).rename(tmp_path / "12:30:05.avi")
    monkeypatch.chdir(tmp_path)
    assert len(read("12:30:05.avi")) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="names in other than UTF-8 are of Linux")
def test_names_of_other_encodings_are_read_and_drawn(tmp_path):
    name = os.fsdecode(b"l\xe4tin.jpg")
    write_image(tmp_path / "a.jpg").rename(tmp_path / name)
    ((path, copy, kind),) = facts([tmp_path])
    assert (Path(path).name, copy, kind) == (name, name, "image")
    assert read(tmp_path)[0].problem == ""


def test_links_to_folders_above_and_pipes_in_folders_are_left_out(tmp_path):
    write_image(tmp_path / "below/a.png")
    (tmp_path / "below/up").symlink_to(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "b.png")
    assert [Path(path).name for path, *_ in facts([tmp_path])] == ["a.png"]


def test_an_address_of_a_file_is_that_file(tmp_path):
    path = write_image(tmp_path / "a b.png")
    assert facts([path.as_uri()]) == [(str(path), "a b.png", "image")]


# --- Pipes, streams, cameras ------------------------------------------------------------------------------------------
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of POSIX systems")
@pytest.mark.parametrize(("name", "count"), [("v.avi", 3), ("late.mp4", 3), ("a.png", 1), ("text", 0)])
def test_videos_and_images_come_through_pipes(tmp_path, name, count):
    noisy_video(tmp_path / "v.avi", 3)
    write_film(tmp_path / "late.mp4", [NOISE] * 3, [0, 0.1, 0.2], index_first=False)
    write_image(tmp_path / "a.png")
    (tmp_path / "text").write_text("neither\n")
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor() as pool:
        pool.submit((tmp_path / "pipe").write_bytes, (tmp_path / name).read_bytes())
        frames = read(tmp_path / "pipe")
    assert [frame.problem[:11] for frame in frames] == ([""] * count or ["not a video"])
    if name == "a.png":
        assert (frames[0].image == NOISE).all() and frames[0].number is None
        assert str(frames[0].source.copy) == "pipe.png"


def test_the_standard_input_is_a_pipe_that_may_start_slowly(tmp_path, monkeypatch):
    content = write_image(tmp_path / "a.png").read_bytes()

    class Dripping(io.BytesIO):
        def readinto(self, buffer):
            return super().readinto(memoryview(buffer)[:3])

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Dripping(content))))
    (frame,) = read("-")
    assert (frame.image == NOISE).all() and frame.source.path == "-"


@pytest.fixture
def web(tmp_path):
    """The address of a server that sends the files of a folder, and of `half-NAME` the first half."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.strip("/")
            file = tmp_path / name.removeprefix("half-")
            if not file.is_file():
                self.send_error(404)
                return
            content = file.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // (2 if name.startswith("half-") else 1)])

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def test_videos_and_images_come_from_the_web_and_half_of_one_is_a_problem(web, tmp_path):
    write_image(tmp_path / "a.png")
    write_film(tmp_path / "v.mkv", [np.roll(NOISE, 9 * k, axis=1) for k in range(10)], [k / 10 for k in range(10)])
    (image,), frames = read(f"{web}/a.png"), read(f"{web}/v.mkv")
    assert (image.image == NOISE).all() and str(image.source.copy) == "stream.png"
    assert [(frame.number, frame.problem) for frame in frames] == [(number, "") for number in range(10)]
    *some, last = read(f"{web}/half-v.mkv")
    assert 0 < len(some) < 10 and "could not be read beyond" in last.problem
    assert [frame.seconds for frame in some] == pytest.approx([number / 10 for number in range(len(some))])
    (tmp_path / "cut.mkv").write_bytes((tmp_path / "v.mkv").read_bytes()[:-9000])
    assert "cut off" in read(f"{web}/cut.mkv")[-1].problem
    assert ["cut off" in frame.problem for frame in read(f"{web}/half-a.png")] == [True]
    assert ["404" in frame.problem for frame in read(f"{web}/none.mp4")] == [True]


class Camera:
    """Stands in for `cv2.VideoCapture`."""

    def __init__(self, number, frames, opened):
        self.frames, self.released = iter(frames), False
        opened.append((number, self))

    def get(self, what):
        return 0

    def read(self):
        frame = next(self.frames, None)
        return frame is not None, frame

    def release(self):
        self.released = True


@pytest.fixture
def cameras(monkeypatch):
    """Cameras that give two frames of BGR noise, by the clock."""
    clock = itertools.count(100, 0.5)
    monkeypatch.setattr(sources.time, "monotonic", lambda: next(clock))
    opened = []
    monkeypatch.setattr(cv2, "VideoCapture", functools.partial(Camera, frames=[NOISE[..., ::-1]] * 2, opened=opened))
    return opened


def test_a_camera_is_opened_by_its_number_read_by_the_clock_and_closed_at_the_end(cameras, monkeypatch):
    monkeypatch.setattr(Path, "is_char_device", lambda path: str(path).startswith("/dev/"))
    frames = read_frames(find_sources(["/dev/video3", "1"]))
    first = next(frames)
    assert (first.image == NOISE).all() and (first.number, first.seconds) == (0, 0.5)
    assert cameras[0][0] == 3 and not cameras[0][1].released
    assert [frame.seconds for frame in frames] == [1.0, 0.5, 1.0]
    assert cameras[1][0] == 1 and all(camera.released for _, camera in cameras)


def test_a_camera_without_frames_is_a_problem(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", functools.partial(Camera, frames=[], opened=[]))
    assert ["camera gave no frame" in frame.problem for frame in read("7")] == [True]

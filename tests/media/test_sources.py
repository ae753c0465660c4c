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
from helpers.images import NOISE, noisy_video, read_rgb, read_video, with_gap, write_image, write_video
from PIL import Image

from data_loaders import crop
from rafa.media import sources
from rafa.media.sources import DrawnCopies, Face, Frame, ListedBoxes, Source, cut_faces, find_sources, read_frames
from rafa.script import InputError

RED = np.full((40, 60, 3), (250, 20, 10), np.uint8)
IMAGE = Source("a.png", Path("a.png"), "image")
CAMERA = Source("3", Path("camera3.webm"), "camera")
VIDEO = Source("v.mp4", Path("v.webm"), "video")


def read(*paths):
    """The frames of paths."""
    return list(read_frames(find_sources(map(str, paths))))


# --- Sources ----------------------------------------------------------------------------------------------------------


def test_a_folder_gives_its_images_and_videos_in_order_and_counts_the_rest(tmp_path, capsys):
    for name in ("b.PNG", "a.jpg", "below/it/c.mp4", "notes.txt", "more.txt", "README"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"-")
    found = find_sources([str(tmp_path)])
    assert [(source.path, source.kind) for source in found] == [
        (str(tmp_path / "a.jpg"), "image"),
        (str(tmp_path / "b.PNG"), "image"),
        (str(tmp_path / "below/it/c.mp4"), "video"),
    ]
    assert [source.copy for source in found] == [Path("a.jpg"), Path("b.PNG"), Path("below/it/c.webm")]
    assert capsys.readouterr().err.endswith("by their names: 2 .txt, 1 without suffix\n")


def test_hidden_files_of_a_folder_are_left_out_and_counted(tmp_path, capsys):
    for name in ("a.png", "._a.png", ".thumbnails/a.png"):
        write_image(tmp_path / name)
    assert [source.path for source in find_sources([str(tmp_path)])] == [str(tmp_path / "a.png")]
    assert capsys.readouterr().err == f"{tmp_path}: left out hidden files: 2, such as {tmp_path / '._a.png'}\n"
    assert [source.path for source in find_sources([str(tmp_path / "._a.png")])] == [str(tmp_path / "._a.png")]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("named", ["folder", "folder/*", "folder/caf\udce9.png"])
def test_a_name_that_is_not_utf_8_is_refused_in_words(named, tmp_path):
    name = os.fsencode(tmp_path) + b"/folder/caf\xe9.png"
    os.mkdir(os.path.dirname(name))
    open(name, "wb").close()
    with pytest.raises(InputError, match=r"caf\\udce9\.png': expected a name in UTF-8; rename the file"):
        find_sources([str(tmp_path / named)])


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


def test_it_is_said_that_only_the_first_frame_of_an_image_is_used(tmp_path, capsys):
    pages = [Image.fromarray(NOISE), Image.fromarray(255 - NOISE)]
    for suffix in ("tiff", "png", "webp"):
        path = tmp_path / f"a.{suffix}"
        pages[0].save(path, save_all=True, append_images=pages[1:])
        (frame,) = read(path)
        assert capsys.readouterr().err == f"{path}: only the first of its 2 frames is used\n"
        assert np.abs(frame.image.astype(int) - NOISE).mean() < 10
    pages[0].save(tmp_path / "b.gif", save_all=True, append_images=pages[1:], duration=100)
    assert len(read(tmp_path / "b.gif")) == 2  # a GIF is read as a video


def test_an_image_whose_decoder_warns_is_named(tmp_path, capfd):
    write_image(tmp_path / "a.jpg").write_bytes(with_gap(cv2.imencode(".jpg", NOISE)[1].tobytes()))
    assert read(tmp_path / "a.jpg")[0].image is not None
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path / 'a.jpg'}: damaged, some of its pixels are wrong: Corrupt JPEG data")


def test_frames_of_a_gif_that_cannot_be_read_are_counted(tmp_path):
    pages = [Image.fromarray(NOISE), Image.fromarray(255 - NOISE)]
    pages[0].save(tmp_path / "a.gif", save_all=True, append_images=pages[1:])  # without a duration
    assert [frame.problem for frame in read(tmp_path / "a.gif")] == [
        "",
        "only 1 of 2 frames could be read; write it again with a duration for every frame",
    ]


def test_a_folder_of_images_alone_is_read_without_a_word(tmp_path, capsys):
    write_image(tmp_path / "a.png")
    find_sources([str(tmp_path)])
    assert capsys.readouterr().err == ""


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
    assert bad[3].problem.startswith("the header announces 200,000 × 200,000 pixels; expected at most 200,000,000")
    assert good.image is not None and good.problem == ""


def test_a_truncated_video_gives_the_frames_that_can_be_read_and_then_a_problem(tmp_path):
    video = noisy_video(tmp_path / "clip.avi")
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    readable = len(read_video(video))
    *frames, last = read(video)
    assert 0 < readable < 11 and [frame.number for frame in frames] == list(range(readable))
    assert last.problem == f"only {readable} of 12 frames could be read; the video may be cut off"
    assert last.image is None and last.number is None


def test_a_whole_video_has_no_problem(tmp_path):
    assert [frame.problem for frame in read(noisy_video(tmp_path / "clip.avi", 3))] == [""] * 3


@pytest.mark.parametrize(("announced", "problem"), [(2, False), (3, False), (4, True), (-1, False)])
def test_one_announced_frame_may_be_missing_because_containers_estimate(monkeypatch, announced, problem):
    monkeypatch.setattr(cv2, "VideoCapture", lambda path: Capture([RED, RED], announced))
    assert [bool(frame.problem) for frame in read_frames([VIDEO])] == [False, False] + [True] * problem


def test_a_video_without_frames_has_a_problem_even_where_none_is_announced(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", lambda path: Capture([], 0))
    (frame,) = read_frames([VIDEO])
    assert "only 0 of 0 frames could be read" in frame.problem


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


# --- Faces ------------------------------------------------------------------------------------------------------------


def test_faces_are_cut_at_row_column_size_with_the_margin():
    frame = Frame(IMAGE, None, NOISE)
    cut_faces(frame, lambda path, image: [((20, 30, 60), None), ((50, 10, 40), 8)], 0.3)
    assert [face.box for face in frame.faces] == [(20, 30, 60), (50, 10, 40)] and frame.problem == ""
    assert [(face.confidence, face.number) for face in frame.faces] == [(None, 0), (8, 1)]
    assert (frame.faces[1].crop == crop(NOISE, 50, 10, 40, 0.3)).all()
    assert (frame.faces[1].crop != crop(NOISE, 50, 10, 40, 0.2)).any()
    assert np.isnan(frame.faces[0].angles).all()


def test_the_boxes_are_asked_for_by_path_and_image():
    asked = []
    cut_faces(Frame(IMAGE, None, NOISE), lambda path, image: asked.append((path, image)) or [], 0)
    assert asked[0][0] == "a.png" and asked[0][1] is NOISE


def test_a_frame_without_boxes_says_so_and_one_that_could_not_be_read_keeps_its_problem():
    empty, unread = Frame(IMAGE, None, NOISE), Frame(IMAGE, None, problem="cut off")
    for frame in (empty, unread):
        cut_faces(frame, lambda path, image: [], 0.2)
    assert empty.problem == "no face" and unread.problem == "cut off"


@pytest.mark.parametrize(
    ("box", "fits"),
    [
        ((119, 159, 10), True),
        ((120, 0, 10), False),
        ((0, 160, 10), False),
        ((-9, -9, 10), True),
        ((-10, 0, 10), False),
        ((0, -10, 10), False),
        ((0, 0, 640), True),  # four times the longer side
        ((0, 0, 641), False),
        ((0, 0, 0), False),
    ],
)
def test_a_box_must_touch_its_image_and_not_be_huge(box, fits):
    frame = Frame(IMAGE, None, NOISE)
    cut_faces(frame, lambda path, image: [((20, 30, 60), 9), (box, 9)], 0)
    assert len(frame.faces) == (2 if fits else 0)
    reason = "box (outside|of over 4 times) its image.* 120 rows and 160"
    assert fits or re.match(f"{reason} columns; got .*size {box[2]}$", frame.problem)


def test_a_list_gives_the_box_of_the_longest_row_that_ends_the_path(tmp_path, monkeypatch):
    boxes = tmp_path / "boxes.txt"
    boxes.write_text("a.png\t1 2 3 3\nSET/a.png\t20 30 60 60 \r\nb.png\t\n")
    find = ListedBoxes(str(boxes))
    assert find("data/SET/a.png", NOISE) == [((20, 30, 60), None)] and find("OTHERSET/a.png", NOISE) == [
        ((1, 2, 3), None)
    ]
    with pytest.raises(InputError, match=r"the row b\.png of .*boxes\.txt has no box"):
        find("b.png", NOISE)
    with pytest.raises(InputError, match=r"not in the list .*boxes\.txt$"):
        find("aa.png", NOISE)
    with pytest.raises(
        InputError, match=r"not in the list .*boxes\.txt; 'B\.PNG' and 'b.png' differ in their capitals"
    ):
        find("B.PNG", NOISE)
    monkeypatch.chdir((tmp_path / "SET").mkdir() or tmp_path / "SET")
    assert find("a.png", NOISE) == [((20, 30, 60), None)]  # the path is made absolute


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


def test_a_copy_has_the_format_of_its_name(tmp_path):
    DrawnCopies(str(tmp_path), "axes").write(Frame(Source("a.jpg", Path("a.jpg"), "image"), None, RED))
    assert (tmp_path / "a.jpg").read_bytes()[:2] == b"\xff\xd8"


def test_an_image_that_could_not_be_read_has_no_copy(tmp_path):
    DrawnCopies(str(tmp_path), "axes").write(Frame(IMAGE, None, problem="cut off"))
    assert not list(tmp_path.iterdir())


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


def test_opencv_s_message_on_the_codec_is_not_shown(tmp_path, capfd):
    copies = DrawnCopies(str(tmp_path), "axes")
    copies.write(Frame(VIDEO, 0, RED, rate=10))
    copies.close()
    os.write(2, b"seen\n")
    assert capfd.readouterr().err == "seen\n"


def test_a_video_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sources.cv2.VideoWriter, "fourcc", lambda *letters: -2)
    with pytest.raises(InputError, match=r"v\.txt: OpenCV cannot write a video there"):
        DrawnCopies(str(tmp_path), "axes").write(Frame(Source("v", Path("v.txt"), "video"), 0, RED))

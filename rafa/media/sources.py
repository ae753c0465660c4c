"""Images, folders, videos, streams, pipes and cameras, and the frames that they hold."""

import contextlib
import glob
import http.client
import itertools
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO
from urllib.request import url2pathname

import cv2
import numpy as np

from rafa.datasets.images import SUFFIXES, UNREAD, files_below
from rafa.datasets.rows import Box
from rafa.media.decoding import MAGIC, PATIENCE, USUAL_RATE, decode_image, is_image, read_video
from rafa.media.detectors import Square
from rafa.pose import rotation_matrix
from rafa.script import InputError

VIDEOS = {".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv"}
VIDEOS |= {".ts", ".vob", ".webm", ".wmv"}
IMAGES = {*SUFFIXES, ".jp2", ".jpe", ".mpo", ".pgm", ".ppm"}
START = 512  # bytes of a pipe that tell what it is
RAW = set(UNREAD).difference((".heic", ".heif"))  # of cameras and programs: what Pillow would read is the preview


@dataclass(frozen=True)
class Source:
    """An image, a video, a camera, a stream or a pipe."""

    path: str  # of a camera, its number or device; of a stream, its address; of a pipe, its path or "-"
    copy: Path  # what its drawn copy is called inside the folder of drawn copies
    kind: str  # "image", "video", "camera", "stream" or "pipe"


def _nan() -> np.ndarray:
    return np.full(3, np.nan)


@dataclass
class Face:
    """A face in a frame: its box, and its crop and angles, empty and NaN until they are predicted."""

    box: Box
    confidence: float | None = None  # the detector's, 0 to 1; None if the box was given
    square: Square | None = None  # the detector's own
    angles: np.ndarray = field(default_factory=_nan)  # (3,) in AXES order, radians, list signs
    spread: np.ndarray = field(default_factory=_nan)  # (3,) standard deviations over the views
    crop: np.ndarray = field(default_factory=lambda: np.empty(0))  # (224, 224, 3) uint8 RGB, at the margin asked for
    number: int = 0  # in its image, the largest face first; after `rafa.media.tracking.smoothed`, in its whole video

    @property
    def rotation(self) -> np.ndarray:
        """(3, 3), see `rafa.pose.rotation_matrix`."""
        return rotation_matrix(self.angles)


@dataclass
class Frame:
    """An image, or one frame of a video: its pixels and its faces, or the problem that left it without."""

    source: Source
    number: int | None = None  # of a video's frame, from 0
    image: np.ndarray | None = None  # (h, w, 3) uint8 RGB; None if it could not be read
    problem: str = ""
    rate: float = 0.0  # usual frames per second of the video
    seconds: float | None = None  # of a video's frame: since its beginning; of a camera's: since it was opened
    faces: list[Face] = field(default_factory=list)


# --- Sources ----------------------------------------------------------------------------------------------------------
def find_sources(paths: Iterable[str]) -> list[Source]:
    """The images, videos, cameras, streams and pipes behind a list of paths.

    Args:
        paths: images, videos, folders (searched with their subfolders), glob patterns, numbers or devices of cameras,
            addresses such as rtsp://..., pipes, "-" for the standard input.

    Raises:
        InputError: a path or pattern that matches nothing, a folder without images and videos.
    """
    sources = []
    for text in paths:
        path = Path(text)
        if text.startswith("file://"):
            path = Path(url2pathname(text.removeprefix("file://")))
            sources.append(_file(str(path), path.name))
        elif "://" in text:
            sources.append(Source(text, Path("stream.webm"), "stream"))
        elif path.is_dir():
            sources += _in_folder(path)
        elif text == "-" or path.is_fifo():
            sources.append(Source(text, Path("pipe.webm" if text == "-" else f"{path.name}.webm"), "pipe"))
        elif path.is_char_device():
            sources.append(Source(text, Path(f"{path.name}.webm"), "camera"))
        elif path.exists():
            sources.append(_file(text, path.name))
        elif text.isdecimal():
            sources.append(Source(text, Path(f"camera{text}.webm"), "camera"))
        elif matches := sorted(name for name in glob.glob(text, recursive=True) if Path(name).is_file()):
            sources += [_file(name, Path(name).name) for name in matches]
        else:
            raise InputError(f"{text}: no such file, folder or camera, and no file matches it; check the path")
    return list(_with_distinct_copies(sources))


def _in_folder(folder: Path) -> list[Source]:
    """The images and videos in a folder by their names; hidden ones, such as previews, are left out."""
    known = [
        path
        for path in files_below(folder)
        if path.suffix.lower() in VIDEOS.union(IMAGES, UNREAD)
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not known:
        looked_for = " ".join(sorted(VIDEOS | IMAGES))
        raise InputError(f"{folder}: no images or videos in it; looked for {looked_for}")
    return [_file(str(path), path.relative_to(folder)) for path in known]


def _file(path: str, name: str | Path) -> Source:
    """An image or a video, by its content; by its name where that is neither."""
    copy, start = Path(name), b""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        start = file.read(MAGIC)
    suffix = copy.suffix.lower()
    if not (is_image(start) or suffix in RAW or (suffix in IMAGES and not _is_video(path))):
        return Source(path, copy.with_suffix(".webm"), "video")
    written = suffix in SUFFIXES and cv2.haveImageWriter(f"image{suffix}")
    return Source(path, copy if written else copy.with_name(f"{copy.name}.png"), "image")


def _is_video(path: str) -> bool:
    try:
        return next(read_video(f"file:{path}"), None) is not None
    except InputError:
        return False


def _with_distinct_copies(sources: Iterable[Source]) -> Iterator[Source]:
    """Number the copies that would otherwise have the same name: x.png, x-2.png, ..."""
    taken: set[Path] = set()
    for source in sources:
        copy, numbers = source.copy, itertools.count(2)
        while not taken.isdisjoint(names := {copy, _still(copy) if source.kind in ("stream", "pipe") else copy}):
            copy = source.copy.with_stem(f"{source.copy.stem}-{next(numbers)}")
        taken |= names
        yield replace(source, copy=copy)


# --- Frames -----------------------------------------------------------------------------------------------------------
def read_frames(sources: Iterable[Source]) -> Iterator[Frame]:
    """Yield every image and every frame of every video; what cannot be read is a frame with a problem."""
    for source in sources:
        try:
            yield from _FRAMES_OF[source.kind](source)
        except (InputError, OSError) as error:
            yield Frame(source, problem=" ".join(str(error).split()))


def _image(source: Source) -> Iterator[Frame]:
    if Path(source.path).suffix.lower() in RAW:
        raise InputError("not an image that can be read; convert it to JPEG or PNG")
    yield Frame(source, image=decode_image(Path(source.path).read_bytes()))


def _video(source: Source, file: Any = None, address: bool = False) -> Iterator[Frame]:
    """The frames of a video, or of an open file or address."""
    shown_frames = read_video(file or f"file:{source.path}", address)  # without "file:", a colon ends a protocol
    for number, shown in enumerate(shown_frames):
        yield Frame(source, number, shown.image, rate=shown.rate, seconds=shown.seconds)


class _Rejoined:
    """A pipe of which the start has been read already."""

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        self.start, self.rest = start, rest

    def read(self, size: int) -> bytes:
        part, self.start = self.start[:size], self.start[size:]
        return part or self.rest.read(size)


def _pipe(source: Source) -> Iterator[Frame]:
    """A pipe can be read once only: what it holds is recognised by its start."""
    with contextlib.ExitStack() as stack:
        pipe = sys.stdin.buffer if source.path == "-" else stack.enter_context(open(source.path, "rb"))
        start = pipe.read(START)
        if is_image(start):
            yield Frame(replace(source, copy=_still(source.copy)), image=decode_image(start + pipe.read()))
            return
        file: Any = _Rejoined(start, pipe)
        if start[4:8] == b"ftyp" and b"moov" not in start:  # an MP4 whose index, at its end, is needed first
            rejoined, file = file, stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(rejoined, file)
            file.seek(0)
        yield from _video(source, file)


def _stream(source: Source) -> Iterator[Frame]:
    """A stream, or an image on the web."""
    content = _web_image(source.path) if source.path.startswith(("http://", "https://")) else b""
    if content:
        yield Frame(replace(source, copy=_still(source.copy)), image=decode_image(content))
    else:
        yield from _video(source, source.path, address=True)


def _web_image(address: str) -> bytes:
    """What an address holds, if that is an image; else nothing."""
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
            start = answer.read(MAGIC)
            return start + answer.read() if is_image(start) else b""
    except http.client.IncompleteRead as error:
        raise InputError("the image was cut off on its way") from error
    except (OSError, ValueError, http.client.HTTPException):
        return b""  # the reader of videos will say what is wrong


def _still(copy: Path) -> Path:
    """The copy of a stream or pipe that turns out to be an image."""
    return copy.with_suffix(".png")


def _camera(source: Source) -> Iterator[Frame]:
    number = source.path.removeprefix("/dev/video")
    camera, opened = cv2.VideoCapture(int(number) if number.isdecimal() else source.path), time.monotonic()
    count, rate = 0, camera.get(cv2.CAP_PROP_FPS)
    try:
        while (read := camera.read())[0]:
            image = cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
            yield Frame(source, count, image, rate=rate or USUAL_RATE, seconds=time.monotonic() - opened)
            count += 1
    finally:
        camera.release()
    if not count:
        raise InputError("the camera gave no frame; check its number, and that no other program uses it")


_FRAMES_OF = {"image": _image, "video": _video, "pipe": _pipe, "stream": _stream, "camera": _camera}

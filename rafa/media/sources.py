"""Frames of images, folders, videos, streams and cameras, and drawn copies of them."""

import glob
import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from rafa.datasets.images import SUFFIXES, UNREAD, files_below, read_image
from rafa.datasets.rows import Box
from rafa.media.drawing import draw_pose, save_image
from rafa.script import InputError, native_stderr_hidden

VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".m4v", ".webm", ".mpg", ".mpeg", ".wmv", ".gif"}
KNOWN = VIDEOS.union(SUFFIXES, UNREAD)
CODEC = "VP80"  # of drawn copies, in WebM: of what OpenCV writes it is the fastest that browsers play
USUAL_RATE = 30.0  # frames per second of a copy where the video's are not known
EXPECTED = {
    "video": "expected a video that OpenCV can read, and all of it",
    "camera": "check its number, and that no other program uses it",
    "stream": "check the address, and that it sends a video",
    "pipe": "expected a video or an image that can be read from beginning to end",
}
LONGEST_GAP = 10.0  # seconds: where a video's times jump further, its copy goes on


# --- Sources ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Source:
    """An image, a video, a camera, a stream or a pipe."""

    path: str  # of a camera, its number or device; of a stream, its address; of a pipe, its path or "-"
    copy: Path  # what its drawn copy is called inside the folder of drawn copies
    kind: str  # "image", "video", "camera", "stream" or "pipe"


@dataclass
class Face:
    """A face in a frame: its box, its crop, and its angles, NaN until they are predicted."""

    box: Box
    views: np.ndarray  # (v, 224, 224, 3) uint8 RGB, see `data_loaders.views_of`
    angles: np.ndarray = field(default_factory=lambda: np.full(3, np.nan))  # (3,) in AXES order, radians, list signs
    spread: np.ndarray = field(default_factory=lambda: np.full(3, np.nan))  # (3,) standard deviations over the views
    confidence: float | None = None  # the detector's, see `rafa.media.detectors`; None if the box was given
    number: int = 0  # in its image, the largest face first; after `rafa.media.tracking.smoothed`, in its whole video

    @property
    def crop(self) -> np.ndarray:
        """(224, 224, 3) uint8 RGB: the view at the margin asked for."""
        return self.views[0]


@dataclass
class Frame:
    """An image, or one frame of a video: its pixels and its faces, or the problem that left it without."""

    source: Source
    number: int | None  # of a video's frame, from 0
    image: np.ndarray | None = None  # (h, w, 3) uint8 RGB; None if it could not be read
    problem: str = ""
    rate: float = 0.0  # frames per second of the video; 0 if not known
    seconds: float | None = None  # of a video's frame: since its beginning; of a camera's: since it was opened
    faces: list[Face] = field(default_factory=list)


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
        if "://" in text:
            sources.append(Source(text, Path("stream.webm"), "stream"))
        elif path.is_dir():
            sources += _in_folder(path)
        elif text == "-" or path.is_fifo():
            sources.append(Source(text, Path("pipe.webm" if text == "-" else f"{path.name}.webm"), "pipe"))
        elif path.is_char_device():
            sources.append(Source(text, Path(f"{path.name}.webm"), "camera"))
        elif path.exists():
            sources.append(_source(text, path.name, _kind_by_content(text)))
        elif text.isdecimal():
            sources.append(Source(text, Path(f"camera{text}.webm"), "camera"))
        elif matches := sorted(name for name in glob.glob(text, recursive=True) if Path(name).is_file()):
            sources += [_source(name, Path(name).name, _kind_by_content(name)) for name in matches]
        else:
            raise InputError(f"{text}: no such file, folder or camera, and no file matches it; check the path")
    return list(_with_distinct_copies(sources))


def _in_folder(folder: Path) -> list[Source]:
    """The images and videos in a folder by their names; hidden ones, such as previews, are left out."""
    known = [path for path in files_below(folder) if path.suffix.lower() in KNOWN]
    known = [path for path in known if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not known:
        looked_for = " ".join(sorted(KNOWN.difference(UNREAD)))
        raise InputError(f"{folder}: no images or videos in it; looked for {looked_for}")
    return [_source(str(path), path.relative_to(folder), _kind_by_name(path)) for path in known]


def _kind_by_name(path: str | Path) -> str:
    return "video" if Path(path).suffix.lower() in VIDEOS else "image"


def _kind_by_content(path: str) -> str:
    """What a file that was named by hand is, whatever its suffix says."""
    kind = _kind_by_name(path)
    if cv2.haveImageReader(path):
        return kind if Path(path).suffix.lower() == ".gif" else "image"
    if kind == "image" and Path(path).suffix.lower() not in UNREAD:  # FFmpeg alone: others read numbered images
        video = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
        kind = "video" if video.read()[0] else kind
        video.release()
    return kind


def _source(path: str, copy: str | Path, kind: str) -> Source:
    copy = Path(copy)
    if kind == "video":
        return Source(path, copy.with_suffix(".webm"), "video")
    written = copy.suffix.lower() in SUFFIXES and cv2.haveImageWriter(copy.name)
    return Source(path, copy if written else copy.with_name(f"{copy.name}.png"), "image")


def _with_distinct_copies(sources: Iterable[Source]) -> Iterator[Source]:
    """Number the copies that would otherwise have the same name: x.png, x-2.png, ..."""
    taken: set[Path] = set()
    for source in sources:
        copy, numbers = source.copy, itertools.count(2)
        while copy in taken:
            copy = source.copy.with_stem(f"{source.copy.stem}-{next(numbers)}")
        taken.add(copy)
        yield replace(source, copy=copy)


# --- Frames -----------------------------------------------------------------------------------------------------------
def read_frames(sources: Iterable[Source]) -> Iterator[Frame]:
    """Yield every image and every frame of every video; what cannot be read is a frame with a problem."""
    for source in sources:
        if source.kind != "image":
            yield from _read_video(source)
            continue
        try:
            yield Frame(source, None, read_image(source.path))
        except InputError as error:
            yield Frame(source, None, problem=" ".join(str(error).removeprefix(f"{source.path}: ").split()))


def _read_video(source: Source) -> Iterator[Frame]:
    video, opened = _opened(source), time.monotonic()
    try:
        if not video.isOpened():
            yield Frame(source, None, problem=f"not read: the {source.kind} cannot be opened; {EXPECTED[source.kind]}")
            return
        announced, rate, number, seconds = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS), 0, 0.0
        while (read := video.read())[0]:
            now = time.monotonic() - opened if source.kind == "camera" else video.get(cv2.CAP_PROP_POS_MSEC) / 1000
            seconds = (
                now if number == 0 or now > seconds else seconds + 1 / _usable(rate)
            )  # not all containers have times
            yield Frame(source, number, cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB), rate=rate, seconds=seconds)
            number += 1
    finally:
        video.release()
    # Some containers hold no count, and OpenCV makes one from duration and rate: one off, but for a GIF.
    gif = source.kind == "video" and Path(source.path).suffix.lower() == ".gif"
    if source.kind == "video" and (number == 0 or number < announced - (not gif)):
        mend = "write it again with a duration for every frame" if gif and number else "the video may be cut off"
        yield Frame(source, None, problem=f"only {number} of {announced:.0f} frames could be read; {mend}")
    elif number == 0:
        yield Frame(source, None, problem=f"not read: the {source.kind} gave no frame; {EXPECTED[source.kind]}")


def _opened(source: Source) -> cv2.VideoCapture:
    """OpenCV's reader of a source."""
    number = source.path.removeprefix("/dev/video")
    if source.kind == "camera" and number.isdecimal():
        return cv2.VideoCapture(int(number))
    if source.kind in ("pipe", "stream"):  # can be opened once only: no second reader may try
        return cv2.VideoCapture("pipe:0" if source.path == "-" else source.path, cv2.CAP_FFMPEG)
    return cv2.VideoCapture(source.path)


def _usable(rate: float) -> float:
    return rate if 0 < rate < 1000 else USUAL_RATE  # 1,000 and more are the container's clock


# --- Drawn copies -----------------------------------------------------------------------------------------------------
class DrawnVideo:
    """Writes a video in WebM.  OpenCV writes at a constant rate: frames are repeated where the next one comes later.

    Args:
        file: the video; its folder is made.
        rate: frames per second.
        shape: of the first frame; others are resized to it.

    Raises:
        InputError: OpenCV cannot write there.
    """

    def __init__(self, file: Path, rate: float, shape: tuple[int, ...]) -> None:
        self.file, self.rate, self.size = file, _usable(rate), (shape[1] + shape[1] % 2, shape[0] + shape[0] % 2)
        self.start: float | None = None
        self.last: np.ndarray = np.empty(0)
        self.count = 0
        file.parent.mkdir(parents=True, exist_ok=True)
        with native_stderr_hidden():  # OpenCV says that WebM has no such tag for its codec, although it writes it
            self.video = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*CODEC), self.rate, self.size)
        if not self.video.isOpened():
            raise InputError(f"{file}: OpenCV cannot write a video there; check the folder and the free space")

    def write(self, image: np.ndarray, seconds: float | None) -> None:
        """Add a frame, (h, w, 3) uint8 RGB, at its time; where that has passed, at once."""
        if seconds is not None:
            self.start = seconds if self.start is None else self.start
            gap = seconds - self.start - self.count / self.rate
            if gap > LONGEST_GAP:
                self.start += gap
            for _ in range(round(gap * self.rate) if gap <= LONGEST_GAP else 0):
                self._add(self.last)
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        bgr = cv2.copyMakeBorder(bgr, 0, bgr.shape[0] % 2, 0, bgr.shape[1] % 2, cv2.BORDER_REPLICATE)  # even sides
        if bgr.shape[1::-1] != self.size:  # a VideoWriter drops such frames silently
            bgr = cv2.resize(bgr, self.size)
        self._add(bgr)
        self.last = bgr

    def _add(self, bgr: np.ndarray) -> None:
        self.video.write(bgr)
        self.count += 1

    def close(self) -> None:
        """Finish the video.

        Raises:
            InputError: not every frame can be read back; OpenCV itself does not say so.
        """
        self.video.release()
        copy, readable = cv2.VideoCapture(str(self.file)), 0
        while copy.grab():
            readable += 1
        copy.release()
        if readable < self.count:
            what = f"holds only {readable} of {self.count} frames; check the free space"
            raise InputError(f"{self.file}: the drawn copy {what}")


class DrawnCopies:
    """Writes copies of images and videos into a folder, with the poses drawn on them."""

    def __init__(self, folder: str, style: str) -> None:
        self.folder, self.style = Path(folder), style
        self.video: DrawnVideo | None = None  # that is being written

    def write(self, frame: Frame) -> None:
        """Add a frame; one that could not be read is left out."""
        if frame.image is None:
            return
        drawn, target = frame.image, self.folder / frame.source.copy
        for face in frame.faces:
            drawn = draw_pose(drawn, face.box, face.angles, self.style)
        if frame.number is None:
            save_image(drawn, target)
            return
        if not self.video or self.video.file != target:
            self.close()
            self.video = DrawnVideo(target, frame.rate, drawn.shape)
        self.video.write(drawn, frame.seconds)

    def close(self) -> None:
        """Finish the video that is being written, see `DrawnVideo.close`."""
        video, self.video = self.video, None
        if video:
            video.close()

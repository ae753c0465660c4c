"""Images, folders, videos and cameras → frames with the boxes of their faces."""

import glob
import sys
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from data_loaders import crop, parse_box, read_image, read_rows
from util.errors import InputError

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".m4v", ".webm", ".mpg", ".mpeg", ".wmv", ".gif"}
MOST_PIXELS = 2**27  # of a picture: 134 megapixels, 400 MB decoded; a damaged file may announce any size
LARGEST_BOX = 4  # times the picture's longer side


# --- Where the pictures come from -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """A picture, a video or a camera, and the path of its drawn copy inside a folder of drawn copies."""

    path: str
    copy: Path
    kind: str  # "picture", "video" or "camera"


@dataclass
class Face:
    """A square box (row, column, size), what the network is shown of it, and its answer."""

    box: tuple
    crop: np.ndarray  # (224, 224, 3) uint8 RGB
    angles: np.ndarray | None = None  # (3,) yaw, pitch, roll in radians, list signs


@dataclass
class Frame:
    """One picture or one frame of a video: its pixels (RGB), its faces, or why there are none."""

    source: Source
    number: int | None  # of a frame, from 0
    picture: np.ndarray | None = None
    problem: str = ""
    rate: float = 0.0  # frames per second of the video
    faces: list = field(default_factory=list)


def find_sources(paths):
    """Pictures, folders (with everything below), globs, videos and camera numbers → a list of `Source`.

    Raises:
        InputError: a path or glob that names nothing, a folder without pictures and videos.
    """
    sources = []
    for text in paths:
        path = Path(text)
        if path.is_dir():
            sources += _in_folder(path)
        elif path.exists():
            sources.append(_source(text, path.name))
        elif text.isdecimal():
            sources.append(Source(text, Path(f"camera{text}.mp4"), "camera"))
        elif matches := sorted(name for name in glob.glob(text, recursive=True) if Path(name).is_file()):
            sources += [_source(name, Path(name).name) for name in matches]
        else:
            raise InputError(f"{text}: no such file, folder or camera, and no file matches it; check the path")
    return _with_own_copies(sources)


def _in_folder(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    known = [path for path in files if path.suffix.lower() in PICTURES | VIDEOS]
    if others := Counter(path.suffix or "no suffix" for path in files if path.suffix.lower() not in PICTURES | VIDEOS):
        names = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common())
        print(f"{folder}: left out by their names, neither pictures nor videos: {names}", file=sys.stderr)
    if not known:
        raise InputError(
            f"{folder}: no picture or video in it or below; looked for {' '.join(sorted(PICTURES | VIDEOS))}"
        )
    return [_source(str(path), path.relative_to(folder)) for path in known]


def _source(text, copy):
    copy, video = Path(copy), Path(text).suffix.lower() in VIDEOS
    if video:
        return Source(text, copy.with_suffix(".mp4"), "video")
    return Source(text, copy if copy.suffix.lower() in PICTURES else copy.with_name(copy.name + ".png"), "picture")


def _with_own_copies(sources):
    """Give sources whose copies would bear the same name different ones."""
    taken, result = set(), []
    for source in sources:
        copy, number = source.copy, 1
        while copy in taken:
            number += 1
            copy = source.copy.with_stem(f"{source.copy.stem}-{number}")
        taken.add(copy)
        result.append(Source(source.path, copy, source.kind))
    return result


def read_frames(sources):
    """Yield a `Frame` for every picture and every frame of every video; what cannot be read is one with a problem."""
    for source in sources:
        if source.kind != "picture":
            yield from _read_video(source)
            continue
        try:
            _check_announced_size(source.path)
            yield Frame(source, None, read_image(source.path))
        except (InputError, OSError) as error:
            yield Frame(source, None, problem=" ".join(str(error).split()))


def _check_announced_size(path):
    """Refuse a picture by the size in its header, before anything of that size is decoded."""
    from PIL import Image  # matplotlib needs it too

    if Path(path).stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; get it again")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is wrong with a file is said once, below or by OpenCV
        try:
            with Image.open(path) as header:
                columns, rows = header.size
        except Image.DecompressionBombError as error:
            raise InputError(f"{path}: announces more than {MOST_PIXELS:,} pixels; shrink it first") from error
        except (OSError, SyntaxError, ValueError):
            return  # not a format that Pillow knows: OpenCV has the last word
    if rows * columns > MOST_PIXELS:
        raise InputError(f"{path}: announces {columns} × {rows} pixels, more than {MOST_PIXELS:,}; shrink it first")


def _read_video(source):
    video = cv2.VideoCapture(int(source.path) if source.kind == "camera" else source.path)
    try:
        if not video.isOpened():
            what = "camera number" if source.kind == "camera" else "file: not a video that OpenCV can read, or cut off"
            yield Frame(source, None, problem=f"{source.path}: the video cannot be opened; check the {what}")
            return
        announced, rate, number = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS), 0
        while True:
            there, picture = video.read()
            if not there:
                break
            yield Frame(source, number, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), rate=rate)
            number += 1
    finally:
        video.release()
    # Some containers hold no count, and OpenCV makes one from duration and rate: it may be off by one.
    if number == 0 or number < announced - 1:
        problem = f"{source.path}: {number} frames could be read of {announced:.0f} announced; the video may be cut off"
        yield Frame(source, None, problem=problem)


# --- Boxes ------------------------------------------------------------------------------------------------------------


class ListedBoxes:
    """Boxes of a list in the published format, found by the end of a picture's path.

    A row `AFLW2000/image00002.jpg` fits the picture `data/AFLW2000/image00002.jpg`; the longest fit counts.
    """

    def __init__(self, file):
        self.file, self.boxes = file, read_rows(Path(file), parse_box)[0]

    def __call__(self, frame):
        parts = Path(frame.source.path).resolve().parts
        for start in range(len(parts)):
            path = "/".join(parts[start:])
            if path in self.boxes:
                box = self.boxes[path]
                if box is None:
                    raise InputError(f"{frame.source.path}: the row {path} of {self.file} has no box")
                return [box]
        raise InputError(f"{frame.source.path}: not in the list {self.file}")


def cut_faces(frame, find_boxes, margin):
    """Put the faces into a frame that could be read, or say why there are none."""
    if frame.picture is None:
        return
    try:
        boxes = find_boxes(frame)
        for box in boxes:
            _check_box(box, frame)
        frame.faces = [Face(box, crop(frame.picture, *box, margin)) for box in boxes]
    except InputError as error:
        frame.problem = str(error)
    if not frame.faces and not frame.problem:
        frame.problem = "no face"


def _check_box(box, frame):
    row, column, size = box
    height, width = frame.picture.shape[:2]
    if not (-size < row < height and -size < column < width and size <= LARGEST_BOX * max(height, width)):
        raise InputError(
            f"{frame.source.path}: the box row {row}, column {column}, size {size} does not fit this picture of "
            f"{height} rows and {width} columns; boxes are: row column size, in pixels from the top left corner"
        )

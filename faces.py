"""Faces of pictures, folders, videos and cameras: what is read, and which box of it the network is shown.

    python faces.py --data-dir data      measures how the detector's boxes relate to the published ones (AFLW2000)

A detector is called with a picture (h, w, 3) uint8, blue first, and answers with a list of square boxes (row, column,
size) in pixels, the largest first.  A detector's own box is not the box of the published lists; which part of the
picture the network sees decides its answer, so a `BoxMapping` leads from one to the other.
"""

import argparse
import glob
import sys
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from data_loaders import (
    AXES,
    DataError,
    crop,
    keep_present,
    load_data_set,
    parse_box,
    picture_path,
    read_picture,
    read_rows,
)

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".m4v", ".webm", ".mpg", ".mpeg", ".wmv", ".gif"}
MOST_PIXELS = 2**27  # of a picture: 134 megapixels, 400 MB decoded; a damaged file may announce any size
LARGEST_BOX = 4  # times the picture's longer side
LONGEST_SIDE = 1000  # pixels; larger pictures are searched in a copy of this size: searching costs time per pixel
SMALLEST_FACE = 0.1  # of the picture's shorter side; what was searched for when the mappings were measured
SAME_FACE = 0.25  # intersection over union from which two boxes count as the same face


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
    """One picture or one frame of a video: its pixels (blue first), its faces, or why there are none."""

    source: Source
    number: int | None  # of a frame, from 0
    picture: np.ndarray | None = None
    problem: str = ""
    rate: float = 0.0  # frames per second of the video
    faces: list = field(default_factory=list)


def find_sources(paths):
    """Pictures, folders (with everything below), globs, videos and camera numbers → a list of `Source`.

    Raises:
        DataError: a path or glob that names nothing, a folder without pictures and videos.
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
            raise DataError(f"{text}: no such file, folder or camera, and no file matches it; check the path")
    return _with_own_copies(sources)


def _in_folder(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    known = [path for path in files if path.suffix.lower() in PICTURES | VIDEOS]
    if others := Counter(path.suffix or "no suffix" for path in files if path.suffix.lower() not in PICTURES | VIDEOS):
        names = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common())
        print(f"{folder}: left out by their names, neither pictures nor videos: {names}", file=sys.stderr)
    if not known:
        raise DataError(
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
            yield Frame(source, None, read_picture(source.path))
        except (DataError, OSError) as error:
            yield Frame(source, None, problem=" ".join(str(error).split()))


def _check_announced_size(path):
    """Refuse a picture by the size in its header, before anything of that size is decoded."""
    from PIL import Image  # matplotlib needs it too

    if Path(path).stat().st_size == 0:
        raise DataError(f"{path}: the file is empty; get it again")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is wrong with a file is said once, below or by OpenCV
        try:
            with Image.open(path) as header:
                columns, rows = header.size
        except Image.DecompressionBombError as error:
            raise DataError(f"{path}: announces more than {MOST_PIXELS:,} pixels; shrink it first") from error
        except (OSError, SyntaxError, ValueError):
            return  # not a format that Pillow knows: OpenCV has the last word
    if rows * columns > MOST_PIXELS:
        raise DataError(f"{path}: announces {columns} × {rows} pixels, more than {MOST_PIXELS:,}; shrink it first")


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
            yield Frame(source, number, picture, rate=rate)
            number += 1
    finally:
        video.release()
    # Some containers hold no count, and OpenCV makes one from duration and rate: it may be off by one.
    if number == 0 or number < announced - 1:
        problem = f"{source.path}: {number} frames could be read of {announced:.0f} announced; the video may be cut off"
        yield Frame(source, None, problem=problem)


# --- Detectors --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BoxMapping:
    """From a detector's square of side s to a training box of side `scale` · s, moved by `right` · s and `down` · s."""

    scale: float = 1.0
    right: float = 0.0
    down: float = 0.0

    def training_box(self, x, y, side):
        """(row, column, size) in whole pixels for a detected square with its top left corner at x, y."""
        size = max(1, round(self.scale * side))
        row = y + side / 2 + self.down * side - size / 2
        column = x + side / 2 + self.right * side - size / 2
        return round(row), round(column), size

    def mirrored(self):
        return BoxMapping(self.scale, -self.right, self.down)


# Medians over AFLW2000, as `python faces.py` prints them, from the 394 pictures of the published lists that were at
# hand.  Frontal: 209 faces with yaw, pitch and roll within 30 degrees; half of all scales lie in 0.835...0.928.
# Profile: the 48 faces that it found where the frontal cascade found nothing; half of all scales in 0.595...0.773.
FRONTAL_MAPPING = BoxMapping(0.875, -0.006, 0.081)
PROFILE_MAPPING = BoxMapping(0.675, -0.177, 0.08)  # for faces that look to the left of the picture
MAPPINGS = {"frontal": FRONTAL_MAPPING, "left": PROFILE_MAPPING, "right": PROFILE_MAPPING.mirrored()}


class HaarDetector:
    """OpenCV's frontal cascade, and its profile cascade in both directions where the frontal one finds nothing.

    Args:
        smallest: the smallest face that is looked for, as a share of the picture's shorter side.

    Raises:
        DataError: an OpenCV without cascades (5.0 has none).
    """

    def __init__(self, smallest=SMALLEST_FACE):
        self.smallest = smallest
        self.frontal, self.profile = (_cascade(name) for name in ("frontalface_default", "profileface"))

    def __call__(self, picture):
        found = self.squares(picture)
        boxes = [MAPPINGS[kind].training_box(x, y, side) for kind, x, y, side in found]
        return sorted(boxes, key=lambda box: -box[2])

    def squares(self, picture):
        """The detectors' own squares: a list of (kind, x, y, side), kind a key of MAPPINGS."""
        grey, zoom = _searched(picture)
        found = [("frontal", *square) for square in self._search(self.frontal, grey)]
        if not found:
            found = [("left", *square) for square in self._search(self.profile, grey)]
            mirrored = self._search(self.profile, np.ascontiguousarray(grey[:, ::-1]))
            found += [("right", grey.shape[1] - x - side, y, side) for x, y, side in mirrored]
        return [(kind, x / zoom, y / zoom, side / zoom) for kind, x, y, side in _without_doubles(found)]

    def _search(self, cascade, grey):
        smallest = max(24, round(self.smallest * min(grey.shape)))  # the cascades were trained on 20 and 24 pixels
        if min(grey.shape) < smallest:
            return []
        squares = cascade.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=5, minSize=(smallest, smallest))
        return [tuple(map(int, (x, y, width))) for x, y, width, _ in squares]


class YuNetDetector:
    """`cv2.FaceDetectorYN` with a model file of the user's.

    How its boxes relate to the training boxes was not measured here: the square around its box, as wide as the longer
    side, is taken as it is.

    Args:
        model_file: an ONNX file of a YuNet.
        score: detections below this confidence are left out.

    Raises:
        DataError: a file that is missing or that OpenCV cannot load.
    """

    def __init__(self, model_file, score=0.7):
        if not Path(model_file).is_file():
            raise DataError(f"{model_file}: no such file; --detector-model takes the ONNX file of a YuNet")
        try:
            self.detector = cv2.FaceDetectorYN.create(str(model_file), "", (320, 320), score)
        except (cv2.error, AttributeError) as error:
            raise DataError(f"{model_file}: OpenCV cannot load it as a YuNet face detector: {error}") from error

    def __call__(self, picture):
        zoom = min(1.0, LONGEST_SIDE / max(picture.shape[:2]))
        small = cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA) if zoom < 1 else picture
        self.detector.setInputSize(small.shape[1::-1])
        faces = self.detector.detect(small)[1]
        boxes = [self._square(*face[:4] / zoom) for face in (() if faces is None else faces)]
        return sorted(boxes, key=lambda box: -box[2])

    @staticmethod
    def _square(x, y, width, height):
        side = max(width, height)
        return BoxMapping().training_box(x + (width - side) / 2, y + (height - side) / 2, side)


def _cascade(name):
    folder = getattr(getattr(cv2, "data", None), "haarcascades", "")
    file = Path(folder, f"haarcascade_{name}.xml")
    if not folder or not hasattr(cv2, "CascadeClassifier") or not file.is_file():
        raise DataError(
            f"OpenCV {cv2.__version__} has no Haar cascade {file.name}: install opencv-python 4.x, give the box with "
            "--box or --boxes, or use --detector yunet"
        )
    return cv2.CascadeClassifier(str(file))


def _searched(picture):
    """The equalised grey picture in which is searched, and how much smaller than the picture it is."""
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    zoom = min(1.0, LONGEST_SIDE / max(grey.shape))
    if zoom < 1:
        columns, rows = (max(1, round(side * zoom)) for side in grey.shape[::-1])
        grey = cv2.resize(grey, (columns, rows), interpolation=cv2.INTER_AREA)
    return cv2.equalizeHist(grey), zoom


def _without_doubles(found):
    """Of squares on the same face, the largest."""
    kept = []
    for square in sorted(found, key=lambda square: -square[3]):
        if all(overlap(square[1:], other[1:]) < SAME_FACE for other in kept):
            kept.append(square)
    return kept


def overlap(first, second):
    """Intersection over union of two squares (x, y, side), or both (row, column, size)."""
    (x0, y0, side0), (x1, y1, side1) = first, second
    across = min(x0 + side0, x1 + side1) - max(x0, x1)
    along = min(y0 + side0, y1 + side1) - max(y0, y1)
    common = max(0, across) * max(0, along)
    return common / (side0**2 + side1**2 - common)


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
                    raise DataError(f"{frame.source.path}: the row {path} of {self.file} has no box")
                return [box]
        raise DataError(f"{frame.source.path}: not in the list {self.file}")


def cut_faces(frame, find_boxes, margin):
    """Put the faces into a frame that could be read, or say why there are none."""
    if frame.picture is None:
        return
    try:
        boxes = find_boxes(frame)
        for box in boxes:
            _check_box(box, frame)
        frame.faces = [Face(box, crop(frame.picture, *box, margin)[..., ::-1]) for box in boxes]
    except DataError as error:
        frame.problem = str(error)
    if not frame.faces and not frame.problem:
        frame.problem = "no face"


def _check_box(box, frame):
    row, column, size = box
    height, width = frame.picture.shape[:2]
    if not (-size < row < height and -size < column < width and size <= LARGEST_BOX * max(height, width)):
        raise DataError(
            f"{frame.source.path}: the box row {row}, column {column}, size {size} does not fit this picture of "
            f"{height} rows and {width} columns; boxes are: row column size, in pixels from the top left corner"
        )


# --- Measuring the mapping --------------------------------------------------------------------------------------------


def relation(square, box):
    """(scale, right, down) that lead from a detected square (x, y, side) to a listed box (row, column, size)."""
    (x, y, side), (row, column, size) = square, box
    return size / side, (column + size / 2 - x - side / 2) / side, (row + size / 2 - y - side / 2) / side


def measure(listed):
    """Run the Haar detector over `Listed` pictures with boxes and angles.

    Returns:
        A structured array with a row per picture: `angles` in degrees, the `kind` that found the listed face ("" if
        none did), its `relation` to the listed box, the `overlap` of mapped and listed box, and `others`: detections
        elsewhere, other people and false ones alike.
    """
    detector, rows = HaarDetector(), []
    for done, record in enumerate(listed.records, start=1):
        box = tuple(int(record[name]) for name in ("row", "column", "size"))
        where = (box[1], box[0], box[2])
        squares = detector.squares(read_picture(picture_path(listed, record)))
        kind, *square = max(squares, key=lambda found: overlap(found[1:], where), default=("", 0, 0, 1))
        found = bool(squares) and overlap(square, where) >= SAME_FACE
        mapped = overlap(MAPPINGS[kind].training_box(*square), box) if found else 0.0
        related = relation(square, box) if found else (np.nan,) * 3
        rows.append((np.degrees(record["angles"]), kind if found else "", related, mapped, len(squares) - found))
        print(f"\r{done} of {len(listed.records)} pictures", end="", file=sys.stderr)
    print(file=sys.stderr)
    fields = [("angles", "f8", (3,)), ("kind", "U8"), ("relation", "f8", (3,)), ("overlap", "f8"), ("others", "i8")]
    return np.array(rows, fields)


def report(rows):
    """What `measure` found, as lines of text: mappings with their spread, and detection rates by |yaw|."""
    mirror = np.where(rows["kind"] == "right", -1, 1)
    related = rows["relation"] * np.stack([np.ones_like(mirror), mirror, np.ones_like(mirror)], axis=1)
    near = (np.abs(rows["angles"]) < 30).all(axis=1)
    lines = []
    for name, chosen in (
        ("frontal", (rows["kind"] == "frontal") & near),
        ("profile", np.isin(rows["kind"], ("left", "right"))),
    ):
        quarter, middle, three = np.percentile(related[chosen], (25, 50, 75), axis=0)
        values = [f"{m:.3f} ({a:.3f}...{b:.3f})" for m, a, b in zip(middle, quarter, three, strict=True)]
        lines.append(f"{name}, n = {chosen.sum()}: scale {values[0]}, right {values[1]}, down {values[2]}")
    lines.append("median (quartiles); |yaw|: faces found of those listed, and median overlap with the listed box")
    yaw = np.abs(rows["angles"][:, AXES.index("yaw")])
    for low, high in ((0, 15), (15, 30), (30, 45), (45, 60), (60, 75), (75, 180)):
        part = rows[(yaw >= low) & (yaw < high)]
        hits = part[part["kind"] != ""]
        median = f", overlap {np.median(hits['overlap']):.2f}" if len(hits) else ""
        lines.append(f"{low:2}...{high}: {len(hits)} of {len(part)}{median}")
    lines.append(f"elsewhere (other people and false detections): {rows['others'].sum()} in {len(rows)} pictures")
    return lines


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default="data", help="folder with AFLW2000 and the published lists (data)")
    options = parser.parse_args(arguments)
    try:
        listed = keep_present(load_data_set("aflw2000", options.data_dir), allow_missing=True)
    except DataError as error:
        sys.exit(f"error: {error}")
    print("\n".join(report(measure(listed))))


if __name__ == "__main__":
    main()

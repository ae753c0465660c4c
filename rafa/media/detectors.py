"""Face detectors, and the mapping from a detector's box to a box like those of the published lists.

A detector is called with an RGB image (h, w, 3) uint8 and returns square boxes (row, column, size) in pixels, each with
the detector's confidence, the largest first.  Confidences of different detectors cannot be compared.  A detector's own
box is larger or smaller than a box of the published lists, and the network's answer depends on what it is shown: a
`BoxMapping` turns one into the other.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from rafa.datasets.rows import Box
from rafa.script import InputError

LONGEST_SIDE = 1000  # pixels; larger images are shrunk to this for detection, whose time grows with their pixels
SMALLEST_FACE = 0.1  # of the image's shorter side; MAPPINGS was measured with it
SURE = 0.7  # YuNet's detections below this confidence are left out
TURNS = (-30, 30)  # degrees, counter-clockwise, by which images are turned where no face is upright
SURE_WHEN_TURNED = 16  # windows that are asked for then; of 82 photographs 29 got the listed face, and 3 a false one
SAME_FACE = 0.25  # intersection over union from which two boxes count as the same face

Square = tuple[float, float, float]  # x, y, side in pixels; x, y: the top left corner
Found = tuple[Box, float | None]  # a face's box and a detector's confidence; None: the box was given


# --- From a detector's box to a listed box ----------------------------------------------------------------------------
@dataclass(frozen=True)
class BoxMapping:
    """From a square of side s to a box of size `scale` · s whose centre lies `right` · s and `down` · s away."""

    scale: float = 1.0
    right: float = 0.0
    down: float = 0.0

    def box(self, x: float, y: float, side: float) -> Box:
        """(row, column, size) in whole pixels for a square with its top left corner at x, y."""
        size = max(1, round(self.scale * side))
        row = y + side / 2 + self.down * side - size / 2
        column = x + side / 2 + self.right * side - size / 2
        return round(row), round(column), size

    def mirrored(self) -> "BoxMapping":
        """The mapping for the mirrored image."""
        return BoxMapping(self.scale, -self.right, self.down)

    def turned(self, degrees: float) -> "BoxMapping":
        """The mapping for the image before it was turned counter-clockwise."""
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        return BoxMapping(self.scale, self.right * cos - self.down * sin, self.right * sin + self.down * cos)


# Medians over 394 images of AFLW2000, as tests/measurements/detector_boxes.py prints them.
# Frontal: 209 faces with yaw, pitch and roll within 30 degrees; half of all scales lie in 0.835...0.928.
# Profile: the 48 faces found where the frontal cascade found none; half of all scales lie in 0.595...0.773.
MAPPINGS = {"frontal": BoxMapping(0.875, -0.006, 0.081), "left": BoxMapping(0.675, -0.177, 0.08)}
MAPPINGS["yunet"] = BoxMapping()  # not measured: no file of a YuNet comes with the suite
MAPPINGS["right"] = MAPPINGS["left"].mirrored()  # faces that look to the right of the image
for _kind, _turn in itertools.product(("frontal", "left", "right"), TURNS):
    MAPPINGS[f"{_kind}{_turn:+}"] = MAPPINGS[_kind].turned(_turn)


class Detection(NamedTuple):
    """A detector's own square, its confidence, and the key of the square's mapping in MAPPINGS."""

    kind: str
    square: Square
    confidence: float


# --- Detectors --------------------------------------------------------------------------------------------------------
class Detector:
    """Finds faces; called with an image."""

    def __call__(self, image: np.ndarray) -> list[Found]:
        found = [(MAPPINGS[kind].box(*square), confidence) for kind, square, confidence in self.squares(image)]
        return sorted(found, key=lambda face: -face[0][2])

    def squares(self, image: np.ndarray) -> list[Detection]:
        """The detector's own squares, one per face."""
        raise NotImplementedError


class HaarDetector(Detector):
    """OpenCV's frontal cascade; where it finds nothing, its profile cascade on the image and on its mirror image.

    Where neither finds a face, the image is turned by each of TURNS, for heads that are tilted.
    The confidence of a face is the number of windows, of various places and sizes, that the cascade took for it.

    Args:
        smallest: the smallest face to look for, as a share of the image's shorter side.
        least: the least confidence of a face; below 6 it has no effect.

    Raises:
        InputError: an OpenCV without cascades (5.0 has none).
    """

    def __init__(self, smallest: float = SMALLEST_FACE, least: float = 0) -> None:
        self.smallest, self.least = smallest, least
        self.frontal, self.profile = (_cascade(name) for name in ("frontalface_default", "profileface"))

    def squares(self, image: np.ndarray) -> list[Detection]:
        """The cascades' own squares, one per face."""
        small, zoom = _shrunk(image)
        grey = cv2.equalizeHist(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
        smallest = max(24, round(self.smallest * min(grey.shape)))  # the cascades were trained on 20 and 24 pixels
        found = self._upright(grey, smallest)
        found = found or [face for turn in TURNS for face in self._turned(grey, smallest, turn)]
        return [
            Detection(kind, (x / zoom, y / zoom, side / zoom), sure)
            for kind, (x, y, side), sure in _one_per_face(found)
        ]

    def _upright(self, grey: np.ndarray, smallest: int) -> list[Detection]:
        if found := [Detection("frontal", *face) for face in self._search(self.frontal, grey, smallest)]:
            return found
        found = [Detection("left", *face) for face in self._search(self.profile, grey, smallest)]
        mirrored = self._search(self.profile, np.ascontiguousarray(grey[:, ::-1]), smallest)
        return found + [
            Detection("right", (grey.shape[1] - x - side, y, side), sure) for (x, y, side), sure in mirrored
        ]

    def _turned(self, grey: np.ndarray, smallest: int, degrees: float) -> list[Detection]:
        """Faces that are upright once the image is turned; their squares have the same centre and side in the image."""
        (height, width), side = grey.shape, int(np.hypot(*grey.shape))
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
        matrix[:, 2] += (side - width) / 2, (side - height) / 2
        back, found = cv2.invertAffineTransform(matrix), []
        for kind, (x, y, size), sure in self._upright(cv2.warpAffine(grey, matrix, (side, side)), smallest):
            if sure >= SURE_WHEN_TURNED:
                left, top = back @ (x + size / 2, y + size / 2, 1) - size / 2
                found.append(Detection(f"{kind}{degrees:+}", (left, top, size), sure))
        return found

    def _search(self, cascade: cv2.CascadeClassifier, grey: np.ndarray, smallest: int) -> list[tuple[Square, int]]:
        if min(grey.shape) < smallest:
            return []
        faces, windows = cascade.detectMultiScale2(grey, scaleFactor=1.1, minNeighbors=5, minSize=(smallest, smallest))
        found = [((int(x), int(y), int(width)), int(n)) for (x, y, width, _), n in zip(faces, windows, strict=True)]
        return [(square, sure) for square, sure in found if sure >= self.least]


class YuNetDetector(Detector):
    """`cv2.FaceDetectorYN` with your own ONNX file of a YuNet.

    Its own squares lie around its boxes, as wide as a box's longer side.  Their relation to the published boxes was not
    measured: they are used unchanged.  `tests/measurements/detector_boxes.py --detector-model` measures it.  The
    confidence is the network's score, 0 to 1.

    Args:
        least: the least confidence of a face.

    Raises:
        InputError: a file that is missing or that OpenCV cannot load.
    """

    def __init__(self, model_file: str | Path, least: float = SURE) -> None:
        if not Path(model_file).is_file():
            raise InputError(f"{model_file}: no such file; --detector-model takes the ONNX file of a YuNet")
        try:
            self.detector = cv2.FaceDetectorYN.create(str(model_file), "", (320, 320), least)
        except (cv2.error, AttributeError) as error:
            raise InputError(f"{model_file}: OpenCV cannot load it as a YuNet face detector: {error}") from error

    def squares(self, image: np.ndarray) -> list[Detection]:
        """The squares around the network's boxes, one per face."""
        small, zoom = _shrunk(image)
        self.detector.setInputSize(small.shape[1::-1])
        faces = self.detector.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
        faces = () if faces is None else faces
        return [Detection("yunet", _square_around(*face[:4] / zoom), float(face[14])) for face in faces]


def _cascade(name: str) -> cv2.CascadeClassifier:
    folder = getattr(getattr(cv2, "data", None), "haarcascades", "")
    file = Path(folder, f"haarcascade_{name}.xml")
    if not folder or not hasattr(cv2, "CascadeClassifier") or not file.is_file():
        raise InputError(
            f"OpenCV {cv2.__version__} has no Haar cascade {file.name}: install opencv-python 4.x, give the box with "
            "--box or --boxes, or use --detector yunet"
        )
    return cv2.CascadeClassifier(str(file))


def _shrunk(image: np.ndarray) -> tuple[np.ndarray, float]:
    """An image of at most LONGEST_SIDE pixels, and its scale."""
    zoom = min(1.0, LONGEST_SIDE / max(image.shape[:2]))
    if zoom == 1:
        return image, 1.0
    columns, rows = (max(1, round(side * zoom)) for side in image.shape[1::-1])
    return cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA), zoom


def _square_around(x: float, y: float, width: float, height: float) -> Square:
    side = max(width, height)
    return x + (width - side) / 2, y + (height - side) / 2, side


def _one_per_face(found: list[Detection]) -> list[Detection]:
    """The largest of the squares on each face."""
    kept: list[Detection] = []
    for face in sorted(found, key=lambda face: -face.square[2]):
        if all(overlap(face.square, other.square) < SAME_FACE for other in kept):
            kept.append(face)
    return kept


def overlap(first: Square, second: Square) -> float:
    """Intersection over union of two squares (x, y, side), or of two boxes (row, column, size)."""
    (x0, y0, side0), (x1, y1, side1) = first, second
    across = min(x0 + side0, x1 + side1) - max(x0, x1)
    along = min(y0 + side0, y1 + side1) - max(y0, y1)
    common = max(0, across) * max(0, along)
    return common / (side0**2 + side1**2 - common)

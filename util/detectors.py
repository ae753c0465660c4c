"""Face detectors, and from a detector's box to the box that the network is shown.

A detector is called with an RGB image (h, w, 3) uint8 and answers with a list of square boxes (row, column, size) in
pixels, the largest first.  A detector's own box is not the box of the published lists; which part of the image the
network sees decides its answer, so a `BoxMapping` leads from one to the other.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from util.errors import InputError

LONGEST_SIDE = 1000  # pixels; larger pictures are searched in a copy of this size: searching costs time per pixel
SMALLEST_FACE = 0.1  # of the picture's shorter side; what was searched for when the mappings were measured
SAME_FACE = 0.25  # intersection over union from which two boxes count as the same face


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
        InputError: an OpenCV without cascades (5.0 has none).
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
        InputError: a file that is missing or that OpenCV cannot load.
    """

    def __init__(self, model_file, score=0.7):
        if not Path(model_file).is_file():
            raise InputError(f"{model_file}: no such file; --detector-model takes the ONNX file of a YuNet")
        try:
            self.detector = cv2.FaceDetectorYN.create(str(model_file), "", (320, 320), score)
        except (cv2.error, AttributeError) as error:
            raise InputError(f"{model_file}: OpenCV cannot load it as a YuNet face detector: {error}") from error

    def __call__(self, picture):
        zoom = min(1.0, LONGEST_SIDE / max(picture.shape[:2]))
        small = cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA) if zoom < 1 else picture
        self.detector.setInputSize(small.shape[1::-1])
        faces = self.detector.detect(np.ascontiguousarray(small[..., ::-1]))[1]
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
        raise InputError(
            f"OpenCV {cv2.__version__} has no Haar cascade {file.name}: install opencv-python 4.x, give the box with "
            "--box or --boxes, or use --detector yunet"
        )
    return cv2.CascadeClassifier(str(file))


def _searched(picture):
    """The equalised grey picture in which is searched, and how much smaller than the picture it is."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
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

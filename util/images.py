"""Reading images: what a file's header announces is checked before anything is decoded."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from util.errors import InputError

LARGEST_IMAGE = 200_000_000  # pixels: those of the largest phone sensors; decoding takes about 6 bytes for each
HEADERS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "AVIF", "GIF", "PPM", "JPEG2000", "SUN")  # Pillow's readers

Image.MAX_IMAGE_PIXELS = None  # the check below takes the place of Pillow's own, which refuses fewer pixels


def read_image(path: str | Path) -> np.ndarray:
    """An image as (height, width, 3) uint8 RGB.

    Raises:
        InputError: a file that cannot be read or decoded, or that announces more than LARGEST_IMAGE pixels.
    """
    try:
        content = np.fromfile(path, np.uint8)
        announced_shape(path, content)
        bgr = cv2.imdecode(content, cv2.IMREAD_COLOR)
    except OSError as error:
        raise InputError(f"{path}: the image cannot be read: {error.strerror}") from error
    except cv2.error as error:
        raise InputError(f"{path}: the image cannot be read: it is empty, or too large for OpenCV") from error
    if bgr is None:
        raise InputError(f"{path}: not an image that OpenCV can read; get the file again")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def announced_shape(path: str | Path, content: np.ndarray | None = None) -> tuple[int, int] | None:
    """Height and width in pixels by a file's header, before the turn that EXIF may ask for; None where unknown.

    Args:
        path: the file.
        content: its bytes (n,) uint8, where they have been read.

    Raises:
        InputError: more than LARGEST_IMAGE pixels.
    """
    try:
        with Image.open(path if content is None else io.BytesIO(content.tobytes()), formats=HEADERS) as image:
            width, height = image.size
    except (OSError, ValueError, ArithmeticError, LookupError):  # not an image that Pillow knows, or a broken header
        return None
    if width * height > LARGEST_IMAGE:
        size = f"{width:,} × {height:,} pixels"
        raise InputError(f"{path}: the header announces {size}; expected at most {LARGEST_IMAGE:,}: make it smaller")
    return height, width

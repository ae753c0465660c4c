"""Reading images, and finding them in folders."""

import os
from pathlib import Path

import cv2
import numpy as np

from rafa.script import InputError

SUFFIXES = (".avif", ".bmp", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
UNREAD = (".arw", ".cr2", ".cr3", ".dng", ".heic", ".heif", ".jxl", ".nef", ".psd", ".raf")  # images, but not OpenCV's


def read_image(path: str | Path) -> np.ndarray:
    """An image as (height, width, 3) uint8 RGB, turned as its EXIF says.

    Raises:
        InputError: a file that cannot be read or decoded.
    """
    try:  # `cv2.imread` does not read names with all letters on Windows
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except OSError as error:
        raise InputError(f"{path}: the image cannot be read: {error.strerror}") from error
    except cv2.error as error:
        raise InputError(f"{path}: the image cannot be read: it is empty, or too large for OpenCV") from error
    if image is None:
        mend = "convert it to JPEG or PNG" if Path(path).suffix.lower() in UNREAD else "get the file again"
        raise InputError(f"{path}: not an image that OpenCV can read; {mend}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # OpenCV 4.14's IMREAD_COLOR_RGB leaves an AVIF with alpha in BGR


def files_below(folder: str | Path) -> list[Path]:
    """The files in a folder and its subfolders, sorted; linked folders too, but for those above themselves."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place).resolve()
        folders[:] = [name for name in folders if not here.is_relative_to(Path(place, name).resolve())]
        found += [Path(place, name) for name in names]
    return sorted(found)

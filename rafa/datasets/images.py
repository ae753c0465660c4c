"""Reading images: what a file's header announces is checked before anything is decoded; finding damaged ones."""

import contextlib
import functools
import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from rafa.script import InputError

LARGEST_IMAGE = 200_000_000  # pixels: those of the largest phone sensors
SUFFIXES = (".avif", ".bmp", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
UNREAD = (".arw", ".cr2", ".cr3", ".dng", ".heic", ".heif", ".jxl", ".nef", ".psd", ".raf")  # images, but not OpenCV's
HEADERS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "AVIF", "GIF", "PPM", "JPEG2000", "SUN")  # Pillow's readers

Image.MAX_IMAGE_PIXELS = None  # the check below takes the place of Pillow's own, which refuses fewer pixels


def read_image(path: str | Path) -> np.ndarray:
    """An image as (height, width, 3) uint8 RGB.

    Raises:
        InputError: a file that cannot be read or decoded, or that announces more than LARGEST_IMAGE pixels.
    """
    return cv2.cvtColor(_decoded(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _decoded(path: str | Path, form: int) -> np.ndarray:
    try:
        content = np.fromfile(path, np.uint8)
        announced_shape(path, content)
        pixels = cv2.imdecode(content, form)
    except OSError as error:
        raise InputError(f"{path}: the image cannot be read: {error.strerror}") from error
    except cv2.error as error:
        raise InputError(f"{path}: the image cannot be read: it is empty, or too large for OpenCV") from error
    if pixels is None:
        mend = "convert it to JPEG or PNG" if Path(path).suffix.lower() in UNREAD else "get the file again"
        raise InputError(f"{path}: not an image that OpenCV can read; {mend}")
    return pixels


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


def frames_in(path: str | Path) -> int:
    """How many frames or pages an image has, of which only the first is read; 1 where that is not known."""
    try:
        with Image.open(path, formats=HEADERS) as image:
            return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # phones' MPO: one image and its depth
    except (OSError, ValueError, ArithmeticError, LookupError):
        return 1


def files_below(folder: str | Path) -> list[Path]:
    """What lies in a folder and its subfolders, but folders: sorted; linked folders are searched too, each once."""
    searched, found = set[str](), list[Path]()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in searched:
            folders.clear()
            continue
        searched.add(real)
        folders.sort()
        found += [path for name in names if (path := Path(place, name)).is_file() or path.is_symlink()]
    return sorted(found)


# --- Damaged images ---------------------------------------------------------------------------------------------------
# Where a decoder meets impossible data it goes on with wrong pixels, prints a warning that names no file, and OpenCV
# tells nobody.  A flipped bit that leaves possible data cannot be seen at all in a JPEG: of 800 single flipped bits in
# photographs 164 gave a warning, 6 an unreadable file, and 619 other pixels without a word.
_TOGETHER = 512  # images decoded before it is looked whether anything was printed


def decode_all(paths: Iterable[Path], workers: int = 8) -> tuple[dict[Path, str], dict[Path, str]]:
    """Decode images to find those that cannot be read and those whose decoder warns: {path: what was said} for each.

    They are decoded at an eighth of their size, which reads the whole of a JPEG in a sixth of the time.
    """
    unreadable: dict[Path, str] = {}
    warned: dict[Path, str] = {}
    paths = iter(paths)
    with ThreadPoolExecutor(workers) as pool:
        while group := list(islice(paths, _TOGETHER)):
            with decoder_messages() as printed:
                errors = list(pool.map(_reading_error, group))
            unreadable |= {path: error for path, error in zip(group, errors, strict=True) if error}
            for path in group if printed else ():  # one of them, or several: again, one by one
                with decoder_messages() as alone:
                    _reading_error(path)
                if alone and path not in unreadable:
                    warned[path] = "; ".join(dict.fromkeys(alone))
    return unreadable, warned


def _reading_error(path: Path) -> str:
    try:
        _decoded(path, cv2.IMREAD_REDUCED_GRAYSCALE_8)
    except InputError as error:
        return str(error).removeprefix(f"{path}: ")
    return ""


@contextlib.contextmanager
def decoder_messages() -> Iterator[list[str]]:
    """Collect the lines that libraries print on the standard error in the block; the list is full at its end."""
    lines: list[str] = []
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            lines += file.read().decode(errors="replace").splitlines()


@functools.cache
def warnings_are_seen() -> bool:
    """Whether a decoder's warning reaches `decoder_messages` on this system, tried on a JPEG with a gap."""
    whole = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))[1].ravel()
    with decoder_messages() as printed:
        cv2.imdecode(np.concatenate([whole[:-200], whole[-2:]]), cv2.IMREAD_COLOR)
    return bool(printed)

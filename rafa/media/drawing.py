"""Draws on images: poses, boxes and text.

Arrays in, a new array out.  Throughout:

- image: (rows, columns, 3) RGB uint8, never changed in place;
- angles: (3,) yaw, pitch, roll in radians, in the signs of the lists (see `data_loaders`);
- centre: (2,) x (to the right), y (down) in pixels; whole numbers are the middles of pixels;
- box: (3,) row, column, size in pixels, as in the lists; it may reach beyond the image.

Each axis of the head has the colour of the angle that turns the head about it.  This keeps the usual order of head-pose
drawings (red to the right, green down, blue along the nose), with orange for red.
"""

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from rafa.files import written_whole
from rafa.pose import AXES, AXIS_COLOURS, BLACK, WHITE, YELLOW, Colour, rotation_matrix
from rafa.script import InputError

STYLES = ("axes", "cube", "both")
TURNED_BY = ("pitch", "yaw", "roll")  # the angle that turns the head about column 0, 1, 2 of the rotation matrix
SMALLEST_LETTERS = 6  # pixels: smaller ones cannot be read and are not written
_SHIFT = 4  # cv2 draws in sixteenths of a pixel

Words = Sequence[tuple[str, Colour]]  # a row of text


# --- Poses ------------------------------------------------------------------------------------------------------------
def axis_points(angles: ArrayLike, centre: ArrayLike, length: float) -> np.ndarray:
    """(3, 2) x, y in pixels: the ends of the head's axes to the right, down to the chin and along the nose.

    Orthographic projection of axes that start at `centre`; one parallel to the image plane is `length` pixels long.
    """
    return np.add(centre, length * rotation_matrix(angles)[:2].T)


def draw_axes(
    image: np.ndarray, angles: ArrayLike, centre: ArrayLike, length: float, colour: Colour | None = None
) -> np.ndarray:
    """Draw the head's axes of `axis_points`, the one nearest to the viewer last; the nose ends in a disc.

    Args:
        colour: of all three axes, to tell a second pose (the target, say) from the first.
    """
    canvas, ends, width = np.array(image, order="C"), axis_points(angles, centre, length), _line_width(length)
    for axis in np.argsort(rotation_matrix(angles)[2]):
        shade = colour or AXIS_COLOURS[TURNED_BY[axis]]
        _line(canvas, centre, ends[axis], shade, width)
        if TURNED_BY[axis] == "roll":  # seen from the front, the nose axis is a point: the disc marks it
            _line(canvas, ends[axis], ends[axis], shade, 3 * width + 2)
    return canvas


def draw_cube(image: np.ndarray, angles: ArrayLike, centre: ArrayLike, size: float) -> np.ndarray:
    """Draw a cube with edges of `size` pixels that turns with the head: hidden edges thin, the front face filled.

    The fill is fainter where the head looks away from the viewer, so that its front face lies behind.
    """
    axes, depth = axis_points(angles, (0, 0), size), rotation_matrix(angles)[2]  # depth: towards the viewer
    grid = np.stack(np.meshgrid(*[(-0.5, 0.5)] * 3, indexing="ij"), axis=-1)  # (2, 2, 2, 3) right, down, nose
    corners, canvas = np.add(centre, grid @ axes), np.array(image, order="C")
    visible, width = [], _line_width(size / 2)
    for axis, first, second in itertools.product(range(3), (0, 1), (0, 1)):
        start, end = (corners[tuple(np.insert((first, second), axis, side))] for side in (0, 1))
        towards = np.delete(depth, axis) * (2 * first - 1, 2 * second - 1)  # of the two faces that meet in this edge
        if (towards > 0).any():
            visible.append((start, end, AXIS_COLOURS[TURNED_BY[axis]], width))
        else:
            _line(canvas, start, end, AXIS_COLOURS[TURNED_BY[axis]], width // 2, cased=False)
    filled, strength = canvas.copy(), 0.4 if depth[2] > 0 else 0.15
    cv2.fillPoly(filled, [_fixed(corners[(0, 1, 1, 0), (0, 0, 1, 1), 1])], YELLOW, cv2.LINE_AA, _SHIFT)
    canvas = cv2.addWeighted(filled, strength, canvas, 1 - strength, 0)
    for line in visible:
        _line(canvas, *line)
    return canvas


def draw_box(image: np.ndarray, box: Sequence[float], colour: Colour = YELLOW) -> np.ndarray:
    """Draw a box along its outermost pixels, with a casing; no anti-aliasing, which would blur upright lines."""
    canvas, (row, column, size) = np.array(image, order="C"), box
    first, last = _fixed((column, row)).tolist(), _fixed((column + size - 1, row + size - 1)).tolist()
    width = max(1, _line_width(size / 2) // 2)
    for shade, wide in ((_casing(colour), width + 2), (colour, width)):
        cv2.rectangle(canvas, first, last, shade, wide, cv2.LINE_8, _SHIFT)
    return canvas


def draw_pose(image: np.ndarray, box: Sequence[float], angles: ArrayLike, style: str = "axes") -> np.ndarray:
    """Draw a head's box, its pose in one of STYLES, and above the box its angles in degrees."""
    canvas, (row, column, size) = draw_box(image, box, WHITE), box
    centre = (column + (size - 1) / 2, row + (size - 1) / 2)
    if style in ("cube", "both"):
        canvas = draw_cube(canvas, angles, centre, 0.6 * size)
    if style in ("axes", "both"):
        canvas = draw_axes(canvas, angles, centre, 0.6 * size)
    degrees = zip(AXES, np.degrees(angles), strict=True)
    words = [(f"{axis} {angle:+.1f}°", AXIS_COLOURS[axis]) for axis, angle in degrees]
    return write_words(canvas, words, (column, row), _letter_size(canvas, size))


def _line_width(length: float) -> int:
    return round(float(length) / 35)  # 0 is a hairline: the drawing is too small for casings


def _fixed(points: ArrayLike) -> np.ndarray:
    """Pixels as the fixed-point integers of cv2, kept within what its 32 bits can hold."""
    return np.clip(np.round(np.asarray(points, float) * 2**_SHIFT), -(2**28), 2**28).astype(np.int32)


def _line(canvas: np.ndarray, start: ArrayLike, end: ArrayLike, colour: Colour, width: int, cased: bool = True) -> None:
    """Draw a line in place, with a casing that sets it off from any background."""
    strokes = [(_casing(colour), width + 2)] if cased and width else []
    for shade, wide in (*strokes, (colour, max(1, width))):
        cv2.line(canvas, _fixed(start).tolist(), _fixed(end).tolist(), shade, wide, cv2.LINE_AA, _SHIFT)


def _casing(colour: Colour) -> Colour:
    return BLACK if sum(colour) > 450 else WHITE


# --- Text -------------------------------------------------------------------------------------------------------------
@functools.lru_cache(maxsize=256)
def letters(size: int, bold: bool = True) -> ImageFont.FreeTypeFont:
    """DejaVu Sans of so many pixels, which comes with matplotlib and has degree signs, accents and arrows."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), size)


def _letter_size(canvas: np.ndarray, box_size: float) -> int:
    """Pixels: follows the box, but can be read when the whole image is seen on a screen."""
    smallest = max(13.0, 0.015 * max(canvas.shape[:2]))
    return round(np.clip(0.075 * box_size, smallest, max(smallest, 0.045 * min(canvas.shape[:2]))))


def write_words(canvas: np.ndarray, words: Words, corner: ArrayLike, size: int) -> np.ndarray:
    """Write words above `corner` (x, y), moved into the image; in a column, and smaller, where they do not fit.

    Args:
        size: of the letters, in pixels; below SMALLEST_LETTERS nothing is written.
    """
    rows = [words] if _row_width(words, size) <= canvas.shape[1] else [[word] for word in words]
    while max(_row_width(row, size) for row in rows) > canvas.shape[1] or 1.3 * size * len(rows) > len(canvas):
        size -= 1
        if size < SMALLEST_LETTERS:
            return canvas
    limits = canvas.shape[1] - max(_row_width(row, size) for row in rows), len(canvas) - 1.3 * size * len(rows)
    left, top = np.clip(np.asarray(corner) - (0, 1.3 * size * len(rows)), 0, limits)
    image = Image.fromarray(canvas)
    for outline in (round(0.15 * size), 0):  # every outline first: none may cut into its neighbour's letters
        for number, row in enumerate(rows):
            x = left + 0.4 * size
            for text, colour in row:
                place, font = (x, top + 1.3 * size * number + size), letters(size)
                ImageDraw.Draw(image).text(place, text, WHITE if outline else colour, font, "ls", stroke_width=outline)
                x += font.getlength(text) + 0.8 * size
    return np.array(image)


def _row_width(words: Words, size: int) -> float:
    """Pixels across, with 0.8 letter sizes between the words and 0.4 on each side."""
    return sum(letters(size).getlength(text) + 0.8 * size for text, _ in words)


# --- Files ------------------------------------------------------------------------------------------------------------
def save_image(image: np.ndarray, path: str | Path) -> None:
    """Write an image in the format of the path's suffix, whole or not at all.

    Raises:
        InputError: OpenCV cannot write such a file.
    """
    try:
        encoded = cv2.imencode(Path(path).suffix, image[..., ::-1])[1]
    except cv2.error as error:
        raise InputError(f"{path}: OpenCV cannot write this image; expected a name as of .png or .jpg") from error
    with written_whole(path) as unfinished:
        unfinished.write_bytes(encoded.tobytes())

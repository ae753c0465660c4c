"""Draws on images: poses, heat maps, and sheets of several images.

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
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from data_loaders import AXES, Listed, crop, image_path, read_image, rotation_matrix
from util.colours import AXIS_COLOURS, BLACK, WHITE, YELLOW, Colour
from util.errors import InputError
from util.provenance import written_whole
from util.tables import heading

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
        colour: of all three axes, to tell a second pose (the true one, say) from the first.
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
    """Draw a box along its outermost pixels."""
    canvas, (row, column, size) = np.array(image, order="C"), box
    ends = (column, row), (column + size - 1, row + size - 1)
    _rectangle(canvas, *ends, colour, max(1, _line_width(size / 2) // 2))
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
    return _write(canvas, words, (column, row), _letter_size(canvas, size))


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


def _rectangle(canvas: np.ndarray, start: ArrayLike, end: ArrayLike, colour: Colour, width: int) -> None:
    """Draw an upright rectangle in place, with a casing; no anti-aliasing, which would blur upright lines."""
    for shade, wide in ((_casing(colour), width + 2), (colour, width)):
        cv2.rectangle(canvas, _fixed(start).tolist(), _fixed(end).tolist(), shade, wide, cv2.LINE_8, _SHIFT)


def _casing(colour: Colour) -> Colour:
    return BLACK if sum(colour) > 450 else WHITE


# --- Text -------------------------------------------------------------------------------------------------------------
@functools.lru_cache(maxsize=256)
def _font(size: int, style: str = "-Bold") -> ImageFont.FreeTypeFont:
    """DejaVu Sans of so many pixels, which comes with matplotlib and has degree signs, accents and arrows."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", f"DejaVuSans{style}.ttf"), size)


def _letter_size(canvas: np.ndarray, box_size: float) -> int:
    """Pixels: follows the box, but can be read when the whole image is seen on a screen."""
    smallest = max(13.0, 0.015 * max(canvas.shape[:2]))
    return round(np.clip(0.075 * box_size, smallest, max(smallest, 0.045 * min(canvas.shape[:2]))))


def _write(canvas: np.ndarray, words: Words, corner: ArrayLike, size: int) -> np.ndarray:
    """Write words above `corner` (x, y), moved into the image; in a column, and smaller, where they do not fit."""
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
                place, font = (x, top + 1.3 * size * number + size), _font(size)
                ImageDraw.Draw(image).text(place, text, WHITE if outline else colour, font, "ls", stroke_width=outline)
                x += font.getlength(text) + 0.8 * size
    return np.array(image)


def _row_width(words: Words, size: int) -> float:
    """Pixels across, with 0.8 letter sizes between the words and 0.4 on each side."""
    return sum(_font(size).getlength(text) + 0.8 * size for text, _ in words)


# --- Maps -------------------------------------------------------------------------------------------------------------
HEAT_SHARE = 0.5  # how much of a map's colour replaces the image


def overlay_heat(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lay a heat map, (any, any) in [0, 1], over the whole of an image; a constant map is drawn as nothing hot."""
    rows, columns = image.shape[:2]
    heat = heat.astype(float) if np.ptp(heat) > 0 else np.zeros(heat.shape)
    heat = cv2.resize(heat, (columns, rows), interpolation=cv2.INTER_CUBIC)
    levels = np.clip(heat * 255, 0, 255).round().astype(np.uint8)  # cubic interpolation overshoots
    coloured = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1]  # even in lightness, colour-blind safe
    return cv2.addWeighted(coloured, HEAT_SHARE, image, 1 - HEAT_SHARE, 0)


def region_heat(weights: ArrayLike, boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Spread each region's weight evenly over its area and add the regions up.

    Args:
        weights: (n,), none below 0.
        boxes: (n, 4) row0, column0, row1, column1 as fractions of the crop.
        shape: (rows, columns) of the result.

    Returns:
        Weight per unit of the crop's area: the mean is the sum of the weights.
    """
    edges = [np.arange(count + 1) / count for count in shape]
    # (n, cells): the part of each row and each column of cells that lies in each region
    down, across = (np.diff(np.clip(edges[k], boxes[:, [k]], boxes[:, [k + 2]])) * shape[k] for k in (0, 1))
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return np.einsum("n,nr,nc->rc", weights / areas, down, across, optimize=True)


def overlay_regions(image: np.ndarray, weights: ArrayLike, boxes: np.ndarray) -> np.ndarray:
    """Lay the weights of regions (see `region_heat`) over an image, stretched from the lowest to the highest."""
    return overlay_heat(image, _stretched(region_heat(weights, boxes, image.shape[:2])))


def overlay_attention(image: np.ndarray, weights: np.ndarray, cell: int | None = None) -> np.ndarray:
    """Lay one row of a self-attention matrix, or a mean of rows, over an image, stretched as in `overlay_regions`.

    Args:
        weights: (n·n,) over the cells of the n × n map, row by row (49 for 7 × 7).
        cell: the one whose row it is, to be marked.
    """
    side = round(len(weights) ** 0.5)
    canvas = overlay_heat(image, _stretched(weights.reshape(side, side)))
    if cell is not None:
        scale = np.array(canvas.shape[1::-1]) / side
        corner = np.array(divmod(cell, side)[::-1]) * scale
        _rectangle(canvas, corner, corner + scale - 1, AXIS_COLOURS["yaw"], max(1, round(scale.min() / 16)))
    return canvas


def _stretched(heat: np.ndarray) -> np.ndarray:
    """A map from 0 to 1; all 0 where its range is below a thousandth of its maximum: nothing stands out."""
    heat = heat.astype(float)
    span = np.ptp(heat)
    return (heat - heat.min()) / span if span > 1e-3 * heat.max() else np.zeros(heat.shape)


# --- Sheets of images -------------------------------------------------------------------------------------------------
def panel(
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    columns: int,
    *,
    title: str = "",
    footnote: str = "",
    tile: int = 280,
    below: bool = False,
) -> np.ndarray:
    """A grid of images, the longer side of each scaled to `tile` pixels, with its title above it or `below` it."""
    images, columns = [_fitted(image, tile) for image in images], min(columns, len(images))
    gap, line, small, large = 16, 17, _font(13, ""), _font(17, "")
    high, wide = max(map(len, images)), columns * (tile + gap) + gap
    texts = [_wrapped(text, tile, small) for text in titles]
    head, foot = _wrapped(title, wide - 2 * gap, large), _wrapped(footnote, wide - 2 * gap, small)
    room = line * max(map(len, texts)) + 8
    top, step = gap + 24 * len(head), room + high + gap
    bottom = top + -(-len(images) // columns) * step
    sheet = Image.new("RGB", (wide, bottom + (line * len(foot) + gap if foot else 0)), WHITE)
    _paragraph(sheet, head, gap, gap // 2, large, 24, "la")
    _paragraph(sheet, foot, gap, bottom, small, line, "la")
    for number, (image, lines) in enumerate(zip(images, texts, strict=True)):
        x, y = gap + number % columns * (tile + gap), top + number // columns * step
        place = x + (tile - image.shape[1]) // 2, y + (high - len(image)) // 2 + (0 if below else room)
        sheet.paste(Image.fromarray(image), place)
        y += high + 4 if below else room - 4 - line * len(lines)
        _paragraph(sheet, lines, x + tile // 2, y, small, line, "ma")
    return np.array(sheet)


def _fitted(image: np.ndarray, tile: int) -> np.ndarray:
    scale = tile / max(image.shape[:2])
    columns, rows = (max(1, round(side * scale)) for side in image.shape[1::-1])
    return cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _wrapped(text: str, pixels: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """The lines of a text, none wider than so many pixels if that is possible."""
    lines: list[str] = []
    for width in range(max(len(text), 1), 0, -1):
        lines = [part for line in text.splitlines() for part in textwrap.wrap(line, width) or [""]]
        if max(map(font.getlength, lines), default=0) <= pixels:
            break
    return lines


def _paragraph(
    sheet: Image.Image, lines: Sequence[str], x: int, y: int, font: ImageFont.FreeTypeFont, line: int, anchor: str
) -> None:
    for number, text in enumerate(lines):
        ImageDraw.Draw(sheet).text((x, y + number * line), text, BLACK, font, anchor)


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


# --- The worst images of a result -------------------------------------------------------------------------------------
WORST_NOTE = (
    "Each tile: the box of the list (yellow) with half its size around it; black lies outside the image. Predicted "
    "pose in colours (orange: the head's axis to the right of the image, green: down to the chin, blue: along the "
    "nose), true pose in white; the nose ends in a disc. Below: mean error of the three angles; each angle in degrees, "
    "true → predicted."
)
WORST_TILE = 280  # pixels


def draw_worst(path: str | Path, listed: Listed, result: Mapping[str, Any]) -> None:
    """Write the contact sheet of a result's worst images, with box, true pose and predicted pose drawn on each."""
    record_of = {record["path"]: record for record in listed.records}
    tiles, captions = [], []
    for row in result["worst"]:
        record = record_of[row["path"]]
        tiles.append(pose_tile(read_image(image_path(listed, record)), record, row))
        pairs = zip(AXES, row["true"], row["predicted"], strict=True)
        angles = [f"{axis} {true:+.0f} → {predicted:+.0f}" for axis, true, predicted in pairs]
        captions.append("\n".join(["/".join(Path(row["path"]).parts[-2:]), f"mean error {row['mae']:.1f}°", *angles]))
    title = f"{heading(result['card'])}: the {len(tiles)} images with the largest mean error of the three angles"
    save_image(panel(tiles, captions, 5, title=title, footnote=WORST_NOTE, tile=WORST_TILE, below=True), path)


def pose_tile(image: np.ndarray, record: Mapping[str, Any], row: Mapping[str, Any]) -> np.ndarray:
    """A box and its surroundings, the true pose in white and the predicted one in colours.

    Args:
        record: `row`, `column` and `size` of the box.
        row: `true` and `predicted`, (3,) yaw, pitch, roll in degrees.

    Returns:
        (WORST_TILE, WORST_TILE, 3) RGB.
    """
    grow = int(record["size"] * 0.5)
    scale = WORST_TILE / (record["size"] + 2 * grow)
    tile = cv2.resize(crop(image, record["row"], record["column"], record["size"], 0.5), (WORST_TILE, WORST_TILE))
    tile = draw_box(tile, (grow * scale, grow * scale, record["size"] * scale))
    centre, length = (WORST_TILE / 2, WORST_TILE / 2), 0.55 * record["size"] * scale
    tile = draw_axes(tile, np.radians(row["true"]), centre, length, WHITE)
    return draw_axes(tile, np.radians(row["predicted"]), centre, 0.85 * length)

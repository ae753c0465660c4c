"""Sheets of several images: explanations of a face, the worst images of a score, heads over a grid of poses."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from data_loaders import crop
from rafa.datasets.images import read_image
from rafa.datasets.lists import Listed, image_path
from rafa.media.drawing import _font, _rectangle, draw_axes, draw_box, save_image
from rafa.media.sources import Frame
from rafa.pose import AXES, AXIS_COLOURS, BLACK, WHITE

SIDE = 7  # cells across the maps of an explanation
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


WORST_NOTE = (
    "Each tile: the box of the list (yellow) with half its size around it; black lies outside the image. Predicted "
    "pose in colours (orange: the head's axis to the right of the image, green: down to the chin, blue: along the "
    "nose), true pose in white; the nose ends in a disc. Below: mean error of the three angles; each angle in degrees, "
    "true → predicted."
)


WORST_TILE = 280  # pixels


def draw_worst(path: str | Path, listed: Listed, result: Mapping[str, Any], title: str) -> None:
    """Write the contact sheet of a result's worst images, with box, true pose and predicted pose drawn on each."""
    record_of = {record["path"]: record for record in listed.records}
    tiles, captions = [], []
    for row in result["worst"]:
        record = record_of[row["path"]]
        tiles.append(pose_tile(read_image(image_path(listed, record)), record, row))
        pairs = zip(AXES, row["true"], row["predicted"], strict=True)
        angles = [f"{axis} {true:+.0f} → {predicted:+.0f}" for axis, true, predicted in pairs]
        captions.append("\n".join(["/".join(Path(row["path"]).parts[-2:]), f"mean error {row['mae']:.1f}°", *angles]))
    title = f"{title}: the {len(tiles)} images with the largest mean error of the three angles"
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


FOOTNOTE = (
    "Grad-CAM (--cam {rule}): of the output of self-attention. Each map is stretched on its own, from its lowest value "
    "(Grad-CAM: from 0) to its highest. γ is the gate of self-attention: near 0, attention hardly changes the answer."
)


KINDS = ("gradcam", "attention", "cell", "regions")  # the rows of a panel


Tiles = dict[str, dict[str, tuple[str, np.ndarray]]]  # (title, image) by kind and axis


def explanation_tiles(
    crop: np.ndarray,
    found: Any,
    angles: np.ndarray,
    index: int = 0,
    cell: tuple[int, int] = (3, 3),
    rule: str = "local",
) -> Tiles:
    """The twelve overlays of one crop.

    Args:
        crop: (224, 224, 3) RGB.
        found: the `rafa.net.explain.Explanation` of b crops.
        angles: (b, 3) their angles in radians.
        index: which of them is `crop`.
        cell: row and column of the cell of the 7 × 7 map whose attention is drawn.
        rule: of Grad-CAM, one of RULES.
    """
    asks, boxes = cell[0] * SIDE + cell[1], found.region_boxes
    tiles: Tiles = {kind: {} for kind in KINDS}
    for letter, axis, angle in zip("abc", AXES, np.degrees(angles[index]), strict=True):
        attention, heat = found.attention[axis][index], found.cam(axis, rule)[index]
        overlay = overlay_heat(crop, heat / max(heat.max(), np.finfo(heat.dtype).tiny))
        tiles["gradcam"][axis] = f"({letter}) {axis} {angle:+.1f}°: Grad-CAM", overlay
        average = overlay_attention(crop, attention.mean(axis=0))
        tiles["attention"][axis] = f"{axis}: attention, mean of all cells, γ {found.gates[axis]:+.3f}", average
        chosen = overlay_attention(crop, attention[asks], asks)
        tiles["cell"][axis] = f"{axis}: attention of the marked cell {cell[0]}, {cell[1]}", chosen
        regions = overlay_regions(crop, found.regions[axis][index], boxes)
        tiles["regions"][axis] = f"{axis}: weights of the 35 regions", regions
    return tiles


class Explanations:
    """Writes a panel for every face into a folder, and with `singles` each of its images as a file too.

    Subfolders follow `Source.copy`; for `cell` and `rule` see `explanation_tiles`.
    """

    def __init__(
        self,
        explain: Callable[[np.ndarray], Any],
        folder: str | Path,
        cell: tuple[int, int] = (3, 3),
        rule: str = "local",
        singles: bool = False,
    ) -> None:
        self.explain, self.folder, self.singles = explain, Path(folder), singles
        self.cell, self.rule = cell, rule

    def write(self, frame: Frame) -> None:
        """Explain the faces of a frame, whose angles have been predicted."""
        copy, at = frame.source.copy, "" if frame.number is None else f"-frame{frame.number:06d}"
        name = Path(frame.source.path).name + ("" if frame.number is None else f", frame {frame.number}")
        for face in frame.faces:
            found = self.explain(face.crop[None])
            tiles = explanation_tiles(face.crop, found, face.angles[None], 0, self.cell, self.rule)
            target = self.folder / copy.with_name(
                f"{copy.stem}{copy.suffix.replace('.', '-')}{at}-face{face.number}.png"
            )
            titles, images = zip(*(tile for row in tiles.values() for tile in row.values()), strict=True)
            title, footnote = f"{name}, face {face.number}", FOOTNOTE.format(rule=self.rule)
            sheet = panel(images, titles, len(AXES), title=title, footnote=footnote)
            save_image(sheet, target)
            if self.singles:
                for kind, row in tiles.items():
                    for axis, (_, image) in row.items():
                        save_image(image, target.with_stem(f"{target.stem}-{kind}-{axis}"))

"""Sheets of several images: explanations of a face, the worst images of a score, heads over a grid of poses.

Images and angles as in `rafa.media.drawing`; an `Explanation` comes from `rafa.net.explain`.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont, ImageOps

from data_loaders import crop
from rafa.datasets.images import read_image
from rafa.datasets.lists import Listed, image_path
from rafa.media.drawing import draw_axes, draw_box, letters, save_image
from rafa.media.sources import Frame
from rafa.pose import AXES, BLACK, WHITE

HEAT_SHARE = 0.5  # how much of a map's colour replaces the image
GAP, LINE, TITLE_LINE = 16, 17, 20  # pixels: between the images of a sheet, Pillow's lines of small and large text
WORST_TILE = 280  # pixels

WORST_NOTE = (
    "Each tile: the box of the list (yellow) with half its size around it; black lies outside the image. Predicted "
    "pose in colours (orange: the head's axis to the right of the image, green: down to the chin, blue: along the "
    "nose), target pose in white; the nose ends in a disc. Below: mean error of the three angles; each angle in "
    "degrees, target → predicted."
)
EXPLANATION_NOTE = (
    "Grad-CAM (--cam {rule}): of the output of self-attention. Each map is stretched on its own, from its lowest value "
    "(Grad-CAM: from 0) to its highest. γ is the gate of self-attention: near 0, attention hardly changes the answer. "
    "Maps and angles are of this crop; of several views, the answer is the mean."
)

Tile = tuple[str, np.ndarray]  # title, image


# --- Heat maps --------------------------------------------------------------------------------------------------------
def overlay_heat(image: np.ndarray, heat: np.ndarray, lowest: float = 0.0) -> np.ndarray:
    """Lay a map, (any, any), none below 0, over the whole of an image, stretched from `lowest` to its highest value.

    Where that is a range of less than a thousandth of the highest value, nothing stands out and nothing is hot.
    """
    rows, columns = image.shape[:2]
    span = heat.max() - lowest
    heat = (heat.astype(float) - lowest) / span if span > 1e-3 * heat.max() else np.zeros(heat.shape)
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


# --- Sheets -----------------------------------------------------------------------------------------------------------
def panel(
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    columns: int,
    *,
    title: str = "",
    footnote: str = "",
    tile: int = WORST_TILE,
    below: bool = False,
) -> np.ndarray:
    """A grid of images, the longer side of each scaled to `tile` pixels, with its title above it or `below` it."""
    scaled = [ImageOps.contain(Image.fromarray(image), (tile, tile)) for image in images]
    columns = min(columns, len(images))
    small, large = letters(13, bold=False), letters(17, bold=False)
    high, wide = max(image.height for image in scaled), columns * (tile + GAP) + GAP
    texts = [_wrapped(text, tile, small) for text in titles]
    head, foot = _wrapped(title, wide - 2 * GAP, large), _wrapped(footnote, wide - 2 * GAP, small)
    room = LINE * max(map(len, texts)) + 8
    top, step = GAP + TITLE_LINE * len(head), room + high + GAP
    bottom = top + -(-len(images) // columns) * step
    sheet = Image.new("RGB", (wide, bottom + (LINE * len(foot) + GAP if foot else 0)), WHITE)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP // 2), "\n".join(head), BLACK, large)
    draw.text((GAP, bottom), "\n".join(foot), BLACK, small)
    for number, (image, lines) in enumerate(zip(scaled, texts, strict=True)):
        x, y = GAP + number % columns * (tile + GAP), top + number // columns * step
        sheet.paste(image, (x + (tile - image.width) // 2, y + (high - image.height) // 2 + (0 if below else room)))
        y += high + 4 if below else room - 4 - LINE * len(lines)
        draw.text((x + tile // 2, y), "\n".join(lines), BLACK, small, "ma", align="center")
    return np.array(sheet)


def _wrapped(text: str, pixels: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """The lines of a text, none wider than so many pixels if that is possible."""
    lines: list[str] = []
    for width in range(max(len(text), 1), 0, -1):
        lines = [part for line in text.splitlines() for part in textwrap.wrap(line, width) or [""]]
        if max(map(font.getlength, lines), default=0) <= pixels:
            break
    return lines


# --- The worst images of a score --------------------------------------------------------------------------------------
def draw_worst(path: str | Path, listed: Listed, result: Mapping[str, Any], title: str) -> None:
    """Write the contact sheet of a result's worst images, with box, target pose and predicted pose drawn on each."""
    record_of = {record["path"]: record for record in listed.records}
    tiles, captions = [], []
    for row in result["worst"]:
        record = record_of[row["path"]]
        tiles.append(pose_tile(read_image(image_path(listed, record)), record, row))
        pairs = zip(AXES, row["true"], row["predicted"], strict=True)
        angles = [f"{axis} {target:+.0f} → {predicted:+.0f}" for axis, target, predicted in pairs]
        captions.append("\n".join(["/".join(Path(row["path"]).parts[-2:]), f"mean error {row['mae']:.1f}°", *angles]))
    title = f"{title}: the {len(tiles)} images with the largest mean error of the three angles"
    save_image(panel(tiles, captions, 5, title=title, footnote=WORST_NOTE, tile=WORST_TILE, below=True), path)


def pose_tile(image: np.ndarray, record: Mapping[str, Any], row: Mapping[str, Any]) -> np.ndarray:
    """A box and its surroundings, the target pose in white and the predicted one in colours.

    Args:
        record: `row`, `column` and `size` of the box.
        row: `true` (the target) and `predicted`, (3,) yaw, pitch, roll in degrees.

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


# --- Explanations -----------------------------------------------------------------------------------------------------
def explanation_tiles(
    crop: np.ndarray, explanation: Any, index: int = 0, rule: str = "local"
) -> dict[str, dict[str, Tile]]:
    """The nine overlays of one crop, by kind ("gradcam", "attention", "regions") and axis.

    Args:
        crop: (224, 224, 3) RGB.
        explanation: the `rafa.net.explain.Explanation` of b crops.
        index: which of them is `crop`.
        rule: of Grad-CAM, one of `rafa.net.explain.RULES`.
    """
    tiles: dict[str, dict[str, Tile]] = {"gradcam": {}, "attention": {}, "regions": {}}
    for letter, axis in zip("abc", AXES, strict=True):
        heat, angle = explanation.cam(axis, rule)[index], np.degrees(explanation.angles[axis][index])
        tiles["gradcam"][axis] = f"({letter}) {axis} {angle:+.1f}°: Grad-CAM", overlay_heat(crop, heat)
        attention = explanation.attention[axis][index].mean(axis=0).reshape(heat.shape)  # where the cells look
        overlay = overlay_heat(crop, attention, attention.min())
        tiles["attention"][axis] = f"{axis}: attention, mean of all cells, γ {explanation.gates[axis]:+.3f}", overlay
        regions = region_heat(explanation.regions[axis][index], explanation.region_boxes, crop.shape[:2])
        overlay = overlay_heat(crop, regions, regions.min())
        tiles["regions"][axis] = f"{axis}: weights of the {len(explanation.region_boxes)} regions", overlay
    return tiles


class Explanations:
    """Writes a panel for every face into a folder, whose subfolders follow `Source.copy`.

    Args:
        explain: gives the `rafa.net.explain.Explanation` of (b, 224, 224, 3) RGB crops.
        rule: see `explanation_tiles`.
    """

    def __init__(self, explain: Callable[[np.ndarray], Any], folder: str | Path, rule: str = "local") -> None:
        self.explain, self.folder, self.rule = explain, Path(folder), rule

    def write(self, frame: Frame) -> None:
        """Explain the answer to the crop of each face of a frame, the first of its views."""
        copy, place, title = frame.source.copy, "", Path(frame.source.path).name
        if frame.number is not None:
            place, title = f"-frame{frame.number:06d}", f"{title}, frame {frame.number}"
        for face in frame.faces:
            tiles = explanation_tiles(face.crop, self.explain(face.crop[None]), rule=self.rule)
            titles, images = zip(*(tile for row in tiles.values() for tile in row.values()), strict=True)
            note = EXPLANATION_NOTE.format(rule=self.rule)
            sheet = panel(images, titles, len(AXES), title=f"{title}, face {face.number}", footnote=note)
            name = f"{copy.stem}{copy.suffix.replace('.', '-')}{place}-face{face.number}.png"
            save_image(sheet, self.folder / copy.with_name(name))

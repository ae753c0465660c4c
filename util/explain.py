"""Where the network looks: Grad-CAM of each axis, self-attention, and the weights of the 35 pooled regions.

Grad-CAM.  The released code shows Grad-CAM images without naming their layer.  Here it is the output of each branch's
self-attention, A (7, 7, C): the last map with a spatial layout, before the maxima.  With y the angle of that axis,
there are two maps, both sums over the channels:

1. M = Σ mean(∂y/∂A) · A, with the mean over the 49 cells: Grad-CAM as published, for networks that average after A.
2. L = Σ ∂y/∂A · A, with each cell's own gradient (HiResCAM).  RAFA-Net takes maxima after A, so most of ∂y/∂A is 0, and
   M spreads the gradient of a few cells over all of them.

For an angle, negative values are evidence too, for turning the other way: the default is |L|, RULES has the others, and
`doc/explanations.md` compares them.

References: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV
2017; Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks",
2020.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_loaders import AXES
from util import figures
from util.sources import Frame

SIDE = 7  # cells across the map A
RULES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {  # a map from 0 up, of M, L and angle
    "local": lambda mean, local, angle: np.abs(local),
    "absolute": lambda mean, local, angle: np.abs(mean),
    "towards": lambda mean, local, angle: np.maximum(mean * np.sign(angle), 0),
    "positive": lambda mean, local, angle: np.maximum(mean, 0),
}
FOOTNOTE = (
    "Grad-CAM (--cam {rule}): of the output of self-attention. Each map is stretched on its own, from its lowest value "
    "(Grad-CAM: from 0) to its highest. γ is the gate of self-attention: near 0, attention hardly changes the answer."
)

KINDS = ("gradcam", "attention", "cell", "regions")  # the rows of a panel

Tiles = dict[str, dict[str, tuple[str, np.ndarray]]]  # (title, image) by kind and axis


# --- Maps of a network ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Explanation:
    """Maps of b crops; the keys of every dict are AXES.

    `mean`, `local`: (b, 7, 7) the signed maps M and L of Grad-CAM.
    `attention`: (b, 49, 49) self-attention; row i says where cell i looks and sums to 1.
    `regions`: (b, 35) the share of each region of `region_boxes` in what the last layer sees; sums to 1.
    `gates`: γ of self-attention.
    """

    mean: dict[str, np.ndarray]
    local: dict[str, np.ndarray]
    attention: dict[str, np.ndarray]
    regions: dict[str, np.ndarray]
    gates: dict[str, float]

    def cam(self, axis: str, angles: np.ndarray, rule: str = "local") -> np.ndarray:
        """(b, 7, 7) Grad-CAM by one of RULES, not negative; `angles`: (b, 3) the network's answers in radians."""
        return RULES[rule](self.mean[axis], self.local[axis], angles[:, AXES.index(axis), None, None])


class Explainer:
    """Computes the maps of a RAFA-Net, from `rafa_model.build_rafa_net` or `load_rafa_net`."""

    def __init__(self, model: Any) -> None:
        from util.backend import keras, tf

        outputs = {}
        for axis in AXES:
            attended, attention = model.get_layer(f"{axis}_self_attention").output  # (b, 7, 7, C), (b, 49, 49)
            _, between = model.get_layer(f"{axis}_attentional_pooling").output  # (b, 35, 35), row n looks at regions n'
            _, weights = model.get_layer(f"{axis}_weighted_attention").output  # (b, 35)
            outputs[axis] = (model.get_layer(axis).output, attended, attention, between, weights)
        self.gates = {axis: float(model.get_layer(f"{axis}_self_attention").gamma[0]) for axis in AXES}
        probe = keras.Model(model.input, outputs)

        @tf.function(reduce_retracing=True)
        def look(crops: Any) -> dict[str, tuple]:
            with tf.GradientTape() as tape:
                found = probe(crops, training=False)
                # The branches share no map, nor do two crops: the gradient of the sum is that of each angle alone.
                total = tf.add_n([tf.reduce_sum(found[axis][0]) for axis in AXES])
            gradients = tape.gradient(total, {axis: found[axis][1] for axis in AXES})
            maps = {}
            for axis, (_, attended, attention, between, weights) in found.items():
                mean = tf.reduce_sum(tf.reduce_mean(gradients[axis], (1, 2), keepdims=True) * attended, -1)  # (b, 7, 7)
                local = tf.reduce_sum(gradients[axis] * attended, -1)  # (b, 7, 7)
                maps[axis] = mean, local, attention, tf.einsum("bn,bnm->bm", weights, between)
            return maps

        self._look = look

    def __call__(self, crops: np.ndarray) -> Explanation:
        """The maps of (b, 224, 224, 3) RGB crops, 0...255."""
        maps = self._look(np.asarray(crops, np.float32))
        mean, local, attention, regions = [{axis: maps[axis][kind].numpy() for axis in AXES} for kind in range(4)]
        return Explanation(mean, local, attention, regions, self.gates)


def region_boxes() -> np.ndarray:
    """(35, 4) row0, column0, row1, column1 of the coarse-to-fine regions, as fractions of the crop, in their order."""
    from rafa_model import POOLINGS

    boxes = []
    for size, stride in (*POOLINGS, (SIDE, 1)):
        starts = range(0, SIDE - size + 1, stride)
        boxes += [(row, column, row + size, column + size) for row in starts for column in starts]
    return np.array(boxes) / SIDE


# --- Panels -----------------------------------------------------------------------------------------------------------
def explanation_tiles(
    crop: np.ndarray,
    found: Explanation,
    angles: np.ndarray,
    index: int = 0,
    cell: tuple[int, int] = (3, 3),
    rule: str = "local",
) -> Tiles:
    """The twelve overlays of one crop.

    Args:
        crop: (224, 224, 3) RGB.
        found: the `Explanation` of b crops.
        angles: (b, 3) their angles in radians.
        index: which of them is `crop`.
        cell: row and column of the cell of the 7 × 7 map whose attention is drawn.
        rule: of Grad-CAM, one of RULES.
    """
    asks, boxes = cell[0] * SIDE + cell[1], region_boxes()
    tiles: Tiles = {kind: {} for kind in KINDS}
    for letter, axis, angle in zip("abc", AXES, np.degrees(angles[index]), strict=True):
        attention, heat = found.attention[axis][index], found.cam(axis, angles, rule)[index]
        overlay = figures.overlay_heat(crop, heat / max(heat.max(), np.finfo(heat.dtype).tiny))
        tiles["gradcam"][axis] = f"({letter}) {axis} {angle:+.1f}°: Grad-CAM", overlay
        average = figures.overlay_attention(crop, attention.mean(axis=0))
        tiles["attention"][axis] = f"{axis}: attention, mean of all cells, γ {found.gates[axis]:+.3f}", average
        chosen = figures.overlay_attention(crop, attention[asks], asks)
        tiles["cell"][axis] = f"{axis}: attention of the marked cell {cell[0]}, {cell[1]}", chosen
        regions = figures.overlay_regions(crop, found.regions[axis][index], boxes)
        tiles["regions"][axis] = f"{axis}: weights of the 35 regions", regions
    return tiles


class Explanations:
    """Writes a panel for every face into a folder, and with `singles` each of its images as a file too.

    Subfolders follow `Source.copy`; for `cell` and `rule` see `explanation_tiles`.
    """

    def __init__(
        self, model: Any, folder: str | Path, cell: tuple[int, int] = (3, 3), rule: str = "local", singles: bool = False
    ) -> None:
        self.explainer, self.folder, self.singles = Explainer(model), Path(folder), singles
        self.cell, self.rule = cell, rule

    def write(self, frame: Frame) -> None:
        """Explain the faces of a frame, whose angles have been predicted."""
        copy, at = frame.source.copy, "" if frame.number is None else f"-frame{frame.number:06d}"
        name = Path(frame.source.path).name + ("" if frame.number is None else f", frame {frame.number}")
        for face in frame.faces:
            found = self.explainer(face.crop[None])
            tiles = explanation_tiles(face.crop, found, face.angles[None], 0, self.cell, self.rule)
            target = self.folder / copy.with_name(
                f"{copy.stem}{copy.suffix.replace('.', '-')}{at}-face{face.number}.png"
            )
            titles, images = zip(*(tile for row in tiles.values() for tile in row.values()), strict=True)
            title, footnote = f"{name}, face {face.number}", FOOTNOTE.format(rule=self.rule)
            panel = figures.panel(images, titles, len(AXES), title=title, footnote=footnote)
            figures.save_image(panel, target)
            if self.singles:
                for kind, row in tiles.items():
                    for axis, (_, image) in row.items():
                        figures.save_image(image, target.with_stem(f"{target.stem}-{kind}-{axis}"))

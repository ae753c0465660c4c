"""Where the network looks: Grad-CAM of each axis, self-attention, and the weights of the coarse-to-fine regions.

    python explain.py --weights FILE --doc doc      writes doc/explanations.md, doc/grad_cam.png, doc/architecture.png

The maps of the pictures of one's own come from `python predict.py PATH --weights FILE --explain DIR`.

Grad-CAM.  The released code shows Grad-CAM pictures and does not name their layer.  Here it is the output of each
branch's self-attention, A (7, 7, C): the last map with places in it, and the first that only one axis uses.  With y the
angle of that axis, two maps are made, both sums over the channels c, and drawn by one of RULES:

1. M = Σ mean(∂y/∂A) · A, with the mean over the 49 cells: Grad-CAM as published, for networks that average after A.
2. L = Σ ∂y/∂A · A, with each cell's own gradient.  RAFA-Net takes maxima after A, so most of ∂y/∂A is 0, and M
   gives those cells what others have caused.  L is drawn unless another rule is asked for.

For a class, Grad-CAM keeps what is positive: evidence for it.  For an angle, what is negative is evidence too, for
turning the other way.  So the absolute value is taken.  `doc/explanations.md` measures the rules against each other.

References: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV
2017; Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations", 2020.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_loaders import AXES
from util import figures

RULES = {  # name → how a document calls it, and the map, not negative, from M, L and the angle
    "local": ("\\|L\\|", lambda signed, local, angle: np.abs(local)),
    "absolute": ("\\|M\\|", lambda signed, local, angle: np.abs(signed)),
    "towards": ("M · sign(angle) above 0", lambda signed, local, angle: np.maximum(signed * np.sign(angle), 0)),
    "positive": ("M above 0, as for a class", lambda signed, local, angle: np.maximum(signed, 0)),
}
PANEL_LETTERS = "abc"


# --- Maps of a network ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Explanation:
    """What a network made of b crops; dicts have the keys of AXES.

    `signed`, `local`: axis → (b, 7, 7) the maps M and L of Grad-CAM, before a rule makes them positive.
    `attention`: axis → (b, 49, 49) self-attention; row i says where cell i looks and sums to 1.
    `regions`: axis → (b, 35) how much each region of `region_boxes` counts in what the regressor sees; sums to 1.
    `gates`: axis → γ of the self-attention: 0 says that it changes nothing, whatever it looks at.
    """

    angles: np.ndarray  # (b, 3) radians, list signs
    signed: dict
    local: dict
    attention: dict
    regions: dict
    gates: dict

    def cam(self, axis, rule="local"):
        """(b, 7, 7) not negative; the rules are the keys of RULES."""
        angle = self.angles[:, AXES.index(axis), None, None]
        return RULES[rule][1](self.signed[axis], self.local[axis], angle)


class Explainer:
    """Explains the answers of a RAFA-Net from `rafa_model`.

    Args:
        model: from `build_rafa_net` or `load_rafa_net`.
    """

    def __init__(self, model):
        import keras
        import tensorflow as tf

        outputs = {}
        for axis in AXES:
            attended, attention = model.get_layer(f"{axis}_self_attention").output
            _, between = model.get_layer(f"{axis}_attentional_pooling").output  # (b, 35, 35): row n looks at regions n'
            _, weights = model.get_layer(f"{axis}_weighted_attention").output  # (b, 35)
            outputs |= {axis: (model.get_layer(axis).output, attended, attention, between, weights)}
        self.gates = {axis: float(model.get_layer(f"{axis}_self_attention").gamma[0]) for axis in AXES}
        probe = keras.Model(model.input, outputs)

        @tf.function(reduce_retracing=True)
        def look(crops):
            with tf.GradientTape() as tape:
                found = probe(crops, training=False)
                # Branches share no map, and a crop no other's: the gradient of the sum is that of each angle alone.
                total = tf.add_n([tf.reduce_sum(found[axis][0]) for axis in AXES])
            gradients = tape.gradient(total, [found[axis][1] for axis in AXES])
            maps = [found[axis][1] for axis in AXES]
            means = [tf.reduce_mean(gradient, axis=(1, 2), keepdims=True) for gradient in gradients]
            signed, local = (
                [tf.reduce_sum(weight * attended, axis=-1) for weight, attended in zip(weights, maps, strict=True)]
                for weights in (means, gradients)
            )
            regions = [tf.einsum("bn,bnm->bm", found[axis][4], found[axis][3]) for axis in AXES]
            return [found[axis][0] for axis in AXES], signed, local, [found[axis][2] for axis in AXES], regions

        self._look = look

    def __call__(self, crops):
        """`Explanation` of (b, 224, 224, 3) RGB crops, 0...255."""
        angles, *maps = self._look(np.asarray(crops, np.float32))
        maps = [{axis: value.numpy() for axis, value in zip(AXES, values, strict=True)} for values in maps]
        return Explanation(np.concatenate(angles, axis=1), *maps, self.gates)


def region_boxes():
    """(35, 4) row0, column0, row1, column1 of the coarse-to-fine regions, as fractions of the crop, in their order."""
    from rafa_model import POOLINGS

    side, boxes = 7, []
    for size, stride in (*POOLINGS, (7, 1)):
        starts = range(0, side - size + 1, stride)
        boxes += [(row, column, row + size, column + size) for row in starts for column in starts]
    return np.array(boxes) / side


# --- Pictures ---------------------------------------------------------------------------------------------------------


def explanation_tiles(picture, found, index, cell=(3, 3), rule="local"):
    """The twelve overlays of one crop, RGB: a dict kind → {axis: (title, picture)}.

    Args:
        picture: (224, 224, 3) uint8 RGB.
        found: `Explanation`; index: the crop's place in it.
        cell: row and column of the cell of the 7 × 7 map whose attention is drawn; rule: of Grad-CAM, see RULES.
    """
    asks, boxes = cell[0] * 7 + cell[1], region_boxes()
    tiles = {kind: {} for kind in ("gradcam", "attention", "cell", "regions")}
    for letter, axis, angle in zip(PANEL_LETTERS, AXES, np.degrees(found.angles[index]), strict=True):
        attention, gate = found.attention[axis][index], found.gates[axis]
        heat = found.cam(axis, rule)[index]
        overlay = figures.overlay_heat(picture, heat / max(heat.max(), np.finfo(heat.dtype).tiny))
        tiles["gradcam"][axis] = f"({letter}) {axis} {angle:+.1f}°: Grad-CAM", overlay
        average = figures.overlay_attention(picture, attention.mean(axis=0))
        tiles["attention"][axis] = f"{axis}: self-attention, mean of all cells, γ = {gate:+.3f}", average
        chosen = figures.overlay_attention(picture, attention[asks], asks)
        tiles["cell"][axis] = f"{axis}: where the marked cell looks, row {cell[0]} column {cell[1]}", chosen
        regions = figures.overlay_regions(picture, found.regions[axis][index], boxes)
        tiles["regions"][axis] = f"{axis}: weights of the 35 regions", regions
    return tiles


def explanation_panel(tiles, title):
    """The tiles of `explanation_tiles` on one sheet: a column per axis, Grad-CAM in the first row."""
    flat = [tiles[kind][axis] for kind in tiles for axis in AXES]
    footnote = (
        "Grad-CAM: of the self-attention's output. Every map is stretched for itself, lowest to "
        "highest (Grad-CAM from 0). γ is the gate of the self-attention: near 0 it hardly changes the answer."
    )
    return figures.panel([tile for _, tile in flat], [text for text, _ in flat], 3, title=title, footnote=footnote)


class Explanations:
    """Writes the panel of every face into a folder, and each of its pictures by itself if asked for."""

    def __init__(self, model, folder, cell=(3, 3), rule="local", singles=False):
        self.explainer, self.folder, self.singles = Explainer(model), Path(folder), singles
        self.cell, self.rule = cell, rule

    def write(self, frame):
        """Explain the faces of a `faces.Frame`."""
        for number, face in enumerate(frame.faces):
            found = self.explainer(face.crop[None])
            tiles = explanation_tiles(np.ascontiguousarray(face.crop), found, 0, self.cell, self.rule)
            at = "" if frame.number is None else f"-frame{frame.number:06d}"
            copy = frame.source.copy
            target = self.folder / copy.with_name(f"{copy.stem}{copy.suffix.replace('.', '-')}{at}-face{number}.png")
            target.parent.mkdir(parents=True, exist_ok=True)
            name = Path(frame.source.path).name + (f", frame {frame.number}" if at else "")
            figures.save_image(explanation_panel(tiles, f"{name}, face {number}"), target)
            if self.singles:
                for kind, pictures in tiles.items():
                    for axis, (_, tile) in pictures.items():
                        figures.save_image(tile, target.with_stem(f"{target.stem}-{kind}-{axis}"))

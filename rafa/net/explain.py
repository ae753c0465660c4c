"""Where the network looks: Grad-CAM of each axis, self-attention, and the weights of the 35 pooled regions.

Grad-CAM.  The released code shows Grad-CAM images without naming their layer.  Here it is the output of each branch's
self-attention, A (7, 7, C): the last map with a spatial layout, before the maxima.  With y the angle of that axis,
there are two maps, both sums over the channels:

1. M = Σ mean(∂y/∂A) · A, with the mean over the 49 cells: Grad-CAM as published, for networks that average after A.
   It shows where M is positive.
2. L = Σ ∂y/∂A · A, with each cell's own gradient (HiResCAM).  RAFA-Net takes maxima after A, so most of ∂y/∂A is 0, and
   M spreads the gradient of a few cells over all of them.  For an angle, negative values are evidence too, for turning
   the other way: it shows |L|, and is the default.

`doc/explanations.md` compares them.

References: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV
2017; Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks",
2020.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from rafa.pose import AXES

SIDE = 7  # cells across the map A
RULES = ("local", "grad-cam")  # of `Explanation.cam`


# --- Maps of a network ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Explanation:
    """Maps of b crops; the keys of every dict are AXES.

    `mean`, `local`: (b, 7, 7) the signed maps M and L of Grad-CAM.
    `attention`: (b, 49, 49) self-attention; row i says where cell i looks and sums to 1.
    `regions`: (b, 35) the share of each region of `region_boxes` in what the last layer sees; sums to 1.
    `gates`: γ of self-attention.
    `region_boxes`: (35, 4), from `region_boxes()`.
    `angles`: (b,) the answers, in radians.
    """

    mean: dict[str, np.ndarray]
    local: dict[str, np.ndarray]
    attention: dict[str, np.ndarray]
    regions: dict[str, np.ndarray]
    gates: dict[str, float]
    region_boxes: np.ndarray
    angles: dict[str, np.ndarray]

    def cam(self, axis: str, rule: str = "local") -> np.ndarray:
        """(b, 7, 7) where the network looks, by one of RULES, not negative."""
        return np.abs(self.local[axis]) if rule == "local" else np.maximum(self.mean[axis], 0)


class Explainer:
    """Computes the maps of a RAFA-Net, from `rafa_model.build_rafa_net` or `load_rafa_net`."""

    def __init__(self, model: Any) -> None:
        from rafa.net.backend import keras, tf

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
                answers = probe(crops, training=False)
                # The branches share no map, nor do two crops: the gradient of the sum is that of each angle alone.
                total = tf.add_n([tf.reduce_sum(answers[axis][0]) for axis in AXES])
            gradients = tape.gradient(total, {axis: answers[axis][1] for axis in AXES})
            maps = {}
            for axis, (angle, attended, attention, between, weights) in answers.items():
                mean = tf.reduce_sum(tf.reduce_mean(gradients[axis], (1, 2), keepdims=True) * attended, -1)  # (b, 7, 7)
                local = tf.reduce_sum(gradients[axis] * attended, -1)  # (b, 7, 7)
                maps[axis] = mean, local, attention, tf.einsum("bn,bnm->bm", weights, between), angle[:, 0]
            return maps

        self._look = look

    def __call__(self, crops: np.ndarray) -> Explanation:
        """The maps of (b, 224, 224, 3) RGB crops, 0...255."""
        maps = self._look(np.asarray(crops, np.float32))
        mean, local, attention, regions, angles = (
            {axis: maps[axis][kind].numpy() for axis in AXES} for kind in range(5)
        )
        return Explanation(mean, local, attention, regions, self.gates, region_boxes(), angles)


def region_boxes() -> np.ndarray:
    """(35, 4) row0, column0, row1, column1 of the coarse-to-fine regions, as fractions of the crop, in their order."""
    from rafa_model import POOLINGS

    boxes = []
    for size, stride in (*POOLINGS, (SIDE, 1)):
        starts = range(0, SIDE - size + 1, stride)
        boxes += [(row, column, row + size, column + size) for row in starts for column in starts]
    return np.array(boxes) / SIDE

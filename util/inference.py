"""From crops to angles: for scoring, for your own images, and for explanations."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from data_loaders import AXES, Listed, scoring_batches
from util.errors import InputError
from util.predictions import Predictions, truth_of
from util.script import progress

NETWORK_BATCH = 16  # crops


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """No TF32 on GPUs that have it: its ten bits of mantissa are too few for a score."""
    from util.backend import tf

    reduced = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(reduced)


def predict_angles(model: Any, crops: np.ndarray, *, fill: bool = False) -> np.ndarray:
    """The network's answers to (n, 224, 224, 3) RGB crops, 0...255: (n, 3) yaw, pitch, roll in radians, list signs.

    Args:
        model: from `rafa_model.build_rafa_net` or `load_rafa_net`.
        fill: always give the network 16 crops, the last time filled up with black.  Other sizes take other kernels,
            which round differently (measured: by up to 1e-3 degrees); without it a single crop is answered sooner.

    Raises:
        InputError: an answer that is not finite.
    """
    angles = []
    with full_float32():
        for start in range(0, len(crops), NETWORK_BATCH):
            part = crops[start : start + NETWORK_BATCH]
            filled = np.zeros((NETWORK_BATCH - len(part) if fill else 0, *crops.shape[1:]), crops.dtype)
            found = model.predict_on_batch(np.concatenate([part, filled]))
            angles.append(np.concatenate([found[axis] for axis in AXES], axis=1)[: len(part)])  # (b, 3)
    answers = np.concatenate(angles, dtype=float)
    if wrong := np.count_nonzero(~np.isfinite(answers).all(axis=1)):
        what = f"{wrong} of {len(answers)} predicted angles are not finite"
        raise InputError(f"{what}: the network's weights are damaged")
    return answers


def mean_of_views(angles: np.ndarray, views: int) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations, (n, 3) each, of answers to the views of `data_loaders.views_of`, (n · views, 3).

    The answers to mirrored views are turned back first.
    """
    answers = angles.reshape(-1, views, 3).copy()
    answers[:, 1::2] *= (-1, 1, -1)
    return answers.mean(axis=1), answers.std(axis=1)


def predict_listed(model: Any, listed: Listed, margin: float, workers: int, views: int = 1) -> Predictions:
    """The network's answers for every record, in order; `workers` threads read the images, all of them present.

    More than one view is not the paper's protocol.
    """
    total = len(listed.records)
    batches = scoring_batches(listed, NETWORK_BATCH, margin, workers, views)
    title = f"{listed.data_set.title}, margin {margin:g}"
    found = (mean_of_views(predict_angles(model, crops, fill=True), views)[0] for crops in batches)
    angles = np.stack(list(progress((angles for batch in found for angles in batch), total, title)))
    return replace(truth_of(listed), predicted=np.degrees(angles), margin=np.full(total, float(margin)))

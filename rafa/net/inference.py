"""From crops to angles: for scoring, for your own images, and for explanations."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rafa.pose import AXES, CROP_SIZE
from rafa.script import InputError

NETWORK_BATCH = 16  # crops
ONNX_RUNTIME = "1.32.0"  # the version that the checks use


class ExportedNetwork:
    """The network of an ONNX file that `predict.py --export` wrote, run by ONNX Runtime without TensorFlow.

    Raises:
        InputError: ONNX Runtime is not installed; a file that is damaged or holds another network.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            install = f"pip install onnxruntime=={ONNX_RUNTIME}"
            raise InputError(f"{path}: an ONNX file needs onnxruntime, not installed: {install}") from error
        self.name = f"exported to ONNX, run by onnxruntime {onnxruntime.__version__}"
        try:
            self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own classes, one for each kind of damage
            raise InputError(f"{path} is damaged or not an ONNX file: {error}") from error
        crops, answers = self.session.get_inputs()[0], {each.name for each in self.session.get_outputs()}
        if crops.shape[1:] != [CROP_SIZE, CROP_SIZE, 3] or not answers >= set(AXES):
            expected = f"crops (b, {CROP_SIZE}, {CROP_SIZE}, 3) in and {', '.join(AXES)} out"
            given = f"{crops.name} {crops.shape} in and {', '.join(sorted(answers))} out"
            raise InputError(f"{path} is not a network of this suite: expected {expected}; it has {given}")
        self.input, self.one_by_one = crops.name, crops.shape[0] == 1

    def predict_on_batch(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        """{axis: (b, 1)} radians of (b, 224, 224, 3) RGB crops, 0...255, as the Keras model's."""
        parts = np.split(crops, len(crops)) if self.one_by_one else [crops]
        answers = [self.session.run(list(AXES), {self.input: part.astype(np.float32, copy=False)}) for part in parts]
        return dict(zip(AXES, map(np.concatenate, zip(*answers, strict=True)), strict=True))


def load_network(weights: str | Path) -> Any:
    """The network of a `.keras`, `.weights.h5` or `.onnx` file, for `predict_angles`; ONNX needs no TensorFlow.

    Raises:
        InputError: not a file of this suite, or damaged.
    """
    if is_exported(weights):
        return ExportedNetwork(weights)
    from rafa_model import load_rafa_net

    return load_rafa_net(weights)


def is_exported(weights: str | Path) -> bool:
    """Whether weights are an exported network, which predicts and can do nothing else."""
    return Path(weights).suffix.lower() == ".onnx"


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """No TF32 on GPUs that have it: its ten bits of mantissa are too few for a score."""
    if "tensorflow" not in sys.modules:
        yield
        return
    from rafa.net.backend import tf

    reduced = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(reduced)


def predict_angles(model: Any, crops: np.ndarray, *, fill: bool = False) -> np.ndarray:
    """The network's answers to (n, 224, 224, 3) RGB crops, 0...255: (n, 3) yaw, pitch, roll in radians, list signs.

    Args:
        model: from `load_network` or `rafa_model.build_rafa_net`.
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
            answers = model.predict_on_batch(np.concatenate([part, filled]))
            angles.append(np.concatenate([answers[axis] for axis in AXES], axis=1)[: len(part)])  # (b, 3)
    predicted = np.concatenate(angles, dtype=float)
    if wrong := np.count_nonzero(~np.isfinite(predicted).all(axis=1)):
        what = f"the angles of {wrong} of {len(predicted)} crops are not finite"
        raise InputError(f"{what}: the network's weights are damaged")
    return predicted

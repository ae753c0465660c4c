"""Write a network as ONNX, LiteRT or SavedModel, and check that the written file gives the same angles.

    python predict.py --weights FILE --export model.onnx | model.tflite | FOLDER

An exported network takes RGB crops (b, 224, 224, 3), float32, 0...255, for any b, and returns `yaw`, `pitch` and
`roll`, (b, 1) each, in radians and in the signs of the published lists.  Ask for them by name: the formats order them
differently.  The channel means are subtracted inside.
"""

import importlib.util
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rafa.files import written_whole
from rafa.net.inference import ONNX_RUNTIME, ExportedNetwork, full_float32, predict_angles
from rafa.pose import AXES, CROP_SIZE
from rafa.script import InputError

TOLERANCE = 0.01  # degrees
BATCHES = (1, 8)  # crops
# What ONNX needs beyond requirements.txt, in versions that work with TensorFlow 2.21.0 and Keras 3.15.1.
ONNX_PACKAGES = {"tf2onnx": "1.17.0", "onnx": "1.23.2", "onnxruntime": ONNX_RUNTIME}

Answers = Callable[[np.ndarray], Mapping[str, np.ndarray]]  # {axis: (b, 1) radians} of (b, 224, 224, 3) crops


def export_checked(weights: str | Path, target: str | Path) -> None:
    """Export a network and compare its angles with the Keras model's; prints the comparison.

    Args:
        weights: a file that `rafa_model.load_rafa_net` reads.
        target: NAME.onnx, NAME.tflite, or a path without suffix, the folder of a SavedModel.

    Raises:
        InputError: another suffix, missing packages, a folder that exists already, or angles that differ by more than
            TOLERANCE: then nothing is written.
    """
    target = Path(target)
    form, read_export = _format(target)
    from rafa_model import load_rafa_net

    model, crops = load_rafa_net(weights), check_crops()
    model(crops[:1])  # the ONNX converter needs a model that has been called
    with written_whole(target) as unfinished:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the converters and readers warn about their own code
            model.export(unfinished, format=form, verbose=False)
            answers = read_export(unfinished)
        print(f"{form}: largest difference from the Keras model, on images of noise")
        differences = compare(model, answers, crops)
        for batch, found in differences.items():
            print(f"  batch of {batch}: " + ", ".join(f"{axis} {x:.6f}°" for axis, x in zip(AXES, found, strict=True)))
        if not np.max(list(differences.values())) <= TOLERANCE:  # a NaN must fail too
            raise InputError(f"{target} was not written: its angles differ by more than {TOLERANCE}°")
    print(f"written: {target}")


def _format(target: Path) -> tuple[str, Callable[[Path], Answers]]:
    """Keras' name of the format that the target's suffix asks for, and the function that reads such a file."""
    formats = {"": ("tf_saved_model", _saved_model), ".onnx": ("onnx", _onnx), ".tflite": ("litert", _litert)}
    if target.suffix.lower() not in formats:
        raise InputError(f"{target}: expected NAME.onnx, NAME.tflite, or a folder name without a dot (SavedModel)")
    if target.is_dir():
        raise InputError(f"{target}: the folder exists already; give another name, or remove it")
    missing = [package for package in ONNX_PACKAGES if not importlib.util.find_spec(package)]
    if target.suffix.lower() == ".onnx" and missing:
        install = " ".join(f"{package}=={version}" for package, version in ONNX_PACKAGES.items())
        raise InputError(f"{target}: ONNX needs {', '.join(missing)}, not installed: pip install {install}")
    return formats[target.suffix.lower()]


def check_crops() -> np.ndarray:
    """(8, 224, 224, 3) float32 RGB crops, as many as the largest batch needs: smooth noise of a fixed seed."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (max(BATCHES), 14, 14, 3)).astype(np.float32)
    return np.stack([cv2.resize(each, (CROP_SIZE, CROP_SIZE)) for each in coarse])


def compare(model: Any, answers: Answers, crops: np.ndarray) -> dict[int, np.ndarray]:
    """Largest differences of an exported model from the Keras model: (3,) degrees in AXES order, by batch size."""
    found = {}
    for batch in BATCHES:
        with full_float32():
            given = answers(crops[:batch])
        if shapes := {np.shape(given[axis]) for axis in AXES} - {(batch, 1)}:
            raise InputError(f"the export answers {batch} crops with shape {shapes.pop()}; expected ({batch}, 1)")
        difference = np.hstack([given[axis] for axis in AXES]) - predict_angles(model, crops[:batch])  # (b, 3)
        found[batch] = np.degrees(np.abs(difference)).max(axis=0)
    return found


def _onnx(path: Path) -> Answers:
    return ExportedNetwork(path).predict_on_batch


def _litert(path: Path) -> Answers:
    from rafa.net.backend import tf

    runner = tf.lite.Interpreter(str(path)).get_signature_runner()
    name = next(iter(runner.get_input_details()))
    return lambda crops: runner(**{name: crops})


def _saved_model(path: Path) -> Answers:
    from rafa.net.backend import tf

    loaded = tf.saved_model.load(str(path))
    return lambda crops: {axis: values.numpy() for axis, values in loaded.serve(crops).items()}

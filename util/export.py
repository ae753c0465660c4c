"""Write a network as ONNX, LiteRT or SavedModel, and check that the written file gives the same angles.

    python predict.py --weights FILE --export model.onnx | model.tflite | FOLDER

What is written takes RGB crops (b, 224, 224, 3) as float32, 0...255, with any b, and answers with `yaw`, `pitch` and
`roll`, (b, 1) each, in radians and in the signs of the lists.  Ask for the outputs by name: the formats order them
differently.  The subtraction of the channel means is inside.
"""

import functools
import importlib.util
import os
import shutil
import warnings
from pathlib import Path

import numpy as np

from data_loaders import AXES, crop
from util.errors import InputError

TOLERANCE = 0.01  # degrees
BATCHES = (1, 8)
# What a format needs beyond requirements.txt, in the versions that worked with TensorFlow 2.21.0 and Keras 3.15.1.
ONNX_PACKAGES = {"tf2onnx": "1.17.0", "onnx": "1.23.2", "onnxruntime": "1.32.0"}


def export_checked(weights, target):
    """Export a network and compare its answers with those of the Keras model; prints the comparison.

    The file appears under its name only if the comparison holds.

    Args:
        weights: file of `rafa_model.load_rafa_net`.
        target: `.onnx`, `.tflite`, or a path without suffix: the folder of a SavedModel.

    Raises:
        InputError: a suffix that is none of these, packages that are missing, a target that is in the way, an export
            that fails or whose angles differ by more than TOLERANCE.
    """
    target = Path(target)
    form, answers_of = _format(target)
    if not Path(weights).is_file():
        raise InputError(f"{weights}: no such file; --weights takes a .keras or .weights.h5 file")
    from rafa_model import load_rafa_net

    model, crops = load_rafa_net(weights), check_crops()
    model(crops[:1])  # the export to ONNX wants a model that has been called
    partial = target.with_name(f"partial-{target.name}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the converters, about their own code
            model.export(partial, format=form, verbose=False)
        differences = compare(model, answers_of(partial), crops)
        print(f"{target}: {form}, largest difference from the Keras model in degrees, on generated heads")
        for batch, found in differences.items():
            print(f"  batch {batch}: " + ", ".join(f"{axis} {found[axis]:.6f}" for axis in AXES))
        if max(max(found.values()) for found in differences.values()) > TOLERANCE:
            raise InputError(f"{target} was not written: its angles differ by more than {TOLERANCE} degrees")
        os.replace(partial, target)
    except (ImportError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"{target}: this TensorFlow and Keras cannot export to {form}: {error}") from error
    finally:
        _remove(partial)
    print(f"  same within {TOLERANCE} degrees: written")


def _format(target):
    """The name of the format in Keras, and the function that opens such a file; both by the target's suffix."""
    formats = {".onnx": ("onnx", onnx_answers), ".tflite": ("litert", litert_answers)}
    formats[""] = ("tf_saved_model", saved_model_answers)
    if target.suffix.lower() not in formats:
        raise InputError(f"{target}: exports are NAME.onnx, NAME.tflite, or a folder NAME without a dot (SavedModel)")
    if not target.parent.is_dir():
        raise InputError(f"{target.parent}: no such folder; make it first")
    if target.is_dir():
        raise InputError(f"{target} is there already; give another name, or move it away")
    form, answers_of = formats[target.suffix.lower()]
    if form == "onnx" and (missing := [name for name in ONNX_PACKAGES if not importlib.util.find_spec(name)]):
        install = " ".join(f"{name}=={version}" for name, version in ONNX_PACKAGES.items())
        raise InputError(f"{target}: ONNX needs {', '.join(missing)}, which is not installed: pip install {install}")
    return form, answers_of


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@functools.cache
def check_crops(seed=0):
    """(8, 224, 224, 3) float32 RGB crops of generated heads: as many as the largest batch has."""
    from util.head_renderer import random_identity, render_head

    crops = []
    for number in range(max(BATCHES)):
        rng = np.random.default_rng([seed, number])
        angles = np.radians(rng.uniform(-40, 40, 3))
        picture, facts = render_head(random_identity(rng), angles, size=224, rng=rng)
        crops.append(crop(picture, *map(int, facts["box"]), 0.2))
    return np.stack(crops).astype(np.float32)


def compare(model, answers, crops):
    """Largest difference in degrees between a Keras model and an exported one: batch size → {axis: degrees}.

    Args:
        model: a Keras model; answers: a function of crops that gives a dict axis → (b, 1) radians.
        crops: (8, 224, 224, 3) float32.
    """
    found = {}
    for batch in BATCHES:
        expected, given = model.predict_on_batch(crops[:batch]), answers(crops[:batch])
        for axis in AXES:
            if np.shape(given[axis]) != (batch, 1):
                raise InputError(f"the export answers {batch} crops with {axis} of shape {np.shape(given[axis])}")
        found[batch] = {axis: float(np.degrees(np.abs(given[axis] - expected[axis])).max()) for axis in AXES}
    return found


def onnx_answers(path):
    """An ONNX file as a function crops → dict axis → (b, 1) radians."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda crops: dict(zip(AXES, session.run(list(AXES), {name: crops}), strict=True))


def litert_answers(path):
    """A LiteRT file as a function crops → dict axis → (b, 1) radians."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:  # TensorFlow still brings its own
        from tensorflow.lite.python.interpreter import Interpreter

    runner = Interpreter(str(path)).get_signature_runner()
    name = next(iter(runner.get_input_details()))
    return lambda crops: runner(**{name: crops})


def saved_model_answers(path):
    """A SavedModel folder as a function crops → dict axis → (b, 1) radians."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    return lambda crops: {axis: loaded.serve(crops)[axis].numpy() for axis in AXES}

"""Write a network as ONNX, LiteRT or SavedModel, and check that the written file gives the same angles.

    python predict.py --weights FILE --export model.onnx | model.tflite | FOLDER
    python predict.py --export model.onnx --batch-size 1

An exported network takes RGB crops (b, 224, 224, 3), float32, 0...255, for any b, and returns `yaw`, `pitch` and
`roll`, (b, 1) each, in radians and in the signs of the published lists.  Ask for them by name: the formats order them
differently.  The channel means are subtracted inside.  An ONNX file says all this in its metadata.  With a batch size
of 1 it takes one crop at a time: OpenCV's `dnn` (4.14) can load that one alone.
"""

import importlib.util
import warnings
from pathlib import Path

import numpy as np

from rafa.files import VERSION, sha256, written_whole
from rafa.net.inference import ONNX_RUNTIME, ExportedNetwork, full_float32, predict_angles
from rafa.net.pretrained import SYNTHETIC_FILE
from rafa.pose import AXES, CROP_SIZE
from rafa.script import InputError

TOLERANCE = 0.01  # degrees
FORMATS = {"": "tf_saved_model", ".onnx": "onnx", ".tflite": "litert"}  # suffix → Keras' name
# What ONNX needs beyond requirements.txt, in versions that work with TensorFlow 2.21.0 and Keras 3.15.1.
ONNX_PACKAGES = {"tf2onnx": "1.17.0", "onnx": "1.23.2", "onnxruntime": ONNX_RUNTIME}
DESCRIPTION = (
    "RAFA-Net: yaw, pitch and roll of a head from an RGB crop of its face (Rotation Axis Focused Attention Network for "
    "Estimating Head Pose, ACCV 2020; a reproduction with Keras 3)."
)
METADATA = {
    "input": f"crop: float32 (batch, {CROP_SIZE}, {CROP_SIZE}, 3), RGB, 0 to 255; the means are subtracted inside",
    "crop": "the square box of the face, grown by a margin on each side, black outside the image, scaled bilinearly",
    "margin": "0.2 of the box's size by default; a network has its best where it was trained",
    "outputs": "yaw, pitch, roll: float32 (batch, 1), radians; ask for them by name",
    "signs": "yaw > 0 turns the nose to the left of the image, pitch > 0 looks up, roll > 0 tilts the head "
    "counter-clockwise in the image",
    "rotation": "Rx(pitch) Ry(-yaw) Rz(-roll), axes x right, y down, z to the viewer; its column 3 is the nose",
}


def export_checked(weights: str | Path, target: str | Path, batch_size: int | None = None) -> None:
    """Export a network and compare its angles with the Keras model's; prints the comparison.

    Args:
        weights: as for `rafa_model.load_rafa_net`.
        target: NAME.onnx, NAME.tflite, or a path without suffix, the folder of a SavedModel.
        batch_size: 1 for an ONNX file that takes one crop at a time; None for any number.

    Raises:
        InputError: another suffix, a fixed batch in another format, missing packages, or angles that differ by more
            than TOLERANCE: then nothing is written.
    """
    target = Path(target)
    suffix = target.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"{target}: expected NAME.onnx, NAME.tflite, or a folder name without a dot (SavedModel)")
    if batch_size and (suffix != ".onnx" or batch_size > 1):
        raise InputError(
            f"{target}: --batch-size is 1, for an ONNX file of one crop at a time, or left out; got {batch_size}"
        )
    missing = [package for package in ONNX_PACKAGES if not importlib.util.find_spec(package)]
    if suffix == ".onnx" and missing:
        install = " ".join(f"{package}=={version}" for package, version in ONNX_PACKAGES.items())
        raise InputError(f"{target}: ONNX needs {', '.join(missing)}, not installed: pip install {install}")
    from rafa.net.backend import keras
    from rafa_model import load_rafa_net

    model = load_rafa_net(weights)
    crops = np.random.default_rng(0).integers(0, 256, (3, 14, 14, 3)).repeat(16, 1).repeat(16, 2).astype(np.float32)
    expected = predict_angles(model, crops)  # (b, 3); the ONNX converter needs a model that has been called
    signature = [keras.InputSpec(shape=(batch_size, *crops.shape[1:]), dtype="float32", name="crop")]
    with written_whole(target) as unfinished:
        with warnings.catch_warnings(), full_float32():
            warnings.simplefilter("ignore")  # the converters and readers warn about their own code
            model.export(unfinished, format=FORMATS[suffix], verbose=False, input_signature=signature)
            if suffix == ".onnx":
                _describe(unfinished, weights)
            differences = np.degrees(np.abs(answers_of(unfinished, crops) - expected)).max(axis=0)
        each = ", ".join(f"{axis} {degrees:.6f}°" for axis, degrees in zip(AXES, differences, strict=True))
        print(f"{FORMATS[suffix]}: largest difference from the Keras model, on {len(crops)} images of noise: {each}")
        if not differences.max() <= TOLERANCE:  # a NaN must fail too
            raise InputError(f"{target} was not written: its angles differ by more than {TOLERANCE}°")
    print(f"written: {target}")


def _describe(path: Path, weights: str | Path) -> None:
    """Write into an ONNX file what it is and how it is used."""
    import onnx

    own = sha256(weights) == sha256(SYNTHETIC_FILE)
    licence = {"licence": "MIT" if own else "the code: MIT; the weights: whoever trained them says"}
    network = onnx.load(path)
    network.doc_string, network.producer_name, network.producer_version = DESCRIPTION, "rafa-net", VERSION
    onnx.helper.set_model_props(network, METADATA | licence | {"weights_sha256": sha256(weights)})
    onnx.save(network, path)


def answers_of(path: Path, crops: np.ndarray) -> np.ndarray:
    """The angles of an exported network, (b, 3) radians in AXES order, of (b, 224, 224, 3) RGB crops, float32."""
    from rafa.net.backend import tf

    if path.suffix.lower() == ".onnx":
        return predict_angles(ExportedNetwork(path), crops)
    if path.suffix.lower() == ".tflite":
        runner = tf.lite.Interpreter(str(path)).get_signature_runner()
        answers = runner(**dict.fromkeys(runner.get_input_details(), crops))
    else:
        loaded = tf.saved_model.load(str(path))
        answers = loaded.serve(crops)
    return np.concatenate([answers[axis] for axis in AXES], axis=1)

"""The suite's own weights, by name; free of TensorFlow."""

from pathlib import Path

from rafa.files import ROOT
from rafa.script import InputError

SYNTHETIC = "synthetic"  # as weights: the network in `pretrained/`, trained on synthetic heads
SYNTHETIC_FILE = ROOT / "pretrained" / "synthetic.weights.h5"
# What every result of it says.
SYNTHETIC_MADE = "trained on drawn heads alone; the drawing was chosen by photographs, 394 of AFLW2000 among them"
SYNTHETIC_BACKBONE = f"{SYNTHETIC}-backbone"  # its residual layers alone, to start from


def weights_file(given: str | Path) -> str:
    """The path of the weights of a whole network, given by name or by file.

    Raises:
        InputError: no such file.
    """
    path = SYNTHETIC_FILE if given == SYNTHETIC else Path(given)
    if not path.is_file():
        raise InputError(f"{path}: no such file; weights are {SYNTHETIC!r}, or a .keras, .weights.h5 or .onnx file")
    return str(path)

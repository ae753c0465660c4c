"""The suite's own weights, trained on synthetic heads alone: their file, and what was measured with it."""

from pathlib import Path

from util.errors import InputError
from util.protocol import read_results
from util.provenance import ROOT, sha256

NAME = "synthetic"  # of the weights, on the command line
FILE = ROOT / "pretrained" / "synthetic.weights.h5"
RESULT = ROOT / "pretrained" / "aflw2000.json"  # from `evaluate.py aflw2000 --weights synthetic --result`


def weights_file(given: str) -> str:
    """The path of weights given by name or by file.

    Raises:
        InputError: no such file.
    """
    path = FILE if given == NAME else Path(given)
    if not path.is_file():
        raise InputError(f"{path}: no such file; --weights takes {NAME}, a .keras, .weights.h5 or .onnx file")
    return str(path)


def described() -> str:
    """One line about the weights: what they were trained on, and their error on real photographs."""
    error = "not measured"
    for result in read_results(RESULT) if RESULT.is_file() else []:
        card, mae = result["card"], result["estimates"]["mae"]
        if card["weights"] and card["weights"]["sha256"] == sha256(FILE):
            images = f"{card['images']['scored']:,} photographs of {card['data_set']}"
            error = f"mean error {mae.value:.1f}° [{mae.low:.1f}, {mae.high:.1f}] on {images}"
    return f"weights: {FILE.relative_to(ROOT)}, trained on synthetic heads alone; {error}"

"""What two training runs that are alike to the last bit have in common."""

import csv
import zipfile
from pathlib import Path

import h5py


def outcome(run_dir: Path) -> dict[str, object]:
    """Rows without their seconds, every weight and optimizer state, file names, and the files that hold the score."""
    with (run_dir / "metrics.csv").open(encoding="utf-8") as file:
        rows = [{key: text for key, text in row.items() if key != "seconds"} for row in csv.DictReader(file)]
    weights = {}
    with zipfile.ZipFile(run_dir / "last.keras") as network, h5py.File(network.open("model.weights.h5")) as file:
        file.visititems(lambda name, item: weights.update({name: bytes(item[()])} if hasattr(item, "shape") else {}))
    files = sorted(file.name for file in run_dir.iterdir())
    texts = [(run_dir / name).read_bytes() for name in ("predictions.csv", "result.md")]
    return {"rows": rows, "weights": weights, "files": files, "texts": texts}


def alike(one: Path, other: Path) -> bool:
    """Whether two runs have the same outcome."""
    return outcome(one) == outcome(other)

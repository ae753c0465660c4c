"""A tiny run of the training script, what two alike have in common, and how often the reliability tests try."""

import csv
import os
import zipfile
from pathlib import Path

import h5py

ROOT = Path(__file__).parent.parent.parent
SCRIPT = str(ROOT / "train_rafa-net.py")
KILLS = int(os.environ.get("RAFA_KILLS", "25"))
FULL_DISKS = int(os.environ.get("RAFA_FULL_DISKS", "1000"))
EXAMPLES = int(os.environ.get("RAFA_EXAMPLES", "300"))
EPOCHS = 3


def options(data_dir, run_dir) -> list[str]:
    """A run of three epochs, two steps each, every one of them saved."""
    network = ["--synthetic", "--backbone", "tiny", "--weights", "none", "--keep-every", "1", "--workers", "2"]
    sizes = ["--epochs", str(EPOCHS), "--batch-size", "8", "--limit", "16"]
    return [*network, *sizes, "--data-dir", str(data_dir), "--run-dir", str(run_dir)]


def resume_options(run_dir) -> list[str]:
    return ["--run-dir", str(run_dir), "--resume"]


def outcome(run_dir) -> dict[str, object]:
    """What two runs that are alike to the last bit have in common."""
    with (run_dir / "metrics.csv").open(encoding="utf-8") as file:
        rows = [{key: text for key, text in row.items() if key != "seconds"} for row in csv.DictReader(file)]
    weights = {}
    with zipfile.ZipFile(run_dir / "last.keras") as network, h5py.File(network.open("model.weights.h5")) as file:
        file.visititems(lambda name, item: weights.update({name: bytes(item[()])} if hasattr(item, "shape") else {}))
    files = sorted(file.name for file in run_dir.iterdir())
    texts = [(run_dir / name).read_bytes() for name in ("predictions.csv", "result.md")]
    return {"rows": rows, "weights": weights, "files": files, "texts": texts}

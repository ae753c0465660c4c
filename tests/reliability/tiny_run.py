"""A tiny run of the training script, and how often the reliability tests try."""

import os

from rafa.files import ROOT

SCRIPT = str(ROOT / "train_rafa-net.py")
KILLS = int(os.environ.get("RAFA_KILLS", "25"))
FULL_DISKS = int(os.environ.get("RAFA_FULL_DISKS", "1000"))


def options(data_dir, run_dir) -> list[str]:
    """A run of three epochs, two steps each, every one of them kept."""
    lists = [str(data_dir / name) for name in ("Aflw2000crop.txt", "Aflw2000_euler_cls.txt")]
    data = ["--train-lists", *lists, "--test-lists", *lists, "--data-dir", str(data_dir), "--limit", "16"]
    recipe = ["--backbone", "tiny", "--weights", "none", "--epochs", "3", "--batch-size", "8", "--evaluate-every", "2"]
    return [*data, *recipe, "--keep-every", "1", "--workers", "2", "--run-dir", str(run_dir)]


def options_to_go_on(data_dir, run_dir) -> list[str]:
    """Those of a resume, or of a new start where nothing had begun."""
    begun = (run_dir / "run.json").exists()
    return ["--run-dir", str(run_dir), "--resume"] if begun else options(data_dir, run_dir)

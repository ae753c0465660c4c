"""What training in half precision changes: the table "Half precision" of doc/differences.md.

    python tests/measurements/precision.py

Trains the tiny network on the synthetic heads of the demonstration, 150 steps of 16 images for each seed, in float32
and in the precision that --mixed-precision chooses on this machine; the two see the same batches.  The difference is
paired by seed; its 95% interval is that of Student's t over the seeds.
"""

import sys
from itertools import islice
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from data_loaders import training_batches
from rafa.datasets.lists import Listed, limited, load_dataset
from rafa.files import ROOT, write_text
from rafa.pose import AXES
from rafa.score import tables
from rafa.script import number, option_parser, run_script

BEGIN, END = "<!-- precision -->", "<!-- /precision -->"
STEPS, BATCH, PART = 150, 16, 50


def train(precision: str, seed: int, listed: Listed) -> np.ndarray:
    """The loss of every step, summed over the axes."""
    from rafa.net.backend import computing_in, keras
    from rafa.train.devices import loss_scale_for
    from rafa.train.recipe import compile_rafa_net, training_step
    from rafa_model import build_rafa_net

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    with computing_in(precision):
        model = build_rafa_net("tiny", weights=None)
        scale = loss_scale_for(compile_rafa_net(model), precision)
    step, losses = training_step(model, loss_scale=scale), []
    for crops, true in islice(training_batches(listed, BATCH, 0.5, seed, 1), STEPS):
        found = step(crops, true)
        losses.append(sum(float(found[axis]) for axis in AXES))
    return np.array(losses)


def parts_of(runs: list[np.ndarray]) -> np.ndarray:
    """Mean losses of the parts of each run: (seeds, parts)."""
    return np.array([losses.reshape(-1, PART).mean(axis=1) for losses in runs])


def with_spread(parts: np.ndarray) -> list[str]:
    """The mean of each part over the seeds, with their standard deviation."""
    return [f"{mean:.3f} ± {spread:.3f}" for mean, spread in zip(parts.mean(0), parts.std(0, ddof=1), strict=True)]


def with_interval(parts: np.ndarray) -> list[str]:
    """The mean of each part over the seeds, with its 95% interval."""
    from scipy.stats import ttest_1samp

    low, high = ttest_1samp(parts, 0).confidence_interval(0.95)
    return [f"{mean:+.3f} [{a:+.3f}, {b:+.3f}]" for mean, a, b in zip(parts.mean(0), low, high, strict=True)]


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--seeds", type=number(int, 2), default=10, help="how many seeds, from 0")
    parser.add_argument("--images", type=number(int, BATCH), default=320, help="training images")
    parser.add_argument(
        "--data-dir", default="data/synthetic", help="folder of the synthetic heads, drawn on first use"
    )
    parser.add_argument("--document", default=str(ROOT / "doc/differences.md"), metavar="FILE", help="gets the table")
    options = parser.parse_args()
    from rafa.heads.dataset import ensure_dataset
    from rafa.train.devices import choose_precision

    ensure_dataset(options.data_dir)
    listed = limited(load_dataset("synthetic-train", options.data_dir), options.images)
    half = choose_precision(True, {})
    runs: dict[str, list[np.ndarray]] = {"float32": [], half: []}
    for seed in range(options.seeds):
        for precision, found in runs.items():
            found.append(train(precision, seed, listed))
            print(f"{precision}, seed {seed}: {parts_of(found)[-1].round(4)}", flush=True)
    parts = [f"Loss, steps {end - PART + 1} to {end}" for end in range(PART, STEPS + 1, PART)]
    single, halved = (parts_of(found) for found in runs.values())
    rows = [[name.removeprefix("mixed_"), *with_spread(parts_of(found))] for name, found in runs.items()]
    rows.append(["difference [95% interval]", *with_interval(halved - single)])
    table = tables.table([f"Precision, {options.seeds} seeds", *parts], rows)
    document = Path(options.document)
    before, _, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    write_text(document, f"{before}{BEGIN}\n\n{table}\n\n{END}{after}")
    print(table)


if __name__ == "__main__":
    run_script(main)

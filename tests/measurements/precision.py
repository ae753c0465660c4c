"""What training in half precision changes: the table "Half precision" of doc/differences.md.

    python tests/measurements/precision.py

Trains the tiny network on the synthetic heads of the demonstration, 150 steps of 16 images for each seed, in float32
and in the other precision; the two see the same batches.  The difference is paired by seed; its 95% interval is that of
Student's t over the seeds.
"""

import sys
from itertools import chain, count, islice
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from documents import with_interval, write_parts

from data_loaders import KeptImages, limited, load_dataset, training_batches
from rafa.files import ROOT
from rafa.score.tables import table
from rafa.script import number, option_parser, run_script

STEPS, BATCH, PART, MARGIN = 150, 16, 50, 0.5


def train(precision: str, seed: int, images: KeptImages) -> np.ndarray:
    """The mean loss of each part of the steps, summed over the axes."""
    from rafa.net.backend import computing_in, keras
    from rafa.train.recipe import compile_rafa_net, training_step
    from rafa_model import build_rafa_net

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    with computing_in(precision):
        model = build_rafa_net("tiny", weights=None)
        compile_rafa_net(model, precision=precision)
    step = training_step(model)
    batches = chain.from_iterable(training_batches(images, BATCH, seed, epoch, 1) for epoch in count())
    losses = [sum(step(crops, targets).values()) for crops, targets in islice(batches, STEPS)]
    return np.reshape(losses, (-1, PART)).mean(axis=1)


def precision_table(single: np.ndarray, half: np.ndarray, name: str) -> str:
    """Markdown: the losses (seeds, parts) in each precision, and their difference."""

    def with_spread(losses: np.ndarray) -> str:
        return f"{losses.mean():.3f} ± {losses.std(ddof=1):.3f}"

    rows = [
        ["float32", *map(with_spread, single.T)],
        [name, *map(with_spread, half.T)],
        ["difference [95% interval]", *(with_interval(part, 3) for part in (half - single).T)],
    ]
    parts = [f"Loss, steps {end - PART + 1} to {end}" for end in range(PART, STEPS + 1, PART)]
    return table([f"Precision, {len(single)} seeds", *parts], rows)


def main() -> None:
    parser = option_parser(__doc__)
    add = parser.add_argument
    add("--precision", choices=("mixed_bfloat16", "mixed_float16"), default="mixed_bfloat16", help="the other one")
    add("--seeds", type=number(int, 2), default=10, help="how many seeds, from 0")
    add("--images", type=number(int, BATCH), default=320, help="training images")
    add("--data-dir", default="data/synthetic", help="folder of the synthetic heads, drawn on first use")
    add("--document", type=Path, default=ROOT / "doc/differences.md", metavar="FILE", help="gets the table")
    options = parser.parse_args()
    from rafa.heads.dataset import ensure_dataset

    ensure_dataset(options.data_dir)
    images = KeptImages(limited(load_dataset("synthetic-train", options.data_dir), options.images), MARGIN)
    losses: dict[str, list[np.ndarray]] = {"float32": [], options.precision: []}
    for seed in range(options.seeds):
        for precision, of_seeds in losses.items():
            of_seeds.append(train(precision, seed, images))
            print(f"{precision}, seed {seed}: {of_seeds[-1].round(4)}", flush=True)
    text = precision_table(*map(np.array, losses.values()), options.precision.removeprefix("mixed_"))
    write_parts(options.document, {"precision": text})
    print(text)


if __name__ == "__main__":
    run_script(main)

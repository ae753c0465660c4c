"""What today's numerics change against the authors': the table "Measured effects" of doc/differences.md.

    python tests/measurements/effects.py

Trains the tiny network on synthetic heads by the paper's recipe, once for each seed and way of training, and scores it
on held-out heads.  The seeds' numbers go to doc/effects.json; runs that are in it already are not repeated.
A difference is paired by seed; its 95% interval is that of Student's t over the seeds.
"""

import json
import runpy
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from data_loaders import batches_per_epoch, labels, load_crop, training_batches
from rafa.datasets.lists import Listed, load_dataset
from rafa.files import ROOT, environment, write_text
from rafa.pose import AXES
from rafa.score import metrics, tables
from rafa.score.predictions import predict_listed
from rafa.score.protocol import MAE_KEYS
from rafa.script import number, option_parser, run_script

RECIPE = runpy.run_path(str(ROOT / "train_rafa-net.py"))["parse_options"](["--synthetic"])
EPOCHS, BATCH, RATE, DECAY_EVERY = 15, RECIPE.batch_size, RECIPE.learning_rate, 11
MARGIN, TEST_MARGIN = RECIPE.train_margin, RECIPE.test_margin
BEGIN, END = "<!-- effects -->", "<!-- /effects -->"

# by name: what it replaces, in words, and whether the network is trained anew
VARIANTS = {
    "rmsprop": ("RMSprop of Keras 3: g / √(v + 1e-7) instead of g / (√v + 1e-7)", True),
    "averages": ("moving averages of Keras 3: d · x + (1 − d) · value, biased variance", True),
    "filled": ("an epoch's last batch filled up with images of the same epoch instead of dropped", True),
    "biased": ("biased variance in the moving averages of the authors", False),
    "spectral": ("spectral vectors that move at inference too, before every batch of 16", False),
    "margin": ("margin 0 instead of 0.2 while watching the test list", False),
}


def filled_batches(listed: Listed, seed: int) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """As `training_batches`, but every image is used in every epoch and the first ones fill up the last batch."""
    for epoch in range(EPOCHS):
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(len(listed.records))
        order = np.concatenate([order, order[: -len(order) % BATCH]])
        margins = rng.uniform(0, MARGIN, len(order))
        for start in range(0, len(order), BATCH):
            chosen = slice(start, start + BATCH)
            records = listed.records[order[chosen]]
            crops = [load_crop(listed, *pair) for pair in zip(records, margins[chosen], strict=True)]
            yield np.stack(crops), labels(records["angles"])


def keras3_averages(layer: Any, mean: Any, variance: Any, n: Any, step: Any) -> None:
    """The moving averages of Keras 3, in place of `rafa.net.keras224.BatchNormalization._update_averages`."""
    for average, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        average.assign(average * layer.momentum + value * (1 - layer.momentum))


def train(variant: str, seed: int, listed: Listed) -> Any:
    """A network trained by the paper's recipe, but for the variant."""
    from rafa.net.backend import keras
    from rafa.net.keras224 import BatchNormalization, count_steps
    from rafa.train.recipe import compile_rafa_net, learning_rate_of, training_step
    from rafa_model import build_rafa_net

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = build_rafa_net("tiny", weights=None)
    compile_rafa_net(model, RATE)
    if variant == "rmsprop":
        model.compile(keras.optimizers.RMSprop(RATE, rho=0.9, epsilon=1e-7), jit_compile=False)
        count_steps(model, model.optimizer)
    own_averages = BatchNormalization._update_averages
    if variant == "averages":
        BatchNormalization._update_averages = keras3_averages
    step, steps = training_step(model), batches_per_epoch(listed, BATCH)
    batches = training_batches(listed, BATCH, MARGIN, seed, 2)
    if variant == "filled":
        batches, steps = filled_batches(listed, seed), -(-len(listed.records) // BATCH)
    for epoch in range(EPOCHS):
        model.optimizer.learning_rate = learning_rate_of(epoch, RATE, DECAY_EVERY)
        for crops, angles in islice(batches, steps):
            step(crops, angles)
    BatchNormalization._update_averages = own_averages
    return model


def bias_variances(model: Any) -> None:
    """Take the authors' correction out of every moving variance, which a batch of BATCH images has put in."""
    from rafa.net.keras224 import BatchNormalization

    for layer in model.layers:
        if isinstance(layer, BatchNormalization):
            n = BATCH * int(np.prod(layer.input.shape[1:-1]))
            biased = layer.moving_variance * (n - (1 + layer.epsilon)) / n
            layer.moving_variance.assign(biased * (n - 1) / n if layer.input.ndim == 4 else biased)


class MovingVectors:
    """A network whose spectral vectors move before every prediction, as in the released code."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def predict_on_batch(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        for axis in AXES:
            attention = self.model.get_layer(f"{axis}_self_attention")
            for convolution in (attention.f, attention.g, attention.h):
                convolution.u.assign(convolution.normalised_kernel()[1])
        return self.model.predict_on_batch(crops)


def measured(model: Any, test: Listed, margin: float = TEST_MARGIN) -> tuple[dict[str, float], np.ndarray]:
    """Mean absolute errors in degrees, and the predicted angles (n, 3)."""
    predictions = predict_listed(model, test, margin, 2)
    columns = metrics.per_image(predictions)
    return {key: float(columns[key].mean()) for key in MAE_KEYS}, predictions.predicted


def runs_of_seed(seed: int, train_list: Listed, test: Listed, known: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    """The scores of one seed: as the authors, and of every variant that is not known yet."""
    if not all(map(known, ("authors", "biased", "spectral", "margin"))):
        model = train("authors", seed, train_list)
        scores, angles = measured(model, test)
        yield {"variant": "authors", "seed": seed, **scores}
        scores, _ = measured(model, test, 0.0)
        yield {"variant": "margin", "seed": seed, **scores}
        weights = model.get_weights()
        scores, moved = measured(MovingVectors(model), test)
        yield {"variant": "spectral", "seed": seed, **scores, "angles_move_by": float(np.abs(moved - angles).mean())}
        model.set_weights(weights)
        bias_variances(model)
        scores, moved = measured(model, test)
        yield {"variant": "biased", "seed": seed, **scores, "angles_move_by": float(np.abs(moved - angles).mean())}
    for variant, (_, trained) in VARIANTS.items():
        if trained and not known(variant):
            yield {"variant": variant, "seed": seed, **measured(train(variant, seed, train_list), test)[0]}


def difference(changed: np.ndarray, own: np.ndarray) -> str:
    """Mean paired difference with its 95% interval over the seeds (Student's t)."""
    from scipy.stats import ttest_1samp

    interval = ttest_1samp(changed - own, 0).confidence_interval(0.95)
    mean, low, high = (round(value, 2) + 0.0 for value in ((changed - own).mean(), interval.low, interval.high))
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def effects_table(runs: list[dict[str, Any]]) -> str:
    """Markdown: the error with each variant, and the paired difference."""
    own = {run["seed"]: run for run in runs if run["variant"] == "authors"}
    errors = np.array([own[seed]["mae"] for seed in sorted(own)])
    rows = []
    for variant, (words, trained) in VARIANTS.items():
        found = {run["seed"]: run for run in runs if run["variant"] == variant}
        changed = np.array([found[seed]["mae"] for seed in sorted(found)])
        moved = [run["angles_move_by"] for run in found.values() if "angles_move_by" in run]
        move = f"{np.mean(moved):.2f}" if moved else "another network" if trained else "other crops"
        cells = f"{errors.mean():.2f}", f"{changed.mean():.2f}", difference(changed, errors), move
        rows.append([words, len(changed), *cells])
    maes = ["MAE the authors' way", "MAE with the change", "Difference [95% interval]"]
    return tables.table(["Change from the authors' way", "Seeds", *maes, "Angles move by"], rows)


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--seeds", type=number(int, 2), default=5, help="how many seeds, from 0")
    parser.add_argument(
        "--data-dir", default="data/synthetic", help="folder of the synthetic heads, rendered on first use"
    )
    parser.add_argument("--runs", default=str(ROOT / "doc/effects.json"), metavar="FILE", help="the seeds' numbers")
    parser.add_argument("--document", default=str(ROOT / "doc/differences.md"), metavar="FILE", help="gets the table")
    options = parser.parse_args()
    from rafa.heads.dataset import ensure_dataset

    ensure_dataset(options.data_dir)
    train_list, test = (load_dataset(name, options.data_dir) for name in ("synthetic-train", "synthetic"))
    file = Path(options.runs)
    runs = json.loads(file.read_text(encoding="utf-8"))["runs"] if file.is_file() else []
    for seed in range(options.seeds):
        known = {run["variant"] for run in runs if run["seed"] == seed}
        for run in runs_of_seed(seed, train_list, test, known.__contains__):
            runs = [*(r for r in runs if (r["seed"], r["variant"]) != (seed, run["variant"])), run]
            lines = ",\n".join(json.dumps(run) for run in runs)
            made = json.dumps(environment("python tests/measurements/effects.py"))
            write_text(file, f'{{"made": {made},\n"runs": [\n{lines}\n]}}\n')
            print(
                {key: round(value, 2) if isinstance(value, float) else value for key, value in run.items()}, flush=True
            )
    document = Path(options.document)
    before, _, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    write_text(document, f"{before}{BEGIN}\n\n{effects_table(runs)}\n\n{END}{after}")
    print(effects_table(runs))


if __name__ == "__main__":
    run_script(main)

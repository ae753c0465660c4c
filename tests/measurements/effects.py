"""What today's numerics change against the authors': the table "Measured effects" of doc/differences.md.

    python tests/measurements/effects.py

Trains the tiny network on synthetic heads by the paper's recipe, once for each seed and way of training, and scores it
on held-out heads.  The seeds' numbers go to doc/effects.json; runs that are in it already are not repeated.
A difference is paired by seed; its 95% interval is that of Student's t over the seeds.
"""

import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from documents import with_interval, write_parts

from data_loaders import Batch, KeptImages, load_dataset, output_targets, training_batches
from rafa.datasets.lists import Listed
from rafa.files import ROOT, environment, write_text
from rafa.net.inference import predict_angles
from rafa.pose import AXES
from rafa.score import metrics
from rafa.score.predictions import predict_listed
from rafa.score.tables import table
from rafa.script import number, option_parser, run_script

EPOCHS, BATCH, RATE, DECAY_EVERY = 15, 32, 1e-3, 11
MARGIN, TEST_MARGIN, WORKERS = 0.5, 0.2, 2

# by name: what it replaces, in words, and how the predicted angles move ("": is measured, the network is the same)
VARIANTS = {
    "rmsprop": ("RMSprop of Keras 3: g / √(v + 1e-7) instead of g / (√v + 1e-7)", "another network"),
    "averages": ("moving averages of Keras 3: d · x + (1 − d) · value, biased variance", "another network"),
    "filled": ("an epoch's last batch filled up with images of the same epoch instead of dropped", "another network"),
    "biased": ("biased variance in the moving averages of the authors", ""),
    "spectral": ("spectral vectors that move at inference too, before every batch of 16", ""),
    "margin": ("margin 0 instead of 0.2 while evaluating during the training", "other crops"),
}


# --- The variants of training -----------------------------------------------------------------------------------------
def filled_batches(images: KeptImages, seed: int, epoch: int) -> Iterator[Batch]:
    """As `training_batches`, but every image is used in every epoch and the first ones fill up the last batch."""
    records, rng = images.listed.records, np.random.default_rng((seed, epoch))
    order = rng.permutation(len(records))
    order = np.concatenate([order, order[: -len(order) % BATCH]])
    margins = rng.uniform(0, MARGIN, len(order))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        crops = map(images.crop, chosen.tolist(), margins[start : start + BATCH])
        yield np.stack(list(crops)), output_targets(records["angles"][chosen])


def keras3_averages(layer: Any, mean: Any, variance: Any, n: Any, step: Any) -> None:
    """The moving averages of Keras 3, in place of `rafa.net.keras224.BatchNormalization._update_averages`."""
    for average, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        average.assign(average * layer.momentum + value * (1 - layer.momentum))


def train(variant: str, seed: int, images: KeptImages) -> Any:
    """A network trained by the paper's recipe, but for the variant."""
    from rafa.net.backend import keras
    from rafa.net.keras224 import BatchNormalization, count_steps
    from rafa.train.recipe import compile_rafa_net, training_step
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
    step = training_step(model)
    for epoch in range(EPOCHS):
        model.optimizer.learning_rate = RATE * 0.1 ** (epoch // DECAY_EVERY)
        if variant == "filled":
            batches = filled_batches(images, seed, epoch)
        else:
            batches = training_batches(images, BATCH, seed, epoch, WORKERS)
        for crops, targets in batches:
            step(crops, targets)
    BatchNormalization._update_averages = own_averages
    return model


# --- The variants of one network --------------------------------------------------------------------------------------
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


# --- Scores -----------------------------------------------------------------------------------------------------------
def measured(model: Any, test: Listed, margin: float = TEST_MARGIN) -> tuple[dict[str, float], np.ndarray]:
    """Mean absolute errors in degrees, and the predicted angles (n, 3)."""
    predictions = predict_listed(partial(predict_angles, model, fill=True), test, margin, WORKERS)
    columns = metrics.per_image(predictions)
    return {key: float(columns[key].mean()) for key in metrics.MAE_KEYS}, predictions.predicted


def runs_of_seed(seed: int, images: KeptImages, test: Listed, known: set[str]) -> Iterator[dict[str, Any]]:
    """The scores of one seed: as the authors, and of every variant that is not known yet."""
    if not known >= {"authors", "biased", "spectral", "margin"}:
        model = train("authors", seed, images)
        scores, angles = measured(model, test)
        yield {"variant": "authors", "seed": seed, **scores}
        yield {"variant": "margin", "seed": seed, **measured(model, test, 0.0)[0]}
        weights = model.get_weights()
        scores, moved = measured(MovingVectors(model), test)
        yield {"variant": "spectral", "seed": seed, **scores, "angles_move_by": float(np.abs(moved - angles).mean())}
        model.set_weights(weights)
        bias_variances(model)
        scores, moved = measured(model, test)
        yield {"variant": "biased", "seed": seed, **scores, "angles_move_by": float(np.abs(moved - angles).mean())}
    for variant in ("rmsprop", "averages", "filled"):
        if variant not in known:
            yield {"variant": variant, "seed": seed, **measured(train(variant, seed, images), test)[0]}


def effects_table(runs: list[dict[str, Any]]) -> str:
    """Markdown: the error with each variant, and the paired difference."""

    def of(variant: str, key: str) -> np.ndarray:
        """One number of each seed, in the seeds' order."""
        return np.array([run[key] for run in sorted(runs, key=lambda run: run["seed"]) if run["variant"] == variant])

    errors, rows = of("authors", "mae"), []
    for variant, (words, move) in VARIANTS.items():
        changed = of(variant, "mae")
        cells = f"{errors.mean():.2f}", f"{changed.mean():.2f}", with_interval(changed - errors, 2)
        rows.append([words, len(changed), *cells, move or f"{of(variant, 'angles_move_by').mean():.2f}"])
    maes = ["MAE the authors' way", "MAE with the change", "Difference [95% interval]"]
    return table(["Change from the authors' way", "Seeds", *maes, "Angles move by"], rows)


def write_runs(file: Path, runs: list[dict[str, Any]]) -> None:
    lines = ",\n".join(json.dumps(run) for run in runs)
    made = json.dumps(environment("python tests/measurements/effects.py"))
    write_text(file, f'{{"made": {made},\n"runs": [\n{lines}\n]}}\n')


def main() -> None:
    parser = option_parser(__doc__)
    add = parser.add_argument
    add("--seeds", type=number(int, 2), default=5, help="how many seeds, from 0")
    add("--data-dir", default="data/synthetic", help="folder of the synthetic heads, drawn on first use")
    add("--runs", type=Path, default=ROOT / "doc/effects.json", metavar="FILE", help="the seeds' numbers")
    add("--document", type=Path, default=ROOT / "doc/differences.md", metavar="FILE", help="gets the table")
    options = parser.parse_args()
    from rafa.heads.dataset import ensure_dataset

    ensure_dataset(options.data_dir)
    train_list, test = (load_dataset(name, options.data_dir) for name in ("synthetic-train", "synthetic"))
    images = KeptImages(train_list, MARGIN)
    runs = json.loads(options.runs.read_text(encoding="utf-8"))["runs"] if options.runs.is_file() else []
    for seed in range(options.seeds):
        known = {run["variant"] for run in runs if run["seed"] == seed}
        for run in runs_of_seed(seed, images, test, known):
            runs = [*(each for each in runs if (each["seed"], each["variant"]) != (seed, run["variant"])), run]
            write_runs(options.runs, runs)
            print(f"{run['variant']}, seed {seed}: MAE {run['mae']:.2f}", flush=True)
    text = effects_table(runs)
    write_parts(options.document, {"effects": text})
    print(text)


if __name__ == "__main__":
    run_script(main)

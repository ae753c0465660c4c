"""Learning curves of the suite's own network: what binds its error, people, steps or width.

    python tests/measurements/learning_curves.py --data-dir data --lists CROP ANGLES

Trains by the recipe of `--synthetic full`, but shorter, once for each point and seed, and scores on photographs of
AFLW2000, on lists of one's own in degrees, and on held-out heads.  The heads are drawn first.  The runs go to
doc/learning_curves.json, the figure to doc/learning_curves.png; runs of this version that are there are not repeated.
1,000 steps took 5 to 7 minutes on two cores.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import rafa_model
from data_loaders import Listed, limited, load_dataset, read_lists
from rafa.datasets.check import keep_present
from rafa.files import ROOT, environment, write_text
from rafa.heads.dataset import ensure_dataset
from rafa.heads.recipe import HeadsRecipe, without_landmarks
from rafa.net.backend import keras
from rafa.net.inference import predict_angles
from rafa.score.metrics import per_image
from rafa.score.plots import new_figure, save
from rafa.score.predictions import predict_listed
from rafa.script import InputError, number, option_parser, run_script
from rafa.train.recipe import training_step

BATCH, RATE, MARGIN, WORKERS = 32, 1e-3, 0.2, 2
PEOPLE, STEPS, WIDTH = 16_000, 1000, 1.0  # where another one varies
CURVES: dict[str, tuple[float, ...]] = {
    "people": (4000, 8000, 16_000, 32_000),
    "steps": (500, 1000, 2000, 4000),
    "width": (0.5, 1.0, 1.5),
}
KEYS = {"mae": "all", "mae_yaw_0_30": "|yaw| to 30°", "mae_yaw_30_60": "to 60°", "mae_yaw_60_90": "beyond"}
Run = dict[str, Any]


def train(heads: Path, people: int, steps: int, width: float, seed: int) -> Any:
    """A network trained on so many people for so many steps, its filters `width` times as many.

    It keeps its last weights: after so few steps the recipe's average still holds the random ones.
    """
    small = rafa_model.BACKBONES["small"]
    scaled = replace(
        small,
        stem_filters=round(small.stem_filters * width),
        trunk=tuple((round(filters * width), blocks, stride) for filters, blocks, stride in small.trunk),
        branch=(round(small.branch[0] * width), small.branch[1]),
    )
    rafa_model.BACKBONES["small"] = scaled
    try:
        listed = limited(load_dataset("synthetic-train", heads), people)
        per_epoch = people // BATCH
        options = argparse.Namespace(
            backbone="small", batch_size=BATCH, epochs=-(-steps // per_epoch), learning_rate=RATE, precision="float32",
            seed=seed, train_margin=0.5, workers=WORKERS,
        )  # fmt: skip
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        recipe = HeadsRecipe(options, listed)
        model = recipe.build()
        step, done = training_step(model, recipe.losses), 0
        for epoch in range(options.epochs):
            for crops, targets in islice(recipe.batches(epoch), steps - done):
                model.optimizer.learning_rate = recipe.learning_rate(done)
                step(crops, targets)
                done += 1
    finally:
        rafa_model.BACKBONES["small"] = small
    return without_landmarks(model)


def errors(model: Any, listed: Listed) -> dict[str, float]:
    """Mean errors in degrees: the keys of KEYS for which there are images, and the geodesic error."""
    predictions = predict_listed(lambda crops: predict_angles(model, crops), listed, MARGIN, WORKERS)
    columns = per_image(predictions)
    known = [key for key in (*KEYS, "geodesic") if not np.isnan(columns[key]).all()]
    return {key: round(float(np.nanmean(columns[key])), 3) for key in known}


def draw(runs: list[Run], suite: str, path: Path) -> None:
    """Above, the error on each set; below, that on AFLW2000 by |yaw|; a dot for each run, a line through the means."""
    figure = new_figure(13, 7.5)
    usually = f"{STEPS:,} steps of {BATCH} images, {PEOPLE:,} people, all filters"
    figure.suptitle(f"The network small on drawn heads of {suite}; unless varied: {usually}.  Dots: runs; lines: means")
    titles = {"people": "people", "steps": "steps", "width": "filters, as a multiple"}
    plots = figure.subplots(2, len(CURVES), sharey="row", sharex="col")
    for (upper, lower), (curve, values) in zip(plots.T, CURVES.items(), strict=True):
        here = [run for run in runs if all(run[name] == usual(name) for name in CURVES if name != curve)]
        lines = [(upper, name, name, "mae") for name in here[0]["errors"]] if here else []
        lines += [(lower, label, "AFLW2000", key) for key, label in KEYS.items()] if here else []
        for plot, label, name, key in lines:
            points = [(run[curve], run["errors"][name][key]) for run in here]
            means = [
                (x, np.mean([y for at, y in points if at == x])) for x in values if any(x == at for at, _ in points)
            ]
            (line,) = plot.plot(*zip(*means, strict=True), label=label)
            plot.plot(*zip(*points, strict=True), "o", color=line.get_color(), alpha=0.5)
        upper.set(xscale="log", title=titles[curve])
        lower.set(xticks=values, xticklabels=[f"{value:,}" for value in values])
        lower.minorticks_off()
        for plot in (upper, lower):
            plot.grid(alpha=0.3)
    plots[0, 0].set(ylabel="mean error (degrees)")
    plots[1, 0].set(ylabel="on AFLW2000, by |yaw|")
    for plot in plots[:, 1]:  # where the lines fall and leave room
        plot.legend(loc="upper right")
    save(figure, path)


def usual(name: str) -> float:
    """The value of what does not vary."""
    return {"people": PEOPLE, "steps": STEPS, "width": WIDTH}[name]


def main() -> None:
    parser = option_parser(__doc__)
    add = parser.add_argument
    add("--heads", type=Path, default=Path("data/synthetic-32000"), help="folder of the drawn heads")
    add("--data-dir", default="data", help="folder with lists and AFLW2000")
    add("--lists", nargs=2, metavar=("CROP", "ANGLES"), help="other photographs, angles in degrees")
    add("--seeds", type=number(int, 1), default=2, help="runs of each point")
    add("--out", type=Path, default=ROOT / "doc/learning_curves.json", help="the runs; the figure lies beside it")
    options = parser.parse_args()
    sets = {"AFLW2000": keep_present(load_dataset("aflw2000", options.data_dir), allow_missing=True)}
    if options.lists:
        sets["Pointing'04"] = read_lists(*options.lists, "degrees", options.data_dir)
    ensure_dataset(options.heads, train=max(map(int, CURVES["people"])), test=400, per_person=1)
    sets["held-out heads"] = load_dataset("synthetic", options.heads)
    made, runs = environment(), list[Run]()
    if options.out.is_file():
        found = json.loads(options.out.read_text(encoding="utf-8"))
        runs = found["runs"]
        if (version := found["environment"]["suite"]) != made["suite"]:
            raise InputError(f"{options.out} has runs of {version}, and this is {made['suite']}: give another --out")
    for seed in range(options.seeds):
        for curve, values in CURVES.items():
            for value in values:
                point = {name: usual(name) for name in CURVES} | {curve: value, "seed": seed}
                if any(point.items() <= run.items() for run in runs):
                    continue
                start = time.monotonic()
                model = train(options.heads, point["people"], point["steps"], point["width"], seed)
                seconds = round(time.monotonic() - start)
                runs.append(point | {"seconds": seconds, "errors": {k: errors(model, v) for k, v in sets.items()}})
                print(json.dumps(runs[-1]), flush=True)
                write_text(options.out, json.dumps({"environment": made, "runs": runs}, indent=1) + "\n")
                draw(runs, made["suite"], options.out.with_suffix(".png"))


if __name__ == "__main__":
    run_script(main)

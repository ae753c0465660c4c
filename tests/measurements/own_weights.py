"""Measure the suite's own weights for their model card, on photographs that they were never trained on.

    python tests/measurements/own_weights.py --data-dir data

Writes doc/model_card.md with its marked parts replaced: errors by yaw, constant offsets, errors by skin tone of
synthetic people, and whether the spread over six views tells large errors from small ones.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from documents import write_parts
from scipy.stats import rankdata, spearmanr

from data_loaders import crop, listed_image, load_dataset, mean_of_views, views_of
from rafa.datasets.check import keep_present
from rafa.datasets.lists import Listed
from rafa.files import ROOT
from rafa.heads.dataset import random_angles
from rafa.heads.renderer import render_head
from rafa.heads.shape import random_identity
from rafa.net.inference import predict_angles
from rafa.net.pretrained import SYNTHETIC_FILE
from rafa.pose import AXES, angle_errors
from rafa.score.metrics import Columns, summarise
from rafa.score.tables import table
from rafa.script import number, option_parser, progress, run_script

MARGIN = 0.2
VIEWS = 6
YAWS = ((0, 30), (30, 60), (60, 100))
SAMPLES = 1000  # of the bootstrap


def answers(model: Any, listed: Listed) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One crop's angles, the mean of the views and their spread, each (n, 3) in degrees."""
    one, mean, spread = [], [], []
    for record in progress(listed.records, len(listed.records), "predicting"):
        image, box = listed_image(listed, record), (record["row"], record["column"], record["size"])
        one.append(predict_angles(model, crop(image, *box, MARGIN)[None])[0])
        middle, deviation = mean_of_views(predict_angles(model, views_of(image, *box, MARGIN, VIEWS)), VIEWS)
        mean.append(middle[0])
        spread.append(deviation[0])
    return tuple(np.degrees(values) for values in (one, mean, spread))


def estimates(columns: Columns, form: str = ".1f") -> list[str]:
    """The mean of each column with its 95% interval."""
    return [f"{mean:{form}} [{low:{form}}, {high:{form}}]" for mean, low, high, *_ in summarise(columns).values()]


def by_group(groups: dict[str, np.ndarray], errors: np.ndarray) -> str:
    """A table of mean errors by axis and of all, with a row for each group, a mask (n,)."""
    rows = []
    for name, here in groups.items():
        columns = {str(place): errors[here, place] for place in range(3)} | {"mean": errors[here].mean(axis=1)}
        rows.append([name, here.sum(), *estimates(columns)])
    return table(["", "Images", *(axis.capitalize() for axis in AXES), "Mean"], rows)


def correlations(errors: np.ndarray, spreads: np.ndarray) -> list[str]:
    """Spearman's rank correlation of each column of errors with that of spreads, (n, 3) each, with its interval."""

    def of(rows: np.ndarray) -> list[float]:
        pairs = zip(errors[rows].T, spreads[rows].T, strict=True)
        return [float(spearmanr(*pair).statistic) for pair in pairs]

    n, rng = len(errors), np.random.default_rng(0)
    low, high = np.percentile([of(rng.integers(n, size=n)) for _ in range(SAMPLES)], (2.5, 97.5), axis=0)
    return [f"{value:.2f} [{a:.2f}, {b:.2f}]" for value, a, b in zip(of(np.arange(n)), low, high, strict=True)]


def by_fifths(errors: np.ndarray, spreads: np.ndarray) -> str:
    """A table: the mean error of each axis in every fifth of that axis' spreads, and the rank correlation."""
    fifths = np.minimum((rankdata(spreads, axis=0) - 1) * 5 // len(spreads), 4)  # 0..4 for each axis
    rows = []
    for fifth in range(5):
        within = [errors[fifths[:, place] == fifth, place] for place in range(3)]
        rows.append([f"fifth {fifth + 1}", *(estimates({"": values})[0] for values in within)])
    rows.append(["rank correlation", *correlations(errors, spreads)])
    return table(["Spread", *(axis.capitalize() for axis in AXES)], rows)


def errors_of_people(model: Any, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Errors (n, 3) in degrees on synthetic people whom nobody trained on, and how light their skin is (n,)."""
    errors, tones = [], []
    for person in progress(range(count), count, "drawing synthetic people"):
        rng = np.random.default_rng([seed, person])
        identity, angles = random_identity(rng), random_angles(rng)
        image, facts = render_head(identity, angles, rng=rng)
        predicted = predict_angles(model, crop(image, *facts["box"], MARGIN)[None])[0]
        errors.append(angle_errors(np.degrees(angles), np.degrees(predicted)))
        tones.append(np.dot(identity.skin, (0.299, 0.587, 0.114)))
    return np.array(errors), np.array(tones)


def measured_parts(model: Any, listed: Listed, people: int, seed: int) -> dict[str, str]:
    """What doc/model_card.md holds between its marks, by their names."""
    one, mean, spread = answers(model, listed)
    target = np.degrees(listed.records["angles"])
    yaw, offsets = np.abs(target[:, 0]), one - target
    ranges = {f"yaw {low}° to {min(high, 99)}°": (yaw >= low) & (yaw < high) for low, high in YAWS}
    ranges["all"] = yaw >= 0
    errors, tones = errors_of_people(model, people, seed)
    third = rankdata(tones) * 3 // (len(tones) + 1)
    thirds = {f"{name} third": third == number for number, name in enumerate(("darkest", "middle", "lightest"))}
    means = estimates(dict(zip(AXES, offsets.T, strict=True)), "+.1f")
    medians = [f"median {value:+.1f}" for value in np.median(offsets, axis=0)]
    return {
        "yaw": by_group(ranges, angle_errors(target, one)),
        "views": by_group(ranges, angle_errors(target, mean)),
        "offsets": table([axis.capitalize() for axis in AXES], [means, medians]),
        "skin": by_group(thirds, errors),
        "sure": by_fifths(angle_errors(target, mean), spread),
    }


def main() -> None:
    parser = option_parser(__doc__)
    add = parser.add_argument
    add("--data-dir", default="data", help="folder with lists and AFLW2000")
    add("--people", type=number(int, 30), default=900, help="synthetic people to measure on")
    add("--seed", type=number(int, 0), default=2020, help="of the synthetic people")
    add("--document", type=Path, default=ROOT / "doc/model_card.md", metavar="FILE", help="gets the tables")
    options = parser.parse_args()
    from rafa_model import load_rafa_net

    listed = keep_present(load_dataset("aflw2000", options.data_dir), allow_missing=True)
    parts = measured_parts(load_rafa_net(SYNTHETIC_FILE), listed, options.people, options.seed)
    write_parts(options.document, parts)
    print(f"written: {options.document}")


if __name__ == "__main__":
    run_script(main)

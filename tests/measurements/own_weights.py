"""Measure the suite's own weights for their model card, on photographs that they were never trained on.

    python tests/measurements/own_weights.py --data-dir data

Writes doc/model_card.md with its marked parts replaced: errors by yaw, constant offsets, errors by skin tone of
synthetic people, and whether the spread over six views tells large errors from small ones.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from explanations import with_parts
from scipy.stats import rankdata

from data_loaders import crop, mean_of_views, views_of
from rafa.datasets.check import keep_present
from rafa.datasets.lists import Listed, load_dataset
from rafa.files import ROOT, write_text
from rafa.heads.dataset import random_angles
from rafa.heads.renderer import render_head
from rafa.heads.shape import random_identity
from rafa.net import weights as pretrained
from rafa.net.inference import predict_angles
from rafa.pose import AXES, angle_errors
from rafa.score.metrics import Columns, summarise
from rafa.score.tables import table
from rafa.script import number, option_parser, progress, run_script

MARGIN = 0.2
VIEWS = 6
YAWS = ((0, 30), (30, 60), (60, 100))
ROUNDS = 1000


def answers(model: Any, listed: Listed) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One crop's angles, the mean of the views and their spread, each (n, 3) in degrees."""
    from data_loaders import listed_image

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
    found = summarise(columns).values()
    return [f"{mean:{form}} [{low:{form}}, {high:{form}}]" for mean, low, high, *_ in found]


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
        ranks = (rankdata(values[rows], axis=0) for values in (errors, spreads))
        return [float(np.corrcoef(a, b)[0, 1]) for a, b in zip(*(values.T for values in ranks), strict=True)]

    n, rng = len(errors), np.random.default_rng(0)
    low, high = np.percentile([of(rng.integers(n, size=n)) for _ in range(ROUNDS)], (2.5, 97.5), axis=0)
    return [f"{value:.2f} [{a:.2f}, {b:.2f}]" for value, a, b in zip(of(np.arange(n)), low, high, strict=True)]


def by_fifths(errors: np.ndarray, spreads: np.ndarray) -> str:
    """A table: the mean error of each axis in every fifth of that axis' spreads, and the rank correlation."""
    fifths = np.minimum((rankdata(spreads, axis=0) - 1) * 5 // len(spreads), 4)  # 0..4 for each axis
    rows = []
    for fifth in range(5):
        within = [errors[fifths[:, place] == fifth, place] for place in range(3)]
        rows.append([f"fifth {fifth + 1}", *(estimates({"": values})[0] for values in within)])
    return table(
        ["Spread", *(axis.capitalize() for axis in AXES)],
        [*rows, ["rank correlation", *correlations(errors, spreads)]],
    )


def errors_of_people(model: Any, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Errors (n, 3) in degrees on synthetic people whom nobody trained on, and how light their skin is (n,)."""
    errors, tones = [], []
    for person in progress(range(count), count, "drawing synthetic people"):
        rng = np.random.default_rng([seed, person])
        identity, angles = random_identity(rng), random_angles(rng)
        image, facts = render_head(identity, angles, rng=rng)
        found = predict_angles(model, crop(image, *facts["box"], MARGIN)[None])
        errors.append(angle_errors(np.degrees(angles)[None], np.degrees(found))[0])
        tones.append(np.dot(identity.skin, (0.299, 0.587, 0.114)))
    return np.array(errors), np.array(tones)


def measured_parts(model: Any, listed: Listed, people: int, seed: int) -> dict[str, str]:
    """What doc/model_card.md holds between its marks, by their names."""
    one, mean, spread = answers(model, listed)
    true = np.degrees(listed.records["angles"])
    yaw, offsets = np.abs(true[:, 0]), one - true
    ranges = {f"yaw {low}° to {min(high, 99)}°": (yaw >= low) & (yaw < high) for low, high in YAWS}
    errors, tones = errors_of_people(model, people, seed)
    third = rankdata(tones) * 3 // (len(tones) + 1)
    thirds = dict(zip(("darkest third", "middle third", "lightest third"), (third == i for i in range(3)), strict=True))
    return {
        "yaw": by_group(ranges | {"all": yaw >= 0}, angle_errors(true, one)),
        "views": by_group(ranges | {"all": yaw >= 0}, angle_errors(true, mean)),
        "offsets": table(
            [axis.capitalize() for axis in AXES],
            [
                estimates(dict(zip(AXES, offsets.T, strict=True)), "+.1f"),
                [f"median {value:+.1f}" for value in np.median(offsets, axis=0)],
            ],
        ),
        "skin": by_group(thirds, errors),
        "sure": by_fifths(angle_errors(true, mean), spread),
    }


def parse_options() -> argparse.Namespace:
    parser = option_parser(__doc__)
    parser.add_argument("--data-dir", default="data", help="folder with lists and AFLW2000")
    parser.add_argument("--people", type=number(int, 30), default=900, help="synthetic people to measure on")
    parser.add_argument("--seed", type=number(int, 0), default=2020, help="of the synthetic people")
    return parser.parse_args()


def main() -> None:
    from rafa_model import load_rafa_net

    options = parse_options()
    model = load_rafa_net(pretrained.FILE)
    listed = keep_present(load_dataset("aflw2000", options.data_dir), allow_missing=True)
    card = ROOT / "doc" / "model_card.md"
    parts = measured_parts(model, listed, options.people, options.seed)
    write_text(card, with_parts(card.read_text(encoding="utf-8"), parts))
    print(f"written: {card.relative_to(ROOT)}")


if __name__ == "__main__":
    run_script(main)

"""Score a network, or anyone's predictions, by the published lists.

    python evaluate.py aflw2000 --weights FILE --margin 0.2 0.3
    python evaluate.py biwi --split 16-8 --weights FILE --margin 0.1
    python evaluate.py lists --lists CROP ANGLES --angle-unit degrees --weights FILE

Every number comes with its 95 % bootstrap interval and a protocol card: what was scored, how, and with what.
"""

import argparse
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

import metrics
from data_loaders import (
    AXES,
    BIWI_SPLITS,
    DATA_SETS,
    DataError,
    keep_present,
    load_data_set,
    read_lists,
    scoring_batches,
)

ROOT = Path(__file__).resolve().parent
PAPER = json.loads((ROOT / "doc" / "paper_tables.json").read_text(encoding="utf-8"))
SCORED_SETS = ("aflw2000", "biwi", "synthetic")


# --- Predicting -------------------------------------------------------------------------------------------------------


def predict(model, listed, margin, batch_size=16, workers=2, progress=False):
    """The network's answers for every record of `listed`, in order, as `metrics.Predictions` (degrees, list signs).

    Args:
        model: from `rafa_model.build_rafa_net` or `load_rafa_net`.
        listed: `data_loaders.Listed` whose pictures are all present.
        margin: γ of the crops.
    """
    angles, total = [], len(listed.records)
    for crops in scoring_batches(listed, batch_size, margin, workers):
        answers = model.predict_on_batch(crops)
        angles.append(np.concatenate([answers[axis] for axis in AXES], axis=1))  # (b, 3) radians
        if progress:
            done = sum(map(len, angles))
            print(
                f"\r{listed.data_set.title}, margin {margin:g}: {done:,} of {total:,} images", end="", file=sys.stderr
            )
    if progress:
        print(file=sys.stderr)
    records = listed.records
    return metrics.Predictions(
        path=records["path"],
        true=np.degrees(records["angles"]),
        predicted=np.degrees(np.concatenate(angles)),
        split=listed.split,
        video=records["video"],
        person=records["person"],
        margin=margin,
    )


def clusters_of(predictions):
    """What a bootstrap resamples: persons where all are known, else videos where all are known, else None: images."""
    return next((names for names in (predictions.person, predictions.video) if (names != "").all()), None)


# --- The protocol card ------------------------------------------------------------------------------------------------


def environment():
    """What a result was made with: versions, commit, hardware class, command, date."""
    names = ("keras", "tensorflow", "keras-self-attention", "opencv-python", "numpy", "scipy", "scikit-learn")
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in names}
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
        "hardware": _hardware(),
        "versions": versions,
    }


def _commit():
    """The commit of this suite, "+changes" where files differ from it, or "unknown" outside a git checkout."""
    git = ["git", "-C", str(ROOT)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if status.strip() else "")


def _hardware():
    """The class of machine: number of processors, and the graphics cards that TensorFlow sees once it is loaded."""
    cards = []
    if "tensorflow" in sys.modules:
        devices = sys.modules["tensorflow"].config
        cards = [
            devices.experimental.get_device_details(card).get("device_name", "GPU")
            for card in devices.list_physical_devices("GPU")
        ]
    return ", ".join([f"{os.cpu_count()} CPU cores, {platform.machine()}", *cards])


def sha256(path):
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def protocol_card(listed, margin, seed, rounds, clusters):
    """Everything a reader needs to know what was scored, as a dict for JSON; see `paper_protocol` for its verdict."""
    data_set = listed.data_set
    doubts = _departures(listed, margin)
    return {
        "data_set": data_set.title,
        "split": listed.split,
        "lists": [asdict(file) for file in listed.files],
        "notes": list(listed.notes),
        "images": {
            "expected": data_set.usable if listed.split == "all" else None,
            "listed": listed.files[0].rows,
            "usable": len(listed.records) + listed.missing,
            "rejected": {reason: len(paths) for reason, paths in listed.rejected.items()},
            "missing": listed.missing,
            "scored": len(listed.records),
        },
        "box": "square boxes of the crop list",
        "margin": margin,
        "channel_order": "RGB minus (103.939, 116.779, 123.68), inside the network",
        "roll_sign": "list: the negative of the .mat files' roll",
        "euler_order": "R = Rx(pitch) Ry(-yaw) Rz(-roll) in image axes (x right, y down, z to the viewer), list signs",
        "wrap": "errors wrap at 360 degrees only: 170 off counts as 170",
        "units": "degrees",
        "intervals": f"95 % percentile bootstrap over {clusters}, {rounds} rounds, seed {seed}",
        "paper_protocol": not doubts,
        "departures": doubts,
    }


def _departures(listed, margin):
    """Why a result is not the paper's protocol; empty if it is."""
    reasons = []
    expected = listed.data_set.usable
    if listed.data_set not in (DATA_SETS["aflw2000"], DATA_SETS["biwi"]):
        reasons.append(f"{listed.data_set.title}: not a data set of the paper")
    elif not listed.published:
        reasons.append("not the published lists")
    if listed.split != "all":
        reasons.append("which videos the paper's split has is unknown")
    elif expected and len(listed.records) != expected:
        reasons.append(f"{len(listed.records):,} images scored; the published lists hold {expected:,} usable")
    if margin not in {row["margin"] for row in _paper_rows(listed)}:
        reasons.append(f"the paper has no row for the margin {margin:g}")
    return reasons


def _paper_rows(listed):
    """RAFA-Net's own rows of the paper's table for this data set and split: dicts with margin and the four numbers."""
    if listed.data_set is DATA_SETS["aflw2000"]:
        table, column = "table1", "aflw2000"
    elif listed.data_set is DATA_SETS["biwi"]:
        table, column = ("table1" if listed.split == "all" else "table2"), "biwi"
    else:
        return []
    return [{"margin": row["margin"], "table": table, "mae": row[column]} for row in PAPER[table] if "margin" in row]


# --- Printing ---------------------------------------------------------------------------------------------------------

MAE_KEYS = (*(f"mae_{axis}" for axis in AXES), "mae")


def result_table(results):
    """Markdown: mean absolute errors with intervals, a row per result, each with the paper's row under it if it has one.

    Args:
        results: list of dicts with `card`, `estimates` and `paper`, from `score`.
    """
    lines = ["| Result | Margin | Images scored | Yaw | Pitch | Roll | MAE |", "|---|---|---|---|---|---|---|"]
    for result in results:
        card = result["card"]
        images = f"{card['images']['scored']:,} of {card['images']['usable']:,}"
        cells = [_with_interval(result["estimates"][key]) for key in MAE_KEYS]
        split = "" if card["split"] == "all" else f", {card['split']}"
        lines.append(f"| {card['data_set']}{split} | {card['margin']:g} | {images} | {' | '.join(cells)} |")
        for row in result["paper"]:
            numbers = [f"{number:.2f}" for number in row["mae"]]
            lines.append(f"| paper, {row['table']} | {row['margin']:g} | not stated | {' | '.join(numbers)} |")
    return "\n".join(lines) + "\n\nMean absolute error in degrees [95 % interval]; MAE is the mean of the three axes."


def _with_interval(estimate):
    value, low, high = estimate[:3]
    return f"{value:.2f}" if np.isnan(low) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def score(listed, predictions, rounds=1000, seed=0):
    """Metrics, intervals and protocol card of one data set at one margin, as a dict for printing and for JSON."""
    margin = float(predictions.margin[0])
    clusters = clusters_of(predictions)
    estimates = metrics.summarise(predictions, rounds, seed, clusters)
    unit = "images" if clusters is None else "persons" if clusters is predictions.person else "videos"
    paper = [row for row in _paper_rows(listed) if row["margin"] == margin]
    return {"card": protocol_card(listed, margin, seed, rounds, unit), "estimates": estimates, "paper": paper}


# --- The script -------------------------------------------------------------------------------------------------------


def parse_options(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(*SCORED_SETS, "lists"), help="what to score on")
    parser.add_argument("--weights", required=True, metavar="FILE", help="the network: .keras or .weights.h5")
    parser.add_argument("--data-dir", help="the data folder (data; data/synthetic for synthetic)")
    parser.add_argument("--lists", nargs=2, metavar=("CROP", "ANGLES"), help="one's own lists, in the published format")
    parser.add_argument("--angle-unit", choices=("radians", "degrees"), help="of one's own angle list")
    parser.add_argument("--split", default="all", choices=("all", *BIWI_SPLITS), help="of BIWI: its test videos (all)")
    parser.add_argument("--margin", nargs="+", type=float, default=[0.2, 0.3], help="test margins γ (0.2 0.3)")
    parser.add_argument("--predictions", metavar="OUT.csv", help="write one row per image and margin")
    parser.add_argument("--result", metavar="OUT.json", help="write metrics, intervals and protocol cards")
    parser.add_argument("--allow-missing", action="store_true", help="score the pictures that are there")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="threads that read pictures (all cores)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (0)")
    options = parser.parse_args(arguments)
    if (options.what == "lists") != bool(options.lists and options.angle_unit):
        parser.error("`lists` needs --lists CROP ANGLES and --angle-unit, and nothing else takes them")
    if not all(0 <= margin <= 5 for margin in options.margin):
        parser.error(f"a margin is a share of the box between 0 and 5, not {options.margin}")
    options.data_dir = options.data_dir or ("data/synthetic" if options.what == "synthetic" else "data")
    return options


def load_listed(options):
    if options.what == "lists":
        listed = read_lists(*options.lists, options.angle_unit, options.data_dir)
    else:
        listed = load_data_set(options.what, options.data_dir, options.split)
    return keep_present(listed, options.allow_missing)


def main(arguments=None):
    options = parse_options(arguments)
    listed = load_listed(options)  # before TensorFlow is loaded: missing data is said at once
    from rafa_model import load_rafa_net

    model = load_rafa_net(options.weights)
    results, rows = [], []
    for margin in options.margin:
        predictions = predict(model, listed, margin, options.batch_size, options.workers, progress=True)
        rows.append(predictions)
        results.append(score(listed, predictions, seed=options.seed))
    if options.predictions:
        metrics.write_predictions(options.predictions, rows)
    print(result_table(results))
    for note in listed.notes:
        print(f"Note: {note}.")


if __name__ == "__main__":
    try:
        main()
    except (DataError, ValueError) as error:
        sys.exit(f"error: {error}")

"""Predictions → results that can testify: metrics, intervals, and a card of what was scored, how and with what.

Knows nothing of the network: predictions come from `evaluate.predict` or from a file of any model.
"""

import csv
import functools
import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from data_loaders import AXES, CROP_SIZE, DATA_SETS, read_lists
from util import metrics
from util.errors import InputError
from util.predictions import read_predictions, truth_of
from util.provenance import ROOT, environment, sha256, write_text

SPLIT_FRAMES = {"17-7": 4647, "17-7-b": 4889, "16-8": 5217}  # test frames of BIWI's splits in the published list
FEW_CLUSTERS = 20  # below, intervals come with a warning
RELEASED_BATCH = 16  # the released code scores in batches of 16 and drops the last partial one
MAE_KEYS = (*(f"mae_{axis}" for axis in AXES), "mae")


# --- Predictions ------------------------------------------------------------------------------------------------------
def clusters_of(predictions):
    """What a bootstrap resamples: ("persons", names) where all are known, else videos, else ("images", None)."""
    persons_known = (predictions.person != predictions.video).any()  # where they are not, a video's name stands in
    for unit, names in (("persons", predictions.person), ("videos", predictions.video))[not persons_known :]:
        if (names != "").all():
            return unit, names
    return "images", None


def read_file(path, roll_sign, listed, common_only):
    """A predictions file as `metrics.Predictions`, and what the card says of it."""
    try:
        facts = {"file": str(path), "sha256": sha256(path), "roll_sign": roll_sign, "notes": []}
        if listed is None:
            predictions = read_predictions(path, roll_sign)
        else:
            predictions = read_predictions(path, roll_sign, truth_of(listed), common_only)
            with open(path, encoding="utf-8-sig", newline="") as file:
                extra = {row["path"] for row in csv.DictReader(file)} - set(listed.records["path"].tolist())
            if extra:
                facts["notes"].append(f"{len(extra):,} images of the file are not in the lists and were LEFT OUT")
    except OSError as error:
        raise InputError(f"{path}: the predictions cannot be read: {error.strerror}") from error
    return predictions, facts


def parts_of(predictions):
    """Predictions by split and margin, each of which is scored on its own, in the order of the rows."""
    keys = list(zip(predictions.split.tolist(), map(str, predictions.margin.tolist()), strict=True))
    rows = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    return [predictions.select(np.array(numbers)) for numbers in rows.values()]


def pairs_of(a, b, common_only):
    """What to compare: (a, b, what margin), at each common margin, or across margins where each file has just one."""
    margins_a, margins_b = (sorted({*np.nan_to_num(part.margin, nan=-1).tolist()}) for part in (a, b))
    name = {-1.0: "not stated"}
    if len(margins_a) == len(margins_b) == 1:
        texts = [name.get(margin, f"{margin:g}") for margin in (*margins_a, *margins_b)]
        text = texts[0] if texts[0] == texts[1] else f"{texts[0]} in A, {texts[1]} in B"
        return [(replace(a, margin=np.nan), replace(b, margin=np.nan), text)]
    common = sorted({*margins_a} & {*margins_b})
    if not common or (margins_a != margins_b and not common_only):
        raise InputError(
            f"A has the margins {margins_a}, B {margins_b} (-1: not stated); --common-only compares common ones"
        )
    at = [[part.select(np.nan_to_num(part.margin, nan=-1) == margin) for part in (a, b)] for margin in common]
    return [(*pair, name.get(margin, f"{margin:g}")) for pair, margin in zip(at, common, strict=True)]


def compare_pair(a, b, *, common_only=False, rounds=1000, seed=0):
    """Paired differences of two methods on the same images, as a dict for `reports.comparison_text`.

    Args:
        a, b: `metrics.Predictions` at one margin each, or without margins.
        common_only: where the images differ, compare those that both have.
        rounds, seed: of the bootstrap over persons or videos where either file names them, else over images.
    """
    sizes = len(a), len(b)
    if common_only:
        a, b = a.select(np.isin(a.path, b.path)), b.select(np.isin(b.path, a.path))
    unit, names = clusters_of(a)
    if names is None and clusters_of(b)[1] is not None:  # a foreign file often names no videos
        unit, of_b = clusters_of(b)
        name_of = dict(zip(b.path.tolist(), of_b.tolist(), strict=True))
        names = np.array([name_of.get(path, "in A only") for path in a.path.tolist()])
    return {
        "differences": metrics.compare(a, b, rounds=rounds, seed=seed, clusters=names).differences,
        "a": _values(a),
        "b": _values(b),
        "images": len(a),
        "left_out": (sizes[0] - len(a), sizes[1] - len(b)),
        "intervals": interval_text(unit, len(a) if names is None else len(set(names.tolist())), rounds, seed),
    }


def _values(predictions):
    columns = metrics.per_image(predictions).items()
    return {key: float(np.nanmean(column)) for key, column in columns if np.isfinite(column).any()}


def interval_text(unit, number, rounds, seed):
    """How an interval was made; unit: what was resampled, number: of how many."""
    return f"95 % percentile bootstrap over {counted(number, unit)}, {rounds:,} rounds, seed {seed}"


def weights_facts(path, backbone):
    """The weights file, its hash, and the training run that left a run.json beside it, if there is one."""
    facts = {"file": str(path), "sha256": sha256(path), "backbone": backbone, "trained_by": None}
    try:
        run = json.loads(Path(path).with_name("run.json").read_text(encoding="utf-8"))
        facts["trained_by"] = {key: run[key] for key in ("command", "date", "commit", "hardware")} | {
            "seed": run["options"]["seed"],
            "lists": run["lists"][0],
            "all_pictures": not (run["options"]["allow_missing"] or run["options"]["limit"]),
        }
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{Path(path).with_name('run.json')} is not the record of a run: {error!r}") from error
    return facts


# --- The card ---------------------------------------------------------------------------------------------------------
def protocol_card(listed, predictions, intervals, *, weights=None, file=None, made=None):
    """Everything a reader needs to know what was scored, as a dict for JSON.

    Args:
        listed: `data_loaders.Listed`, or None where predictions came without their lists.
        predictions: what was scored: one split at one margin.
        intervals: the arguments of `interval_text`.
        weights: from `weights_facts`, where a network of this suite predicted.
        file: a dict of file, sha256, roll_sign and notes, where the predictions were read.
        made: from `environment`.
    """
    margin = None if np.isnan(predictions.margin[0]) else float(predictions.margin[0])
    not_in_file = "not in a predictions file" if file else None
    doubts = _departures(listed, len(predictions), margin, weights, file)
    return {
        "data_set": _title(listed),
        "split": listed.split if listed else predictions.split[0] or "split not stated",
        "lists": [asdict(found) for found in listed.files] if listed else [],
        "images": _images(listed, len(predictions), file),
        "boxes": not_in_file or "square boxes of the crop list, grown by the margin on each side, black outside",
        "margin": margin,
        "crop": not_in_file or f"resized to {CROP_SIZE} × {CROP_SIZE}, bilinear",
        "channel_order": not_in_file or "RGB minus (103.939, 116.779, 123.68), inside the network",
        "units": "degrees",
        "roll_sign": "that of the lists, the negative of the .mat files'",
        "euler_order": "R = Rx(pitch) Ry(-yaw) Rz(-roll), list signs; x right, y down, z to the viewer",
        "wrap": "errors wrap at 360 degrees only, 170 off counts as 170",
        "intervals": interval_text(**intervals),
        "resampled": {"unit": intervals["unit"], "number": intervals["number"]},
        "seed": intervals["seed"],
        "weights": weights,
        "predictions": file,
        "made": made or environment(),
        "notes": [
            *(listed.notes if listed else ()),
            *(file["notes"] if file else ()),
            *_interval_notes(listed, **intervals),
        ],
        "paper_protocol": not doubts,
        "departures": doubts,
    }


def _title(listed):
    if listed is None:
        return "unknown data set"
    known = listed.data_set in DATA_SETS.values()
    return listed.data_set.title + ("" if known else f" ({Path(listed.files[0].path).name})")


def _interval_notes(listed, unit, number, **_):
    """A warning where intervals are too narrow: few clusters (see `metrics.summarise`), or perhaps frames of videos."""
    if unit == "images":
        frames = listed is None or listed.data_set == DATA_SETS["biwi"]
        note = "no videos or persons are named: images were resampled, which is too narrow for frames of videos"
        return [note] if frames else []
    if number >= FEW_CLUSTERS:
        return []
    if number == 1:
        return [f"one of the {unit} alone gives no interval"]
    covered = "in simulations 95 % intervals from 4 videos covered the truth in 79 %, from 8 in 88 %, from 24 in 95 %"
    return [f"with {counted(number, unit)} the intervals are too narrow: {covered}"]


def counted(number, unit):
    """A number of images, videos or persons."""
    return f"{number:,} {unit if number != 1 else unit.removesuffix('s')}"


def _images(listed, scored, file):
    if listed is None:
        unknown = dict.fromkeys(("expected", "listed", "usable", "found"))
        return unknown | {"scored": scored, "rejected": {}, "left_out": 0, "left_out_by": ""}
    usable = len(listed.records) + listed.missing
    return {
        "expected": SPLIT_FRAMES.get(listed.split.removesuffix(" test"), listed.data_set.usable),
        "listed": listed.files[0].rows,
        "rejected": {reason: len(paths) for reason, paths in listed.rejected.items()},
        "usable": usable,
        "found": None if file else len(listed.records),
        "scored": scored,
        "left_out": usable - scored,
        "left_out_by": "--common-only" if file else "--allow-missing",
    }


def _departures(listed, scored, margin, weights, file):
    """Why a result is not the paper's protocol; empty if it is."""
    if listed is None:
        return ["the lists are unknown: a predictions file alone does not say what was left out"]
    reasons, expected = [], _images(listed, scored, file)["expected"]
    if listed.data_set not in (DATA_SETS["aflw2000"], DATA_SETS["biwi"]):
        reasons.append("not a data set of the paper")
    elif not listed.published:
        reasons.append("not the published lists")
    elif margin not in {row["margin"] for row in paper_rows(listed)}:
        reasons.append(
            "the margin is not known" if margin is None else f"the paper has no row for the margin {margin:g}"
        )
    if listed.split != "all":
        reasons.append("which videos the paper's split has is unknown")
    if expected and scored != expected:
        reasons.append(f"{scored:,} images scored; the published lists hold {expected:,} usable")
    if file:
        reasons.append("a predictions file does not say from which crops the model predicted")
    return reasons + _training_departures(weights)


def _training_departures(weights):
    """Why a network's training is known not to be protocol 1's; a training nobody recorded is not held against it."""
    run = weights and weights["trained_by"]
    if not run:
        return []
    names = {DATA_SETS["300w-lp"].crop_list, DATA_SETS["300w-lp"].angle_list}
    published = {Path(found["path"]).name for found in run["lists"] if found["published"]}
    reasons = [] if published == names else ["the network was not trained by the published lists of 300W-LP"]
    return reasons + ([] if run["all_pictures"] else ["the training left pictures out"])


@functools.cache
def paper_tables():
    """The paper's two tables, from doc/paper_tables.json."""
    return json.loads((ROOT / "doc" / "paper_tables.json").read_text(encoding="utf-8"))


def paper_rows(listed):
    """RAFA-Net's own rows in the paper for a data set and split: dicts of margin, table and the four numbers."""
    if listed.data_set not in (DATA_SETS["aflw2000"], DATA_SETS["biwi"]) or not listed.published:
        return []
    table, column = "table1" if listed.split == "all" else "table2", listed.data_set.title.lower()
    rows = paper_tables()[table]
    return [{"margin": row["margin"], "table": table, "mae": row[column]} for row in rows if "margin" in row]


# --- Scoring ----------------------------------------------------------------------------------------------------------
def score(listed, predictions, rounds=1000, seed=0, *, weights=None, file=None, made=None, worst=10):
    """Metrics, intervals and protocol card of one data set at one margin, as a dict: see `reports`.

    Args:
        listed, weights, file, made: as for `protocol_card`.
        predictions: `metrics.Predictions`, one split at one margin.
        rounds, seed: of the bootstrap.
        worst: how many of the worst images to name.
    """
    unit, names = clusters_of(predictions)
    estimates = metrics.summarise(predictions, rounds, seed, names)
    number = estimates["mae"].n if names is None else estimates["mae"].clusters
    intervals = {"unit": unit, "number": number, "rounds": rounds, "seed": seed}
    card = protocol_card(listed, predictions, intervals, weights=weights, file=file, made=made)
    errors = metrics.per_image(predictions)["mae"]
    return {
        "card": card,
        "estimates": estimates,
        "paper": [row for row in paper_rows(listed) if row["margin"] == card["margin"]] if listed else [],
        "set_sizes": _set_sizes(listed, predictions, rounds, seed) if listed else [],
        "worst": [
            {
                "path": str(predictions.path[row]),
                "mae": float(errors[row]),
                "true": predictions.true[row].tolist(),
                "predicted": predictions.predicted[row].tolist(),
            }
            for row in metrics.worst(predictions, worst)
        ],
    }


def _set_sizes(listed, predictions, rounds, seed):
    """The predictions on the sets of AFLW2000 images in circulation, which differ by what the released code drops."""
    if listed.data_set != DATA_SETS["aflw2000"]:
        return []
    paths = read_lists(*(found.path for found in listed.files), listed.data_set.unit, listed.data_dir).records["path"]
    kept = len(paths) // RELEASED_BATCH * RELEASED_BATCH
    names = {
        len(paths): "every row with a box",
        kept: f"the first {kept:,} in list order, as the released code scores: batch 16, last partial batch dropped",
    }
    sizes = []
    for size, name in names.items():
        part = predictions.select(np.isin(predictions.path, paths[:size]))
        if len(part):
            estimates = metrics.summarise(part, rounds, seed)
            chosen = {key: estimates[key] for key in MAE_KEYS}
            sizes.append({"name": f"{size:,}: {name}", "size": size, "scored": len(part), "estimates": chosen})
    return sizes


# --- Result files -----------------------------------------------------------------------------------------------------
def write_results(path, results, **more):
    """Write results, and `more` beside them, as a result file."""
    text = json.dumps(plain({"results": results, **more}), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_results(path):
    """The results of a result file; a InputError if it is not one."""
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8"))["results"]
        for result in results:
            result["estimates"] = {key: _estimate(**fields) for key, fields in result["estimates"].items()}
            result["card"]["paper_protocol"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a result file of evaluate.py --result: {error!r}") from error
    return results


def _estimate(value, low, high, n, clusters):
    return metrics.Estimate(*(math.nan if number is None else number for number in (value, low, high)), n, clusters)


def plain(value):
    """What JSON can hold: named tuples become objects, NaN becomes null."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value

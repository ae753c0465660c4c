"""What was scored, and how: the protocol card, the paper's tables, and result files.

A result is a dict:

    card        what a reader must know to compare: lists, images, crops, signs, weights, versions, command
    estimates   {metric: `metrics.Estimate`}
    paper       RAFA-Net's rows in the paper for the same dataset, split and margin
    baseline    {mae_yaw, mae_pitch, mae_roll, mae} of always predicting the mean pose of the training list, or None
    set_sizes   the same predictions on the sets of AFLW2000 images in use
    worst       the images with the largest errors
    compared    of a comparison, but its first: {with, intervals, differences: {metric: `metrics.Estimate`}}, see
                `comparison.difference`

A result file holds a list of them as JSON: an estimate is an object, and null stands for NaN.
"""

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rafa.datasets.lists import Listed
from rafa.datasets.sets import DATASETS, PAPER_DATASETS, SPLIT_FRAMES
from rafa.files import ROOT, environment, sha256, write_text
from rafa.pose import AXES, CHANNEL_MEANS, CROP_SIZE, EULER_ORDER
from rafa.score import metrics
from rafa.score.conventions import Convention, doubts
from rafa.score.metrics import HEADLINE_KEYS
from rafa.score.predictions import ROLL_SIGNS, Predictions, clusters_of, read_predictions, targets_of
from rafa.script import InputError

BOOTSTRAP_SAMPLES = 1000
WORST = 10  # images named in a result
FEW_CLUSTERS = 20  # below, intervals come with a warning
RECORD_KEYS = ("method", "published", "source")  # of a record beside a predictions file
RELEASED_BATCH = 16  # the released code scores in batches of 16 and drops the last partial one

Facts = dict[str, Any]  # of JSON: a card, a result, or a part of one


# --- Predictions ------------------------------------------------------------------------------------------------------
def read_file(path: str, convention: Convention, listed: Listed | None, common_only: bool) -> tuple[Predictions, Facts]:
    """A predictions file, and what the card says of it (see `predictions.read_predictions`).

    A record beside it, NAME.json beside NAME.csv, may name the "method", what others "published" of it (yaw, pitch,
    roll and their mean, null where unknown), the "source" of that, and a "note".
    """
    predictions, left_out = read_predictions(path, convention, targets_of(listed) if listed else None, common_only)
    notes = [f"LEFT OUT: {left_out:,} rows of the file, not in the lists or without a prediction"] if left_out else []
    beside = Path(path).with_suffix(".json")
    content = read_record(beside) if beside.is_file() else {}
    notes += [content["note"]] if "note" in content else []
    record = {key: content[key] for key in RECORD_KEYS if key in content}
    facts = {"file": str(path), "sha256": sha256(path), "notes": notes, "record": record}
    facts |= {"roll_sign": ROLL_SIGNS["roll" in convention.signs], "convention": convention._asdict()}
    return predictions, facts


def read_record(file: Path) -> Facts:
    """The record beside a predictions file (see `read_file`), or a result file, which says nothing of the method."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        texts = all(isinstance(content.get(key, ""), str) for key in ("method", "source", "note"))
        numbers = [number for number in content.get("published", ()) if number is not None]
        if texts and len(content.get("published", ())) <= len(HEADLINE_KEYS) and np.isfinite(numbers).all():
            return content
    except (ValueError, AttributeError, TypeError):
        pass
    expected = 'an object with texts "method", "source", "note", and "published", a list of at most five numbers'
    raise InputError(f"{file}: not a record of a predictions file: expected {expected}; mend it or move it away")


# --- The paper's tables -----------------------------------------------------------------------------------------------
@functools.cache
def paper_tables() -> Facts:
    """The paper's two tables, from doc/paper_tables.json."""
    return json.loads((ROOT / "doc" / "paper_tables.json").read_text(encoding="utf-8"))


def paper_rows(listed: Listed) -> list[Facts]:
    """RAFA-Net's rows in the paper for a dataset and split: dicts of margin, table and the four numbers."""
    table, column = "table1" if listed.split == "all" else "table2", listed.dataset.title.lower()
    rows = [row for row in paper_tables()[table] if "margin" in row and column in row] if listed.published else []
    return [{"margin": row["margin"], "table": table, "mae": row[column]} for row in rows]


def is_of_paper(title: str) -> bool:
    """Whether the title of a dataset is that of one of the paper."""
    return title in [DATASETS[name].title for name in PAPER_DATASETS]


# --- Scoring ----------------------------------------------------------------------------------------------------------
def score(
    listed: Listed | None,
    predictions: Predictions,
    samples: int = BOOTSTRAP_SAMPLES,
    seed: int = 0,
    *,
    weights: Facts | None = None,
    file: Facts | None = None,
    made: Facts | None = None,
    worst: int = WORST,
) -> Facts:
    """Score one dataset at one margin: a result (see the top of this module).

    Args:
        listed: the lists, or None where a predictions file came without them.
        predictions: one split at one margin.
        samples, seed: of the bootstrap.
        weights: from `weights_facts`, where a network of this suite made the predictions.
        file: from `read_file`, where they came from a file.
        made: from `files.environment`.
        worst: how many of the images with the largest errors to name.
    """
    unit, clusters = clusters_of(predictions)
    columns = metrics.per_image(predictions)
    estimates = metrics.summarise(columns, samples, seed, clusters)
    number = len(predictions) if clusters is None else len(set(clusters.tolist()))
    intervals = {"unit": unit, "number": number, "samples": samples, "seed": seed}
    card = _card(listed, predictions, intervals, weights, file, made)
    convention = Convention(**file["convention"]) if file else None
    card["notes"] += doubts(predictions.target, predictions.predicted, convention)
    pose, baseline = weights and weights["trained_by"] and weights["trained_by"]["mean_pose"], None
    if pose:
        baseline = metrics.mean_pose_baseline(np.array([pose[axis] for axis in AXES]), predictions.target)
    return {
        "card": card,
        "estimates": estimates,
        "paper": [row for row in paper_rows(listed) if row["margin"] == card["margin"]] if listed else [],
        "baseline": baseline,
        "set_sizes": _set_sizes(listed, predictions, columns, samples, seed),
        "worst": _worst(predictions, columns["mae"], worst),
    }


def _worst(predictions: Predictions, mae: np.ndarray, count: int) -> list[Facts]:
    """The images with the largest mean errors (n,) of the three axes."""
    largest = np.argsort(-mae, kind="stable")[:count]
    part = predictions.select(largest)
    rows = zip(part.path.tolist(), mae[largest].tolist(), part.target.tolist(), part.predicted.tolist(), strict=True)
    return [dict(zip(("path", "mae", "true", "predicted"), row, strict=True)) for row in rows]


def _set_sizes(
    listed: Listed | None, predictions: Predictions, columns: metrics.Columns, samples: int, seed: int
) -> list[Facts]:
    """The predictions on the sets of AFLW2000 images in use, which differ by what the released code drops."""
    if listed is None or listed.dataset != DATASETS["aflw2000"]:
        return []
    every = len(listed.usable)
    dropped = f"without the last partial batch of {RELEASED_BATCH}, which the released code drops"
    sizes = []
    for size, name in {every - every % RELEASED_BATCH: dropped, every: "every row with a box"}.items():
        kept = np.isin(predictions.path, listed.usable[:size])
        if kept.any():
            estimates = metrics.summarise({key: columns[key][kept] for key in HEADLINE_KEYS}, samples, seed)
            sizes.append({"name": f"{size:,}: {name}", "size": size, "scored": int(kept.sum()), "estimates": estimates})
    return sizes[::-1]


# --- The protocol card ------------------------------------------------------------------------------------------------
def _card(
    listed: Listed | None,
    predictions: Predictions,
    intervals: Facts,
    weights: Facts | None,
    file: Facts | None,
    made: Facts | None,
) -> Facts:
    """The protocol card; `intervals` are the arguments of `interval_text`, the others those of `score`."""
    dataset = listed.dataset.title if listed else "unknown dataset"
    if listed and listed.dataset not in DATASETS.values():
        dataset += f" ({Path(listed.files[0].path).name})"
    margin = None if np.isnan(predictions.margin[0]) else float(predictions.margin[0])
    not_in_file = "not in a predictions file" if file else None
    images = _images(listed, len(predictions), file)
    departures = _departures(listed, images, margin, weights, file)
    notes = [*(listed.notes if listed else ()), *(file["notes"] if file else ()), *_interval_notes(listed, intervals)]
    if listed is None:
        notes.append(
            "the true angles are the file's: if both have wrong signs, geodesic error and MAEV are wrong alone"
        )
    return {
        "data_set": dataset,
        "split": listed.split if listed else predictions.split[0] or "split not stated",
        "lists": [asdict(each) for each in listed.files] if listed else [],
        "images": images,
        "boxes": not_in_file or "square boxes of the crop list, enlarged by the margin on each side, black outside",
        "margin": margin,
        "crop": not_in_file or f"resized to {CROP_SIZE} × {CROP_SIZE}, bilinear",
        "channel_order": not_in_file or f"RGB minus {CHANNEL_MEANS}, inside the network",
        "units": "degrees",
        "roll_sign": "that of the lists, the negative of the .mat files'",
        "euler_order": EULER_ORDER,
        "wrap": "errors wrap at 360° only: 170° off counts as 170°",
        "intervals": metrics.interval_text(**intervals),
        "resampled": {"unit": intervals["unit"], "number": intervals["number"]},
        "seed": intervals["seed"],
        "weights": weights,
        "predictions": file,
        "made": made or environment(),
        "notes": notes,
        "evaluation_protocol": not departures,  # whether it is the paper's
        "departures": departures,
    }


def _departures(
    listed: Listed | None, images: Facts, margin: float | None, weights: Facts | None, file: Facts | None
) -> list[str]:
    """In what an evaluation is not the paper's; empty if it is.  The training of the network is no part of it."""
    if listed is None:
        return ["the lists are unknown: a predictions file alone does not say what was left out"]
    reasons = []
    if not is_of_paper(listed.dataset.title):
        reasons.append("not a dataset of the paper")
    elif not listed.published:
        reasons.append("not the published lists")
    elif margin is None:
        reasons.append("the margin is not known")
    elif margin not in {row["margin"] for row in paper_rows(listed)}:
        reasons.append(f"the paper has no row for {listed.dataset.title} at the margin {margin:g}")
    if listed.split != "all":
        reasons.append("which videos the paper's split has is unknown")
    if images["expected"] and images["scored"] != images["expected"]:
        reasons.append(f"{images['scored']:,} images scored; the published lists hold {images['expected']:,} usable")
    if file:
        reasons.append("a predictions file does not say from which crops the model predicted")
    if (views := (weights or {}).get("views", 1)) > 1:
        reasons.append(f"the mean of {views} views of each face")
    return reasons


def _images(listed: Listed | None, scored: int, file: Facts | None) -> Facts:
    """The counts of images on a card."""
    if listed is None:
        unknown = dict.fromkeys(("expected", "listed", "usable", "found"))
        return unknown | {"scored": scored, "rejected": {}, "left_out": 0, "left_out_by": ""}
    usable = len(listed.usable)
    left_out = {"--allow-missing": listed.missing, "--limit": usable - listed.missing - len(listed.records)}
    return {
        "expected": listed.dataset.usable
        if listed.split == "all"
        else SPLIT_FRAMES.get(listed.split.removesuffix(" test")),
        "listed": listed.files[0].rows,
        "rejected": {reason: len(paths) for reason, paths in listed.rejected.items()},
        "usable": usable,
        "found": None if file else usable - listed.missing,
        "scored": scored,
        "left_out": usable - scored,
        "left_out_by": "no prediction" if file else ", ".join(name for name, number in left_out.items() if number),
    }


def _interval_notes(listed: Listed | None, intervals: Facts) -> list[str]:
    """A warning where intervals are too narrow: few clusters (`metrics.COVERAGE`), or perhaps frames of videos."""
    unit, number = intervals["unit"], intervals["number"]
    if unit == "images":
        frames = listed is None or listed.dataset == DATASETS["biwi"]
        note = "no videos or persons are named: images were resampled, which is too narrow for frames of videos"
        return [note] if frames else []
    if number >= FEW_CLUSTERS:
        return []
    if number == 1:
        return [f"a single {unit.removesuffix('s')} gives no interval"]
    covered = ", ".join(f"{percent}% with {videos} videos" for videos, percent in metrics.COVERAGE.items())
    simulated = f"of the 95% intervals in simulations, {covered} contained the true value"
    return [f"with {metrics.counted(number, unit)} the intervals are too narrow: {simulated}"]


def count_text(number: int | None) -> str:
    """A count for people."""
    return "unknown" if number is None else f"{number:,}"


def margin_text(margin: float | None) -> str:
    """A margin for people; None or NaN where it is not known."""
    return "not stated" if margin is None or math.isnan(margin) else f"{margin:g}"


# --- The network ------------------------------------------------------------------------------------------------------
def weights_facts(path: str | Path, backbone: str) -> Facts:
    """The weights file, its hash, and the training run that wrote it (None if that is not known).

    The run.json beside the file is believed where its "weights", {file name: SHA-256}, hold the hash of this very file.
    `backbone` is its name; of an exported network, that it is one.
    """
    digest, record = sha256(path), Path(path).with_name("run.json")
    run = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    file = Path(path).relative_to(ROOT) if Path(path).is_relative_to(ROOT) else path  # the same on every machine
    trained_by = _training_facts(run) if digest in run.get("weights", {}).values() else None
    return {"file": str(file), "sha256": digest, "backbone": backbone, "trained_by": trained_by}


def _training_facts(run: Facts) -> Facts:
    """What a card says of a training run, from its run.json."""
    options = run["options"]
    return {key: run[key] for key in ("command", "date", "commit", "hardware")} | {
        "seed": options["seed"],
        "started_from": options.get("weights") or "none",
        "resumed_by": [again["command"] for again in run.get("resumed", [])],
        "lists": run["lists"][0],
        "all_images": not (options["allow_missing"] or options["limit"]),
        "mean_pose": run.get("mean_pose"),
    }


# --- Result files -----------------------------------------------------------------------------------------------------
def write_results(path: str | Path, results: Sequence[Facts], **more: Any) -> None:
    """Write results, and `more` beside them, as a result file."""
    text = json.dumps(plain({"results": results, **more}), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_results(path: str | Path) -> list[Facts]:
    """The results of a file that `write_results` wrote, with this version or an older one.

    Raises:
        InputError: another file.
    """
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8"))["results"]
        for result in results:
            _brought_up_to_date(result)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        expected = "the result.json of a run, or what evaluate.py --result wrote"
        raise InputError(f"{path} is not a result file: expected {expected}") from error
    return results


def _brought_up_to_date(result: Facts) -> None:
    """Estimates instead of JSON's objects, and a card as this version writes it."""
    result["estimates"] = _estimates(result["estimates"])
    if "compared" in result:
        result["compared"]["differences"] = _estimates(result["compared"]["differences"])
    if "paper_protocol" in (card := result["card"]):  # until 0.2.0, which judged the training too
        training = ("the network ", "the training ")
        card["departures"] = [reason for reason in card["departures"] if not reason.startswith(training)]
        del card["paper_protocol"]
        card["evaluation_protocol"] = not card["departures"]


def _estimates(metrics_of: Facts) -> dict[str, metrics.Estimate]:
    """{metric: Estimate} from JSON, where null stands for NaN."""
    nan = {"value": math.nan, "low": math.nan, "high": math.nan}
    known = {key: {name: n for name, n in fields.items() if n is not None} for key, fields in metrics_of.items()}
    return {key: metrics.Estimate(**{"clusters": None} | nan | fields) for key, fields in known.items()}


def plain(value: Any) -> Any:
    """What JSON can hold: named tuples become objects, NaN becomes null."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value

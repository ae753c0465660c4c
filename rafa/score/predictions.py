"""Predictions of any model: yaw, pitch and roll of each image, beside the true angles, and their file.

A predictions file is a CSV file in UTF-8 with this header and one row per image, angles in degrees, list signs:

    path,split,video,person,margin,yaw_true,pitch_true,roll_true,yaw_predicted,pitch_predicted,roll_predicted

`path` names the image; where `read_predictions` is given the truth, a data folder may come before its names.  `margin`
is the margin of its crop; a path may appear once per margin.  `split`, `video`, `person` and `margin` may be absent or
empty, and further columns are ignored.  The true angles may be absent where the truth is given.
"""

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from data_loaders import mean_of_views, scoring_batches
from rafa.datasets.lists import Listed
from rafa.datasets.rows import known_end, listed_path
from rafa.files import written_whole
from rafa.pose import AXES, angle_errors
from rafa.script import InputError, first_three, progress

LABELS = ("split", "video", "person")
TRUE_COLUMNS = tuple(f"{axis}_true" for axis in AXES)
PREDICTED_COLUMNS = tuple(f"{axis}_predicted" for axis in AXES)
FIELDS = ("path", "true", "predicted", *LABELS, "margin")  # of Predictions
HEADER = ("path", *LABELS, "margin", *TRUE_COLUMNS, *PREDICTED_COLUMNS)
OF_PREDICT = dict(zip(("source", *AXES, "status"), ("path", *PREDICTED_COLUMNS, "status"), strict=True))
BATCH = 16  # images read at a time
ROLL_SIGNS = ("list", "mat")
TRUTH_TOLERANCE = 1e-3  # degrees: more than rounding in a file, far less than the lists' 3.14 for pi (up to 0.05)

Rows = dict[int, dict[str, str]]  # {column: text} of a file by line number


@dataclass(frozen=True, eq=False)
class Predictions:
    """True and predicted angles of n images, in degrees, list signs, AXES order.

    Labels ("" where unknown) and margin (NaN where unknown) may each be given as one value for all images.
    """

    path: np.ndarray  # (n,) str
    true: np.ndarray  # (n, 3) degrees
    predicted: np.ndarray  # (n, 3) degrees
    split: np.ndarray = field(default_factory=lambda: np.array(""))  # (n,) str
    video: np.ndarray = field(default_factory=lambda: np.array(""))  # (n,) str
    person: np.ndarray = field(default_factory=lambda: np.array(""))  # (n,) str
    margin: np.ndarray = field(default_factory=lambda: np.array(np.nan))  # (n,) share of the box side

    def __post_init__(self) -> None:
        for name in FIELDS:
            value = np.asarray(getattr(self, name), str if name in ("path", *LABELS) else float)
            object.__setattr__(self, name, value if value.ndim else np.full(len(self), value))

    def __len__(self) -> int:
        return len(self.path)

    def select(self, rows: np.ndarray) -> "Predictions":
        """The images of a boolean mask (n,), or of an array of row numbers in that order."""
        return Predictions(**{name: getattr(self, name)[rows] for name in FIELDS})


def truth_of(listed: Listed) -> Predictions:
    """The true angles and labels of a list, as `Predictions` without an error."""
    records, true = listed.records, np.degrees(listed.records["angles"])
    labels = {"split": np.array(listed.split), "video": records["video"], "person": records["person"]}
    return Predictions(records["path"], true, true, **labels)


def stack(parts: Sequence[Predictions]) -> Predictions:
    """Several `Predictions` as one, for example those at several margins."""
    return Predictions(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in FIELDS})


# --- The same images --------------------------------------------------------------------------------------------------
def aligned(
    a: Predictions, b: Predictions, names: str = "A and B", mend: str = "--common-only compares the images in both"
) -> Predictions:
    """`b` with its rows in the order of `a`, and with the true angles of `a`.

    Rows are matched by path and margin, or by path alone if `a` or `b` has no margins at all.

    Args:
        names, mend: what the error says of different images: whose they are, and what to do.

    Raises:
        InputError: different images, a repeated image, or true angles that differ by more than TRUTH_TOLERANCE.
    """
    by_margin = not (np.isnan(a.margin).all() or np.isnan(b.margin).all())
    keys_a, keys_b = (_keys(part, by_margin) for part in (a, b))
    for name, keys in (("A", keys_a), ("B", keys_b)):
        _refuse_repeated(f"{name}, row", keys, range(len(keys)))
    second = b.select(_matching_rows(keys_a, keys_b, names, mend))
    _check_same_truth("B against A", second.path, second.true, a.true)
    return replace(second, true=a.true)


def _keys(predictions: Predictions, by_margin: bool = True) -> list[str]:
    """What names each row: its path, and its margin if it has one."""
    known = zip(predictions.path.tolist(), predictions.margin.tolist(), strict=True)
    return [path if np.isnan(margin) or not by_margin else f"{path} at margin {margin!r}" for path, margin in known]


def _refuse_repeated(place: str, keys: Iterable[str], numbers: Iterable[int]) -> None:
    first: dict[str, int] = {}
    for key, number in zip(keys, numbers, strict=True):
        if first.setdefault(key, number) != number:
            where = f"{place.rsplit(maxsplit=1)[-1]} {first[key]}"
            raise InputError(f"{place} {number}: {key} appears already in {where}; expected once per margin")


def _matching_rows(keys: list[str], others: list[str], names: str, mend: str) -> np.ndarray:
    """For each key its place among the others; an InputError unless both sides hold the same keys."""
    row_of = {key: row for row, key in enumerate(others)}
    only_first, only_second = sorted(set(keys) - row_of.keys()), sorted(row_of.keys() - set(keys))
    if only_first or only_second:
        found = f"only in the first {_some(only_first)}, only in the second {_some(only_second)}"
        raise InputError(f"{names} hold different images: {found}; {mend}")
    return np.array([row_of[key] for key in keys])


def _check_same_truth(what: str, paths: np.ndarray, true: np.ndarray, expected: np.ndarray) -> None:
    differ = np.flatnonzero((angle_errors(expected, true) > TRUTH_TOLERANCE).any(axis=1))
    if len(differ):
        first = f"the first is {true[differ[0]]}, expected {expected[differ[0]]}: check signs, units, choice of list"
        where = _some(paths[differ].tolist())
        raise InputError(f"{what}: true angles differ by over {TRUTH_TOLERANCE}° in {where}; {first}")


def _some(names: Sequence[str]) -> str:
    """A count and the first three names, for messages."""
    return f"{len(names):,} ({first_three(names)})" if names else "none"


# --- Files ------------------------------------------------------------------------------------------------------------
def write_predictions(path: str | Path, predictions: Predictions) -> None:
    """Write a predictions file, from which `read_predictions` reads the very same numbers."""
    labels = [getattr(predictions, name).tolist() for name in LABELS]
    margins = ["" if np.isnan(margin) else margin for margin in predictions.margin.tolist()]
    angles = np.concatenate([predictions.true, predictions.predicted], axis=1).T.tolist()
    with written_whole(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(zip(predictions.path.tolist(), *labels, margins, *angles, strict=True))


def read_predictions(
    path: str | Path, roll_sign: str = "list", truth: Predictions | None = None, common_only: bool = False
) -> tuple[Predictions, int]:
    """Read a predictions file: `Predictions` in list signs and in the order of the file, and how many rows it left out.

    Args:
        path: the CSV file (its columns: top of this module).
        roll_sign: "list", or "mat" where the file has the roll of the `.mat` files (as Hopenet and FSA-Net do): then
            both `roll_true` and `roll_predicted` of the file are negated.  `truth` is never negated.
        truth: `Predictions` of the same paths, each once.  It gives the true angles, with which true angles in the
            file must agree, and the split, video and person where the file does not.
        common_only: with `truth`, leave out the images that only one of the two has, and rows of predict.py without a
            face, instead of refusing them.

    Raises:
        InputError, with file and line: an empty file, missing columns, a wrong number of columns, anything but a finite
            number, no path, a path twice at one margin.  With `truth`: other paths or other true angles.
        OSError: the file cannot be opened.
    """
    rows = every = _read_rows(path, true_needed=truth is None)
    _unify_paths(path, rows, () if truth is None else truth.path.tolist())
    if truth is not None and common_only:
        rows, truth = _common(path, rows, truth)
    known = _parse(path, rows, roll_sign)
    if truth is not None:
        texts = known["path"].tolist(), truth.path.tolist()
        matched = truth.select(_matching_rows(*texts, f"{path} and the truth", "--common-only scores those in both"))
        _check_same_truth(f"{path} against the truth", matched.path, known.get("true", matched.true), matched.true)
        known = {name: getattr(matched, name) for name in LABELS} | known | {"true": matched.true}
    predictions = Predictions(**known)
    _refuse_repeated(f"{path}, line", _keys(predictions), rows)
    return predictions, len(every) - len(rows)


def _read_rows(path: str | Path, true_needed: bool) -> Rows:
    """The rows of a CSV file by their line numbers; its header and the number of columns are checked."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            header, *rows = [(reader.line_num, row) for row in reader] or [(1, [])]
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path}, after line {reader.line_num}: not a CSV file in UTF-8 ({error})") from error
    if not rows:
        line = 1 + bool(header[1])
        raise InputError(f"{path}, line {line}: the file is empty here; expected a header and predictions")
    columns = [name.strip() for name in header[1]]
    if {*OF_PREDICT} <= {*columns} and "path" not in columns:
        columns = [OF_PREDICT.get(name, name) for name in columns]
    if repeated := [name for name in HEADER if columns.count(name) > 1]:
        raise InputError(f"{path}, line 1: these columns come more than once: {', '.join(repeated)}")
    true = TRUE_COLUMNS if true_needed or {*columns} & {*TRUE_COLUMNS} else ()
    if missing := [name for name in ("path", *true, *PREDICTED_COLUMNS) if name not in columns]:
        found = f"found {', '.join(columns)}; the true angles may be absent where the truth is given (--truth)"
        raise InputError(f"{path}, line 1: missing columns {', '.join(missing)}; {found}")
    for line, row in rows:
        if len(row) != len(columns):
            raise InputError(f"{path}, line {line}: {len(row)} columns; the header has {len(columns)}")
    return {line: dict(zip(columns, row, strict=True)) for line, row in rows}


def _unify_paths(file: str | Path, rows: Rows, known: Iterable[str]) -> None:
    """Give the paths of rows the one spelling, and drop what all of them may have before the known names."""
    for line, row in rows.items():
        if not row["path"] or any(symbol < " " for symbol in row["path"]):
            raise InputError(f"{file}, line {line}: the path is {row['path']!r}; expected the name of the image")
        row["path"] = listed_path(row["path"])
    names = set(known)
    ends = {line: known_end(row["path"], names) for line, row in rows.items()} if names else {}
    if len({rows[line]["path"].removesuffix(end) for line, end in ends.items() if end}) == 1:  # one data folder
        for line, row in rows.items():
            row["path"] = ends[line] or row["path"]


def _common(path: str | Path, rows: Rows, truth: Predictions) -> tuple[Rows, Predictions]:
    """What the rows of a file and the truth have in common."""
    known = set(truth.path.tolist())
    kept = {line: row for line, row in rows.items() if row["path"] in known and row.get("status", "ok") == "ok"}
    if not kept:
        first = next(iter(rows.values()))["path"]
        raise InputError(f"{path}: no image of the truth; it has {first!r}, the truth {str(truth.path[0])!r}")
    return kept, truth.select(np.isin(truth.path, [row["path"] for row in kept.values()]))


def _parse(path: str | Path, rows: Rows, roll_sign: str) -> dict[str, np.ndarray]:
    """The fields of `Predictions` that the rows give, in list signs."""

    def number(line: int, name: str) -> float:
        text = rows[line][name]
        try:
            value = float(text)
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            raise InputError(f"{path}, line {line}: {name} is {text!r}; expected a finite number")
        return value

    for line, row in rows.items():
        if row.get("status", "ok") != "ok":
            why = f"{row['path']} has no prediction: {row['status']}"
            raise InputError(f"{path}, line {line}: {why}; with --truth, --common-only leaves such rows out")
        if row.get("face", "0") != "0":
            raise InputError(f"{path}, line {line}: a second face of {row['path']}; expected one: predict with --boxes")
    columns = next(iter(rows.values()))
    sign = np.array([-1.0 if axis == "roll" and roll_sign == "mat" else 1.0 for axis in AXES])
    known = {"path": np.array([row["path"] for row in rows.values()])}
    for angles, names in (("predicted", PREDICTED_COLUMNS), ("true", TRUE_COLUMNS)):
        if names[0] in columns:
            known[angles] = sign * np.array([[number(line, name) for name in names] for line in rows])  # (n, 3)
    if "margin" in columns:
        known["margin"] = np.array([number(line, "margin") if rows[line]["margin"] else np.nan for line in rows])
    labels = {name: np.array([row[name] for row in rows.values()]) for name in LABELS if name in columns}
    return known | {name: texts for name, texts in labels.items() if (texts != "").any()}


def predict_listed(
    predict: Callable[[np.ndarray], np.ndarray], listed: Listed, margin: float, workers: int, views: int = 1
) -> Predictions:
    """A network's answers for every record, in order; `workers` threads read the images, all of them present.

    Args:
        predict: (n, 224, 224, 3) RGB crops → (n, 3) yaw, pitch, roll in radians, list signs.
        listed: what to predict.
        margin: of the crops, as a share of the box.
        workers: threads that read images.
        views: crops of each face; more than one is not the paper's protocol.
    """
    total = len(listed.records)
    batches = scoring_batches(listed, BATCH, margin, workers, views)
    title = f"{listed.dataset.title}, margin {margin:g}"
    predicted = (mean_of_views(predict(crops), views)[0] for crops in batches)
    angles = np.stack(list(progress((angles for batch in predicted for angles in batch), total, title)))
    return replace(truth_of(listed), predicted=np.degrees(angles), margin=np.full(total, float(margin)))

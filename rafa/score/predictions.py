"""Predictions of any model: yaw, pitch and roll of each image, beside the target angles, and their file.

A predictions file is a CSV file in UTF-8 with this header and one row per image, angles in degrees, list signs:

    path,split,video,person,margin,yaw_true,pitch_true,roll_true,yaw_predicted,pitch_predicted,roll_predicted

`path` names the image; `margin` is the margin of its crop, and a path may appear once per margin.  `split`, `video`,
`person` and `margin` may be absent or empty; further columns are ignored.  Where `read_predictions` is given targets,
the true angles may be absent, a data folder may come before the names, and the rows may be those of predict.py.
"""

import contextlib
import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from data_loaders import mean_of_views, scoring_batches
from rafa.datasets.lists import Listed
from rafa.datasets.rows import known_end, listed_path
from rafa.files import written_whole
from rafa.pose import AXES, angle_errors
from rafa.script import InputError, first_three, progress

ORIGIN = ("split", "video", "person")  # where an image comes from
TARGET_COLUMNS = tuple(f"{axis}_true" for axis in AXES)
PREDICTED_COLUMNS = tuple(f"{axis}_predicted" for axis in AXES)
FIELDS = ("path", "target", "predicted", *ORIGIN, "margin")  # of Predictions
HEADER = ("path", *ORIGIN, "margin", *TARGET_COLUMNS, *PREDICTED_COLUMNS)
COLUMNS_OF_PREDICT = dict(zip(("source", *AXES), ("path", *PREDICTED_COLUMNS), strict=True))  # → those of HEADER
BATCH = 16  # images read at a time
ROLL_SIGNS = ("list", "mat")
TARGET_TOLERANCE = 1e-3  # degrees: more than rounding in a file, far less than the lists' 3.14 for pi (up to 0.05)

Rows = list[dict[str, str]]  # of a file: {column: text}


@dataclass(frozen=True, eq=False)
class Predictions:
    """Target and predicted angles of n images, in degrees, list signs, AXES order.

    Split, video, person ("" where unknown) and margin (NaN where unknown) may be given as one value for all images.
    """

    path: np.ndarray  # (n,) str
    target: np.ndarray  # (n, 3) degrees
    predicted: np.ndarray  # (n, 3) degrees
    split: np.ndarray = field(default_factory=lambda: np.array(""))  # (n,) str
    video: np.ndarray = field(default_factory=lambda: np.array(""))  # (n,) str
    person: np.ndarray = field(default_factory=lambda: np.array(""))  # (n,) str
    margin: np.ndarray = field(default_factory=lambda: np.array(np.nan))  # (n,) share of the box side

    def __post_init__(self) -> None:
        for name in FIELDS:
            value = np.asarray(getattr(self, name), str if name in ("path", *ORIGIN) else float)
            object.__setattr__(self, name, value if value.ndim else np.full(len(self), value))

    def __len__(self) -> int:
        return len(self.path)

    def select(self, rows: np.ndarray) -> "Predictions":
        """The images of a boolean mask (n,), or of an array of row numbers in that order."""
        return Predictions(**{name: getattr(self, name)[rows] for name in FIELDS})


def targets_of(listed: Listed) -> Predictions:
    """The angles of a list and where its images come from, as `Predictions` without an error."""
    records, target = listed.records, np.degrees(listed.records["angles"])
    split = np.array(listed.split)
    return Predictions(records["path"], target, target, split, video=records["video"], person=records["person"])


def stack(parts: Sequence[Predictions]) -> Predictions:
    """Several `Predictions` as one, for example those at several margins."""
    return Predictions(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in FIELDS})


def predict_listed(
    predict: Callable[[np.ndarray], np.ndarray], listed: Listed, margin: float, workers: int, views: int = 1
) -> Predictions:
    """A network's answers for every record, in order.

    Args:
        predict: (n, 224, 224, 3) RGB crops → (n, 3) yaw, pitch, roll in radians, list signs.
        listed: what to predict; all its images are present.
        margin: of the crops, as a share of the box.
        workers: threads that read images.
        views: crops of each face, whose answers are averaged; the paper has one.
    """
    total = len(listed.records)
    batches = scoring_batches(listed, BATCH, margin, workers, views)
    title = f"{listed.dataset.title}, margin {margin:g}"
    predicted = (mean_of_views(predict(crops), views)[0] for crops in batches)
    angles = np.stack(list(progress((angles for batch in predicted for angles in batch), total, title)))
    return replace(targets_of(listed), predicted=np.degrees(angles), margin=np.full(total, float(margin)))


# --- The same images --------------------------------------------------------------------------------------------------
def aligned(
    a: Predictions, b: Predictions, names: str = "A and B", mend: str = "--common-only compares the images in both"
) -> Predictions:
    """`b` with its rows in the order of `a`, and with the targets of `a`.

    Rows are matched by path and margin, or by path alone if `a` or `b` has no margins at all.

    Args:
        a, b: predictions for the same images.
        names, mend: what the error says of different images: whose they are, and what to do.

    Raises:
        InputError: different images, a repeated image, or targets that differ by more than TARGET_TOLERANCE.
    """
    by_margin = not (np.isnan(a.margin).all() or np.isnan(b.margin).all())
    keys_a, keys_b = (_keys(part, by_margin) for part in (a, b))
    for name, keys in (("A", keys_a), ("B", keys_b)):
        _refuse_repeated(name, keys)
    second = b.select(_matching_rows(keys_a, keys_b, names, mend))
    _refuse_other_targets("B against A", second, a.target)
    return replace(second, target=a.target)


def _keys(predictions: Predictions, by_margin: bool = True) -> list[str]:
    """What names each row: its path, and its margin if it has one."""
    pairs = zip(predictions.path.tolist(), predictions.margin.tolist(), strict=True)
    return [path if np.isnan(margin) or not by_margin else f"{path} at margin {margin!r}" for path, margin in pairs]


def _refuse_repeated(what: str, keys: Sequence[str]) -> None:
    if repeated := [key for key, count in Counter(keys).items() if count > 1]:
        raise InputError(f"{what}: more than one row for {_some(repeated)}; expected one per image and margin")


def _matching_rows(keys: Sequence[str], others: Sequence[str], names: str, mend: str) -> np.ndarray:
    """For each key its place among the others; an InputError unless both sides hold the same keys."""
    place = {key: row for row, key in enumerate(others)}
    only_first, only_second = sorted(set(keys) - place.keys()), sorted(place.keys() - set(keys))
    if only_first or only_second:
        difference = f"only in the first {_some(only_first)}, only in the second {_some(only_second)}"
        raise InputError(f"{names} hold different images: {difference}; {mend}")
    return np.array([place[key] for key in keys])


def _refuse_other_targets(what: str, predictions: Predictions, expected: np.ndarray) -> None:
    differ = np.flatnonzero((angle_errors(expected, predictions.target) > TARGET_TOLERANCE).any(axis=1))
    if len(differ):
        first = f"the first is {predictions.target[differ[0]]}, expected {expected[differ[0]]}"
        where = f"over {TARGET_TOLERANCE}° in {_some(predictions.path[differ].tolist())}"
        raise InputError(f"{what}: true angles differ by {where}; {first}: check signs, units, choice of list")


def _some(names: Sequence[str]) -> str:
    """A count and the first three names, for messages."""
    return f"{len(names):,} ({first_three(names)})" if names else "none"


# --- Files ------------------------------------------------------------------------------------------------------------
def write_predictions(path: str | Path, predictions: Predictions) -> None:
    """Write a predictions file, from which `read_predictions` reads the very same numbers."""
    origin = [getattr(predictions, name).tolist() for name in ORIGIN]
    margins = ["" if np.isnan(margin) else margin for margin in predictions.margin.tolist()]
    angles = np.concatenate([predictions.target, predictions.predicted], axis=1).T.tolist()
    with written_whole(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(zip(predictions.path.tolist(), *origin, margins, *angles, strict=True))


def read_predictions(
    path: str | Path, roll_sign: str = "list", targets: Predictions | None = None, common_only: bool = False
) -> tuple[Predictions, int]:
    """Read a predictions file: `Predictions` in list signs and in the order of the file, and how many rows it left out.

    Args:
        path: the CSV file (its columns: top of this module).
        roll_sign: "list", or "mat" where the file has the roll of the `.mat` files (as Hopenet and FSA-Net do): then
            both `roll_true` and `roll_predicted` of the file are negated.  `targets` are never negated.
        targets: from `targets_of`.  They give the target angles, with which true angles in the file must agree, and
            the split, video and person where the file does not.
        common_only: with `targets`, leave out the images that only one of the two has, and rows of predict.py without
            a face, instead of refusing them.

    Raises:
        InputError: missing columns, no rows, a wrong number of columns, anything but a finite number, a path twice at
            one margin.  With `targets`: other paths or other true angles.
        OSError: the file cannot be opened.
    """
    rows = every = _read_rows(path, targets_needed=targets is None)
    if targets is not None:
        _strip_data_folder(rows, set(targets.path.tolist()))
        if common_only:
            rows, targets = _common(path, rows, targets)
    fields = _fields(path, rows, roll_sign)
    if targets is not None:
        names, mend = f"{path} and the lists", "--common-only scores the images in both"
        matched = targets.select(_matching_rows(fields["path"].tolist(), targets.path.tolist(), names, mend))
        _refuse_other_targets(f"{path} against the lists", replace(matched, **fields), matched.target)
        fields = {name: getattr(matched, name) for name in ORIGIN} | fields | {"target": matched.target}
    predictions = Predictions(**fields)
    _refuse_repeated(str(path), _keys(predictions))
    return predictions, len(every) - len(rows)


def _read_rows(path: str | Path, targets_needed: bool) -> Rows:
    """The rows of a CSV file, with all the columns that are needed, and paths in the one spelling."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, skipinitialspace=True)
        try:
            lines = [(reader.line_num, cells) for cells in reader if cells]
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not a CSV file in UTF-8 ({error}); save it as one") from error
    columns = lines[0][1] if lines else []
    if "path" not in columns:
        columns = [COLUMNS_OF_PREDICT.get(name, name) for name in columns]
    targets = TARGET_COLUMNS if targets_needed or {*columns} & {*TARGET_COLUMNS} else ()
    if missing := [name for name in ("path", *targets, *PREDICTED_COLUMNS) if name not in columns]:
        mend = "the true angles may be absent where lists give them (--truth)"
        raise InputError(f"{path}: missing columns {', '.join(missing)}; {mend}")
    if len(lines) == 1:
        raise InputError(f"{path} has a header and no predictions")
    for number, cells in lines:
        if len(cells) != len(columns):
            raise InputError(f"{path}, line {number}: expected {len(columns)} columns, as in the header")
    rows = [dict(zip(columns, cells, strict=True)) for _, cells in lines[1:]]
    return [row | {"path": listed_path(row["path"])} for row in rows]


def _strip_data_folder(rows: Rows, names: set[str]) -> None:
    """Drop the data folder that all paths may have before the names of the lists."""
    ends = [known_end(row["path"], names) for row in rows]
    folders = {row["path"].removesuffix(end) for row, end in zip(rows, ends, strict=True) if end}
    if len(folders) == 1:
        for row, end in zip(rows, ends, strict=True):
            row["path"] = end or row["path"]


def _common(path: str | Path, rows: Rows, targets: Predictions) -> tuple[Rows, Predictions]:
    """What the rows of a file and the targets have in common."""
    names = set(targets.path.tolist())
    kept = [row for row in rows if row["path"] in names and row.get("status", "ok") == "ok"]
    if not kept:
        images = f"it has {rows[0]['path']!r}, the lists {str(targets.path[0])!r}"
        raise InputError(f"{path}: no prediction for an image of the lists; {images}")
    return kept, targets.select(np.isin(targets.path, [row["path"] for row in kept]))


def _fields(path: str | Path, rows: Rows, roll_sign: str) -> dict[str, np.ndarray]:
    """The fields of `Predictions` that the rows give, in list signs."""

    def number(row: dict[str, str], name: str) -> float:
        with contextlib.suppress(ValueError):
            if np.isfinite(value := float(row[name])):
                return value
        status = f" ({row['status']}: --common-only leaves such rows out)" if "status" in row else ""  # of predict.py
        raise InputError(f"{path}: {name} of {row['path']} is {row[name]!r}{status}; expected a finite number")

    sign = np.array([-1.0 if axis == "roll" and roll_sign == "mat" else 1.0 for axis in AXES])
    fields = {"path": np.array([row["path"] for row in rows])}
    for angles, names in (("predicted", PREDICTED_COLUMNS), ("target", TARGET_COLUMNS)):
        if names[0] in rows[0]:
            fields[angles] = sign * np.array([[number(row, name) for name in names] for row in rows])  # (n, 3)
    if "margin" in rows[0]:
        fields["margin"] = np.array([number(row, "margin") if row["margin"] else np.nan for row in rows])
    origin = {name: np.array([row[name] for row in rows]) for name in ORIGIN if name in rows[0]}
    return fields | {name: texts for name, texts in origin.items() if (texts != "").any()}

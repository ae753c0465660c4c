"""Predictions of any model: yaw, pitch and roll of each image, beside the target angles, and their file.

A predictions file is a CSV file in UTF-8 with this header and one row per image, angles in degrees, list signs:

    path,split,video,person,margin,yaw_true,pitch_true,roll_true,yaw_predicted,pitch_predicted,roll_predicted

`path` names the image; `margin` is the margin of its crop, and a path may appear once per margin.  `split`, `video`,
`person` and `margin` may be absent or empty; further columns are ignored.  The columns may be named as predict.py does:
`source`, `yaw`, `pitch`, `roll`.  A `Convention` says what else other programs write in them.  Where `read_predictions`
is given targets, the true angles may be absent, and so may the folders of a path; or a data folder comes before them.
"""

import contextlib
import csv
import posixpath
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_loaders import mean_of_views, scoring_batches
from rafa.datasets.lists import Listed
from rafa.datasets.rows import known_end, listed_path
from rafa.files import written_whole
from rafa.pose import AXES, angle_errors
from rafa.score.conventions import Convention
from rafa.script import InputError, first_three, progress

ORIGIN = ("split", "video", "person")  # where an image comes from
TARGET_COLUMNS = tuple(f"{axis}_true" for axis in AXES)
PREDICTED_COLUMNS = tuple(f"{axis}_predicted" for axis in AXES)
FIELDS = ("path", "target", "predicted", *ORIGIN, "margin")  # of Predictions
HEADER = ("path", *ORIGIN, "margin", *TARGET_COLUMNS, *PREDICTED_COLUMNS)
ALIASES = dict(zip(("source", *AXES), ("path", *PREDICTED_COLUMNS), strict=True))  # → columns of HEADER
BATCH = 16  # images read at a time
ROLL_SIGNS = ("list", "mat")
AS_LISTED = Convention()
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
    split: Any = ""  # (n,) str
    video: Any = ""  # (n,) str
    person: Any = ""  # (n,) str
    margin: Any = np.nan  # (n,) share of the box side

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


def parts_of(predictions: Predictions) -> list[Predictions]:
    """Predictions by split and margin, each of which is scored separately, in the order of the rows."""
    rows: dict[tuple[str, str], list[int]] = {}
    for row, (split, margin) in enumerate(zip(predictions.split, predictions.margin, strict=True)):
        rows.setdefault((str(split), str(margin)), []).append(row)
    return [predictions.select(np.array(numbers)) for numbers in rows.values()]


def clusters_of(predictions: Predictions) -> tuple[str, np.ndarray | None]:
    """What a bootstrap resamples: ("persons", names) where all are known, else videos, else ("images", None)."""
    persons_known = (predictions.person != predictions.video).any()  # where they are not, a video's name stands in
    if persons_known and (predictions.person != "").all():
        return "persons", predictions.person
    return ("videos", predictions.video) if (predictions.video != "").all() else ("images", None)


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
def aligned(a: Predictions, b: Predictions, names: str) -> Predictions:
    """`b` with its rows in the order of `a`, matched by path, and with the targets of `a`.

    Args:
        a, b: predictions for the same images, each image once.
        names: whose they are, for errors.

    Raises:
        InputError: different images, or targets that differ by more than TARGET_TOLERANCE.
    """
    second = b.select(_matching_rows(a.path.tolist(), b.path.tolist(), names))
    _refuse_other_targets(names, second, a.target)
    return replace(second, target=a.target)


def _matching_rows(keys: Sequence[str], others: Sequence[str], names: str) -> np.ndarray:
    """For each key its place among the others; an InputError unless both sides hold the same keys."""
    place = {key: row for row, key in enumerate(others)}
    only_first, only_second = sorted(set(keys) - place.keys()), sorted(place.keys() - set(keys))
    if only_first or only_second:
        difference = f"only in the first {_some(only_first)}, only in the second {_some(only_second)}"
        raise InputError(f"{names} hold different images: {difference}; --common-only leaves these out")
    return np.array([place[key] for key in keys])


def _refuse_other_targets(what: str, predictions: Predictions, expected: np.ndarray) -> None:
    differ = np.flatnonzero((angle_errors(expected, predictions.target) > TARGET_TOLERANCE).any(axis=1))
    if len(differ):
        first = f"the first is {predictions.target[differ[0]]}, expected {expected[differ[0]]}"
        where = f"over {TARGET_TOLERANCE}° in {_some(predictions.path[differ].tolist())}"
        mend = "check signs, units and lists, or leave the columns of true angles out"
        raise InputError(f"{what}: true angles differ by {where}; {first}: {mend}")


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
    path: str | Path,
    convention: Convention = AS_LISTED,
    targets: Predictions | None = None,
    common_only: bool = False,
) -> tuple[Predictions, int]:
    """Read a predictions file: `Predictions` in list signs and in the order of the file, and how many rows it left out.

    Args:
        path: the CSV file (its columns: top of this module).
        convention: how the file writes angles, the true ones too.  `targets` are never changed by it.
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
        rows = every = _named_as_listed(path, rows, targets.path.tolist())
        if common_only:
            rows, targets = _common(path, rows, targets)
    fields = _fields(path, rows, convention)
    if targets is not None:
        names = f"{path} and the lists"
        matched = targets.select(_matching_rows(fields["path"].tolist(), targets.path.tolist(), names))
        _refuse_other_targets(names, replace(matched, **fields), matched.target)
        fields = {name: getattr(matched, name) for name in ORIGIN} | fields | {"target": matched.target}
    predictions = Predictions(**fields)
    keys = zip(predictions.path.tolist(), map(str, predictions.margin.tolist()), strict=True)
    counts = Counter(f"{name} at margin {margin}".removesuffix(" at margin nan") for name, margin in keys)
    if repeated := [key for key, count in counts.items() if count > 1]:
        raise InputError(f"{path}: more than one row for {_some(repeated)}; expected one per image and margin")
    return predictions, len(every) - len(rows)


def _read_rows(path: str | Path, targets_needed: bool) -> Rows:
    """The rows of a CSV file, with all the columns that are needed, and paths in the one spelling."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, skipinitialspace=True)
        try:
            lines = [(reader.line_num, cells) for cells in reader if cells]
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not a CSV file in UTF-8 ({error}); save it as one") from error
    header = lines[0][1] if lines else []
    columns = [name if ALIASES.get(name, name) in header else ALIASES[name] for name in header]
    targets = TARGET_COLUMNS if targets_needed or {*columns} & {*TARGET_COLUMNS} else ()
    if missing := [name for name in ("path", *targets, *PREDICTED_COLUMNS) if name not in columns]:
        found = f"it has {', '.join(header) or 'none'}"
        also = f"or {', '.join(ALIASES)}{'; true angles may come from lists (--truth)' if targets_needed else ''}"
        raise InputError(f"{path}: missing columns {', '.join(missing)}; {found}; expected those names, {also}")
    if len({*columns}) < len(columns):
        raise InputError(f"{path}: two columns of one name in {', '.join(header)}; rename one")
    if len(lines) == 1:
        raise InputError(f"{path} has a header and no predictions")
    for number, cells in lines:
        if len(cells) != len(columns):
            raise InputError(f"{path}, line {number}: expected {len(columns)} columns, as in the header")
    rows = [dict(zip(columns, cells, strict=True)) for _, cells in lines[1:]]
    return [row | {"path": listed_path(row["path"])} for row in rows]


def _named_as_listed(path: str | Path, rows: Rows, names: list[str]) -> Rows:
    """Rows by the names of the lists: without a data folder that all have before these, or with folders they lack."""
    known, by_base = set(names), dict[str, list[str]]()
    for name in names:
        by_base.setdefault(posixpath.basename(name), []).append(name)
    ends = [known_end(row["path"], known) for row in rows]
    one_folder = len({row["path"].removesuffix(end) for row, end in zip(rows, ends, strict=True) if end}) == 1
    listed = []
    for row, end in zip(rows, ends, strict=True):
        given = row["path"]
        longer = [name for name in by_base.get(posixpath.basename(given), ()) if name.endswith(f"/{given}")]
        if not end and len(longer) > 1:
            raise InputError(f"{path}: {given} may be {first_three(longer)}; write the paths as the lists do")
        listed.append(row | {"path": (end if one_folder and end else next(iter(longer), given))})
    return listed


def _common(path: str | Path, rows: Rows, targets: Predictions) -> tuple[Rows, Predictions]:
    """What the rows of a file and the targets have in common."""
    names = set(targets.path.tolist())
    kept = [row for row in rows if row["path"] in names and row.get("status", "ok") == "ok"]
    if not kept:
        images = f"it has {rows[0]['path']!r}, the lists {str(targets.path[0])!r}"
        raise InputError(f"{path}: no prediction for an image of the lists; {images}")
    return kept, targets.select(np.isin(targets.path, [row["path"] for row in kept]))


def _fields(path: str | Path, rows: Rows, convention: Convention) -> dict[str, np.ndarray]:
    """The fields of `Predictions` that the rows give, in degrees and list signs."""

    def number(row: dict[str, str], name: str) -> float:
        with contextlib.suppress(ValueError):
            if np.isfinite(value := float(row[name])):
                return value
        status = f" ({row['status']}: --common-only leaves such rows out)" if "status" in row else ""  # of predict.py
        raise InputError(
            f"{path}: {name} of {row['path']} is {row[name]!r}{status}; expected a finite number, or no row for it"
        )

    fields = {"path": np.array([row["path"] for row in rows])}
    for angles, names in (("predicted", PREDICTED_COLUMNS), ("target", TARGET_COLUMNS)):
        if names[0] in rows[0]:
            fields[angles] = convention.angles(np.array([[number(row, name) for name in names] for row in rows]))
    if "margin" in rows[0]:
        fields["margin"] = np.array([number(row, "margin") if row["margin"] else np.nan for row in rows])
    origin = {name: np.array([row[name] for row in rows]) for name in ORIGIN if name in rows[0]}
    return fields | {name: texts for name, texts in origin.items() if (texts != "").any()}

"""Predictions of any model: one row of yaw, pitch and roll per image, and their file.

A predictions file is a CSV file in UTF-8 with this header, one row per image, angles in degrees in list signs:

    path,split,video,person,margin,yaw_true,pitch_true,roll_true,yaw_predicted,pitch_predicted,roll_predicted

`path` names the image; a path may come back at another `margin` (the fixed test-time margin of the crop), never at the
same one.  `split`, `video`, `person` and `margin` may be absent or empty, further columns are ignored, and the three
true angles may be absent if `read_predictions` is given the truth to join by path.
"""

import csv
from dataclasses import dataclass, fields

import numpy as np

from data_loaders import AXES, Listed
from util.errors import InputError
from util.provenance import written_whole

LABELS = ("split", "video", "person")
TRUE_COLUMNS = tuple(f"{axis}_true" for axis in AXES)
PREDICTED_COLUMNS = tuple(f"{axis}_predicted" for axis in AXES)
HEADER = ("path", *LABELS, "margin", *TRUE_COLUMNS, *PREDICTED_COLUMNS)
TRUTH_TOLERANCE = 1e-3  # degrees: more than rounding in a file, far less than the lists' 3.14 for pi (up to 0.05)


# --- Predictions and their file ---------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Predictions:
    """True and predicted angles of n images, in degrees, list signs, AXES order.

    Labels ("" = unknown) and margin (NaN = unknown) may each be given as one value for all images.  A InputError tells
    of shapes that do not fit together and of angles that are not finite.
    """

    path: np.ndarray  # (n,) str
    true: np.ndarray  # (n, 3) degrees
    predicted: np.ndarray  # (n, 3) degrees
    split: np.ndarray = ""  # (n,) str
    video: np.ndarray = ""  # (n,) str
    person: np.ndarray = ""  # (n,) str
    margin: np.ndarray = np.nan  # (n,) share of the box side

    def __post_init__(self):
        object.__setattr__(self, "path", np.atleast_1d(np.asarray(self.path, dtype=str)))
        for field in fields(self):
            angles = field.name in ("true", "predicted")
            value = np.asarray(getattr(self, field.name), dtype=float if angles or field.name == "margin" else str)
            shape = (len(self), 3) if angles else (len(self),)
            if value.ndim == 0 and not angles:
                value = np.full(shape, value)
            if value.shape != shape:
                raise InputError(f"{field.name} has shape {value.shape}; {len(self)} paths want shape {shape}")
            if angles and not np.isfinite(value).all():
                row = int(np.argmin(np.isfinite(value).all(axis=1)))
                raise InputError(f"{field.name} angles of {self.path[row]} (row {row}) are not finite: {value[row]}")
            object.__setattr__(self, field.name, value)

    def __len__(self):
        return len(self.path)

    def select(self, mask):
        """The images of a boolean mask (n,) or of an array of row numbers, in that order."""
        return Predictions(**{field.name: getattr(self, field.name)[mask] for field in fields(self)})


def truth_of(listed: Listed) -> Predictions:
    """True angles and labels of a list as `Predictions` that predict the truth."""
    records, true = listed.records, np.degrees(listed.records["angles"])
    labels = {"split": listed.split, "video": records["video"], "person": records["person"]}
    return Predictions(records["path"], true, true, **labels)


def stack(parts):
    """Several `Predictions` as one, say those at several margins."""
    names = [field.name for field in fields(Predictions)]
    return Predictions(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def read_predictions(path, roll_sign="list", truth=None, common_only=False):
    """Read a predictions file (schema: top of this module) as `Predictions`, in the order of the file, in list signs.

    Args:
        path: the CSV file.
        roll_sign: "list", or "mat" where the file has the roll of the `.mat` files (as Hopenet and FSA-Net do): then
            *both* `roll_true` and `roll_predicted` of this file are negated on reading.  `truth` is never negated.
        truth: `Predictions` of exactly the same paths, joined by path.  It gives the true angles, and whichever of
            split, video and person the file does not give.  True angles in the file must then agree with it.
        common_only: with `truth`: leave out, instead of refusing, what only one of the two has.

    Raises:
        InputError, with file and line: an empty file, missing columns, a wrong number of columns, anything but a finite
            number, no path, a path twice at one margin.  With `truth`: other paths or other true angles.
    """
    if roll_sign not in ("list", "mat"):
        raise InputError(f"roll_sign is {roll_sign!r}; expected 'list' or 'mat'")
    columns, lines = _read_columns(path)
    if truth is not None and common_only and "path" in columns:
        truth, columns, lines = _common(path, truth, columns, lines)
    has_true = truth is None or any(name in columns for name in TRUE_COLUMNS)
    missing = [n for n in ("path", *TRUE_COLUMNS[: 3 * has_true], *PREDICTED_COLUMNS) if n not in columns]
    if missing:
        found = f"found {', '.join(columns)}; only the true angles may be absent, where the truth is given"
        raise InputError(f"{path}, line 1: missing columns {', '.join(missing)}; {found}")
    sign = np.where(np.array(AXES) == "roll", -1.0, 1.0) if roll_sign == "mat" else 1.0
    known = {"path": np.array(columns["path"], dtype=str)}
    for field, names in (("predicted", PREDICTED_COLUMNS), ("true", TRUE_COLUMNS))[: 1 + has_true]:
        known[field] = sign * np.stack([_numbers(path, name, columns[name], lines) for name in names], axis=1)
    known["margin"] = _numbers(path, "margin", columns.get("margin", ("",) * len(lines)), lines, may_be_empty=True)
    if "" in columns["path"]:
        raise InputError(f"{path}, line {lines[columns['path'].index('')]}: no path; expected the name of the image")
    refuse_duplicates(f"{path}, line", duplicate_keys(known["path"], known["margin"]), lines)
    if truth is not None:
        known |= _join_truth(path, known, truth)
    return Predictions(**known | {name: columns[name] for name in LABELS if any(columns.get(name, ()))})


def write_predictions(path, predictions):
    """Write `Predictions` so that `read_predictions` gives back the very same numbers; whole or not at all."""
    if not len(predictions):
        raise InputError(f"{path}: no predictions to write")
    refuse_duplicates("predictions, row", duplicate_keys(predictions.path, predictions.margin), range(len(predictions)))
    labels = [getattr(predictions, name).tolist() for name in LABELS]
    margins = ["" if np.isnan(margin) else margin for margin in predictions.margin.tolist()]
    angles = np.concatenate([predictions.true, predictions.predicted], axis=1).T.tolist()
    with written_whole(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(zip(predictions.path.tolist(), *labels, margins, *angles, strict=True))


def _read_columns(path):
    """A CSV file as {column name: texts}, with the line number of every row."""
    lines, rows = [], []
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            for row in reader:
                rows.append(row)
                lines.append(reader.line_num)
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path}, after line {reader.line_num}: not a CSV file in UTF-8 ({error})") from error
    if len(rows) < 2:
        raise InputError(f"{path}, line {len(rows) + 1}: the file is empty here; expected a header and predictions")
    header = [name.strip() for name in rows[0]]
    repeated = [name for name in HEADER if header.count(name) > 1]
    if repeated:
        raise InputError(f"{path}, line 1: these columns come more than once: {', '.join(repeated)}")
    for line, row in zip(lines, rows, strict=True):
        if len(row) != len(header):
            raise InputError(f"{path}, line {line}: {len(row)} columns; the header has {len(header)}")
    return dict(zip(header, zip(*rows[1:], strict=True), strict=True)), lines[1:]


def _common(source, truth, columns, lines):
    """Truth, columns and line numbers without what only the truth or only the file has."""
    rows = np.flatnonzero(np.isin(columns["path"], truth.path))
    if not len(rows):
        raise InputError(f"{source}: no image of the truth; it has {columns['path'][0]}, the truth {truth.path[0]}")
    columns = {name: tuple(texts[row] for row in rows) for name, texts in columns.items()}
    return truth.select(np.isin(truth.path, columns["path"])), columns, [lines[row] for row in rows]


def _numbers(path, name, texts, lines, may_be_empty=False):
    """A column of texts as floats; an empty text is NaN where it may be empty."""
    try:
        numbers = np.array(texts, dtype=float)
    except ValueError:
        numbers = np.array([_number_or_nan(text) for text in texts])
    for row in np.flatnonzero(~np.isfinite(numbers)):
        if texts[row] or not may_be_empty:
            raise InputError(f"{path}, line {lines[row]}: {name} is {texts[row]!r}; expected a finite number")
    return numbers


def _number_or_nan(text):
    try:
        return float(text)
    except ValueError:
        return np.nan


def duplicate_keys(paths, margins):
    """What names a row: its path, and its margin if it has one."""
    known = zip(paths.tolist(), margins.tolist(), strict=True)
    return [path if np.isnan(margin) else f"{path} at margin {margin!r}" for path, margin in known]


def refuse_duplicates(place, keys, numbers):
    """Raise a InputError that names the first repeated key by the numbers of both rows."""
    first = {}
    for key, number in zip(keys, numbers, strict=True):
        if first.setdefault(key, number) != number:
            raise InputError(f"{place} {number}: {key} is there already, in {first[key]}; expected once per margin")


def some(names):
    """A count and the first few names, for messages."""
    return f"{len(names):,} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"


def _join_truth(source, known, truth):
    """The true angles and the labels that `truth` has for the paths of a file."""
    row_of = {}
    first = [row_of.setdefault(name, row) for row, name in enumerate(truth.path.tolist())]
    check_same_truth("truth, which has a path more than once", truth.path, truth.true, truth.true[first])
    paths = known["path"].tolist()
    missing, extra = sorted(row_of.keys() - set(paths)), sorted(set(paths) - row_of.keys())
    if missing or extra:
        names = f"missing in the file {some(missing)}, unknown to the truth {some(extra)}"
        raise InputError(f"{source}: not the images of the truth: {names}; expected the same names, or common_only")
    matched = truth.select([row_of[name] for name in paths])
    check_same_truth(f"{source} against the truth", matched.path, known.get("true", matched.true), matched.true)
    return {"true": matched.true} | {name: getattr(matched, name) for name in LABELS}


def check_same_truth(what, paths, true, expected):
    differ = np.flatnonzero((angle_errors(expected, true) > TRUTH_TOLERANCE).any(axis=1))
    if len(differ):
        first = f"the first is {true[differ[0]]}, expected {expected[differ[0]]}: check signs, units, choice of list"
        raise InputError(f"{what}: true angles differ by over {TRUTH_TOLERANCE}° in {some(paths[differ])}; {first}")


def angle_errors(true, predicted):
    """Absolute differences of angles in degrees, any shape, wrapped at 360° only: 350° off is 10°, 170° off is 170°."""
    difference = np.abs(np.asarray(predicted, float) - np.asarray(true, float)) % 360
    return np.minimum(difference, 360 - difference)

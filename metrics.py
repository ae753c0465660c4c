"""Predictions → numbers with uncertainty, for any model that leaves one row of yaw, pitch and roll per image.

A predictions file is a CSV file in UTF-8 with this header, one row per image, angles in degrees in list signs:

    path,split,video,person,margin,yaw_true,pitch_true,roll_true,yaw_predicted,pitch_predicted,roll_predicted

`path` names the image; a path may come back at another `margin` (the fixed test-time margin of the crop), never at the
same one.  `split`, `video`, `person` and `margin` may be absent or empty, further columns are ignored, and the three
true angles may be absent if `read_predictions` is given the truth to join by path.

    print(format_estimates(summarise(read_predictions("predictions.csv"))))
"""

import csv
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_loaders import AXES, DataError, rotation_matrix

LABELS = ("split", "video", "person")
TRUE_COLUMNS = tuple(f"{axis}_true" for axis in AXES)
PREDICTED_COLUMNS = tuple(f"{axis}_predicted" for axis in AXES)
HEADER = ("path", *LABELS, "margin", *TRUE_COLUMNS, *PREDICTED_COLUMNS)

HEAD_VECTORS = ("left", "down", "front")  # the columns of a rotation matrix: the head's own x, y and z
WITHIN = (5, 10, 15)  # degrees
YAW_EDGES = (30, 60, 90)  # degrees of |true yaw|; an edge belongs to the bin below it
YAW_BINS = {"0_30": "0-30", "30_60": "30-60", "60_90": "60-90", "over_90": "over 90"}
PERCENTILES = (2.5, 97.5)
TRUTH_TOLERANCE = 1e-3  # degrees: more than rounding in a file, far less than the lists' 3.14 for pi (up to 0.05)
COUNTS_AT_ONCE = 2**21  # resampling counts held in memory at a time: 16 MiB


METRICS = (  # (key in every result, title for people, unit of the value)
    *((f"mae_{axis}", f"MAE {axis}", "°") for axis in AXES),
    ("mae", "MAE, mean of the three axes", "°"),
    ("geodesic", "geodesic error", "°"),
    ("maev", "MAEV, mean of the three head vectors", "°"),
    *((f"maev_{vector}", f"error of the {vector} vector", "°") for vector in HEAD_VECTORS),
    *((f"within_{limit}", f"all three angles within {limit}°", "%") for limit in WITHIN),
    *((f"within_{limit}_{axis}", f"{axis} within {limit}°", "%") for limit in WITHIN for axis in AXES),
    *((f"mae_yaw_{name}", f"MAE where |true yaw| is {title}°", "°") for name, title in YAW_BINS.items()),
)


# --- Predictions and their file ---------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Predictions:
    """True and predicted angles of n images, in degrees, list signs, AXES order.

    Labels ("" = unknown) and margin (NaN = unknown) may each be given as one value for all images.  A DataError tells
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
                raise DataError(f"{field.name} has shape {value.shape}; {len(self)} paths want shape {shape}")
            if angles and not np.isfinite(value).all():
                row = int(np.argmin(np.isfinite(value).all(axis=1)))
                raise DataError(f"{field.name} angles of {self.path[row]} (row {row}) are not finite: {value[row]}")
            object.__setattr__(self, field.name, value)

    def __len__(self):
        return len(self.path)

    def select(self, mask):
        """The images of a boolean mask (n,) or of an array of row numbers, in that order."""
        return Predictions(**{field.name: getattr(self, field.name)[mask] for field in fields(self)})


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
        DataError, with file and line: an empty file, missing columns, a wrong number of columns, anything but a finite
            number, no path, a path twice at one margin.  With `truth`: other paths or other true angles.
    """
    if roll_sign not in ("list", "mat"):
        raise DataError(f"roll_sign is {roll_sign!r}; expected 'list' or 'mat'")
    columns, lines = _read_columns(path)
    if truth is not None and common_only and "path" in columns:
        truth, columns, lines = _common(path, truth, columns, lines)
    has_true = truth is None or any(name in columns for name in TRUE_COLUMNS)
    missing = [n for n in ("path", *TRUE_COLUMNS[: 3 * has_true], *PREDICTED_COLUMNS) if n not in columns]
    if missing:
        found = f"found {', '.join(columns)}; only the true angles may be absent, where the truth is given"
        raise DataError(f"{path}, line 1: missing columns {', '.join(missing)}; {found}")
    sign = np.where(np.array(AXES) == "roll", -1.0, 1.0) if roll_sign == "mat" else 1.0
    known = {"path": np.array(columns["path"], dtype=str)}
    for field, names in (("predicted", PREDICTED_COLUMNS), ("true", TRUE_COLUMNS))[: 1 + has_true]:
        known[field] = sign * np.stack([_numbers(path, name, columns[name], lines) for name in names], axis=1)
    known["margin"] = _numbers(path, "margin", columns.get("margin", ("",) * len(lines)), lines, may_be_empty=True)
    if "" in columns["path"]:
        raise DataError(f"{path}, line {lines[columns['path'].index('')]}: no path; expected the name of the image")
    _refuse_duplicates(f"{path}, line", _keys(known["path"], known["margin"]), lines)
    if truth is not None:
        known |= _join_truth(path, known, truth)
    return Predictions(**known | {name: columns[name] for name in LABELS if any(columns.get(name, ()))})


def write_predictions(path, predictions):
    """Write `Predictions` so that `read_predictions` gives back the very same numbers; whole or not at all."""
    if not len(predictions):
        raise DataError(f"{path}: no predictions to write")
    _refuse_duplicates("predictions, row", _keys(predictions.path, predictions.margin), range(len(predictions)))
    labels = [getattr(predictions, name).tolist() for name in LABELS]
    margins = ["" if np.isnan(margin) else margin for margin in predictions.margin.tolist()]
    angles = np.concatenate([predictions.true, predictions.predicted], axis=1).T.tolist()
    unfinished = Path(path).with_name(f".{Path(path).name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(HEADER)
            writer.writerows(zip(predictions.path.tolist(), *labels, margins, *angles, strict=True))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


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
            raise DataError(f"{path}, after line {reader.line_num}: not a CSV file in UTF-8 ({error})") from error
    if len(rows) < 2:
        raise DataError(f"{path}, line {len(rows) + 1}: the file is empty here; expected a header and predictions")
    header = [name.strip() for name in rows[0]]
    repeated = [name for name in HEADER if header.count(name) > 1]
    if repeated:
        raise DataError(f"{path}, line 1: these columns come more than once: {', '.join(repeated)}")
    for line, row in zip(lines, rows, strict=True):
        if len(row) != len(header):
            raise DataError(f"{path}, line {line}: {len(row)} columns; the header has {len(header)}")
    return dict(zip(header, zip(*rows[1:], strict=True), strict=True)), lines[1:]


def _common(source, truth, columns, lines):
    """Truth, columns and line numbers without what only the truth or only the file has."""
    rows = np.flatnonzero(np.isin(columns["path"], truth.path))
    if not len(rows):
        raise DataError(f"{source}: no image of the truth; it has {columns['path'][0]}, the truth {truth.path[0]}")
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
            raise DataError(f"{path}, line {lines[row]}: {name} is {texts[row]!r}; expected a finite number")
    return numbers


def _number_or_nan(text):
    try:
        return float(text)
    except ValueError:
        return np.nan


def _keys(paths, margins):
    """What names a row: its path, and its margin if it has one."""
    known = zip(paths.tolist(), margins.tolist(), strict=True)
    return [path if np.isnan(margin) else f"{path} at margin {margin!r}" for path, margin in known]


def _refuse_duplicates(place, keys, numbers):
    """Raise a DataError that names the first repeated key by the numbers of both rows."""
    first = {}
    for key, number in zip(keys, numbers, strict=True):
        if first.setdefault(key, number) != number:
            raise DataError(f"{place} {number}: {key} is there already, in {first[key]}; expected once per margin")


def _some(names):
    """A count and the first few names, for messages."""
    return f"{len(names):,} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"


def _join_truth(source, known, truth):
    """The true angles and the labels that `truth` has for the paths of a file."""
    row_of = {}
    first = [row_of.setdefault(name, row) for row, name in enumerate(truth.path.tolist())]
    _check_same_truth("truth, which has a path more than once", truth.path, truth.true, truth.true[first])
    paths = known["path"].tolist()
    missing, extra = sorted(row_of.keys() - set(paths)), sorted(set(paths) - row_of.keys())
    if missing or extra:
        names = f"missing in the file {_some(missing)}, unknown to the truth {_some(extra)}"
        raise DataError(f"{source}: not the images of the truth: {names}; expected the same names, or common_only")
    matched = truth.select([row_of[name] for name in paths])
    _check_same_truth(f"{source} against the truth", matched.path, known.get("true", matched.true), matched.true)
    return {"true": matched.true} | {name: getattr(matched, name) for name in LABELS}


def _check_same_truth(what, paths, true, expected):
    differ = np.flatnonzero((angle_errors(expected, true) > TRUTH_TOLERANCE).any(axis=1))
    if len(differ):
        first = f"the first is {true[differ[0]]}, expected {expected[differ[0]]}: check signs, units, choice of list"
        raise DataError(f"{what}: true angles differ by over {TRUTH_TOLERANCE}° in {_some(paths[differ])}; {first}")


# --- Metrics of one image ---------------------------------------------------------------------------------------------
def angle_errors(true, predicted):
    """Absolute differences of angles in degrees, any shape, wrapped at 360° only: 350° off is 10°, 170° off is 170°."""
    difference = np.abs(np.asarray(predicted, float) - np.asarray(true, float)) % 360
    return np.minimum(difference, 360 - difference)


def rotation_errors(true, predicted):
    """Errors in degrees of the rotations that (n, 3) yaw, pitch, roll in degrees, list signs, stand for.

    First (n,) geodesic errors, the angle of the rotation R_trueᵀ R_predicted; then (n, 3) angles between the true and
    the predicted left, down and front vector of the head (columns of the matrices), whose mean is the image's MAEV.
    """
    from scipy.spatial.transform import Rotation

    true, predicted = (rotation_matrix(np.radians(angles)) for angles in (true, predicted))  # (n, 3, 3)
    geodesic = Rotation.from_matrix(true.swapaxes(1, 2) @ predicted).magnitude()
    # Twice the arctangent of the half angle: the arccosine of the dot product is blind to angles below 1e-6 degrees.
    vectors = 2 * np.arctan2(np.linalg.norm(true - predicted, axis=1), np.linalg.norm(true + predicted, axis=1))
    return np.degrees(geodesic), np.degrees(vectors)


def per_image(predictions):
    """Every metric of every image: {key: (n,)} for the keys of METRICS; NaN where the image does not count.

    `within_5` is 100 where the *largest* of the three errors is at most 5°, else 0: its mean is a share in per cent.
    `mae_yaw_30_60` is the mean error of the three axes (not of yaw alone) where 30 < |true yaw| ≤ 60, wrapped at 360°;
    `mae_yaw_0_30` includes 0, and `mae_yaw_over_90` has all the rest.  Raises a DataError if there are no images.
    """
    if not len(predictions):
        raise DataError("no predictions to score; expected at least one image")
    errors = angle_errors(predictions.true, predictions.predicted)  # (n, 3)
    geodesic, vectors = rotation_errors(predictions.true, predictions.predicted)
    columns = {f"mae_{axis}": errors[:, i] for i, axis in enumerate(AXES)}
    columns |= {"mae": errors.mean(axis=1), "geodesic": geodesic, "maev": vectors.mean(axis=1)}
    columns |= {f"maev_{vector}": vectors[:, i] for i, vector in enumerate(HEAD_VECTORS)}
    for limit in WITHIN:
        columns[f"within_{limit}"] = 100.0 * (errors.max(axis=1) <= limit)
        columns |= {f"within_{limit}_{axis}": 100.0 * (errors[:, i] <= limit) for i, axis in enumerate(AXES)}
    yaw_bin = np.searchsorted(YAW_EDGES, angle_errors(predictions.true[:, AXES.index("yaw")], 0))
    columns |= {f"mae_yaw_{b}": np.where(yaw_bin == i, columns["mae"], np.nan) for i, b in enumerate(YAW_BINS)}
    return columns


def worst(predictions, k=10, key="mae"):
    """Row numbers of the k images with the largest error, of those that count for the metric `key`; worst first."""
    known = [name for name, _, unit in METRICS if unit == "°"]
    if key not in known or k < 1:
        raise DataError(f"worst {k} by {key!r}; expected at least 1, by one of {', '.join(known)}")
    errors = per_image(predictions)[key]
    return np.argsort(-errors, kind="stable")[: min(k, np.isfinite(errors).sum())]  # NaN, "does not count", is last


# --- Metrics of many images, with intervals ---------------------------------------------------------------------------
class Estimate(NamedTuple):
    """A metric and its 95% interval over n images in so many clusters (None where images were resampled).

    The value is NaN if no image counts, the interval if fewer than two images or clusters do.
    """

    value: float
    low: float
    high: float
    n: int
    clusters: int | None


class Comparison(NamedTuple):
    """Paired differences b - a of every metric, {key: Estimate}; how many images of a and of b had no partner."""

    differences: dict
    dropped_a: int
    dropped_b: int


class Spread(NamedTuple):
    """Mean and sample standard deviation (NaN for a single run) of a metric over n runs."""

    mean: float
    sd: float
    n: int


def summarise(predictions, rounds=1000, seed=0, clusters=None):
    """Every metric of METRICS with its 95% percentile bootstrap interval: {key: Estimate}, degrees or per cent.

    With few clusters the interval is too narrow: in 500 simulations each of videos with 50 images it covered the
    truth in 77% for 4 videos, 88% for 8, 92% for 24.  Show their number (`Estimate.clusters`) beside the interval.
    Rounds that draw no image of a yaw bin do not count for that bin.

    Args:
        predictions: `Predictions` of n images.
        rounds, seed: how often to resample, and with which random numbers.
        clusters: None to resample images, or (n,) names (videos, persons) to resample whole clusters: frames of one
            video resemble each other, so that resampling frames claims more certainty than there is.

    Raises:
        DataError: no images, no rounds, clusters that do not fit, or several margins of an image without clusters.
    """
    return _estimates(per_image(predictions), rounds, seed, _checked_clusters(clusters, predictions))


def compare(a, b, *, rounds=1000, seed=0, clusters=None, common_only=False):
    """Paired difference b - a of every metric (in degrees, negative: b is better) with its interval, as `Comparison`.

    Images are paired by path and margin, in any order; by path alone if a or b has no margins at all.  To compare two
    margins, take one away: `compare(a, dataclasses.replace(b, margin=math.nan))`.

    Args:
        a, b: `Predictions` of the same images with the same true angles; anything else is a DataError.
        rounds, seed, clusters: as for `summarise`; the clusters name the rows of `a`.
        common_only: where the images differ, compare those that both have and report how many were dropped.
    """
    rows_a, rows_b = _pair(a, b, common_only)
    first, second = a.select(rows_a), b.select(rows_b)
    _check_same_truth("b against a", second.path, second.true, first.true)
    second = replace(second, true=first.true)  # differences below the tolerance must not move an image to another bin
    clusters = _checked_clusters(clusters, a)
    before, after = per_image(first), per_image(second)
    columns = {key: after[key] - before[key] for key in before}
    differences = _estimates(columns, rounds, seed, None if clusters is None else clusters[rows_a])
    return Comparison(differences, len(a) - len(first), len(b) - len(second))


def across_seeds(summaries):
    """{key: Spread} over what `summarise` gave for several runs; a DataError if they scored different images."""
    if not summaries:
        raise DataError("no summaries to put together; expected one per run")
    spreads = {}
    for key in summaries[0]:
        values, counts = np.array([(summary[key].value, summary[key].n) for summary in summaries]).T
        if (counts != counts[0]).any():
            raise DataError(f"the runs scored different images: {key} is over {counts.astype(int).tolist()} images")
        spreads[key] = Spread(values.mean(), values.std(ddof=1) if len(values) > 1 else np.nan, len(values))
    return spreads


def mean_pose_baseline(train_angles, test_angles):
    """Degrees per axis and mean: MAE on (m, 3) test angles of always answering the mean of (n, 3) training angles."""
    from sklearn.dummy import DummyRegressor

    dummy = DummyRegressor(strategy="mean").fit(np.zeros((len(train_angles), 1)), np.asarray(train_angles, float))
    errors = angle_errors(test_angles, dummy.predict(np.zeros((len(test_angles), 1)))).mean(axis=0)
    return {f"mae_{axis}": errors[i] for i, axis in enumerate(AXES)} | {"mae": errors.mean()}


def format_estimates(estimates):
    """Lines of text for {key: Estimate}: title, value, interval, number of images (and of clusters)."""
    lines = []
    for key, title, unit in METRICS:
        value, low, high, n, clusters = estimates[key]
        interval = "no interval" if np.isnan(low) else f"[{low:.2f}, {high:.2f}]"
        images = f"{n:,} images" + ("" if clusters is None else f" in {clusters:,} clusters")
        lines.append(f"{title:38} " + (f"{value:7.2f}{unit}  {interval:18} {images}" if n else "no images"))
    return "\n".join(lines)


def _pair(a, b, common_only):
    """Row numbers of a and of b that belong together, in the order of a."""
    by_margin = not (np.isnan(a.margin).all() or np.isnan(b.margin).all())
    keys_a, keys_b = (_keys(p.path, p.margin if by_margin else np.full(len(p), np.nan)) for p in (a, b))
    for name, keys in (("a", keys_a), ("b", keys_b)):
        _refuse_duplicates(f"{name}, row", keys, range(len(keys)))
    row_of = {key: row for row, key in enumerate(keys_b)}
    rows_a = [row for row, key in enumerate(keys_a) if key in row_of]
    only_a, only_b = [key for key in keys_a if key not in row_of], sorted(row_of.keys() - set(keys_a))
    if not rows_a or (not common_only and (only_a or only_b)):
        mend = "use common_only to compare the rest" if rows_a else "they have no image in common"
        raise DataError(f"different images: only in a {_some(only_a)}, only in b {_some(only_b)}; {mend}")
    return np.array(rows_a), np.array([row_of[keys_a[row]] for row in rows_a])


def _estimates(columns, rounds, seed, clusters):
    """{key: Estimate} of the means of per-image columns."""
    if rounds < 1:
        raise DataError(f"{rounds} bootstrap rounds; expected at least 1")
    values = np.stack([columns[key] for key, _, _ in METRICS], axis=1)  # (images, metrics)
    counted = np.isfinite(values)
    sums, sizes = np.where(counted, values, 0.0), counted.astype(float)  # (units, metrics); a unit is an image ...
    if clusters is not None:  # ... or a cluster
        unit = np.unique(clusters, return_inverse=True)[1]
        sums, sizes = (np.stack([np.bincount(unit, column) for column in t.T], axis=1) for t in (sums, sizes))
    means = _resampled_means(sums, sizes, rounds, seed)
    estimates = {}
    for i, (key, _, _) in enumerate(METRICS):
        n, units = int(counted[:, i].sum()), int((sizes[:, i] > 0).sum())
        drawn = means[np.isfinite(means[:, i]), i]
        low, high = np.percentile(drawn, PERCENTILES).tolist() if units > 1 and len(drawn) else (np.nan, np.nan)
        value = float(sums[:, i].sum() / n) if n else np.nan
        estimates[key] = Estimate(value, low, high, n, None if clusters is None else units)
    return estimates


def _resampled_means(sums, sizes, rounds, seed):
    """(rounds, metrics) means of as many units as there are, drawn with replacement, weighted by their sizes."""
    # A resampling is a row of multinomial counts, so that many rounds of all metrics are one product of matrices: 2 s
    # for 100,000 images and 1,000 rounds.  scipy.stats.bootstrap copies every metric in every round: 17 s at best.
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(seed)
    units, both, totals = len(sums), np.hstack([sums, sizes]), []
    at_once = max(1, COUNTS_AT_ONCE // units)
    with threadpool_limits(1):  # memory is the limit: more threads gain nothing, and cost 8 times on a busy machine
        for start in range(0, rounds, at_once):
            drawn = rng.integers(units, size=(min(at_once, rounds - start), units))
            totals.append(np.stack([np.bincount(row, minlength=units) for row in drawn]).astype(float) @ both)
    with np.errstate(invalid="ignore"):  # 0/0: a round without any image of a yaw bin
        return np.divide(*np.hsplit(np.concatenate(totals), 2))


def _checked_clusters(clusters, predictions):
    n, different = len(predictions), len(set(predictions.path.tolist()))
    if clusters is None:
        if different < n:
            raise DataError(f"{n:,} rows of {different:,} images: select one margin, or pass clusters, such as paths")
        return None
    clusters = np.asarray(clusters, dtype=str)
    if clusters.shape != (n,):
        raise DataError(f"clusters have shape {clusters.shape}; {n} images want one name each")
    if (clusters == "").any():
        raise DataError(f"{(clusters == '').sum():,} of {n:,} images have no cluster name; name all or resample images")
    return clusters

"""Predictions → numbers with uncertainty: metrics of an image, their means, and bootstrap intervals."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from data_loaders import AXES, rotation_matrix
from util.errors import InputError
from util.predictions import angle_errors, check_same_truth, duplicate_keys, refuse_duplicates, some

HEAD_VECTORS = ("left", "down", "front")  # the columns of a rotation matrix: the head's own x, y and z
WITHIN = (5, 10, 15)  # degrees
YAW_EDGES = (30, 60, 90)  # degrees of |true yaw|; an edge belongs to the bin below it
YAW_BINS = {"0_30": "0-30", "30_60": "30-60", "60_90": "60-90", "over_90": "over 90"}
PERCENTILES = (2.5, 97.5)
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


# --- Metrics of one image ---------------------------------------------------------------------------------------------
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
    `mae_yaw_0_30` includes 0, and `mae_yaw_over_90` has all the rest.  Raises a InputError if there are no images.
    """
    if not len(predictions):
        raise InputError("no predictions to score; expected at least one image")
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
        raise InputError(f"worst {k} by {key!r}; expected at least 1, by one of {', '.join(known)}")
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
        InputError: no images, no rounds, clusters that do not fit, or several margins of an image without clusters.
    """
    return _estimates(per_image(predictions), rounds, seed, _checked_clusters(clusters, predictions))


def compare(a, b, *, rounds=1000, seed=0, clusters=None, common_only=False):
    """Paired difference b - a of every metric (in degrees, negative: b is better) with its interval, as `Comparison`.

    Images are paired by path and margin, in any order; by path alone if a or b has no margins at all.  To compare two
    margins, take one away: `compare(a, dataclasses.replace(b, margin=math.nan))`.

    Args:
        a, b: `Predictions` of the same images with the same true angles; anything else is a InputError.
        rounds, seed, clusters: as for `summarise`; the clusters name the rows of `a`.
        common_only: where the images differ, compare those that both have and report how many were dropped.
    """
    rows_a, rows_b = _pair(a, b, common_only)
    first, second = a.select(rows_a), b.select(rows_b)
    check_same_truth("b against a", second.path, second.true, first.true)
    second = replace(second, true=first.true)  # differences below the tolerance must not move an image to another bin
    clusters = _checked_clusters(clusters, a)
    before, after = per_image(first), per_image(second)
    columns = {key: after[key] - before[key] for key in before}
    differences = _estimates(columns, rounds, seed, None if clusters is None else clusters[rows_a])
    return Comparison(differences, len(a) - len(first), len(b) - len(second))


def across_seeds(summaries):
    """{key: Spread} over what `summarise` gave for several runs; a InputError if they scored different images."""
    if not summaries:
        raise InputError("no summaries to put together; expected one per run")
    spreads = {}
    for key in summaries[0]:
        values, counts = np.array([(summary[key].value, summary[key].n) for summary in summaries]).T
        if (counts != counts[0]).any():
            raise InputError(f"the runs scored different images: {key} is over {counts.astype(int).tolist()} images")
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
    keys_a, keys_b = (duplicate_keys(p.path, p.margin if by_margin else np.full(len(p), np.nan)) for p in (a, b))
    for name, keys in (("a", keys_a), ("b", keys_b)):
        refuse_duplicates(f"{name}, row", keys, range(len(keys)))
    row_of = {key: row for row, key in enumerate(keys_b)}
    rows_a = [row for row, key in enumerate(keys_a) if key in row_of]
    only_a, only_b = [key for key in keys_a if key not in row_of], sorted(row_of.keys() - set(keys_a))
    if not rows_a or (not common_only and (only_a or only_b)):
        mend = "use common_only to compare the rest" if rows_a else "they have no image in common"
        raise InputError(f"different images: only in a {some(only_a)}, only in b {some(only_b)}; {mend}")
    return np.array(rows_a), np.array([row_of[keys_a[row]] for row in rows_a])


def _estimates(columns, rounds, seed, clusters):
    """{key: Estimate} of the means of per-image columns."""
    if rounds < 1:
        raise InputError(f"{rounds} bootstrap rounds; expected at least 1")
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
            raise InputError(f"{n:,} rows of {different:,} images: select one margin, or pass clusters, such as paths")
        return None
    clusters = np.asarray(clusters, dtype=str)
    if clusters.shape != (n,):
        raise InputError(f"clusters have shape {clusters.shape}; {n} images want one name each")
    if (clusters == "").any():
        raise InputError(
            f"{(clusters == '').sum():,} of {n:,} images have no cluster name; name all or resample images"
        )
    return clusters

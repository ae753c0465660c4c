"""Errors of predictions: those of each image, their means, and bootstrap intervals."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rafa.pose import AXES, angle_errors, rotation_matrix
from rafa.score.predictions import Predictions

HEAD_VECTORS = ("left", "down", "front")  # the columns of a rotation matrix: the head's own x, y and z
WITHIN = (5, 10, 15)  # degrees
YAW_EDGES = (30, 60, 90)  # degrees of |true yaw|; an edge belongs to the bin below it
YAW_BINS = {"0_30": "0-30", "30_60": "30-60", "60_90": "60-90", "over_90": "over 90"}
COUNTS_AT_ONCE = 2**21  # resampling counts held in memory at a time: 16 MiB

# With few clusters a percentile bootstrap interval is too narrow.  How many per cent of 95% intervals contain the true
# error, by number of videos: 10,000 simulations each, videos of 50 images, 1,000 bootstrap samples.
COVERAGE = {4: 80, 8: 90, 24: 93}

# (key in every result, title for people, unit: "°" of errors, of which small ones are good, or "%" of shares, of which
# large ones are).  To add a metric, add a line here and its values to `per_image`.
METRICS = (
    *((f"mae_{axis}", f"MAE {axis}", "°") for axis in AXES),
    ("mae", "MAE, mean of the three axes", "°"),
    ("geodesic", "geodesic error", "°"),
    ("maev", "MAEV, mean of the three head vectors", "°"),
    *((f"maev_{vector}", f"error of the {vector} vector", "°") for vector in HEAD_VECTORS),
    *((f"within_{limit}", f"all three angles within {limit}°", "%") for limit in WITHIN),
    *((f"within_{limit}_{axis}", f"{axis} within {limit}°", "%") for limit in WITHIN for axis in AXES),
    *((f"mae_yaw_{name}", f"MAE where |true yaw| is {title}°", "°") for name, title in YAW_BINS.items()),
)

MAE_KEYS = (*(f"mae_{axis}" for axis in AXES), "mae")  # the metrics of the paper's tables
HEADLINE_KEYS = (*MAE_KEYS, "geodesic")  # MAE misleads near ±90° of yaw, where pitch and roll turn about one axis

Columns = dict[str, np.ndarray]  # (n,) values of n images by metric, NaN where an image does not count
Clusters = Sequence[str] | np.ndarray | None  # (n,) of what to resample whole: videos or persons; None: images


# --- Metrics of one image ---------------------------------------------------------------------------------------------
def rotation_errors(target: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors of rotations in degrees, from (n, 3) yaw, pitch, roll in degrees, list signs.

    First (n,) geodesic errors, the angle of the rotation R_targetᵀ R_predicted; then (n, 3) angles between the target
    and the predicted left, down and front vector of the head (columns of the matrices), whose mean is the image's MAEV.
    """
    from scipy.spatial.transform import Rotation

    target, predicted = (rotation_matrix(np.radians(angles)) for angles in (target, predicted))  # (n, 3, 3)
    geodesic = Rotation.from_matrix(target.swapaxes(1, 2) @ predicted).magnitude()
    # Twice the arctangent of the half angle: the arccosine of the dot product is blind to angles below 1e-6 degrees.
    vectors = 2 * np.arctan2(np.linalg.norm(target - predicted, axis=1), np.linalg.norm(target + predicted, axis=1))
    return np.degrees(geodesic), np.degrees(vectors)


def per_image(predictions: Predictions) -> Columns:
    """Every metric of METRICS for every image: {key: (n,)}, NaN where the image does not count.

    `within_5` is 100 where the *largest* of the three errors is at most 5°, else 0: its mean is a share in per cent.
    `mae_yaw_30_60` is the mean error of the three axes (not of yaw alone) where 30 < |true yaw| ≤ 60, wrapped at 360°;
    `mae_yaw_0_30` includes 0, and `mae_yaw_over_90` has all the rest.
    """
    errors = angle_errors(predictions.target, predictions.predicted)  # (n, 3)
    geodesic, vectors = rotation_errors(predictions.target, predictions.predicted)
    columns = {f"mae_{axis}": errors[:, i] for i, axis in enumerate(AXES)}
    columns |= {"mae": errors.mean(axis=1), "geodesic": geodesic, "maev": vectors.mean(axis=1)}
    columns |= {f"maev_{vector}": vectors[:, i] for i, vector in enumerate(HEAD_VECTORS)}
    for limit in WITHIN:
        columns[f"within_{limit}"] = 100.0 * (errors.max(axis=1) <= limit)
        columns |= {f"within_{limit}_{axis}": 100.0 * (errors[:, i] <= limit) for i, axis in enumerate(AXES)}
    yaw_bin = np.searchsorted(YAW_EDGES, angle_errors(predictions.target[:, AXES.index("yaw")], 0))
    columns |= {f"mae_yaw_{b}": np.where(yaw_bin == i, columns["mae"], np.nan) for i, b in enumerate(YAW_BINS)}
    return {key: columns[key] for key, _, _ in METRICS}


# --- Metrics of many images, with intervals ---------------------------------------------------------------------------
class Estimate(NamedTuple):
    """A mean over n images and its 95% interval; `clusters` is None where images were resampled.

    The value is NaN if no image counts, the interval if fewer than two images or clusters do.
    """

    value: float
    low: float
    high: float
    n: int
    clusters: int | None


class Spread(NamedTuple):
    """Mean and sample standard deviation (NaN for a single run) of a metric over n runs."""

    mean: float
    sd: float
    n: int


def summarise(columns: Columns, samples: int = 1000, seed: int = 0, clusters: Clusters = None) -> dict[str, Estimate]:
    """The mean of every column with its 95% percentile bootstrap interval: {key: Estimate}.

    With few clusters the interval is too narrow (COVERAGE): show their number, `Estimate.clusters`, beside it.  Samples
    that draw no image of a yaw bin do not count for that bin.

    Args:
        columns: from `per_image`, or any others.
        samples, seed: how often to resample, and of the random numbers.
        clusters: None to resample images, or (n,) names (videos, persons) to resample whole clusters: frames of one
            video resemble each other, so that resampling frames claims more certainty than there is.
    """
    values = np.stack(list(columns.values()), axis=1)  # (images, metrics)
    counted = np.isfinite(values)
    sums, sizes = np.where(counted, values, 0.0), counted.astype(float)  # (units, metrics); a unit is an image ...
    if clusters is not None:  # ... or a cluster
        unit = np.unique(clusters, return_inverse=True)[1]
        sums, sizes = (np.stack([np.bincount(unit, column) for column in t.T], axis=1) for t in (sums, sizes))
    means = _resampled_means(sums, sizes, samples, seed)
    estimates = {}
    for i, key in enumerate(columns):
        n, units = int(counted[:, i].sum()), int((sizes[:, i] > 0).sum())
        drawn = means[np.isfinite(means[:, i]), i]
        low, high = np.percentile(drawn, (2.5, 97.5)).tolist() if units > 1 and len(drawn) else (np.nan, np.nan)
        value = float(sums[:, i].sum() / n) if n else np.nan
        estimates[key] = Estimate(value, low, high, n, None if clusters is None else units)
    return estimates


def _resampled_means(sums: np.ndarray, sizes: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """(samples, metrics) means of as many units as there are, drawn with replacement, weighted by their sizes."""
    # A resampling is a row of multinomial counts, so that many samples of all metrics are one product of matrices: 2 s
    # for 100,000 images and 1,000 samples.  scipy.stats.bootstrap copies every metric in every sample: 17 s at best.
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(seed)
    units, both, totals = len(sums), np.hstack([sums, sizes]), []
    at_once = max(1, COUNTS_AT_ONCE // units)
    with threadpool_limits(1):  # memory is the limit: more threads gain nothing, and cost 8 times on a busy machine
        for start in range(0, samples, at_once):
            drawn = rng.integers(units, size=(min(at_once, samples - start), units))
            totals.append(np.stack([np.bincount(row, minlength=units) for row in drawn]).astype(float) @ both)
    with np.errstate(invalid="ignore"):  # 0/0: a sample without any image of a yaw bin
        return np.divide(*np.hsplit(np.concatenate(totals), 2))


def interval_text(unit: str, number: int, samples: int, seed: int) -> str:
    """How an interval was made, from `number` images, videos or persons."""
    return f"95% percentile bootstrap over {counted(number, unit)}, {samples:,} samples, seed {seed}"


def counted(number: int, unit: str) -> str:
    """A number of images, videos or persons."""
    return f"{number:,} {unit if number != 1 else unit.removesuffix('s')}"


def across_seeds(summaries: Sequence[dict[str, Estimate]]) -> dict[str, Spread]:
    """{key: Spread} over what `summarise` gave for several runs on the same images."""
    spreads = {}
    for key in summaries[0]:
        values = np.array([summary[key].value for summary in summaries])
        spreads[key] = Spread(values.mean(), values.std(ddof=1) if len(values) > 1 else np.nan, len(values))
    return spreads


def mean_pose_baseline(mean_pose: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """The error of always predicting one pose: {mae_yaw, mae_pitch, mae_roll, mae, geodesic} in degrees.

    Args:
        mean_pose: (3,) yaw, pitch, roll in degrees: the mean of the training list.
        target: (n, 3) degrees.
    """
    errors = angle_errors(target, mean_pose).mean(axis=0)  # (3,)
    geodesic, _ = rotation_errors(target, np.broadcast_to(mean_pose, target.shape))
    means = {f"mae_{axis}": float(errors[i]) for i, axis in enumerate(AXES)} | {"mae": float(errors.mean())}
    return means | {"geodesic": float(geodesic.mean())}

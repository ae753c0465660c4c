"""Metrics against hand arithmetic and other formulas, intervals against other bootstraps and simulation."""

import math
import time
import tracemalloc

import numpy as np
import pytest

from rafa.score import metrics
from rafa.score.metrics import COVERAGE, METRICS, across_seeds, mean_pose_baseline, per_image, rotation_errors
from rafa.score.predictions import Predictions

KEYS = [key for key, _, _ in METRICS]


@pytest.fixture
def hand_made():
    """Six images a ... f in three videos, with one error each but d."""
    target = [[0, 0, 0], [45, 0, 0], [75, 0, 0], [-100, 10, 5], [175, 0, 0], [-85, 0, 0]]
    predicted = [[10, 0, 0], [45, 6, 0], [75, 0, 12], [-100, 10, 5], [-175, 0, 0], [85, 0, 0]]
    labels = {"video": ["01", "01", "02", "02", "03", "03"], "person": ["p1", "p1", "p2", "p2", "p1", "p1"]}
    return Predictions(["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg"], target, predicted, margin=0.2, **labels)


def noisy(n, seed=0, sd=5.0, **labels):
    """Predictions for n images, the same for every seed, with normal errors on every axis, which the seed decides."""
    target = np.random.default_rng(99).uniform(-60, 60, (n, 3))
    errors = np.random.default_rng(seed).normal(0, sd, (n, 3))
    return Predictions([f"{i:05d}.jpg" for i in range(n)], target, target + errors, **labels)


def summarise(predictions, *options, **more):
    return metrics.summarise(per_image(predictions), *options, **more)


def mean_with_interval(values, **options):
    return metrics.summarise({"values": np.asarray(values, float)}, **options)["values"][:3]


def axis_rotation(axis, degrees):
    """Rotation matrix about x, y or z, written out."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return {
        "x": np.array([[1, 0, 0], [0, c, -s], [0, s, c]]),
        "y": np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]),
        "z": np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]),
    }[axis]


def head_rotation(yaw, pitch, roll):
    return axis_rotation("x", pitch) @ axis_rotation("y", -yaw) @ axis_rotation("z", -roll)


# --- Values -----------------------------------------------------------------------------------------------------------
def test_every_metric_of_the_hand_made_file_is_the_one_computed_by_hand(hand_made):
    # Rows a, e, f turn about the vertical (10°, 10°, 170°), c about the nose (12°): two vectors move, the axis stays.
    # Row b turns 6° about the ear-to-ear axis of the camera: vectors at 45° to it move less, the one at 90° moves 6°.
    tilted = 2 * math.degrees(math.asin(math.sin(math.radians(3)) * math.sin(math.radians(45))))
    left, down, front = 10 + tilted + 12 + 10 + 170, 6 + 12, 10 + tilted + 10 + 170
    expected = {"mae_yaw": 190 / 6, "mae_pitch": 6 / 6, "mae_roll": 12 / 6, "mae": (190 + 6 + 12) / 18}
    expected |= {"geodesic": (10 + 6 + 12 + 0 + 10 + 170) / 6, "maev": (left + down + front) / 18}
    expected |= {"maev_left": left / 6, "maev_down": down / 6, "maev_front": front / 6}
    shares = {"within_5": 1, "within_5_yaw": 3, "within_5_pitch": 5, "within_5_roll": 5}
    shares |= {"within_10": 4, "within_10_yaw": 5, "within_10_pitch": 6, "within_10_roll": 5}
    shares |= {"within_15": 5, "within_15_yaw": 5, "within_15_pitch": 6, "within_15_roll": 6}
    expected |= {key: 100 * images / 6 for key, images in shares.items()}
    expected |= {"mae_yaw_0_30": 10 / 3, "mae_yaw_30_60": 6 / 3, "mae_yaw_60_90": (12 / 3 + 170 / 3) / 2}
    expected |= {"mae_yaw_over_90": (0 + 10 / 3) / 2}
    summary = summarise(hand_made, samples=50)
    assert list(summary) == KEYS
    assert {key: estimate.value for key, estimate in summary.items()} == pytest.approx(expected)
    counts = {key: summary[key].n for key in KEYS if summary[key].n != 6}
    assert counts == {"mae_yaw_0_30": 1, "mae_yaw_30_60": 1, "mae_yaw_60_90": 2, "mae_yaw_over_90": 2}


def test_geodesic_and_vector_errors_are_those_of_matrices_written_out_by_hand():
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(1)
    target, predicted = rng.uniform(-90, 90, (50, 3)), rng.uniform(-90, 90, (50, 3))
    geodesic, vectors = rotation_errors(target, predicted)
    for i in range(50):
        a, b = head_rotation(*target[i]), head_rotation(*predicted[i])
        rotation_vector = Rotation.from_matrix(a.T @ b).as_rotvec()
        assert geodesic[i] == pytest.approx(math.degrees(np.linalg.norm(rotation_vector)))
        assert vectors[i] == pytest.approx([math.degrees(math.acos(a[:, j] @ b[:, j])) for j in range(3)])


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("error", [1e-7, 0.5, 30, 179])
def test_a_turn_about_one_axis_from_the_front_has_that_geodesic_error(axis, error):
    predicted = np.zeros((1, 3))
    predicted[0, axis] = error
    geodesic, vectors = rotation_errors(np.zeros((1, 3)), predicted)
    assert geodesic[0] == pytest.approx(error)
    assert sorted(vectors[0]) == pytest.approx([0, error, error])


def test_yaw_bins_own_their_upper_edge_and_an_empty_bin_says_so():
    yaw = np.array([0, -30, 30.001, 60, -90, 90.001, -270])  # -270° is 90° to the other side
    target = np.stack([yaw, yaw * 0, yaw * 0], axis=1)
    summary = summarise(Predictions([f"{i}" for i in range(7)], target, target + 3), samples=50)
    assert [summary[f"mae_yaw_{name}"].n for name in ("0_30", "30_60", "60_90", "over_90")] == [2, 2, 2, 1]
    frontal = summarise(noisy(5).select([0]), samples=5)
    empty = [key for key in KEYS if frontal[key].n == 0]
    assert len(empty) == 3
    assert all(np.isnan(frontal[key][:3]).all() for key in empty)


def test_mean_pose_baseline_is_the_error_of_always_predicting_one_pose():
    baseline = mean_pose_baseline(np.array([10, 5, 2]), np.array([[10, 5, 2], [40, 5, 2]]))
    expected = {"mae_yaw": 15, "mae_pitch": 0, "mae_roll": 0, "mae": 5, "geodesic": 15}
    assert baseline == pytest.approx(expected)  # a turn about the vertical alone
    assert mean_pose_baseline(np.array([175, 0, 0]), np.array([[-175, 0, 0]]))["mae_yaw"] == 10
    assert mean_pose_baseline(np.array([1, 2, 3]), np.array([[1, 7, 12]]))["mae_roll"] == 9


# --- Intervals --------------------------------------------------------------------------------------------------------
def videos_of_uneven_difficulty(clusters, seed, frames=50):
    """Frames whose error scale is drawn once per video: E|error| = 5 * sqrt(2 / pi) over all videos."""
    rng = np.random.default_rng(seed)
    video = np.repeat([f"{i:02d}" for i in range(clusters)], frames)
    errors = rng.normal(0, 1, (len(video), 3)) * np.repeat(rng.uniform(2, 8, clusters), frames)[:, None]
    return Predictions([f"{i}" for i in range(len(video))], np.zeros_like(errors), errors, video=video)


def test_resampling_videos_is_wider_than_resampling_frames_and_says_how_many_videos():
    predictions = videos_of_uneven_difficulty(24, seed=0)
    frames = summarise(predictions, samples=300)
    videos = summarise(predictions, samples=300, clusters=predictions.video)
    assert videos["mae"].value == frames["mae"].value
    assert videos["mae"].high - videos["mae"].low > 3 * (frames["mae"].high - frames["mae"].low)
    assert (frames["mae"].clusters, videos["mae"].clusters, videos["mae"].n) == (None, 24, 1200)


def test_intervals_agree_with_scipy_for_images_and_with_plain_drawing_for_clusters_of_unequal_size():
    from scipy.stats import bootstrap

    predictions = noisy(198)
    errors = per_image(predictions)["mae"]
    ours = summarise(predictions, samples=4000)["mae"]
    theirs = bootstrap((errors,), np.mean, method="percentile", n_resamples=4000, rng=0).confidence_interval
    width = theirs.high - theirs.low
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.05 * width)

    names = np.repeat([f"{i}" for i in range(12)], np.arange(12) + 11)
    groups = [errors[names == name] for name in np.unique(names)]
    rng = np.random.default_rng(5)
    drawn = [np.concatenate([groups[i] for i in rng.integers(12, size=12)]).mean() for _ in range(4000)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    ours = summarise(predictions, samples=4000, clusters=names)["mae"]
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.05 * (high - low))


def test_intervals_of_two_images_are_worked_out_by_hand():
    assert mean_with_interval([2, 2, 2]) == (2, 2, 2)
    assert mean_with_interval([0, 1], samples=50) == (0.5, 0, 1)  # each end is a quarter of the resamplings


def test_the_seed_decides_the_interval_and_the_memory_limit_does_not(monkeypatch):
    predictions = noisy(100)
    first = summarise(predictions, samples=100, seed=3)["geodesic"]
    assert summarise(predictions, samples=100, seed=3)["geodesic"] == first
    assert summarise(predictions, samples=100, seed=4)["geodesic"].low != first.low
    monkeypatch.setattr(metrics, "COUNTS_AT_ONCE", 700)
    assert summarise(predictions, samples=100, seed=3)["geodesic"] == pytest.approx((*first[:4], None))


def test_samples_without_an_image_of_a_yaw_bin_do_not_count_for_it(hand_made):
    few = summarise(hand_made, samples=200)["mae_yaw_60_90"]  # 2 of 6 images: missing in (4/6)^6 = 9% of the samples
    assert few == pytest.approx(((4 + 170 / 3) / 2, 4, 170 / 3, 2, None))


def test_no_interval_is_claimed_from_a_single_image_or_cluster(hand_made):
    one = summarise(hand_made, samples=50, clusters=["v"] * 6)
    assert np.isnan(one["mae"][1:3]).all()
    by_person = summarise(hand_made, samples=50, clusters=hand_made.person)
    assert by_person["mae"].low < by_person["mae"].value < by_person["mae"].high
    assert by_person["mae_yaw_0_30"].clusters == 1


def test_twenty_thousand_images_and_a_thousand_samples_are_quick_and_small():
    predictions = noisy(20_000)
    summarise(predictions, samples=1)  # imports
    tracemalloc.start()
    start = time.process_time()
    summarise(predictions, samples=1000)
    seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 10
    assert peak < 100 * 2**20  # the counts of all samples at once would be 153 MiB


# --- Several runs -----------------------------------------------------------------------------------------------------
def test_seeds_give_mean_and_sample_standard_deviation():
    runs = [summarise(noisy(50, seed), samples=5) for seed in range(3)]
    values = [run["mae"].value for run in runs]
    spread = across_seeds(runs)["mae"]
    assert spread == pytest.approx((sum(values) / 3, math.sqrt(sum((v - sum(values) / 3) ** 2 for v in values) / 2), 3))
    assert math.isnan(across_seeds(runs[:1])["mae"].sd)


# --- Simulations ------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_intervals_cover_the_truth_in_93_to_97_percent_of_500_simulations():
    share = math.erf(1 / math.sqrt(2))  # of normal errors within one standard deviation, 5°
    truth = dict.fromkeys(["mae_yaw", "mae_pitch", "mae_roll", "mae"], 5 * math.sqrt(2 / math.pi))
    truth |= {"within_5_yaw": 100 * share, "within_5": 100 * share**3}
    covered = dict.fromkeys(truth, 0)
    for seed in range(500):
        summary = summarise(noisy(400, seed), samples=500, seed=10_000 + seed)
        for key, value in truth.items():
            covered[key] += summary[key].low <= value <= summary[key].high
    assert all(0.93 <= count / 500 <= 0.97 for count in covered.values()), covered


@pytest.mark.slow
@pytest.mark.parametrize("videos", COVERAGE)
def test_intervals_from_few_videos_cover_the_truth_as_often_as_stated(videos):
    simulations, covered = 2000, 0
    for seed in range(simulations):
        predictions = videos_of_uneven_difficulty(videos, seed)
        errors = {"mae": np.abs(predictions.predicted).mean(axis=1)}
        interval = metrics.summarise(errors, seed=10_000 + seed, clusters=predictions.video)["mae"]
        covered += interval.low <= 5 * math.sqrt(2 / math.pi) <= interval.high
    share, stated = covered / simulations, COVERAGE[videos] / 100
    print(f"{videos} videos: {share:.1%} of {simulations:,} intervals cover the truth, stated {stated:.0%}")
    assert abs(share - stated) < 3 * math.sqrt(stated * (1 - stated) / simulations) + 0.005  # ... and rounding

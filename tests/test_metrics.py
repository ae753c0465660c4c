"""Metrics against hand arithmetic and other formulas, intervals against simulation, files against their schema."""

import dataclasses
import math
import time
import tracemalloc

import numpy as np
import pytest

from data_loaders import rotation_matrix
from util import metrics
from util.errors import InputError
from util.metrics import (
    METRICS,
    Predictions,
    across_seeds,
    angle_errors,
    compare,
    format_estimates,
    mean_pose_baseline,
    per_image,
    read_predictions,
    rotation_errors,
    summarise,
    worst,
    write_predictions,
)

KEYS = [key for key, _, _ in METRICS]
HEADER = "path,split,video,person,margin,yaw_true,pitch_true,roll_true,yaw_predicted,pitch_predicted,roll_predicted"
HAND_MADE = f"""{HEADER}
a.jpg,test,01,p1,0.2,0,0,0,10,0,0
b.jpg,test,01,p1,0.2,45,0,0,45,6,0
c.jpg,test,02,p2,0.2,75,0,0,75,0,12
d.jpg,test,02,p2,0.2,-100,10,5,-100,10,5
e.jpg,test,03,p1,0.2,175,0,0,-175,0,0
f.jpg,test,03,p1,0.2,-85,0,0,85,0,0
"""


def file_of(tmp_path, text):
    path = tmp_path / "predictions.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def hand_made(tmp_path):
    return read_predictions(file_of(tmp_path, HAND_MADE))


def noisy(n, seed=0, sd=5.0, **labels):
    """Predictions for n images, the same for every seed, with normal errors on every axis, which the seed decides."""
    true = np.random.default_rng(99).uniform(-60, 60, (n, 3))
    errors = np.random.default_rng(seed).normal(0, sd, (n, 3))
    return Predictions([f"{i:05d}.jpg" for i in range(n)], true, true + errors, **labels)


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


WRAPS = [(0, 170, 170), (0, 180, 180), (-85, 85, 170), (-90, 90, 180)]
WRAPS += [(-175, 175, 10), (0, 350, 10), (0, -350, 10), (5, 725, 0)]


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
    summary = summarise(hand_made, rounds=50)
    assert list(summary) == KEYS
    assert {key: estimate.value for key, estimate in summary.items()} == pytest.approx(expected)
    counts = {key: summary[key].n for key in KEYS if summary[key].n != 6}
    assert counts == {"mae_yaw_0_30": 1, "mae_yaw_30_60": 1, "mae_yaw_60_90": 2, "mae_yaw_over_90": 2}


@pytest.mark.parametrize(("true", "predicted", "error"), WRAPS)
def test_errors_wrap_at_360_degrees_and_fold_nowhere_else(true, predicted, error):
    assert angle_errors(true, predicted) == error
    assert angle_errors(predicted, true) == error


def test_rotation_matrix_is_pitch_then_mirrored_yaw_and_roll_written_out_by_hand():
    for angles in np.random.default_rng(0).uniform(-170, 170, (20, 3)):
        np.testing.assert_allclose(rotation_matrix(np.radians(angles)), head_rotation(*angles), atol=1e-12)


def test_geodesic_and_vector_errors_are_those_of_matrices_written_out_by_hand():
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(1)
    true, predicted = rng.uniform(-90, 90, (50, 3)), rng.uniform(-90, 90, (50, 3))
    geodesic, vectors = rotation_errors(true, predicted)
    for i in range(50):
        a, b = head_rotation(*true[i]), head_rotation(*predicted[i])
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


def test_mae_is_that_of_scikit_learn():
    from sklearn.metrics import mean_absolute_error

    predictions = noisy(300)
    summary = summarise(predictions, rounds=10)
    per_axis = mean_absolute_error(predictions.true, predictions.predicted, multioutput="raw_values")
    assert [summary[f"mae_{axis}"].value for axis in ("yaw", "pitch", "roll")] == pytest.approx(per_axis.tolist())
    assert summary["mae"].value == pytest.approx(mean_absolute_error(predictions.true, predictions.predicted))


def test_yaw_bins_own_their_upper_edge_and_an_empty_bin_says_so():
    yaw = np.array([0, -30, 30.001, 60, -90, 90.001, -270])  # -270° is 90° to the other side
    true = np.stack([yaw, yaw * 0, yaw * 0], axis=1)
    summary = summarise(Predictions([f"{i}" for i in range(7)], true, true + 3), rounds=50)
    assert [summary[f"mae_yaw_{name}"].n for name in ("0_30", "30_60", "60_90", "over_90")] == [2, 2, 2, 1]
    frontal = summarise(noisy(5).select([0]), rounds=5)
    empty = [key for key in KEYS if frontal[key].n == 0]
    assert len(empty) == 3
    assert all(np.isnan(frontal[key][:3]).all() for key in empty)
    assert format_estimates(frontal).count("no images") == 3


def test_worst_lists_the_largest_errors_first(hand_made):
    assert hand_made.select(worst(hand_made, 3)).path.tolist() == ["f.jpg", "c.jpg", "a.jpg"]
    assert hand_made.select(worst(hand_made, 2, "mae_pitch")).path.tolist() == ["b.jpg", "a.jpg"]
    assert hand_made.select(worst(hand_made, 9, "mae_yaw_over_90")).path.tolist() == ["e.jpg", "d.jpg"]
    with pytest.raises(InputError, match="worst 3 by 'within_5'"):
        worst(hand_made, 3, "within_5")
    with pytest.raises(InputError, match="at least 1"):
        worst(hand_made, 0)


def test_mean_pose_baseline_answers_the_mean_training_pose():
    baseline = mean_pose_baseline([[0, 0, 0], [20, 10, 4]], [[10, 5, 2], [40, 0, 0]])
    assert baseline == pytest.approx({"mae_yaw": 15, "mae_pitch": 2.5, "mae_roll": 1, "mae": 18.5 / 3})


# --- Intervals --------------------------------------------------------------------------------------------------------
def test_intervals_cover_the_truth_in_93_to_97_percent_of_500_simulations():
    share = math.erf(1 / math.sqrt(2))  # of normal errors within one standard deviation, 5°
    truth = dict.fromkeys(["mae_yaw", "mae_pitch", "mae_roll", "mae"], 5 * math.sqrt(2 / math.pi))
    truth |= {"within_5_yaw": 100 * share, "within_5": 100 * share**3}
    covered = dict.fromkeys(truth, 0)
    for seed in range(500):
        summary = summarise(noisy(400, seed), rounds=500, seed=10_000 + seed)
        for key, value in truth.items():
            covered[key] += summary[key].low <= value <= summary[key].high
    assert all(0.93 <= count / 500 <= 0.97 for count in covered.values()), covered


def videos_of_uneven_difficulty(clusters, seed, frames=50):
    """Frames whose error scale is drawn once per video: E|error| = 5 * sqrt(2 / pi) over all videos."""
    rng = np.random.default_rng(seed)
    video = np.repeat([f"{i:02d}" for i in range(clusters)], frames)
    errors = rng.normal(0, 1, (len(video), 3)) * np.repeat(rng.uniform(2, 8, clusters), frames)[:, None]
    return Predictions([f"{i}" for i in range(len(video))], np.zeros_like(errors), errors, video=video)


def test_resampling_videos_is_wider_than_resampling_frames_and_says_how_many_videos():
    predictions = videos_of_uneven_difficulty(24, seed=0)
    frames, videos = summarise(predictions, rounds=300), summarise(predictions, rounds=300, clusters=predictions.video)
    assert videos["mae"].value == frames["mae"].value
    assert videos["mae"].high - videos["mae"].low > 3 * (frames["mae"].high - frames["mae"].low)
    assert (frames["mae"].clusters, videos["mae"].clusters, videos["mae"].n) == (None, 24, 1200)
    assert "1,200 images in 24 clusters" in format_estimates(videos)


def test_intervals_from_eight_videos_cover_less_than_they_say_but_more_than_those_from_frames():
    truth, by_video, by_frame = 5 * math.sqrt(2 / math.pi), 0, 0
    for seed in range(150):
        predictions = videos_of_uneven_difficulty(8, seed)
        videos = summarise(predictions, rounds=300, seed=10_000 + seed, clusters=predictions.video)["mae"]
        frames = summarise(predictions, rounds=300, seed=10_000 + seed)["mae"]
        by_video += videos.low <= truth <= videos.high
        by_frame += frames.low <= truth <= frames.high
    assert by_frame / 150 < 0.6
    assert 0.8 < by_video / 150 < 0.94


def test_intervals_agree_with_scipy_for_images_and_with_plain_drawing_for_clusters_of_unequal_size():
    from scipy.stats import bootstrap

    predictions = noisy(198)
    errors = per_image(predictions)["mae"]
    ours = summarise(predictions, rounds=4000)["mae"]
    theirs = bootstrap((errors,), np.mean, method="percentile", n_resamples=4000, rng=0).confidence_interval
    width = theirs.high - theirs.low
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.05 * width)

    names = np.repeat([f"{i}" for i in range(12)], np.arange(12) + 11)
    groups = [errors[names == name] for name in np.unique(names)]
    rng = np.random.default_rng(5)
    drawn = [np.concatenate([groups[i] for i in rng.integers(12, size=12)]).mean() for _ in range(4000)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    ours = summarise(predictions, rounds=4000, clusters=names)["mae"]
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.05 * (high - low))


def test_the_seed_decides_the_interval_and_the_memory_limit_does_not(monkeypatch):
    predictions = noisy(100)
    first = summarise(predictions, rounds=100, seed=3)["geodesic"]
    assert summarise(predictions, rounds=100, seed=3)["geodesic"] == first
    assert summarise(predictions, rounds=100, seed=4)["geodesic"].low != first.low
    monkeypatch.setattr(metrics, "COUNTS_AT_ONCE", 700)
    assert summarise(predictions, rounds=100, seed=3)["geodesic"] == pytest.approx((*first[:4], None))


def test_no_interval_is_claimed_from_a_single_image_or_cluster(hand_made):
    one = summarise(hand_made, rounds=50, clusters=["v"] * 6)
    assert np.isnan(one["mae"][1:3]).all()
    by_person = summarise(hand_made, rounds=50, clusters=hand_made.person)
    assert by_person["mae"].low < by_person["mae"].value < by_person["mae"].high
    assert by_person["mae_yaw_0_30"].clusters == 1
    assert "no interval" in format_estimates(by_person)


def test_twenty_thousand_images_and_a_thousand_rounds_are_quick_and_small():
    predictions = noisy(20_000)
    summarise(predictions, rounds=1)  # imports
    tracemalloc.start()
    start = time.perf_counter()
    summarise(predictions, rounds=1000)
    seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 10
    assert peak < 100 * 2**20  # the counts of all rounds at once would be 153 MiB


def test_summaries_refuse_what_cannot_be_resampled(hand_made):
    with pytest.raises(InputError, match="no predictions to score"):
        summarise(hand_made.select([]))
    with pytest.raises(InputError, match="0 bootstrap rounds"):
        summarise(hand_made, rounds=0)
    with pytest.raises(InputError, match=r"clusters have shape \(2,\); 6 images"):
        summarise(hand_made, clusters=["x", "y"])
    with pytest.raises(InputError, match="1 of 6 images have no cluster name"):
        summarise(hand_made, clusters=["x", "", "y", "y", "y", "y"])
    twice = hand_made.select([0, 1, 0])
    with pytest.raises(InputError, match="3 rows of 2 images: select one margin"):
        summarise(twice)
    assert summarise(twice, rounds=20, clusters=twice.path)["mae"].n == 3


# --- Comparing --------------------------------------------------------------------------------------------------------
def test_paired_differences_are_b_minus_a_and_narrower_than_unpaired_ones():
    a = noisy(400)
    b = dataclasses.replace(a, predicted=a.true + 0.9 * (a.predicted - a.true))
    shuffled = b.select(np.random.default_rng(0).permutation(400))
    difference = compare(a, shuffled, rounds=300).differences["mae"]
    before, after = summarise(a, rounds=300)["mae"], summarise(b, rounds=300)["mae"]
    assert difference.value == pytest.approx(after.value - before.value)
    assert difference.value == pytest.approx(-0.1 * before.value)
    assert difference.low < difference.value < difference.high < 0
    assert difference.high - difference.low < 0.2 * (before.high - before.low)


def test_comparing_a_model_with_itself_gives_zero_everywhere(hand_made):
    result = compare(hand_made, hand_made, rounds=50, clusters=hand_made.video)
    assert (result.dropped_a, result.dropped_b, result.differences["mae"].clusters) == (0, 0, 3)
    assert all(estimate.value == 0 for estimate in result.differences.values())


def test_comparing_different_images_is_an_error_unless_the_caller_wants_the_common_ones(hand_made):
    a, b = hand_made.select([0, 1, 2, 3]), hand_made.select([5, 4, 3, 2, 1])
    with pytest.raises(
        InputError, match=r"only in a 1 \(a.jpg at margin 0.2\), only in b 2 \(e.jpg.*f.jpg.*common_only"
    ):
        compare(a, b)
    result = compare(a, b, rounds=50, clusters=["only a's", "v", "v", "v"], common_only=True)
    assert (result.dropped_a, result.dropped_b) == (1, 2)
    assert (result.differences["mae"].n, result.differences["mae"].clusters) == (3, 1)
    with pytest.raises(InputError, match="no image in common"):
        compare(hand_made.select([0]), hand_made.select([1]), common_only=True)


def test_margins_pair_rows_unless_one_side_has_none(hand_made):
    other = dataclasses.replace(hand_made, margin=0.3)
    with pytest.raises(InputError, match="no image in common"):
        compare(hand_made, other)
    assert compare(hand_made, dataclasses.replace(other, margin=math.nan), rounds=20).differences["mae"].n == 6
    repeated = hand_made.select([0, 0])
    with pytest.raises(InputError, match=r"a, row 1: a.jpg at margin 0.2 is there already, in 0"):
        compare(repeated, hand_made)


def test_comparing_against_another_truth_is_an_error(hand_made):
    true = hand_made.true.copy()
    true[3, 2] *= -1
    with pytest.raises(InputError, match=r"b against a: true angles differ by over 0.001° in 1 \(d.jpg\).*signs"):
        compare(hand_made, dataclasses.replace(hand_made, true=true))
    on_the_edge, beyond = (dataclasses.replace(hand_made, true=hand_made.true - [x, 0, 0]) for x in (15, 14.9995))
    assert compare(on_the_edge, beyond, rounds=5).differences["mae_yaw_0_30"].n == 2  # a's truth decides the bin


def test_seeds_give_mean_and_sample_standard_deviation(hand_made):
    runs = [summarise(noisy(50, seed), rounds=5) for seed in range(3)]
    values = [run["mae"].value for run in runs]
    spread = across_seeds(runs)["mae"]
    assert spread == pytest.approx((sum(values) / 3, math.sqrt(sum((v - sum(values) / 3) ** 2 for v in values) / 2), 3))
    assert math.isnan(across_seeds(runs[:1])["mae"].sd)
    with pytest.raises(InputError, match=r"different images: mae_yaw is over \[50, 6\]"):
        across_seeds([runs[0], summarise(hand_made, rounds=5)])
    with pytest.raises(InputError, match="no summaries"):
        across_seeds([])


# --- Files ------------------------------------------------------------------------------------------------------------
def test_predictions_survive_writing_and_reading_exactly(tmp_path):
    labels = {"split": "test", "video": [f"{i % 7}" for i in range(50)], "person": 'Ω, "quoted"', "margin": 0.1 + 0.2}
    written = noisy(50, sd=1 / 3, **labels)
    written.margin[3] = np.nan
    write_predictions(tmp_path / "p.csv", written)
    read = read_predictions(tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()[0] == HEADER
    for field in dataclasses.fields(Predictions):
        np.testing.assert_array_equal(getattr(read, field.name), getattr(written, field.name))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, hand_made):
    path = file_of(tmp_path, "old")
    unwritable = dataclasses.replace(hand_made, split=["ok"] * 5 + ["\ud800"])
    with pytest.raises(UnicodeEncodeError):
        write_predictions(path, unwritable)
    with pytest.raises(InputError, match="no predictions to write"):
        write_predictions(path, hand_made.select([]))
    with pytest.raises(InputError, match=r"row 2: b.jpg at margin 0.2 is there already, in 1"):
        write_predictions(path, hand_made.select([0, 1, 1]))
    assert [entry.name for entry in tmp_path.iterdir()] == ["predictions.csv"]
    assert path.read_text() == "old"


def test_columns_may_be_absent_extra_and_in_any_order(tmp_path):
    text = "path,roll_predicted,pitch_predicted,yaw_predicted,roll_true,pitch_true,yaw_true,note\na.jpg,6,5,4,3,2,1,x\n"
    for variant in (text, "\ufeff" + text, text.replace("\n", "\r\n")):
        read = read_predictions(file_of(tmp_path, variant))
        assert (read.true.tolist(), read.predicted.tolist()) == ([[1, 2, 3]], [[4, 5, 6]])
        assert (read.video.tolist(), np.isnan(read.margin).tolist()) == ([""], [True])


def test_mat_signs_negate_both_rolls_of_the_file_and_never_the_truth(tmp_path, hand_made):
    path = file_of(tmp_path, HAND_MADE)
    mat = read_predictions(path, roll_sign="mat")
    assert (mat.true * [1, 1, -1] == hand_made.true).all()
    assert (mat.predicted * [1, 1, -1] == hand_made.predicted).all()
    rows = [line.split(",") for line in HAND_MADE.splitlines()]
    without_truth = "\n".join(",".join([row[0], *row[8:]]) for row in rows) + "\n"
    joined = read_predictions(
        file_of(tmp_path, without_truth), roll_sign="mat", truth=hand_made.select([5, 4, 3, 2, 1, 0])
    )
    assert (joined.true == hand_made.true).all()
    assert (joined.predicted == mat.predicted).all()
    assert joined.video.tolist() == hand_made.video.tolist()
    with pytest.raises(InputError, match="expected 'list' or 'mat'"):
        read_predictions(path, roll_sign="hopenet")


def test_joining_the_truth_names_what_does_not_fit(tmp_path, hand_made):
    path = file_of(tmp_path, HAND_MADE)
    renamed = dataclasses.replace(hand_made, path=["a.png", *hand_made.path[1:]])
    with pytest.raises(InputError, match=r"missing in the file 1 \(a.png\), unknown to the truth 1 \(a.jpg\)"):
        read_predictions(path, truth=renamed)
    with pytest.raises(
        InputError, match=r"missing in the file 0 \(\), unknown to the truth 5 \(b.jpg, c.jpg, d.jpg, …\)"
    ):
        read_predictions(path, truth=hand_made.select([0]))
    with pytest.raises(InputError, match=r"against the truth: true angles differ by over 0.001° in 1 \(d.jpg\)"):
        read_predictions(path, roll_sign="mat", truth=hand_made)
    torn = dataclasses.replace(hand_made.select([0, 0]), true=[[0, 0, 0], [1, 0, 0]])
    with pytest.raises(InputError, match="truth, which has a path more than once"):
        read_predictions(path, truth=torn)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (HAND_MADE, "", r"predictions.csv, line 1: the file is empty here"),
        (HAND_MADE, HEADER + "\n", r"line 2: the file is empty here"),
        ("45,6,0", "45,six,0", r"predictions.csv, line 3: pitch_predicted is 'six'; expected a finite number"),
        ("45,6,0", "45,,0", r"line 3: pitch_predicted is ''"),
        ("75,0,12", "75,0,nan", r"line 4: roll_predicted is 'nan'"),
        ("-100,10,5,", "-inf,10,5,", r"line 5: yaw_true is '-inf'"),
        ("p2,0.2,75", "p2,wide,75", r"line 4: margin is 'wide'"),
        ("p2,0.2,75", "p2,nan,75", r"line 4: margin is 'nan'"),
        ("e.jpg", "b.jpg", r"line 6: b.jpg at margin 0.2 is there already, in 3"),
        ("e.jpg", "", r"line 6: no path"),
        ("45,6,0", "45,6", r"line 3: 10 columns; the header has 11"),
        ("45,6,0\n", "45,6,0\n\n", r"line 4: 0 columns"),
        ("roll_predicted", "roll", r"line 1: missing columns roll_predicted; found path, .*, roll;"),
        ("roll_true", "roll", r"line 1: missing columns roll_true; .*absent, where the truth is given"),
        ("roll_true", "yaw_true", r"line 1: these columns come more than once: yaw_true"),
    ],
)
def test_errors_name_file_and_line(tmp_path, old, new, message):
    assert old in HAND_MADE
    with pytest.raises(InputError, match=message):
        read_predictions(file_of(tmp_path, HAND_MADE.replace(old, new, 1)))


def test_a_file_that_is_not_text_is_a_data_error(tmp_path):
    (tmp_path / "p.csv").write_bytes(HEADER.encode() + b"\n\xff\xfe\n")
    with pytest.raises(InputError, match="not a CSV file in UTF-8"):
        read_predictions(tmp_path / "p.csv")


def test_predictions_refuse_shapes_that_do_not_fit_and_angles_that_are_not_finite():
    with pytest.raises(InputError, match=r"true has shape \(3,\); 1 paths want shape \(1, 3\)"):
        Predictions(["a"], [1, 2, 3], [[1, 2, 3]])
    with pytest.raises(InputError, match=r"video has shape \(2,\)"):
        Predictions(["a"], [[1, 2, 3]], [[1, 2, 3]], video=["x", "y"])
    with pytest.raises(InputError, match=r"predicted angles of b \(row 1\) are not finite"):
        Predictions(["a", "b"], np.zeros((2, 3)), [[1, 2, 3], [1, np.nan, 3]])


def test_twenty_thousand_rows_are_written_and_read_quickly(tmp_path):
    write_predictions(tmp_path / "p.csv", noisy(20_000))
    start = time.perf_counter()
    assert len(read_predictions(tmp_path / "p.csv")) == 20_000
    assert time.perf_counter() - start < 2

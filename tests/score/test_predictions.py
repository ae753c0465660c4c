"""Predictions: their shapes, matching two of them, and their file against its schema."""

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest

from rafa.datasets.lists import RECORD, Listed
from rafa.datasets.sets import DATASETS
from rafa.pose import angle_errors
from rafa.score.predictions import Predictions, aligned, read_predictions, stack, truth_of, write_predictions
from rafa.script import InputError

HEADER = "path,split,video,person,margin,yaw_true,pitch_true,roll_true,yaw_predicted,pitch_predicted,roll_predicted"
HAND_MADE = f"""{HEADER}
a.jpg,test,01,p1,0.2,0,0,0,10,0,0
b.jpg,test,01,p1,0.2,45,0,0,45,6,0
c.jpg,test,02,p2,0.2,75,0,0,75,0,12
d.jpg,test,02,p2,0.2,-100,10,5,-100,10,-7
"""
WITHOUT_TRUTH = """path,yaw_predicted,pitch_predicted,roll_predicted
a.jpg,10,0,0
b.jpg,45,6,0
c.jpg,75,0,12
d.jpg,-100,10,-7
"""
WRAPS = [(0, 170, 170), (0, 180, 180), (-85, 85, 170), (-90, 90, 180)]
WRAPS += [(-175, 175, 10), (0, 350, 10), (0, -350, 10), (5, 725, 0)]


def file_of(tmp_path, text):
    path = tmp_path / "predictions.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def hand_made(tmp_path):
    return read_predictions(file_of(tmp_path, HAND_MADE))[0]


def many(n, **labels):
    angles = np.random.default_rng(0).normal(0, 30, (2, n, 3))
    return Predictions([f"{i:05d}.jpg" for i in range(n)], *angles, **labels)


@pytest.mark.parametrize(("true", "predicted", "error"), WRAPS)
def test_errors_wrap_at_360_degrees_and_fold_nowhere_else(true, predicted, error):
    assert angle_errors(true, predicted) == error
    assert angle_errors(predicted, true) == error


# --- Predictions ------------------------------------------------------------------------------------------------------
def test_one_label_or_margin_may_stand_for_all_images_and_is_unknown_by_default():
    predictions = Predictions(["a", "b"], np.zeros((2, 3)), np.ones((2, 3)), video="01", margin=0.2)
    assert (predictions.video.tolist(), predictions.margin.tolist()) == (["01", "01"], [0.2, 0.2])
    assert (predictions.split.tolist(), predictions.person.tolist()) == (["", ""], ["", ""])
    assert np.isnan(Predictions(["a"], [[0, 0, 0]], [[1, 1, 1]]).margin).tolist() == [True]


def test_rows_are_selected_and_stacked_with_all_their_labels(hand_made):
    chosen = hand_made.select([2, 0])
    assert chosen.path.tolist() == ["c.jpg", "a.jpg"]
    assert (chosen.video.tolist(), chosen.true[:, 0].tolist()) == (["02", "01"], [75, 0])
    both = stack([chosen, dataclasses.replace(chosen, margin=0.3)])
    assert both.margin.tolist() == [0.2, 0.2, 0.3, 0.3]
    assert both.path.tolist() == ["c.jpg", "a.jpg"] * 2


def test_the_truth_of_a_list_is_in_degrees_with_the_labels_of_the_list():
    records = np.zeros(2, RECORD)
    records["path"], records["video"], records["person"] = ["a.jpg", "b.jpg"], ["01", "02"], ["F01", "F02"]
    records["angles"] = [[np.pi / 2, 0, 0], [0, np.pi / 6, -np.pi]]
    truth = truth_of(Listed(DATASETS["biwi"], Path("data"), records, {}, split="16-8 test"))
    assert truth.true == pytest.approx(np.array([[90, 0, 0], [0, 30, -180]]))
    assert (truth.predicted == truth.true).all()
    assert (truth.video.tolist(), truth.person.tolist()) == (["01", "02"], ["F01", "F02"])
    assert truth.split.tolist() == ["16-8 test"] * 2


# --- The same images --------------------------------------------------------------------------------------------------
def test_aligned_brings_the_rows_of_b_into_the_order_of_a(hand_made):
    b = dataclasses.replace(hand_made, predicted=hand_made.predicted + 1).select([3, 1, 0, 2])
    found = aligned(hand_made, b)
    assert found.path.tolist() == hand_made.path.tolist()
    assert (found.predicted == hand_made.predicted + 1).all()


def test_aligned_takes_the_truth_of_a_where_both_agree_within_a_thousandth_of_a_degree(hand_made):
    near = dataclasses.replace(hand_made, true=hand_made.true + 0.0009)
    assert (aligned(hand_made, near).true == hand_made.true).all()
    true = hand_made.true.copy()
    true[3, 2] += 0.0011
    with pytest.raises(InputError, match=r"B against A: true angles differ by over 0.001° in 1 \(d.jpg\).*signs"):
        aligned(hand_made, dataclasses.replace(hand_made, true=true))
    assert len(aligned(hand_made, dataclasses.replace(hand_made, true=hand_made.true - 360))) == 4


def test_different_images_are_named_on_both_sides(hand_made):
    only_a, only_b = r"first 1 \(a.jpg at margin 0.2\)", r"second 2 \(c.jpg at .*, d.jpg at margin 0.2\)"
    with pytest.raises(InputError, match=f"A and B .*: only in the {only_a}, only in the {only_b}; --common-only"):
        aligned(hand_made.select([0, 1]), hand_made.select([3, 2, 1]))


def test_margins_tell_rows_apart_unless_one_side_has_none(hand_made):
    other = dataclasses.replace(hand_made, margin=0.3)
    with pytest.raises(InputError, match=r"first 4 \(a.jpg at margin 0.2, .*second 4 \(a.jpg at margin 0.3, "):
        aligned(hand_made, other)
    without = dataclasses.replace(other, margin=np.nan)
    assert len(aligned(hand_made, without)) == len(aligned(without, hand_made)) == 4
    two = stack([hand_made, other])
    assert aligned(two, two.select(np.arange(8)[::-1])).margin.tolist() == two.margin.tolist()


def test_a_repeated_image_is_named_with_both_rows(hand_made):
    with pytest.raises(InputError, match=r"A, row 1: a.jpg at margin 0.2 appears already in row 0"):
        aligned(hand_made.select([0, 0]), hand_made)
    with pytest.raises(InputError, match=r"B, row 2: b.jpg at margin 0.2 appears already in row 1"):
        aligned(hand_made, hand_made.select([0, 1, 1]))
    two = stack([hand_made, dataclasses.replace(hand_made, margin=0.3)])
    with pytest.raises(InputError, match=r"A, row 4: a.jpg appears already in row 0"):
        aligned(two, dataclasses.replace(hand_made, margin=np.nan))


# --- Files ------------------------------------------------------------------------------------------------------------
def test_predictions_survive_writing_and_reading_exactly(tmp_path):
    labels = {"split": "test", "video": [f"{i % 7}" for i in range(50)], "person": 'Ω, "quoted"', "margin": 0.1 + 0.2}
    written = many(50, **labels)
    written.margin[3] = np.nan
    write_predictions(tmp_path / "p.csv", written)
    read, left_out = read_predictions(tmp_path / "p.csv")
    assert left_out == 0
    assert (tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()[0] == HEADER
    for field in dataclasses.fields(Predictions):
        np.testing.assert_array_equal(getattr(read, field.name), getattr(written, field.name))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, hand_made):
    path = file_of(tmp_path, "old")
    unwritable = dataclasses.replace(hand_made, split=["ok"] * 3 + ["\ud800"])
    with pytest.raises(UnicodeEncodeError):
        write_predictions(path, unwritable)
    assert [entry.name for entry in tmp_path.iterdir()] == ["predictions.csv"]
    assert path.read_text() == "old"


def test_columns_may_be_absent_extra_and_in_any_order(tmp_path):
    text = "path,roll_predicted,pitch_predicted,yaw_predicted,roll_true,pitch_true,yaw_true,note\na.jpg,6,5,4,3,2,1,x\n"
    for variant in (text, "\ufeff" + text, text.replace("\n", "\r\n"), text.replace(",pitch", ", pitch")):
        read, _ = read_predictions(file_of(tmp_path, variant))
        assert (read.true.tolist(), read.predicted.tolist()) == ([[1, 2, 3]], [[4, 5, 6]])
        assert (read.video.tolist(), np.isnan(read.margin).tolist()) == ([""], [True])


def test_a_path_may_appear_once_per_margin(tmp_path):
    other = HAND_MADE.replace("b.jpg,test,01,p1,0.2", "a.jpg,test,01,p1,0.3")
    read, _ = read_predictions(file_of(tmp_path, other))
    assert (read.path[:2].tolist(), read.margin[:2].tolist()) == (["a.jpg", "a.jpg"], [0.2, 0.3])


def test_mat_signs_negate_both_rolls_of_the_file_and_never_the_truth(tmp_path, hand_made):
    path = file_of(tmp_path, HAND_MADE)
    mat, _ = read_predictions(path, roll_sign="mat")
    assert (mat.true * [1, 1, -1] == hand_made.true).all()
    assert (mat.predicted * [1, 1, -1] == hand_made.predicted).all()
    joined, _ = read_predictions(file_of(tmp_path, WITHOUT_TRUTH), roll_sign="mat", truth=hand_made)
    assert (joined.true == hand_made.true).all()
    assert (joined.predicted == mat.predicted).all()


def test_the_truth_is_joined_by_path_in_the_order_of_the_file(tmp_path, hand_made):
    joined, left_out = read_predictions(file_of(tmp_path, WITHOUT_TRUTH), truth=hand_made.select([3, 2, 1, 0]))
    assert left_out == 0
    assert joined.path.tolist() == hand_made.path.tolist()
    assert (joined.true == hand_made.true).all()
    assert (joined.predicted == hand_made.predicted).all()
    assert joined.video.tolist() == hand_made.video.tolist()


def test_the_true_angles_are_those_of_the_truth_where_the_file_has_rounded_ones(tmp_path, hand_made):
    truth = dataclasses.replace(hand_made, true=hand_made.true + 0.0004)
    joined, _ = read_predictions(file_of(tmp_path, HAND_MADE), truth=truth)
    assert (joined.true == truth.true).all()


def test_the_file_decides_the_labels_it_has_and_the_truth_the_others(tmp_path, hand_made):
    truth = dataclasses.replace(hand_made, split="from the list", video="from the list")
    text = HAND_MADE.replace(",test,", ",,")  # no split
    joined, _ = read_predictions(file_of(tmp_path, text), truth=truth)
    assert joined.split.tolist() == ["from the list"] * 4
    assert joined.video.tolist() == hand_made.video.tolist()


def test_joining_the_truth_names_what_does_not_fit(tmp_path, hand_made):
    path = file_of(tmp_path, HAND_MADE)
    renamed = dataclasses.replace(hand_made, path=["a.png", *hand_made.path[1:]])
    with pytest.raises(InputError, match=r"predictions.csv and the truth .* first 1 \(a.jpg\), .* second 1 \(a.png\)"):
        read_predictions(path, truth=renamed)
    with pytest.raises(InputError, match=r"first 3 \(b.jpg, c.jpg, d.jpg\), only in the second none"):
        read_predictions(path, truth=hand_made.select([0]))
    with pytest.raises(InputError, match=r"against the truth: true angles differ by over 0.001° in 1 \(d.jpg\)"):
        read_predictions(path, roll_sign="mat", truth=hand_made)


def test_many_differing_images_are_counted_and_three_are_named(hand_made):
    with pytest.raises(InputError, match=r"first none, only in the second 1,236 \(00000.jpg, 00001.jpg, 00002.jpg, …"):
        aligned(many(0), many(1236))


def test_common_only_leaves_out_what_only_the_file_or_only_the_truth_has(tmp_path, hand_made):
    path = file_of(tmp_path, HAND_MADE + "e.jpg,,,,,unknown,,,unknown,,\n")  # not in the truth: its angles are not read
    truth = dataclasses.replace(hand_made, path=["a.jpg", "b.jpg", "x.jpg", "d.jpg"]).select([3, 2, 1, 0])
    read, left_out = read_predictions(path, truth=truth, common_only=True)
    assert left_out == 2
    assert read.path.tolist() == ["a.jpg", "b.jpg", "d.jpg"]
    assert read.true[:, 0].tolist() == [0, 45, -100]
    with pytest.raises(InputError, match=r"no image of the truth; it has 'a.jpg', the truth 'x.jpg'"):
        read_predictions(path, truth=truth.select([1]), common_only=True)


def test_lines_are_those_of_the_file_where_rows_are_left_out(tmp_path, hand_made):
    path = file_of(tmp_path, HAND_MADE.replace("75,0,12", "75,0,x"))
    with pytest.raises(InputError, match="line 4: roll_predicted is 'x'"):
        read_predictions(path, truth=hand_made.select([2, 3]), common_only=True)


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
        ("d.jpg", "b.jpg", r"line 5: b.jpg at margin 0.2 appears already in line 3"),
        ("d.jpg", "", r"line 5: the path is ''"),
        ("45,6,0", "45,6", r"line 3: 10 columns; the header has 11"),
        ("45,6,0\n", "45,6,0\n\n", r"line 4: 0 columns"),
        ("roll_predicted", "roll", r"line 1: missing columns roll_predicted; found path, .*, roll;"),
        ("roll_true", "roll", r"line 1: missing columns roll_true; .*absent where the truth is given"),
        ("roll_true", "yaw_true", r"line 1: these columns come more than once: yaw_true"),
    ],
)
def test_errors_name_file_and_line(tmp_path, old, new, message):
    assert old in HAND_MADE
    with pytest.raises(InputError, match=message):
        read_predictions(file_of(tmp_path, HAND_MADE.replace(old, new, 1)))


def test_true_angles_are_all_there_or_all_absent_even_where_the_truth_is_given(tmp_path, hand_made):
    path = file_of(tmp_path, HAND_MADE.replace("roll_true", "roll", 1))
    with pytest.raises(InputError, match="missing columns roll_true"):
        read_predictions(path, truth=hand_made)


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "p.csv").write_bytes(HEADER.encode() + b"\n\xff\xfe\n")
    with pytest.raises(InputError, match="not a CSV file in UTF-8"):
        read_predictions(tmp_path / "p.csv")


def test_twenty_thousand_rows_are_read_quickly(tmp_path):
    write_predictions(tmp_path / "p.csv", many(20_000))
    start = time.process_time()  # whatever else the machine does
    assert len(read_predictions(tmp_path / "p.csv")[0]) == 20_000
    assert time.process_time() - start < 5


# --- Spellings of paths, and rows of predict.py -----------------------------------------------------------------------

OF_PREDICT = """source,frame,face,row,column,size,confidence,yaw,pitch,roll,status
/data/SET/a.jpg,,0,1,2,30,,10,0,-4,ok
/data/SET/b.jpg,,0,1,2,30,,45,6,0,ok
"""


def truth(*paths):
    angles = np.zeros((len(paths), 3))
    return Predictions(np.array(paths), angles, angles)


@pytest.mark.parametrize("folder", ["SET/", "./SET//", "SET\\", "/data/SET/", "C:\\data\\.\\SET\\"])
def test_paths_match_the_truth_however_they_are_spelt(folder, tmp_path):
    text = WITHOUT_TRUTH
    for name in "abcd":
        text = text.replace(f"\n{name}.jpg", f"\n{folder}{name}.jpg")
    found, _ = read_predictions(file_of(tmp_path, text), truth=truth(*(f"SET/{name}.jpg" for name in "dcba")))
    assert found.path.tolist() == [f"SET/{name}.jpg" for name in "abcd"]


def test_paths_of_several_folders_are_not_taken_for_names_without_one(tmp_path):
    text = WITHOUT_TRUTH.replace("\na.jpg", "\nx/a.jpg").replace("\nb.jpg", "\ny/b.jpg")
    with pytest.raises(InputError, match=r"different images.*'x/a.jpg' and 'a.jpg' differ in their folder"):
        read_predictions(file_of(tmp_path, text), truth=truth("a.jpg", "b.jpg", "c.jpg", "d.jpg"))


def test_a_path_with_a_control_character_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"predictions\.csv, line 2: the path is 'a\\x01\.jpg'"):
        read_predictions(file_of(tmp_path, HAND_MADE.replace("a.jpg", "a\x01.jpg")))


def test_rows_of_predict_are_predictions_in_list_signs(tmp_path):
    found, _ = read_predictions(file_of(tmp_path, OF_PREDICT), truth=truth("SET/b.jpg", "SET/a.jpg"))
    assert found.path.tolist() == ["SET/a.jpg", "SET/b.jpg"]
    assert found.predicted.tolist() == [[10, 0, -4], [45, 6, 0]]
    with pytest.raises(InputError, match=r"missing columns yaw_true.*--truth"):
        read_predictions(file_of(tmp_path, OF_PREDICT))


def test_a_row_of_predict_without_a_face_is_refused_or_left_out_and_a_second_face_refused(tmp_path):
    both, none = truth("SET/b.jpg", "SET/a.jpg"), "/data/SET/a.jpg,,,,,,,,,,no face"
    file = file_of(tmp_path, OF_PREDICT.replace("/data/SET/a.jpg,,0,1,2,30,,10,0,-4,ok", none))
    with pytest.raises(InputError, match=r"line 2: SET/a.jpg has no prediction: no face; .*--common-only"):
        read_predictions(file, truth=both)
    found, left_out = read_predictions(file, truth=both, common_only=True)
    assert (found.path.tolist(), left_out) == (["SET/b.jpg"], 1)
    second = OF_PREDICT + "/data/SET/a.jpg,,1,1,2,30,,45,6,0,ok\n"
    with pytest.raises(InputError, match=r"line 4: a second face of SET/a.jpg; expected one: predict with --boxes"):
        read_predictions(file_of(tmp_path, second), truth=both)

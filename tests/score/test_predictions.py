"""Predictions: their shapes, matching two of them, and their file against its schema."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from helpers.scores import HEADER

from rafa.datasets.lists import RECORD, Listed
from rafa.datasets.sets import DATASETS
from rafa.pose import angle_errors
from rafa.score.conventions import Convention
from rafa.score.predictions import Predictions, aligned, read_predictions, stack, targets_of, write_predictions
from rafa.script import InputError

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
OF_PREDICT = """source,frame,face,row,column,size,confidence,yaw,pitch,roll,status
/data/SET/a.jpg,,0,1,2,30,,10,0,-4,ok
/data/SET/b.jpg,,0,1,2,30,,45,6,0,ok
"""
MAT = Convention(("roll",))
WRAPS = [(0, 170, 170), (0, 180, 180), (-85, 85, 170), (-90, 90, 180)]
WRAPS += [(-175, 175, 10), (0, 350, 10), (0, -350, 10), (5, 725, 0)]


def file_of(tmp_path, text):
    path = tmp_path / "predictions.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def hand_made(tmp_path):
    return read_predictions(file_of(tmp_path, HAND_MADE))[0]


def targets(*paths):
    return Predictions(np.array(paths), np.zeros((len(paths), 3)), np.zeros((len(paths), 3)))


def many(n, **origin):
    angles = np.random.default_rng(0).normal(0, 30, (2, n, 3))
    return Predictions([f"{i:05d}.jpg" for i in range(n)], *angles, **origin)


@pytest.mark.parametrize(("target", "predicted", "error"), WRAPS)
def test_errors_wrap_at_360_degrees_and_fold_nowhere_else(target, predicted, error):
    assert angle_errors(target, predicted) == error
    assert angle_errors(predicted, target) == error


# --- Predictions ------------------------------------------------------------------------------------------------------
def test_one_origin_or_margin_may_stand_for_all_images_and_is_unknown_by_default():
    predictions = Predictions(["a", "b"], np.zeros((2, 3)), np.ones((2, 3)), video="01", margin=0.2)
    assert (predictions.video.tolist(), predictions.margin.tolist()) == (["01", "01"], [0.2, 0.2])
    assert (predictions.split.tolist(), predictions.person.tolist()) == (["", ""], ["", ""])
    assert np.isnan(Predictions(["a"], [[0, 0, 0]], [[1, 1, 1]]).margin).tolist() == [True]


def test_rows_are_selected_and_stacked_with_all_their_fields(hand_made):
    chosen = hand_made.select([2, 0])
    assert chosen.path.tolist() == ["c.jpg", "a.jpg"]
    assert (chosen.video.tolist(), chosen.target[:, 0].tolist()) == (["02", "01"], [75, 0])
    both = stack([chosen, dataclasses.replace(chosen, margin=0.3)])
    assert both.margin.tolist() == [0.2, 0.2, 0.3, 0.3]
    assert both.path.tolist() == ["c.jpg", "a.jpg"] * 2


def test_the_targets_of_a_list_are_in_degrees_with_what_the_list_says_of_their_origin():
    records = np.zeros(2, RECORD)
    records["path"], records["video"], records["person"] = ["a.jpg", "b.jpg"], ["01", "02"], ["F01", "F02"]
    records["angles"] = [[np.pi / 2, 0, 0], [0, np.pi / 6, -np.pi]]
    answers = targets_of(Listed(DATASETS["biwi"], Path("data"), records, {}, split="16-8 test"))
    assert answers.target == pytest.approx(np.array([[90, 0, 0], [0, 30, -180]]))
    assert (answers.predicted == answers.target).all()
    assert (answers.video.tolist(), answers.person.tolist()) == (["01", "02"], ["F01", "F02"])
    assert answers.split.tolist() == ["16-8 test"] * 2


# --- The same images --------------------------------------------------------------------------------------------------
def test_aligned_brings_the_rows_of_b_into_the_order_of_a(hand_made):
    b = dataclasses.replace(hand_made, predicted=hand_made.predicted + 1).select([3, 1, 0, 2])
    answers = aligned(hand_made, b, "a and b")
    assert answers.path.tolist() == hand_made.path.tolist()
    assert (answers.predicted == hand_made.predicted + 1).all()


def test_aligned_takes_the_targets_of_a_where_both_agree_within_a_thousandth_of_a_degree(hand_made):
    near = dataclasses.replace(hand_made, target=hand_made.target + 0.0009)
    assert (aligned(hand_made, near, "a and b").target == hand_made.target).all()
    target = hand_made.target.copy()
    target[3, 2] += 0.0011
    with pytest.raises(InputError, match=r"true angles differ .* 1 \(d.jpg\)"):
        aligned(hand_made, dataclasses.replace(hand_made, target=target), "a and b")
    assert len(aligned(hand_made, dataclasses.replace(hand_made, target=hand_made.target - 360), "a and b")) == 4


def test_different_images_are_named_on_both_sides(hand_made):
    with pytest.raises(InputError, match=r"a and b .* first 1 \(a.jpg\), .* second 2 \(c.jpg, d.jpg\); --common-only"):
        aligned(hand_made.select([0, 1]), hand_made.select([3, 2, 1]), "a and b")
    with pytest.raises(InputError, match=r"first none, .* second 1,236 \(00000.jpg, 00001.jpg, 00002.jpg, \."):
        aligned(many(0), many(1236), "a and b")


# --- Files ------------------------------------------------------------------------------------------------------------
def test_predictions_survive_writing_and_reading_exactly(tmp_path):
    origin = {"split": "test", "video": [f"{i % 7}" for i in range(50)], "person": 'Ω, "quoted"', "margin": 0.1 + 0.2}
    written = many(50, **origin)
    written.margin[3] = np.nan
    write_predictions(tmp_path / "p.csv", written)
    read, left_out = read_predictions(tmp_path / "p.csv")
    assert left_out == 0
    assert (tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()[0] == HEADER
    for field in dataclasses.fields(Predictions):
        np.testing.assert_array_equal(getattr(read, field.name), getattr(written, field.name))


def test_columns_may_be_absent_extra_and_in_any_order(tmp_path):
    text = "path,roll_predicted,pitch_predicted,yaw_predicted,roll_true,pitch_true,yaw_true,note\na.jpg,6,5,4,3,2,1,x\n"
    for variant in (text, "\ufeff" + text, text.replace("\n", "\r\n"), text.replace(",pitch", ", pitch")):
        read, _ = read_predictions(file_of(tmp_path, variant))
        assert (read.target.tolist(), read.predicted.tolist()) == ([[1, 2, 3]], [[4, 5, 6]])
        assert (read.video.tolist(), np.isnan(read.margin).tolist()) == ([""], [True])


def test_a_convention_is_that_of_the_file_and_never_of_the_lists(tmp_path, hand_made):
    joined, _ = read_predictions(file_of(tmp_path, WITHOUT_TRUTH), MAT, targets=hand_made)
    assert (joined.target == hand_made.target).all()
    assert (joined.predicted * [1, 1, -1] == hand_made.predicted).all()


def test_targets_are_joined_by_path_in_the_order_of_the_file(tmp_path, hand_made):
    joined, left_out = read_predictions(file_of(tmp_path, WITHOUT_TRUTH), targets=hand_made.select([3, 2, 1, 0]))
    assert left_out == 0
    assert joined.path.tolist() == hand_made.path.tolist()
    assert (joined.target == hand_made.target).all()
    assert (joined.predicted == hand_made.predicted).all()
    assert joined.video.tolist() == hand_made.video.tolist()


def test_the_lists_decide_the_targets_and_the_file_the_origin_that_it_names(tmp_path, hand_made):
    listed = dataclasses.replace(hand_made, target=hand_made.target + 0.0004, split="of the list", video="of the list")
    joined, _ = read_predictions(file_of(tmp_path, HAND_MADE.replace(",test,", ",,")), targets=listed)  # no split
    assert (joined.target == listed.target).all()
    assert joined.split.tolist() == ["of the list"] * 4
    assert joined.video.tolist() == hand_made.video.tolist()


def test_joining_targets_names_what_does_not_fit(tmp_path, hand_made):
    path = file_of(tmp_path, HAND_MADE)
    renamed = dataclasses.replace(hand_made, path=["a.png", *hand_made.path[1:]])
    with pytest.raises(InputError, match=r"predictions.csv and .* first 1 \(a.jpg\), .* second 1 \(a.png\)"):
        read_predictions(path, targets=renamed)
    with pytest.raises(InputError, match=r"first 3 \(b.jpg, c.jpg, d.jpg\), only in the second none"):
        read_predictions(path, targets=hand_made.select([0]))
    with pytest.raises(InputError, match=r"true angles differ by over 0.001° in 1 \(d.jpg\)"):
        read_predictions(path, MAT, targets=hand_made)


def test_common_only_leaves_out_what_only_the_file_or_only_the_lists_have(tmp_path, hand_made):
    path = file_of(tmp_path, HAND_MADE + "e.jpg,,,,,unknown,,,unknown,,\n")  # not in the lists: its angles are not read
    listed = dataclasses.replace(hand_made, path=["a.jpg", "b.jpg", "x.jpg", "d.jpg"]).select([3, 2, 1, 0])
    read, left_out = read_predictions(path, targets=listed, common_only=True)
    assert left_out == 2
    assert read.path.tolist() == ["a.jpg", "b.jpg", "d.jpg"]
    assert read.target[:, 0].tolist() == [0, 45, -100]
    with pytest.raises(InputError, match=r"'a.jpg', .* 'x.jpg'"):
        read_predictions(path, targets=listed.select([1]), common_only=True)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (HAND_MADE, "", "missing columns path, yaw_true, "),
        (HAND_MADE, HEADER + "\n", "no predictions"),
        ("45,6,0", "45,six,0", "pitch_predicted of b.jpg is 'six'"),
        ("45,6,0", "45,,0", "pitch_predicted of b.jpg is ''"),
        ("75,0,12", "75,0,nan", "roll_predicted of c.jpg is 'nan'"),
        ("-100,10,5,", "-inf,10,5,", "yaw_true of d.jpg is '-inf'"),
        ("p2,0.2,75", "p2,wide,75", "margin of c.jpg is 'wide'"),
        ("d.jpg", "b.jpg", r"1 \(b.jpg at margin 0.2\)"),
        ("45,6,0", "45,6", "line 3: expected 11 columns"),
        ("45,6,0", "45,6,0,0", "line 3: expected 11 columns"),
        ("roll_predicted", "rolled", "missing columns roll_predicted"),
        ("roll_true", "roll", "missing columns roll_true"),
    ],
)
def test_a_file_that_could_give_wrong_numbers_is_refused(tmp_path, old, new, message):
    assert old in HAND_MADE
    with pytest.raises(InputError, match=rf"predictions\.csv.*{message}"):
        read_predictions(file_of(tmp_path, HAND_MADE.replace(old, new, 1)))


def test_true_angles_are_all_there_or_all_absent_even_where_lists_give_targets(tmp_path, hand_made):
    path = file_of(tmp_path, HAND_MADE.replace("roll_true", "roll", 1))
    with pytest.raises(InputError, match="missing columns roll_true"):
        read_predictions(path, targets=hand_made)


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "p.csv").write_bytes(HEADER.encode() + b"\n\xff\xfe\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_predictions(tmp_path / "p.csv")


# --- Spellings of paths, and rows of predict.py -----------------------------------------------------------------------
@pytest.mark.parametrize("folder", ["SET/", "./SET//", "SET\\", "/data/SET/", "C:\\data\\.\\SET\\"])
def test_paths_match_the_lists_however_they_are_spelt(folder, tmp_path):
    text = WITHOUT_TRUTH
    for name in "abcd":
        text = text.replace(f"\n{name}.jpg", f"\n{folder}{name}.jpg")
    answers, _ = read_predictions(file_of(tmp_path, text), targets=targets(*(f"SET/{name}.jpg" for name in "dcba")))
    assert answers.path.tolist() == [f"SET/{name}.jpg" for name in "abcd"]


def test_paths_of_several_folders_are_not_taken_for_names_without_one(tmp_path):
    text = WITHOUT_TRUTH.replace("\na.jpg", "\nx/a.jpg").replace("\nb.jpg", "\ny/b.jpg")
    with pytest.raises(InputError, match=r"different images.*x/a.jpg"):
        read_predictions(file_of(tmp_path, text), targets=targets("a.jpg", "b.jpg", "c.jpg", "d.jpg"))


def test_rows_of_predict_are_predictions_in_list_signs(tmp_path):
    answers, _ = read_predictions(file_of(tmp_path, OF_PREDICT), targets=targets("SET/b.jpg", "SET/a.jpg"))
    assert answers.path.tolist() == ["SET/a.jpg", "SET/b.jpg"]
    assert answers.predicted.tolist() == [[10, 0, -4], [45, 6, 0]]
    with pytest.raises(InputError, match=r"missing columns yaw_true.*--truth"):
        read_predictions(file_of(tmp_path, OF_PREDICT))


def test_columns_yaw_pitch_roll_are_the_predicted_angles_unless_others_are_named_so(tmp_path):
    true = "path,yaw_true,pitch_true,roll_true"
    for columns, cells in (
        ("yaw_predicted,pitch_predicted,roll_predicted,yaw", "4,5,6,99"),
        ("roll,pitch,yaw", "6,5,4"),
    ):
        answers, _ = read_predictions(file_of(tmp_path, f"{true},{columns}\na.jpg,1,2,3,{cells}\n"))
        assert (answers.target.tolist(), answers.predicted.tolist()) == ([[1, 2, 3]], [[4, 5, 6]])


def test_a_row_of_predict_without_a_face_is_refused_or_left_out_and_a_second_face_refused(tmp_path):
    both, none = targets("SET/b.jpg", "SET/a.jpg"), "/data/SET/a.jpg,,,,,,,,,,no face"
    file = file_of(tmp_path, OF_PREDICT.replace("/data/SET/a.jpg,,0,1,2,30,,10,0,-4,ok", none))
    with pytest.raises(InputError, match=r"SET/a.jpg is '' \(no face: --common-only"):
        read_predictions(file, targets=both)
    answers, left_out = read_predictions(file, targets=both, common_only=True)
    assert (answers.path.tolist(), left_out) == (["SET/b.jpg"], 1)
    second = OF_PREDICT + "/data/SET/a.jpg,,1,1,2,30,,45,6,0,ok\n"
    with pytest.raises(InputError, match=r"1 \(SET/a.jpg\)"):
        read_predictions(file_of(tmp_path, second), targets=both)

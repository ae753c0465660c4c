"""Comparisons of two predictions files: paired, with the right sign, and open about what was left out."""

import dataclasses
import re

import numpy as np
import pytest
from helpers.scores import LIST_SIGNS, MAT_SIGNS, cells_of, file_of, foreign_file, run, write_data

from rafa.datasets.lists import load_dataset
from rafa.score.comparison import comparison_text, pairs_by_margin
from rafa.score.metrics import METRICS, per_image, summarise
from rafa.score.predictions import Predictions
from rafa.script import InputError


def table_of(text):
    """{metric: (A, B, difference, low, high, images, conclusion)} of a comparison, numbers as floats."""
    table = {}
    for name, a, b, difference, images, conclusion in cells_of(text)[2:]:
        numbers = [float(number) for number in re.findall(r"-?\d+\.\d+", " ".join((a, b, difference)))]
        table[name] = (*numbers, images, conclusion)
    return table


def two_methods(n=400, better=0.9, **origin):
    """Predictions A, and B with errors of 90% of A's; B in another order."""
    rng = np.random.default_rng(0)
    target, errors = rng.uniform(-60, 60, (n, 3)), rng.normal(0, 5, (n, 3))
    a = Predictions([f"{i:05d}.jpg" for i in range(n)], target, target + errors, **origin)
    return a, dataclasses.replace(a, predicted=target + better * errors).select(rng.permutation(n))


def compared(a, b, samples=300):
    return comparison_text(a, b, "0.2", common_only=False, samples=samples, seed=0)


# --- Two predictions --------------------------------------------------------------------------------------------------
def test_paired_differences_are_b_minus_a_and_narrower_than_unpaired_ones():
    a, b = two_methods()
    before, after = (summarise(per_image(part), 300)["mae"] for part in (a, b))
    found_a, found_b, value, low, high, images, conclusion = table_of(compared(a, b))["MAE, mean of the three axes (°)"]
    assert (found_a, found_b) == pytest.approx((before.value, after.value), abs=0.005)
    assert value == pytest.approx(-0.1 * before.value, abs=0.005)
    assert low <= value <= high < 0
    assert high - low < 0.2 * (before.high - before.low)
    assert (images, conclusion) == ("400", "B is better")
    assert table_of(compared(b, a))["MAE, mean of the three axes (°)"][-1] == "A is better"


def test_smaller_errors_and_larger_shares_are_better():
    a, b = two_methods(better=0.5)
    table = table_of(compared(a, b))
    assert {key: table[key][-1] for key in ("geodesic error (°)", "yaw within 5° (%)")} == {
        "geodesic error (°)": "B is better", "yaw within 5° (%)": "B is better"
    }  # fmt: skip
    assert table["yaw within 5° (%)"][1] > table["yaw within 5° (%)"][0]


def test_comparing_a_method_with_itself_gives_zero_everywhere_and_says_where_no_image_counts():
    a, _ = two_methods(6)
    rows = {row[0]: row[1:] for row in cells_of(compared(a, a, samples=20))[2:]}
    assert len(rows) == len(METRICS)
    counted = {name: row for name, row in rows.items() if row[3] != "0"}
    assert all(row[2:] == ["0.00 [0.00, 0.00]", row[3], "undecided"] for row in counted.values() if row[3] != "1")
    assert rows["MAE where \\|true yaw\\| is over 90° (°)"] == ["no images"] * 3 + ["0", "-"]


def test_the_targets_of_a_decide_the_yaw_bin():
    a = Predictions(["a.jpg", "b.jpg"], [[30, 0, 0], [0, 0, 0]], [[31, 0, 0], [1, 0, 0]])
    beyond = dataclasses.replace(a, target=np.add(a.target, [0.0005, 0, 0]))  # of another bin, within the tolerance
    frontal = "MAE where \\|true yaw\\| is 0-30° (°)"
    assert [table_of(compared(*pair))[frontal][-2] for pair in ((a, beyond), (beyond, a))] == ["2", "1"]


def test_different_images_are_not_compared():
    a, b = two_methods(5)
    with pytest.raises(InputError, match=r"only in the first 1 \(0000"):
        compared(a, b.select([0, 1, 2, 3]))


def test_the_persons_that_either_file_names_are_resampled():
    a, b = two_methods(60)
    person = np.array([f"p{n % 12}" for n in range(60)])
    for pair in ((a, dataclasses.replace(b, person=person)), (dataclasses.replace(a, person=person), b)):
        assert "over 12 persons" in compared(*pair)


# --- Margins ----------------------------------------------------------------------------------------------------------
def test_margins_are_kept_apart_or_set_against_one_another():
    def at(*margins):
        return Predictions(["a.jpg"] * len(margins), *np.zeros((2, len(margins), 3)), margin=np.array(margins))

    def names(a, b, common_only=False):
        return [name for _, _, name in pairs_by_margin(a, b, common_only)]

    both = at(0.3, 0.2, np.nan)
    assert names(both, at(0.2, 0.3, np.nan)) == ["0.2", "0.3", "not stated"]
    assert names(at(0.1), at(0.2)) == ["0.1 in A, 0.2 in B"]
    assert names(at(0.2), at(0.2)) == ["0.2"]
    with pytest.raises(InputError, match=r"A has the margins 0\.2, 0\.3, not stated, B has 0\.1"):
        names(both, at(0.1))
    with pytest.raises(InputError, match="--common-only"):
        names(both, at(0.2))
    assert names(both, at(0.2), common_only=True) == ["0.2"]
    ((a, b, _),) = pairs_by_margin(*(dataclasses.replace(at(m), margin=m) for m in (0.1, 0.2)), False)
    assert "1 image," in compared(a, b)  # two margins do not tell the images apart


# --- Files ------------------------------------------------------------------------------------------------------------
def test_a_comparison_takes_each_files_own_sign_and_says_what_it_left_out(tmp_path, capsys):
    a = file_of(tmp_path / "a.csv", LIST_SIGNS)
    b = file_of(tmp_path / "b.csv", MAT_SIGNS[:2])
    with pytest.raises(InputError, match="different images"):
        run(capsys, "compare", a, b, "--roll-sign-b", "mat")
    text = run(capsys, "compare", a, b, "--roll-sign-b", "mat", "--common-only")
    assert "2 images, the same in both; LEFT OUT by --common-only: 1 images of A, 0 of B" in text
    assert table_of(text)["MAE roll (°)"] == (7.5, 7.5, 0, 0, 0, "2", "undecided")
    with pytest.raises(InputError, match="true angles differ"):
        run(capsys, "compare", a, b, "--common-only")


def test_a_comparison_can_take_the_targets_from_lists_and_resamples_their_videos(tmp_path, capsys):
    data = write_data(tmp_path / "data")
    listed = load_dataset("biwi", data)
    a = foreign_file(tmp_path / "a.csv", listed, slice(None), offset=2.0)
    b = foreign_file(tmp_path / "b.csv", listed, slice(3, None), offset=-5.0)
    command = ["compare", a, b, "--roll-sign-a", "mat", "--roll-sign-b", "mat", "--truth", "biwi", "--data-dir", data]
    with pytest.raises(InputError, match="different images"):
        run(capsys, *command)
    with b.open("a") as file:
        file.write("BIWI/not_in_the_list.png,,1,2,3\n")
    text = run(capsys, *command, "--common-only")
    assert "Margin not stated: 12 images, the same in both; LEFT OUT by --common-only: 3 images of A, 0 of B" in text
    assert table_of(text)["MAE yaw (°)"] == (2, 5, 3, 3, 3, "12", "A is better")
    assert "over 4 videos" in text
    facts = dict(re.findall(r"^  (\S.{13}) (.*)$", text, re.MULTILINE))
    assert facts["true angles   "].strip().startswith("biwi_rect.txt (15 rows, not a published list")
    assert facts["A             "].strip().startswith(f"{a}, SHA-256") and "mat" in facts["B             "]
    assert facts["notes         "].strip().startswith("B: LEFT OUT: 1 rows of the file")


@pytest.mark.parametrize("options", [(), ("--common-only",)])
def test_files_without_a_common_image_are_not_compared(options, tmp_path, capsys):
    a, b = (file_of(tmp_path / f"{name}.csv", [f"{name}.jpg,all,,,0.2,1,2,3,1,2,3"]) for name in "ab")
    with pytest.raises(InputError, match=r"different images|no image in common"):
        run(capsys, "compare", a, b, *options)

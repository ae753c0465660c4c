"""Comparisons of two predictions files: paired, with the right sign, and open about what was left out."""

import re

import numpy as np
import pytest
from helpers.scores import file_of, rows_of, run, write_data
from test_protocol import LIST_SIGNS, MAT_SIGNS, foreign

from rafa.datasets.lists import load_dataset
from rafa.script import InputError


def test_a_comparison_is_paired_and_resamples_the_persons_that_either_file_names(tmp_path, capsys):
    rng = np.random.default_rng(2)
    true, noise = rng.uniform(-50, 50, (60, 3)), rng.normal(0, 20, (60, 3))
    rows = {"a": [], "b": []}
    for n in range(60):
        for name, factor, person in (("a", 1.0, ""), ("b", 0.9, f"p{n % 12}")):
            angles = ",".join(f"{angle:.6f}" for angle in (*true[n], *(true[n] + factor * noise[n])))
            rows[name].append(f"{n}.jpg,all,,{person},0.2,{angles}")
    a, b = (file_of(tmp_path / f"{name}.csv", lines) for name, lines in rows.items())
    text = run(capsys, "compare", a, b)
    line = next(row for row in rows_of(text) if row[0] == "MAE yaw (°)")
    error = np.abs(noise[:, 0]).mean()
    assert line[1:3] == [f"{error:.2f}", f"{0.9 * error:.2f}"]
    value, low, high = map(float, re.findall(r"-?\d+\.\d+", line[3]))
    assert value == pytest.approx(-0.1 * error, abs=0.006)
    assert low < value < high < 0  # though the errors themselves spread far more than the difference
    assert line[4:] == ["60", "B is better"]
    assert "over 12 persons" in text
    swapped = next(row for row in rows_of(run(capsys, "compare", b, a)) if row[0] == "MAE yaw (°)")
    assert swapped[-1] == "A is better"
    within = next(row for row in rows_of(text) if row[0] == "yaw within 15° (%)")
    assert within[-1] in ("B is better", "undecided")
    assert float(within[2]) > float(within[1])


def test_a_comparison_takes_each_files_own_sign_and_says_what_it_left_out(tmp_path, capsys):
    a = file_of(tmp_path / "a.csv", LIST_SIGNS)
    b = file_of(tmp_path / "b.csv", MAT_SIGNS[:2])
    with pytest.raises(InputError, match="different images"):
        run(capsys, "compare", a, b, "--roll-sign-b", "mat")
    text = run(capsys, "compare", a, b, "--roll-sign-b", "mat", "--common-only")
    assert "2 images, the same in both; LEFT OUT by --common-only: 1 images of A, 0 of B" in text
    line = next(row for row in rows_of(text) if row[0] == "MAE roll (°)")
    assert line[1:] == ["7.50", "7.50", "0.00 [0.00, 0.00]", "2", "undecided"]
    with pytest.raises(InputError, match="true angles differ"):
        run(capsys, "compare", a, b, "--common-only")


def test_comparisons_keep_margins_apart_and_can_set_one_against_another(tmp_path, capsys):
    at = {m: [row.replace(",0.2,", f",{m},") for row in LIST_SIGNS] for m in ("0.1", "0.2", "0.3", "")}
    both = file_of(tmp_path / "both.csv", [*at["0.3"], *at["0.2"], *at[""]])
    one, two = (file_of(tmp_path / f"{m}.csv", at[m]) for m in ("0.1", "0.2"))
    both_again = file_of(tmp_path / "again.csv", [*at["0.2"], *at["0.3"], *at[""]])
    two_again = file_of(tmp_path / "2.csv", at["0.2"][::-1])

    def margins(*files):
        return re.findall(r"^Margin (.*?):", run(capsys, "compare", *files), re.MULTILINE)

    assert margins(both, both_again) == ["0.2", "0.3", "not stated"]
    assert margins(one, two) == ["0.1 in A, 0.2 in B"]
    assert margins(two, two_again) == ["0.2"]
    with pytest.raises(
        InputError, match=r"A has the margins 0\.2, 0\.3, not stated, B has 0\.1; expected at least one"
    ):
        margins(both, one)
    with pytest.raises(InputError, match="--common-only compares the common ones"):
        margins(both, two)
    assert margins(both, two, "--common-only") == ["0.2"]


def test_a_comparison_can_take_the_truth_from_the_lists_and_resamples_their_videos(tmp_path, capsys):
    data = write_data(tmp_path / "data")
    listed = load_dataset("biwi", data)
    a = foreign(tmp_path / "a.csv", listed, slice(None), offset=2.0)
    b = foreign(tmp_path / "b.csv", listed, slice(3, None), offset=-5.0)
    command = ["compare", a, b, "--roll-sign-a", "mat", "--roll-sign-b", "mat", "--truth", "biwi", "--data-dir", data]
    with pytest.raises(InputError, match="different images"):
        run(capsys, *command)
    text = run(capsys, *command, "--common-only")
    assert "Margin not stated: 12 images, the same in both; LEFT OUT by --common-only: 3 images of A, 0 of B" in text
    line = next(row for row in rows_of(text) if row[0] == "MAE yaw (°)")
    assert line[1:] == ["2.00", "5.00", "3.00 [3.00, 3.00]", "12", "A is better"]
    assert "over 4 videos" in text
    assert "truth           biwi_rect.txt (15 rows, not a published list" in text
    assert f"A               {a}, SHA-256" in text
    assert "roll sign of the file: mat" in text
    assert "notes           none" in text
    with b.open("a") as file:
        file.write("BIWI/not_in_the_list.png,,1,2,3\n")
    text = run(capsys, *command, "--common-only")
    assert "notes           B: LEFT OUT: 1 rows of the file, not in the lists or without a prediction" in text


@pytest.mark.parametrize("options", [(), ("--common-only",)])
def test_files_without_a_common_image_are_not_compared(options, tmp_path, capsys):
    a, b = (file_of(tmp_path / f"{name}.csv", [f"{name}.jpg,all,,,0.2,1,2,3,1,2,3"]) for name in "ab")
    with pytest.raises(InputError, match=r"A and B have no image in common: A begins with a\.jpg, B with b\.jpg"):
        run(capsys, "compare", a, b, *options)

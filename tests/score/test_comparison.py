"""Methods compared on the same images: paired, with the right sign, and open about what was left out."""

import dataclasses
import json

import numpy as np
import pytest
from helpers.scores import LIST_SIGNS, MAT_SIGNS, cells_of, file_of, foreign_file, results_of, run, write_data

from rafa.datasets.lists import load_dataset
from rafa.score import protocol, reports
from rafa.score.comparison import difference
from rafa.score.metrics import METRICS, per_image, summarise
from rafa.score.predictions import Predictions, write_predictions
from rafa.script import InputError


def two_methods(n=400, better=0.9, **origin):
    """Predictions A, and B with errors of 90% of A's; B in another order."""
    rng = np.random.default_rng(0)
    target, errors = rng.uniform(-60, 60, (n, 3)), rng.normal(0, 5, (n, 3))
    a = Predictions([f"{i:05d}.jpg" for i in range(n)], target, target + errors, **origin)
    return a, dataclasses.replace(a, predicted=target + better * errors).select(rng.permutation(n))


def differences(a, b, samples=300):
    return difference(a, b, "A and B", samples, 0)["differences"]


def compared(capsys, tmp_path, *arguments):
    """The results of `compare`, and what it prints."""
    text = run(capsys, "compare", *arguments, "--result", tmp_path / "r.json")
    return results_of(tmp_path / "r.json")["results"], text


# --- Two predictions --------------------------------------------------------------------------------------------------
def test_paired_differences_are_b_minus_a_and_narrower_than_unpaired_ones():
    a, b = two_methods()
    before, paired = summarise(per_image(a), 300)["mae"], differences(a, b)["mae"]
    assert paired.value == pytest.approx(-0.1 * before.value)
    assert paired.low <= paired.value <= paired.high < 0
    assert paired.high - paired.low < 0.2 * (before.high - before.low)
    assert differences(b, a)["mae"].value == pytest.approx(-paired.value)
    assert {tuple(estimate[:3]) for estimate in differences(a, a).values()} <= {(0, 0, 0), (np.nan,) * 3}


def test_the_targets_of_a_decide_the_yaw_bin():
    a = Predictions(["a.jpg", "b.jpg"], [[30, 0, 0], [0, 0, 0]], [[31, 0, 0], [1, 0, 0]])
    beyond = dataclasses.replace(a, target=np.add(a.target, [0.0005, 0, 0]))  # of another bin, within the tolerance
    assert [differences(*pair)["mae_yaw_0_30"].n for pair in ((a, beyond), (beyond, a))] == [2, 1]


def test_different_images_are_not_compared():
    a, b = two_methods(5)
    with pytest.raises(InputError, match=r"A and B hold different images: only in the first 1 \(0000.*--common-only"):
        differences(a, b.select([0, 1, 2, 3]))


def test_the_persons_that_either_file_names_are_resampled():
    a, b = two_methods(60)
    person = np.array([f"p{n % 12}" for n in range(60)])
    for pair in ((a, dataclasses.replace(b, person=person)), (dataclasses.replace(a, person=person), b)):
        assert "over 12 persons" in difference(*pair, "A and B", 20, 0)["intervals"]
    videos = dataclasses.replace(a, video=np.array([f"v{n % 20}" for n in range(60)]))
    for pair in ((videos, dataclasses.replace(b, person=person)), (dataclasses.replace(b, person=person), videos)):
        assert "over 12 persons" in difference(*pair, "A and B", 20, 0)["intervals"]


# --- Files ------------------------------------------------------------------------------------------------------------
def test_methods_stand_in_one_table_each_with_its_margin_and_its_difference_to_the_first(tmp_path, capsys):
    a, b = two_methods(margin=0.2)
    for name, part in (("a", a), ("b", dataclasses.replace(b, margin=0.6)), ("c", a)):
        write_predictions(tmp_path / f"{name}.csv", part)
    record = {"method": "Method B", "published": [4.5, None, 4.64, 5.07], "source": "its paper", "note": "tuned"}
    (tmp_path / "b.json").write_text(json.dumps(record))
    results, text = compared(capsys, tmp_path, *(tmp_path / f"{name}.csv" for name in "abc"))
    header, _, *rows = cells_of(text)[:6]
    assert header[3:] == ["Yaw", "Pitch", "Roll", "MAE", "Geodesic", "MAEV", "MAE - first"]
    assert [row[0].split(", ")[-1] for row in rows] == ["a.csv", "Method B", "published: its paper", "c.csv"]
    assert [row[1] for row in rows] == ["0.2", "0.6", "-", "0.2"]
    assert rows[2][3:] == ["4.50", "-", "4.64", "5.07", "-", "-", "-"]
    mae = [per_image(part)["mae"].mean() for part in (a, b)]
    assert rows[0][6].startswith(f"{mae[0]:.2f} [") and rows[1][6].startswith(f"{mae[1]:.2f} [")
    assert rows[1][7:9] == [f"{results[1]['estimates'][key]['value']:.2f} [{results[1]['estimates'][key]['low']:.2f}, "
                            f"{results[1]['estimates'][key]['high']:.2f}]" for key in ("geodesic", "maev")]  # fmt: skip
    assert (rows[0][-1], rows[3][-1]) == ("first", "0.00 [0.00, 0.00]")
    assert rows[1][-1].startswith(f"{mae[1] - mae[0]:.2f} [")
    assert "compared" not in results[0] and "margin 0.2" in results[1]["compared"]["with"]
    assert results[1]["compared"]["differences"]["mae"]["value"] == pytest.approx(mae[1] - mae[0])
    assert "tuned" in results[1]["card"]["notes"] and "tuned" in text
    document = reports.results_document(protocol.read_results(tmp_path / "r.json"))
    assert [row[1:] for row in cells_of(document) if row[-1] not in ("---", "MAE - first")][-4:] == rows
    assert results[1]["card"]["predictions"]["record"] == {
        key: record[key] for key in ("method", "published", "source")
    }


def test_smaller_errors_and_larger_shares_are_better(tmp_path, capsys):
    for name, part in zip("ab", two_methods(better=0.5), strict=True):
        write_predictions(tmp_path / f"{name}.csv", part)
    for files, verdict in (("ab", "better"), ("ba", "worse")):
        _, text = compared(capsys, tmp_path, *(tmp_path / f"{name}.csv" for name in files))
        rows = {row[0]: row[1] for row in cells_of(text) if len(row) == 2}
        assert len(rows) == 2 + len(METRICS)
        for metric in ("geodesic error (°)", "yaw within 5° (%)"):
            assert rows[metric].startswith(f"{verdict}: ")
        assert rows["MAE where \\|true yaw\\| is over 90° (°)"] == "no images"
        assert rows["MAE where \\|true yaw\\| is 0-30° (°)"].endswith(" images")


def test_each_file_has_its_own_sign_and_the_card_says_what_was_left_out(tmp_path, capsys):
    a = file_of(tmp_path / "a.csv", LIST_SIGNS)
    b = file_of(tmp_path / "b.csv", MAT_SIGNS[:2])
    signs = ["--roll-sign", "list", "--roll-sign", "mat"]
    with pytest.raises(InputError, match="different images"):
        run(capsys, "compare", a, b, *signs)
    results, text = compared(capsys, tmp_path, a, b, *signs, "--common-only")
    assert [result["estimates"]["mae_roll"]["value"] for result in results] == [7.5, 7.5]
    assert results[1]["compared"]["differences"]["mae_roll"]["value"] == 0
    assert "LEFT OUT: 1 rows of the file whose images another file lacks" in text
    for wrong, message in (([], "true angles differ"), (signs * 2, "4 times for 2 files")):
        with pytest.raises(InputError, match=message):
            run(capsys, "compare", a, b, *wrong, "--common-only")
    other = file_of(tmp_path / "c.csv", ["d.jpg,all,,,0.2,1,2,3,1,2,3"])
    with pytest.raises(InputError, match="no image in common"):
        run(capsys, "compare", a, other, "--common-only")


def test_margins_are_kept_apart_unless_each_file_has_just_one(tmp_path, capsys):
    both = [row.replace(",0.2,", margin) for margin in (",0.3,", ",0.2,") for row in LIST_SIGNS]
    a = file_of(tmp_path / "a.csv", both)
    b = file_of(tmp_path / "b.csv", [row.replace(",25", ",28") for row in both[::-1]])
    results, _ = compared(capsys, tmp_path, a, b)
    margins = [
        (result["card"]["margin"], result.get("compared", {}).get("with", "").split()[-1:]) for result in results
    ]
    assert margins == [(0.3, []), (0.2, []), (0.2, ["0.2"]), (0.3, ["0.3"])]
    assert [result["compared"]["differences"]["mae_roll"]["value"] for result in results[2:]] == [1, 1]
    some = file_of(tmp_path / "d.csv", [both[0], *both[3:]])
    results, _ = compared(capsys, tmp_path, a, some, "--common-only")
    counts = [(result["card"]["margin"], result["card"]["images"]["scored"]) for result in results]
    assert counts == [(0.3, 1), (0.2, 3)] * 2
    one = file_of(tmp_path / "c.csv", both[:3])
    with pytest.raises(InputError, match=r"different splits and margins.*0\.2"):
        run(capsys, "compare", a, one)


def test_targets_from_lists_are_compared_over_their_videos(tmp_path, capsys):
    data = write_data(tmp_path / "data")
    listed = load_dataset("biwi", data)
    a = foreign_file(tmp_path / "a.csv", listed, slice(None), offset=2.0)
    b = foreign_file(tmp_path / "b.csv", listed, slice(3, None), offset=-5.0)
    with b.open("a") as file:
        file.write("BIWI/not_in_the_list.png,,1,2,3\n")
    command = [a, b, "--roll-sign", "mat", "--truth", "biwi", "--data-dir", data, "--common-only"]
    results, text = compared(capsys, tmp_path, *command)
    yaw = results[1]["compared"]["differences"]["mae_yaw"]
    assert [round(yaw[key], 9) for key in ("value", "low", "high", "n")] == [3, 3, 3, 12]
    assert "over 4 videos" in results[1]["compared"]["intervals"]
    assert "LEFT OUT: 1 rows of the file, not in the lists" in text
    assert "12 of 4 videos (3 LEFT OUT: no prediction)" in text

"""Any model's predictions: scores, seeds, comparisons, the verdict "paper protocol" and the document of results."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scored import file_of, results_of, rows_of, run, write_data

import evaluate
from data_loaders import DATA_SETS, RECORD, Listed, ListFile, load_data_set
from util import protocol, tables
from util.errors import InputError


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data")


# --- The verdict "paper protocol" -------------------------------------------------------------------------------------
def published(name, count, split="all", video=""):
    """A list as the published one would be read, and predictions for all of it."""
    rng, data_set = np.random.default_rng(0), DATA_SETS[name]
    records = np.zeros(count, RECORD)
    records["path"] = [f"{n:05d}.jpg" for n in range(count)]
    records["angles"] = rng.uniform(-1, 1, (count, 3))
    records["video"] = records["person"] = video
    files = tuple(ListFile(name, data_set.rows, "0", True) for name in (data_set.crop_list, data_set.angle_list))
    listed = Listed(data_set, Path(), records, {}, files, split=split)
    return listed, replace(evaluate.truth_of(listed), margin=np.full(count, 0.2))


def card_of(listed, predictions, **more):
    return protocol.protocol_card(listed, predictions, {"unit": "images", "number": 1, "rounds": 1, "seed": 0}, **more)


def test_a_result_is_the_papers_protocol_only_with_its_lists_counts_and_margin():
    listed, found = published("aflw2000", 1947)
    assert card_of(listed, found)["paper_protocol"]
    fewer = replace(listed, records=listed.records[1:], missing=1)
    for doubtful, predictions, reason in [
        (fewer, found.select(np.arange(1, 1947)), "1,946 images scored; the published lists hold 1,947 usable"),
        (listed, replace(found, margin=np.full(1947, 0.1)), "the paper has no row for the margin 0.1"),
        (listed, replace(found, margin=np.full(1947, np.nan)), "the margin is not known"),
        (
            replace(listed, files=(replace(listed.files[0], published=False), listed.files[1])),
            found,
            "not the published",
        ),
        (replace(listed, data_set=DATA_SETS["synthetic"]), found, "not a data set of the paper"),
        (None, found, "the lists are unknown"),
    ]:
        card = card_of(doubtful, predictions)
        assert not card["paper_protocol"]
        assert any(reason in departure for departure in card["departures"])
    assert card_of(*published("biwi", 15648))["paper_protocol"]
    assert card_of(*published("biwi", 5217, "16-8 test"))["departures"] == [
        "which videos the paper's split has is unknown"
    ]


def test_a_training_on_other_data_is_not_the_papers_protocol():
    listed, found = published("aflw2000", 1947)
    files = [{"path": f"lists/{DATA_SETS['300w-lp'].crop_list}", "published": True}]
    files += [{"path": f"lists/{DATA_SETS['300w-lp'].angle_list}", "published": True}]
    right = {"trained_by": {"lists": files, "all_pictures": True}}
    assert card_of(listed, found, weights=right)["paper_protocol"]
    assert card_of(listed, found, weights={"trained_by": None})["paper_protocol"]  # the card says that it is unknown
    wrong = {"trained_by": {"lists": files[:1], "all_pictures": True}}
    assert not card_of(listed, found, weights=wrong)["paper_protocol"]
    part = {"trained_by": {"lists": files, "all_pictures": False}}
    assert card_of(listed, found, weights=part)["departures"] == ["the training left pictures out"]


# --- Predictions of any model -----------------------------------------------------------------------------------------
LIST_SIGNS = [
    "a.jpg,all,,,0.2,10,0,20,13,1,25",
    "b.jpg,all,,,0.2,-40,5,-30,-41,5,-20",
    "c.jpg,all,,,0.2,70,-5,0,70,-8,-3",
]
MAT_SIGNS = [
    "a.jpg,all,,,0.2,10,0,-20,13,1,-25",
    "b.jpg,all,,,0.2,-40,5,30,-41,5,20",
    "c.jpg,all,,,0.2,70,-5,0,70,-8,3",
]
ROLL_MAE = "6.00 ["  # (5 + 10 + 3) / 3


def test_foreign_predictions_with_mat_signs_score_like_those_with_list_signs(tmp_path, capsys):
    ours = run(capsys, "score", file_of(tmp_path / "ours.csv", LIST_SIGNS), "--result", tmp_path / "ours.json")
    theirs = run(
        capsys, "score", file_of(tmp_path / "theirs.csv", MAT_SIGNS), "--roll-sign", "mat", "--result",
        tmp_path / "theirs.json",
    )  # fmt: skip
    for text in (ours, theirs):
        row = rows_of(text)[2]
        assert row[2] == "unknown / unknown / 3"
        assert [cell.split(" [")[0] for cell in row[3:]] == ["1.33", "1.33", "6.00", "2.89"]
    estimates = [results_of(tmp_path / name)["results"][0]["estimates"] for name in ("ours.json", "theirs.json")]
    assert estimates[0] == estimates[1]
    assert "roll sign of the file: mat" in theirs
    assert "the lists are unknown" in theirs


def test_a_card_without_lists_claims_none(tmp_path, capsys):
    run(capsys, "score", file_of(tmp_path / "p.csv", LIST_SIGNS), "--result", tmp_path / "r.json")
    card = results_of(tmp_path / "r.json")["results"][0]["card"]
    assert (card["lists"], card["weights"], card["paper_protocol"]) == ([], None, False)
    assert card["boxes"] == card["channel_order"] == "not in a predictions file"
    assert card["predictions"]["sha256"] == hashlib.sha256((tmp_path / "p.csv").read_bytes()).hexdigest()
    assert "no videos or persons are named: images were resampled" in card["notes"][0]


def test_every_margin_of_a_file_is_scored_on_its_own(tmp_path, capsys):
    rows = [*LIST_SIGNS, *(row.replace(",0.2,", ",0.3,").replace(",25", ",23") for row in LIST_SIGNS)]
    found = rows_of(run(capsys, "score", file_of(tmp_path / "p.csv", rows)))[2:4]
    assert [(row[1], row[5].split(" [")[0]) for row in found] == [("0.2", "6.00"), ("0.3", "5.33")]


def test_several_files_are_seeds_with_mean_and_standard_deviation(tmp_path, capsys):
    first = file_of(tmp_path / "1.csv", LIST_SIGNS)
    second = file_of(tmp_path / "2.csv", [row.replace(",25", ",28") for row in reversed(LIST_SIGNS)])
    text = run(capsys, "score", first, second)
    assert [row[0] for row in rows_of(text)[2:4]] == ["unknown data set, 1.csv", "unknown data set, 2.csv"]
    # roll: 6 and 7 degrees, so 6.5 and the sample standard deviation 1 / sqrt(2)
    assert "| MAE roll (°) | 6.50 ± 0.71 (n = 2) |" in text
    other = file_of(tmp_path / "3.csv", LIST_SIGNS[:2])
    with pytest.raises(InputError, match="different images"):
        run(capsys, "score", first, other)
    with pytest.raises(InputError, match="1 of 2 files"):
        run(capsys, "score", first, file_of(tmp_path / "4.csv", [row.replace(",0.2,", ",0.3,") for row in LIST_SIGNS]))


def foreign(path, listed, rows, offset=2.0):
    """Predictions of some other model, without true angles, with the roll of the .mat files."""
    lines = ["path,video,yaw_predicted,pitch_predicted,roll_predicted"]
    for record in listed.records[rows]:
        yaw, pitch, roll = np.degrees(record["angles"])
        lines.append(f"{record['path']},,{yaw + offset},{pitch},{-roll}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_predictions_without_truth_are_joined_with_the_lists_by_path(data, tmp_path, capsys):
    listed = load_data_set("biwi", data)
    path = foreign(tmp_path / "p.csv", listed, slice(None, None, -1))
    command = ["score", path, "--roll-sign", "mat", "--data-dir", data]
    text = run(capsys, *command, "--truth", "biwi", "--result", tmp_path / "r.json")
    row = rows_of(text)[2]
    assert row[1:3] == ["not stated", "15,648 / unknown / 12 of 4 videos"]
    assert [cell.split(" [")[0] for cell in row[3:]] == ["2.00", "0.00", "0.00", "0.67"]
    card = results_of(tmp_path / "r.json")["results"][0]["card"]
    assert [Path(file["path"]).name for file in card["lists"]] == ["biwi_rect.txt", "biwi_angle.txt"]
    with pytest.raises(InputError, match=r"missing columns yaw_true"):
        run(capsys, *command)


def test_common_only_says_what_was_left_out(data, tmp_path, capsys):
    listed = load_data_set("aflw2000", data)
    path = foreign(tmp_path / "p.csv", listed, slice(5, None))
    with path.open("a") as file:
        file.write("AFLW2000/not_in_the_list.jpg,,1,2,3\n")
    command = ["score", path, "--roll-sign", "mat", "--data-dir", data, "--truth", "aflw2000"]
    with pytest.raises(InputError, match=r"missing in the file 5 .*unknown to the truth 1 .*common_only"):
        run(capsys, *command)
    text = run(capsys, *command, "--common-only")
    assert rows_of(text)[2][2] == "1,947 / unknown / 30 (5 LEFT OUT: --common-only)"
    assert "1 images of the file are not in the lists and were LEFT OUT" in text
    assert "27 of 32" in text


# --- Comparisons ------------------------------------------------------------------------------------------------------
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
    at = {m: [row.replace(",0.2,", f",{m},") for row in LIST_SIGNS] for m in ("0.1", "0.2", "0.3")}
    both = file_of(tmp_path / "both.csv", [*at["0.2"], *at["0.3"]])
    one = file_of(tmp_path / "one.csv", at["0.1"])
    headings = re.findall(r"Margin γ (.*?):", run(capsys, "compare", both, both))
    assert headings == ["0.2", "0.3"]
    two = file_of(tmp_path / "two.csv", at["0.2"])
    assert re.findall(r"Margin γ (.*?):", run(capsys, "compare", one, two)) == ["0.1 in A, 0.2 in B"]
    with pytest.raises(InputError, match="margins"):
        run(capsys, "compare", both, one)
    assert re.findall(r"Margin γ (.*?):", run(capsys, "compare", both, two, "--common-only")) == ["0.2"]


# --- doc/results.md ---------------------------------------------------------------------------------------------------
def test_the_document_of_results_says_how_each_row_was_made_and_what_was_not_measured(tmp_path, capsys):
    listed, found = published("aflw2000", 1947)
    made = {
        "command": "evaluate.py aflw2000 --weights w",
        "date": "2031-05-06",
        "commit": "c0ffee",
        "hardware": "9 cores",
    }
    made["versions"] = {"numpy": "1"}
    right = protocol.score(replace(listed, data_set=DATA_SETS["synthetic"]), found, 5, made=made)
    heads, paper, biwi, unknown = json.loads(json.dumps(protocol.plain([right] * 4)))
    heads["card"]["lists"][0]["published"] = False
    paper["card"] |= {"data_set": "AFLW2000", "paper_protocol": True, "departures": []}
    biwi["card"] |= {"data_set": "BIWI", "paper_protocol": True, "departures": []}
    unknown["card"] |= {"data_set": "unknown data set", "lists": []}
    (tmp_path / "r.json").write_text(json.dumps({"results": [paper, heads]}))
    (tmp_path / "more.json").write_text(json.dumps({"results": [unknown, biwi]}))
    out = tmp_path / "doc" / "results.md"
    evaluate.main(["results", str(tmp_path / "r.json"), str(tmp_path / "more.json"), "--out", str(out)])
    text = out.read_text(encoding="utf-8")
    free, licensed = (text.index(title) for title in ("without the licensed data sets", "## The paper's protocols"))
    other, how = (text.index(f"## {title}") for title in ("Other runs", "How each row was made"))
    assert free < licensed < other < how
    assert "| 2 | generated heads, test part" in text[free:licensed]
    assert text[licensed:other].count("| 1 | AFLW2000 | 0.2 |") == 1
    assert text[licensed:other].count("| 4 | BIWI | 0.2 |") == 1  # under Table 1, whose protocol it is; not Table 2
    assert "| 3 | unknown data set | 0.2 |" in text[other:how]
    assert text.count("| not measured here |") > 5
    assert "not measured here: which videos it used is unknown" in text
    for fact in ("seed 0", "c0ffee", "9 cores", "2031-05-06", "`evaluate.py aflw2000 --weights w`"):
        assert text.count(fact) >= 2
    with pytest.raises(InputError, match="not a result file"):
        evaluate.main(["results", str(file_of(tmp_path / "p.csv", LIST_SIGNS)), "--out", str(out)])
    assert out.read_text(encoding="utf-8") == text


def test_a_table_refuses_an_empty_cell():
    with pytest.raises(ValueError, match="empty or missing cell"):
        tables.table(["a", "b"], [["1", ""]])

"""Protocol cards, the details below a table, and doc/results.md: nothing hidden, and how each number was made."""

import copy
import json
import re

import pytest
from helpers.scores import a_result, cells_of

import evaluate
from rafa.files import sha256
from rafa.net.pretrained import SYNTHETIC_FILE, SYNTHETIC_MADE
from rafa.score import protocol, reports, tables
from rafa.script import InputError


@pytest.fixture(scope="module")
def result():
    return a_result()


def changed(result, **card):
    """The result with another card."""
    return result | {"card": copy.deepcopy(result["card"]) | card}


# --- Below a table ----------------------------------------------------------------------------------------------------
def test_the_details_hold_metrics_set_sizes_worst_images_and_the_card(result):
    text = reports.details([result])
    places = [text.index(t) for t in ("| Metric", "on the sets of images in use", "| Worst images", "Protocol card")]
    assert places == sorted(places)
    sizes = [row for row in cells_of(text) if row[0].startswith("1,9")]
    assert [row[:2] for row in sizes] == [
        ["1,947: every row with a box", "1,947 of 1,947"],
        ["1,936: without the last partial batch of 16, which the released code drops", "1,936 of 1,936"],
    ]
    assert sizes[0][2:6] == ["1.00 [1.00, 1.00]", "2.00 [2.00, 2.00]", "6.00 [6.00, 6.00]", "3.00 [3.00, 3.00]"]
    worst = result["worst"][0]
    row = next(row for row in cells_of(text) if row[0] == worst["path"])
    yaw, pitch, roll = worst["true"]
    assert row[1:] == [
        "3.0", f"{yaw:+.1f} → {yaw + 1:+.1f}", f"{pitch:+.1f} → {pitch - 2:+.1f}", f"{roll:+.1f} → {roll + 6:+.1f}"
    ]  # fmt: skip
    assert text.count("| Worst images") == 1
    assert "sets of images" not in reports.details([result | {"set_sizes": []}])


# --- The protocol card ------------------------------------------------------------------------------------------------
def test_cards_after_the_first_show_only_what_differs(result):
    other = changed(result, margin=0.3, seed=5, intervals="of another kind")
    first, second, third = reports.card_texts([result["card"], other["card"], result["card"]]).split("\n\n")
    assert first.splitlines()[0] == "Protocol card: AFLW2000, margin 0.2"
    facts = dict(re.findall(r"^  (.{15}) (.*)$", first, re.MULTILINE))
    assert facts["network        "] == "w.keras (tiny), SHA-256 abababababab…"
    begun, resumed = "train_rafa-net.py (2030-01-01, commit beef)", "train_rafa-net.py --epochs 9"
    assert facts["trained by     "] == f"{begun}, starting from imagenet, resumed by {resumed}"
    assert (
        facts["images         "]
        == "expected 1,947, listed 1,955 (8 rejected: no box), usable 1,947, found 1,947, scored 1,947"
    )
    assert (
        facts["rotation       "]
        == "R = Rx(pitch) Ry(-yaw) Rz(-roll), list signs; x right, y down, z towards the viewer"
    )
    assert facts["versions       "] == "numpy 1"
    assert facts["evaluation     "].endswith("the network and its training are no part of this")
    assert (
        facts["trained on     "].startswith("train.txt (3 rows, not a published list")
        and "LEFT OUT" in facts["trained on     "]
    )
    assert second.splitlines() == [
        "Protocol card: AFLW2000, margin 0.3: as the first, but",
        "  intervals       of another kind",
    ]
    assert third == "Protocol card: AFLW2000, margin 0.2: as the first"


def test_a_card_says_what_departs_from_the_papers_evaluation_and_when_the_training_is_unknown(result):
    weights = result["card"]["weights"] | {"trained_by": None}
    other = changed(result, weights=weights, evaluation_protocol=False, departures=["one thing", "another"])
    facts = dict(re.findall(r"^  (\S.{14}) (.*)$", reports.card_texts([other["card"]]), re.MULTILINE))
    assert facts["evaluation     "] == "not that of the paper: one thing; another"
    assert facts["trained by     "].startswith("unknown") and "trained on     " not in facts


# --- doc/results.md ---------------------------------------------------------------------------------------------------
def test_the_document_of_results_says_how_each_row_was_made_and_what_was_not_measured(result, tmp_path, capsys):
    heads = changed(result, data_set="synthetic heads, test part", departures=["not a dataset of the paper"])
    heads["card"]["evaluation_protocol"], heads["baseline"] = False, None
    biwi = changed(result, data_set="BIWI")
    file = {"file": "a/p.csv", "sha256": "0", "roll_sign": "mat"}
    unknown = changed(result, data_set="unknown dataset", lists=[], evaluation_protocol=False, predictions=file)
    (tmp_path / "r.json").write_text(json.dumps(protocol.plain({"results": [result, heads]})))
    (tmp_path / "more.json").write_text(json.dumps(protocol.plain({"results": [unknown, biwi]})))
    out = tmp_path / "doc" / "results.md"
    evaluate.main(["results", str(tmp_path / "r.json"), str(tmp_path / "more.json"), "--out", str(out)])
    assert "4 results of 2 files" in capsys.readouterr().out
    paper, files, other, free, how = out.read_text(encoding="utf-8").split("\n## ")[1:]
    assert "| 2 | synthetic heads, test part | 0.2 |" in free and "ean pose" not in free
    errors = f"1.00 / 2.00 / 6.00, 3.00, {result['estimates']['geodesic'].value:.2f}"
    assert [row[1:] for row in cells_of(paper)][2:8] == [
        ["AFLW2000", "0.3", "3.60 / 4.92 / 3.88, 4.13", "not measured here"],
        ["BIWI", "0.3", "5.71 / 6.28 / 3.64, 5.21", "not measured here"],
        ["AFLW2000", "0.2", "3.52 / 4.93 / 3.91, 4.12", f"row 1: {errors}"],
        ["BIWI", "0.2", "5.67 / 6.26 / 3.60, 5.17", f"row 4: {errors}"],
        ["BIWI", "0.2", "3.08 / 4.35 / 2.85, 3.43", "not measured here"],
        ["BIWI", "0.1", "3.07 / 4.30 / 2.82, 3.40", "not measured here"],
    ]
    assert [row[0] for row in cells_of(paper)[10:]] == ["1", "-", "4", "-", "-"]  # the same baseline once
    assert "| 3 | unknown dataset, p.csv | 0.2 |" in files and "Not measured" in other
    assert "| - | mean pose of the training list | - | the same |" in files
    assert "a/p.csv, SHA-256 0, roll sign of the file: mat" in how
    assert "2. synthetic heads, test part, margin 0.2: by the command of row 1\n   - network: tiny" in how
    assert "1. AFLW2000, margin 0.2: `evaluate.py aflw2000 --weights w`\n   - commit c0ffee; 9 cores; 2031-05-06" in how
    assert how.count("not a dataset of the paper") == 1
    for fact in ("5 samples, seed 0", "seed 77; a GPU", "ab" * 32, "train.txt"):
        assert how.count(fact) == 4
    assert how.count("c0ffee") == 1 and how.count(": by the command of row 1\n") == 3


def test_a_document_without_results_says_that_nothing_was_measured():
    assert reports.results_document([]).count("Not measured here.") == 4


def test_the_document_stays_where_a_file_is_no_result_file(tmp_path):
    (tmp_path / "results.md").write_text("as it was")
    (tmp_path / "p.csv").write_text("path")
    with pytest.raises(InputError, match="not a result file"):
        evaluate.main(["results", str(tmp_path / "p.csv"), "--out", str(tmp_path / "results.md")])
    assert (tmp_path / "results.md").read_text() == "as it was"


def test_the_document_names_doubts_first_the_first_of_a_comparison_and_the_suite_s_own_weights(result, tmp_path):
    file = {"file": "p.csv", "sha256": "0", "roll_sign": "mat"}
    first, lone = (changed(result, predictions=file | {"record": {"method": name}}) for name in ("A", "lone"))
    second = changed(first, predictions=file | {"record": {"method": "C"}}, notes=["DOUBT: roll runs"])
    second["compared"] = {"with": tables.heading(first["card"]), "intervals": "-", "differences": first["estimates"]}
    own = changed(result, weights=result["card"]["weights"] | {"sha256": sha256(SYNTHETIC_FILE)})
    (tmp_path / "r.json").write_text(json.dumps(protocol.plain({"results": [first, second, lone, own]})))
    evaluate.main(["results", str(tmp_path / "r.json"), "--out", str(tmp_path / "results.md")])
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "C, margin 0.2: DOUBT: roll runs" in text.partition("\n## ")[0]
    ends = {row[1].split(", ")[-1]: row[-1] for row in cells_of(text) if row[0] in ("1", "2", "3")}
    assert ends["A"] == "first" and ends["lone"] == "-" and ends["C"] != "-"
    assert text.count(SYNTHETIC_MADE) == 1

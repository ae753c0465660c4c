"""Protocol cards, the details below a table, and doc/results.md: nothing hidden, and how each number was made."""

import copy
import json
import re

import pytest
from helpers.scores import a_result, file_of, rows_of

import evaluate
from rafa.datasets.sets import DATASETS
from rafa.score import protocol, reports
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
    sizes = [row for row in rows_of(text) if row[0].startswith("1,9")]
    assert [row[:2] for row in sizes] == [
        ["1,947: every row with a box", "1,947 of 1,947"],
        ["1,936: without the last partial batch of 16, which the released code drops", "1,936 of 1,936"],
    ]
    assert sizes[0][2:] == ["1.00 [1.00, 1.00]", "2.00 [2.00, 2.00]", "6.00 [6.00, 6.00]", "3.00 [3.00, 3.00]"]
    worst = result["worst"][0]
    row = next(row for row in rows_of(text) if row[0] == worst["path"])
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
    assert second.splitlines() == [
        "Protocol card: AFLW2000, margin 0.3: as the first, but",
        "  intervals       of another kind",
    ]
    assert third == "Protocol card: AFLW2000, margin 0.2: as the first"


# --- doc/results.md ---------------------------------------------------------------------------------------------------
def test_the_document_of_results_says_how_each_row_was_made_and_what_was_not_measured(result, tmp_path, capsys):
    right = {"paper_protocol": True, "departures": []}
    paper = changed(result, **right)
    heads = changed(result, dataset="synthetic heads, test part", departures=["not a dataset of the paper"])
    biwi = changed(result, dataset="BIWI", **right)
    unknown = changed(result, dataset="unknown dataset", lists=[])
    del heads["baseline"]  # as in a file of an older version
    (tmp_path / "r.json").write_text(json.dumps(protocol.plain({"results": [paper, heads]})))
    (tmp_path / "more.json").write_text(json.dumps(protocol.plain({"results": [unknown, biwi]})))
    out = tmp_path / "doc" / "results.md"
    evaluate.main(["results", str(tmp_path / "r.json"), str(tmp_path / "more.json"), "--out", str(out)])
    assert "4 results of 2 files" in capsys.readouterr().out
    text = out.read_text(encoding="utf-8")
    free, licensed = (text.index(f"## {title}") for title in ("Without the licensed datasets", "The paper's protocol"))
    other, how = (text.index(f"## {title}") for title in ("Other runs", "How each row was made"))
    assert free < licensed < other < how
    assert "| 2 | synthetic heads, test part | 0.2 |" in text[free:licensed]
    rows = [row[:3] for row in rows_of(text[licensed:other])]
    assert rows[2:] == [
        ["-", "paper, Table 1: AFLW2000", "0.3"], ["-", "not measured here", "0.3"],
        ["-", "paper, Table 1: BIWI", "0.3"], ["-", "not measured here", "0.3"],
        ["-", "paper, Table 1: AFLW2000", "0.2"], ["1", "AFLW2000", "0.2"],
        ["-", "mean pose of the training list", "-"],
        ["-", "paper, Table 1: BIWI", "0.2"], ["4", "BIWI", "0.2"],
        ["-", "mean pose of the training list", "-"],
        ["-", "paper, Table 2 (its split is unknown): BIWI", "0.2"],
        ["-", "not measured here: which videos it used is unknown", "0.2"],
        ["-", "paper, Table 2 (its split is unknown): BIWI", "0.1"],
        ["-", "not measured here: which videos it used is unknown", "0.1"],
    ]  # fmt: skip
    assert "| 3 | unknown dataset | 0.2 |" in text[other:how]
    assert "| - | mean pose of the training list | - | the same |" in text[other:how]
    assert "ean pose" not in text[free:licensed]
    assert (
        "2. synthetic heads, test part, margin 0.2: `evaluate.py aflw2000 --weights w`\n   - commit c0ffee;"
        in text[how:]
    )
    assert text.count("\n   - not the paper's protocol: not a dataset of the paper\n") == 1
    for fact in ("5 rounds, seed 0", "c0ffee", "9 cores", "2031-05-06", "seed 77; a GPU", "ab" * 32):
        assert text[how:].count(fact) == 4


@pytest.mark.parametrize("part", [{"images": {}}, {"data_set": 5}, {"lists": [3]}, {"made": None}, {"weights": "w"}])
def test_a_result_with_a_damaged_card_is_refused_by_file(part, tmp_path):
    result, path = a_result(), tmp_path / "r.json"
    protocol.write_results(path, [{**result, "card": {**result["card"], **part}}])
    with pytest.raises(InputError, match=r"r\.json is not a result file of evaluate"):
        evaluate.main(["results", str(path), "--out", str(tmp_path / "results.md")])
    assert not (tmp_path / "results.md").exists()


def test_the_document_stays_where_a_file_is_no_result_file(tmp_path):
    out = tmp_path / "results.md"
    out.write_text("as it was")
    with pytest.raises(InputError, match="not a result file"):
        evaluate.main(["results", str(file_of(tmp_path / "p.csv", [])), "--out", str(out)])
    assert out.read_text() == "as it was"
    assert DATASETS["aflw2000"].title in reports.results_document([])
    assert reports.results_document([]).count("Not measured here.") == 2

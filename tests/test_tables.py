"""Tables, cards and doc/results.md: every number where it belongs, nothing empty, nothing hidden."""

import copy
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from scored import file_of, published, rows_of

import evaluate
from data_loaders import DATA_SETS
from util import protocol, tables
from util.errors import InputError
from util.metrics import METRICS, Estimate, Spread

MADE = {
    "command": "evaluate.py aflw2000 --weights w",
    "date": "2031-05-06",
    "commit": "c0ffee",
    "hardware": "9 cores",
    "versions": {"numpy": "1"},
}
POSE = {"yaw": 1.0, "pitch": 2.0, "roll": 3.0}
TRAINED = {"command": "train_rafa-net.py", "date": "2030-01-01", "commit": "beef", "hardware": "a GPU", "seed": 77}


@pytest.fixture(scope="module")
def result():
    """All of AFLW2000 by the published lists, every angle off by 1, 2 and 6 degrees."""
    listed, found = published("aflw2000", 1947)
    run = TRAINED | {"lists": [], "all_images": True, "mean_pose": POSE}
    weights = {"file": "w.keras", "sha256": "ab" * 32, "backbone": "tiny", "trained_by": run}
    found = replace(found, predicted=found.true + np.array([1, -2, 6]))
    return protocol.score(listed, found, rounds=5, made=MADE, weights=weights)


def changed(result, **card):
    """The result with another card."""
    return result | {"card": copy.deepcopy(result["card"]) | card}


# --- Cells ------------------------------------------------------------------------------------------------------------
def test_a_table_refuses_an_empty_or_missing_cell():
    assert tables.table(["a", "b"], [["1|2", 3]]) == "| a | b |\n| --- | --- |\n| 1\\|2 | 3 |"
    for row in (["1", ""], ["1"]):
        with pytest.raises(ValueError, match="empty or missing cell"):
            tables.table(["a", "b"], [row])


def test_a_value_without_an_interval_or_images_says_so():
    assert tables.with_interval(Estimate(1.234, 1, 2.345, 9, None)) == "1.23 [1.00, 2.35]"
    assert tables.with_interval(Estimate(1.234, np.nan, np.nan, 1, None)) == "1.23 (no interval)"
    assert tables.with_interval(Estimate(np.nan, np.nan, np.nan, 0, None)) == "no images"


def test_a_result_is_named_by_data_set_split_file_and_margin(result):
    assert tables.heading(result["card"]) == "AFLW2000, margin 0.2"
    lists = [{"published": True}, {"published": False}]
    other = {
        "data_set": "BIWI",
        "split": "16-8 test",
        "margin": None,
        "lists": lists,
        "predictions": {"file": "a/p.csv"},
    }
    card = result["card"] | other
    assert tables.heading(card) == "BIWI (NOT the published lists), 16-8 test, p.csv, margin not stated"
    assert tables.heading(card, with_file=False) == "BIWI (NOT the published lists), 16-8 test, margin not stated"
    assert tables.title_of(card | {"data_set": "your own lists (a.txt)"}).startswith("your own lists (a.txt), 16-8")


# --- Tables of results ------------------------------------------------------------------------------------------------
def test_a_result_is_followed_by_the_papers_row_and_the_baseline(result):
    text = tables.result_table([result])
    header, _, ours, paper, baseline = rows_of(text)
    assert header == ["Result", "Margin", "Images expected / found / scored", "Yaw", "Pitch", "Roll", "MAE"]
    values = ["1.00 [1.00, 1.00]", "2.00 [2.00, 2.00]", "6.00 [6.00, 6.00]", "3.00 [3.00, 3.00]"]
    assert ours == ["AFLW2000", "0.2", "1,947 / 1,947 / 1,947", *values]
    assert paper == ["paper, Table 1, RAFA-Net", "0.2", "unknown", "3.52", "4.93", "3.91", "4.12"]
    expected = [f"{result['baseline'][key]:.2f}" for key in protocol.MAE_KEYS]
    assert baseline == ["mean pose of the training list", "-", "the same", *expected]
    assert text.endswith("mean pose of the training list: the error of always predicting that pose.")
    without = tables.result_table([result | {"baseline": None}])
    assert "mean pose" not in without
    assert len(rows_of(without)) == 4


def test_a_baseline_that_repeats_is_shown_once(result):
    other = result | {"baseline": dict.fromkeys(protocol.MAE_KEYS, 50.0)}
    rows = [row for row in rows_of(tables.result_table([result, result, other, result]))[2:] if row[1] != "0.2"]
    assert [row[-1] == "50.00" for row in rows] == [False, True, False]


def test_other_metrics_say_over_how_many_images_where_not_all_count(result):
    rows = {row[0]: row[1] for row in rows_of(tables.metric_table([result]))[2:]}
    assert len(rows) == len(METRICS) - 4
    assert rows["all three angles within 5° (%)"] == "0.00 [0.00, 0.00]"
    assert rows["pitch within 5° (%)"] == "100.00 [100.00, 100.00]"
    count = result["estimates"]["mae_yaw_30_60"].n
    assert rows["MAE where \\|true yaw\\| is 30-60° (°)"] == f"3.00 [3.00, 3.00], {count:,} images"
    assert rows["MAE where \\|true yaw\\| is over 90° (°)"] == "no images"


def test_the_details_hold_metrics_set_sizes_worst_images_and_the_card(result):
    text = tables.details([result])
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
    assert "sets of images" not in tables.details([result | {"set_sizes": []}])


def test_a_spread_of_one_value_or_none_says_so():
    spread = {key: Spread(2.0, 0.5, 3) for key, _, _ in METRICS} | {"mae": Spread(np.nan, np.nan, 3)}
    rows = {row[0]: row[1] for row in rows_of(tables.spread_table({"AFLW2000": spread}))}
    assert rows["MAE yaw (°)"] == "2.00 ± 0.50 (n = 3)"
    assert rows["MAE, mean of the three axes (°)"] == "no images"


# --- The paper's tables -----------------------------------------------------------------------------------------------
def test_the_papers_table_is_printed_whole_with_its_footnote(result):
    text = tables.paper_table("table1", {("aflw2000", 0.2): result}, {"biwi": "no lists"})
    rows = {row[0]: row[1:] for row in rows_of(text)}
    assert len(rows) == 2 + 12 + 2
    assert rows["Dlib (68 landmarks)"] == ["23.15", "13.63", "10.55", "15.78", "16.76", "13.80", "6.19", "12.25"]
    assert rows["KEPLER"] == ["-", "-", "-", "-", "8.80", "17.30", "16.20", "13.90†"]
    assert rows["SSR-Net-MD"] == ["5.14", "7.09", "5.89", "6.01†", "4.49", "6.31", "3.61", "4.65†"]
    assert text.count("†") == 4
    assert text.endswith(
        "† As the paper prints it; the mean of the three axes is 14.10 for KEPLER on BIWI, 6.04 for SSR-Net-MD on "
        "AFLW2000, 4.80 for SSR-Net-MD on BIWI."
    )
    (ours,) = [name for name in rows if name.startswith("**this network, margin 0.2**")]
    assert (
        "AFLW2000: images expected / found / scored 1,947 / 1,947 / 1,947; BIWI: not available here: no lists" in ours
    )
    assert rows[ours][3] == "3.00 [3.00, 3.00], -1.12"
    assert rows[ours][4:] == ["not available here"] * 4
    second = tables.paper_table("table2", {}, {"biwi": "no lists"})
    assert "†" not in second
    assert rows_of(second)[2] == ["RGB-D", "DeepHeadPose", "5.32", "4.76", "-", "-"]
    assert len(rows_of(second)) == 2 + 10 + 2


# --- The protocol card ------------------------------------------------------------------------------------------------
def test_cards_after_the_first_show_only_what_differs(result):
    other = changed(result, margin=0.3, seed=5, intervals="of another kind")
    first, second, third = tables.card_texts([result["card"], other["card"], result["card"]]).split("\n\n")
    assert first.splitlines()[0] == "Protocol card: AFLW2000, margin 0.2"
    facts = dict(re.findall(r"^  (.{15}) (.*)$", first, re.MULTILINE))
    assert facts["network        "] == "w.keras (tiny), SHA-256 abababababab…"
    assert facts["trained by     "] == "train_rafa-net.py (2030-01-01, commit beef)"
    assert facts["images         "] == "expected 1,947, listed 1,955, usable 1,947, found 1,947, scored 1,947"
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
    heads = changed(result, data_set="synthetic heads, test part", departures=["not a data set of the paper"])
    biwi = changed(result, data_set="BIWI", **right)
    unknown = changed(result, data_set="unknown data set", lists=[])
    del heads["baseline"]  # as in a file of an older version
    (tmp_path / "r.json").write_text(json.dumps(protocol.plain({"results": [paper, heads]})))
    (tmp_path / "more.json").write_text(json.dumps(protocol.plain({"results": [unknown, biwi]})))
    out = tmp_path / "doc" / "results.md"
    evaluate.main(["results", str(tmp_path / "r.json"), str(tmp_path / "more.json"), "--out", str(out)])
    assert "4 results of 2 files" in capsys.readouterr().out
    text = out.read_text(encoding="utf-8")
    free, licensed = (text.index(f"## {title}") for title in ("Without the licensed data sets", "The paper's protocol"))
    other, how = (text.index(f"## {title}") for title in ("Other runs", "How each row was made"))
    assert free < licensed < other < how
    assert "| 2 | synthetic heads, test part | 0.2 |" in text[free:licensed]
    rows = [row[:3] for row in rows_of(text[licensed:other])]
    assert rows[2:] == [
        ["-", "paper, Table 1: AFLW2000", "0.3"], ["-", "not measured here", "0.3"],
        ["-", "paper, Table 1: BIWI", "0.3"], ["-", "not measured here", "0.3"],
        ["-", "paper, Table 1: AFLW2000", "0.2"], ["1", "AFLW2000", "0.2"],
        ["-", "paper, Table 1: BIWI", "0.2"], ["4", "BIWI", "0.2"],
        ["-", "paper, Table 2 (its split is unknown): BIWI", "0.2"],
        ["-", "not measured here: which videos it used is unknown", "0.2"],
        ["-", "paper, Table 2 (its split is unknown): BIWI", "0.1"],
        ["-", "not measured here: which videos it used is unknown", "0.1"],
    ]  # fmt: skip
    assert "| 3 | unknown data set | 0.2 |" in text[other:how]
    assert "| - | mean pose of the training list | - | the same |" in text[other:how]
    assert "mean pose" not in text[free:licensed]
    assert "2. synthetic heads, test part, margin 0.2: `evaluate.py aflw2000 --weights w`\n   - seed 0;" in text[how:]
    assert text.count("\n   - not the paper's protocol: not a data set of the paper\n") == 1
    for fact in ("- seed 0;", "c0ffee", "9 cores", "2031-05-06", "seed 77; a GPU", "ab" * 32):
        assert text[how:].count(fact) == 4


def test_the_document_stays_where_a_file_is_no_result_file(tmp_path):
    out = tmp_path / "results.md"
    out.write_text("as it was")
    with pytest.raises(InputError, match="not a result file"):
        evaluate.main(["results", str(file_of(tmp_path / "p.csv", [])), "--out", str(out)])
    assert out.read_text() == "as it was"
    assert DATA_SETS["aflw2000"].title in tables.results_document([])
    assert tables.results_document([]).count("Not measured here.") == 2

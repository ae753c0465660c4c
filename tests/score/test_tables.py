"""Tables: every number where it belongs, nothing empty, nothing hidden."""

import numpy as np
import pytest
from helpers.scores import a_result, cells_of

from rafa.score import metrics, tables
from rafa.score.metrics import METRICS, Estimate, Spread


@pytest.fixture(scope="module")
def result():
    return a_result()


# --- Cells ------------------------------------------------------------------------------------------------------------
def test_a_bar_in_a_cell_does_not_end_it():
    assert tables.table(["a", "b"], [["1|2", 3]]) == "| a | b |\n| --- | --- |\n| 1\\|2 | 3 |"


def test_a_value_without_an_interval_or_images_says_so():
    assert tables.with_interval(Estimate(1.234, 1, 2.345, 9, None)) == "1.23 [1.00, 2.35]"
    assert tables.with_interval(Estimate(1.234, np.nan, np.nan, 1, None)) == "1.23 (no interval)"
    assert tables.with_interval(Estimate(np.nan, np.nan, np.nan, 0, None)) == "no images"


def test_a_result_is_named_by_dataset_split_file_and_margin(result):
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
    header, _, ours, paper, baseline = cells_of(text)
    assert header[3:] == ["Yaw", "Pitch", "Roll", "MAE", "Geodesic"]
    value, low, high = result["estimates"]["geodesic"][:3]
    values = ["1.00 [1.00, 1.00]", "2.00 [2.00, 2.00]", "6.00 [6.00, 6.00]", "3.00 [3.00, 3.00]"]
    assert ours == ["AFLW2000", "0.2", "1,947 / 1,947 / 1,947", *values, f"{value:.2f} [{low:.2f}, {high:.2f}]"]
    assert paper == ["paper, Table 1, RAFA-Net", "0.2", "unknown", "3.52", "4.93", "3.91", "4.12", "-"]
    expected = [f"{result['baseline'][key]:.2f}" for key in metrics.HEADLINE_KEYS]
    assert baseline == ["mean pose of the training list", "-", "the same", *expected]
    assert text.endswith("Mean pose: the error of always predicting it.")
    without = tables.result_table([result | {"baseline": None}])
    assert "ean pose" not in without
    assert len(cells_of(without)) == 4


def test_the_papers_row_stands_under_no_predictions_of_others(result):
    other = result | {"card": result["card"] | {"predictions": {"file": "a/p.csv"}}, "baseline": None}
    assert [row[0] for row in cells_of(tables.result_table([other]))[2:]] == ["AFLW2000, p.csv"]


def test_a_baseline_that_repeats_is_shown_once_and_an_older_one_has_no_geodesic_error(result):
    other = result | {"baseline": dict.fromkeys(metrics.MAE_KEYS, 50.0)}
    rows = [row for row in cells_of(tables.result_table([result, result, other, result]))[2:] if row[1] != "0.2"]
    assert [row[-2] == "50.00" for row in rows] == [False, True, False]
    assert [row[-1] == "-" for row in rows] == [False, True, False]


def test_metrics_say_over_how_many_images_where_not_all_count(result):
    rows = {row[0]: row[1] for row in cells_of(tables.metric_table([result]))[2:]}
    assert len(rows) == len(METRICS)
    assert rows["all three angles within 5° (%)"] == "0.00 [0.00, 0.00]"
    assert rows["pitch within 5° (%)"] == "100.00 [100.00, 100.00]"
    count = result["estimates"]["mae_yaw_30_60"].n
    assert rows["MAE where \\|true yaw\\| is 30-60° (°)"] == f"3.00 [3.00, 3.00], {count:,} images"
    assert rows["MAE where \\|true yaw\\| is over 90° (°)"] == "no images"


def test_a_spread_of_one_value_or_none_says_so():
    spread = {key: Spread(2.0, 0.5, 3) for key, _, _ in METRICS} | {"mae": Spread(np.nan, np.nan, 3)}
    rows = {row[0]: row[1] for row in cells_of(tables.spread_table({"AFLW2000": spread}))}
    assert rows["MAE yaw (°)"] == "2.00 ± 0.50 (n = 3)"
    assert rows["MAE, mean of the three axes (°)"] == "no images"


# --- The paper's tables -----------------------------------------------------------------------------------------------
def test_the_papers_table_is_printed_whole_with_its_footnote(result):
    text = tables.paper_table("table1", {("aflw2000", 0.2): result}, {"biwi": "no lists"})
    rows = {row[0]: row[1:] for row in cells_of(text)}
    assert len(rows) == 2 + 12 + 2
    assert rows["Dlib (68 landmarks)"] == [
        "23.15",
        "13.63",
        "10.55",
        "15.78",
        "-",
        "16.76",
        "13.80",
        "6.19",
        "12.25",
        "-",
    ]
    assert rows["KEPLER"] == ["-", "-", "-", "-", "-", "8.80", "17.30", "16.20", "13.90†", "-"]
    assert rows["SSR-Net-MD"] == ["5.14", "7.09", "5.89", "6.01†", "-", "4.49", "6.31", "3.61", "4.65†", "-"]
    assert text.count("†") == 4
    assert text.endswith("14.10 for KEPLER on BIWI, 6.04 for SSR-Net-MD on AFLW2000, 4.80 for SSR-Net-MD on BIWI.")
    (ours,) = [name for name in rows if name.startswith("**this network, margin 0.2**")]
    assert "views" not in ours
    views = result | {"card": result["card"] | {"weights": result["card"]["weights"] | {"views": 6}}}
    text = tables.paper_table("table1", {("aflw2000", 0.2): views}, {"biwi": "no lists"})
    assert "AFLW2000: mean of 6 views; images expected" in text
    assert "expected / found / scored 1,947 / 1,947 / 1,947; BIWI: not available here: no lists" in ours
    assert rows[ours][3] == "3.00 [3.00, 3.00], -1.12"
    assert rows[ours][4] == tables.with_interval(result["estimates"]["geodesic"])
    assert rows[ours][5:] == ["not available here"] * 5
    second = tables.paper_table("table2", {}, {"biwi": "no lists"})
    assert "†" not in second
    assert cells_of(second)[2] == ["RGB-D", "DeepHeadPose", "5.32", "4.76", "-", "-", "-"]
    assert len(cells_of(second)) == 2 + 10 + 2


def test_an_angle_that_rounds_to_zero_has_no_minus():
    row = {"path": "a.jpg", "mae": 1.0, "true": [-0.04, 0.0, -10.0], "predicted": [-0.01, -0.06, -0.0]}
    assert tables.worst_table({"worst": [row]}).splitlines()[-1] == (
        "| a.jpg | 1.0 | +0.0 → +0.0 | +0.0 → -0.1 | -10.0 → +0.0 |"
    )

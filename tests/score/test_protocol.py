"""Results: what is scored with what, when an evaluation may call itself the paper's, and result files."""

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.scores import (
    LIST_SIGNS,
    MAT_SIGNS,
    cells_of,
    file_of,
    foreign_file,
    published,
    results_of,
    run,
    write_data,
)

from rafa.datasets.lists import limited, load_dataset
from rafa.datasets.sets import DATASETS
from rafa.files import ROOT, sha256
from rafa.score import metrics, protocol
from rafa.script import InputError

TABLES = protocol.paper_tables()


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data")


def scored(listed, predictions, **more):
    return protocol.score(listed, predictions, samples=5, made={}, **more)


def card_of(listed, predictions, **more):
    return scored(listed, predictions, **more)["card"]


# --- The paper's tables -----------------------------------------------------------------------------------------------
def test_the_papers_mae_is_the_mean_of_its_three_numbers_but_in_three_places():
    different, noted = {}, {}
    for row in (row for name in ("table1", "table2") for row in TABLES[name]):
        for group in [group for group in ("aflw2000", "biwi") if None not in row.get(group, [None])]:
            *angles, mae = row[group]
            if abs(np.mean(angles) - mae) > 0.0101:  # every number is rounded to 0.01
                different[row["method"], group] = round(np.mean(angles), 2)
        noted |= {(row["method"], group): mean for group, mean in row.get("mean_of_three", {}).items()}
    assert noted == different
    assert noted == {("KEPLER", "biwi"): 14.1, ("SSR-Net-MD", "aflw2000"): 6.04, ("SSR-Net-MD", "biwi"): 4.8}


def test_the_papers_rows_are_those_of_the_dataset_and_split():
    listed, _ = published("biwi", 3)
    assert protocol.paper_rows(listed) == [
        {"margin": 0.3, "table": "table1", "mae": [5.71, 6.28, 3.64, 5.21]},
        {"margin": 0.2, "table": "table1", "mae": [5.67, 6.26, 3.60, 5.17]},
    ]
    assert [row["mae"][-1] for row in protocol.paper_rows(replace(listed, split="16-8 test"))] == [3.43, 3.40]
    assert [row["mae"][-1] for row in protocol.paper_rows(published("aflw2000", 3)[0])] == [4.13, 4.12]
    assert protocol.paper_rows(published("synthetic", 3)[0]) == protocol.paper_rows(published("300w-lp", 3)[0]) == []


# --- Whether the evaluation is the paper's ----------------------------------------------------------------------------
def test_an_evaluation_is_the_papers_only_with_its_lists_images_margin_and_single_crop():
    listed, answers = published("aflw2000", 1947)
    assert card_of(listed, answers)["departures"] == []
    assert card_of(listed, answers)["evaluation_protocol"]
    fewer = replace(listed, records=listed.records[1:], missing=1)
    own = replace(listed, files=(replace(listed.files[0], published=False), listed.files[1]))
    file = {"file": "p.csv", "sha256": "0", "roll_sign": "list", "convention": {}, "notes": []}
    views = {"trained_by": None, "views": 6}
    split, frames = published("biwi", 5217, "16-8 test")
    for doubtful, predictions, more, reason in [
        (fewer, answers.select(np.arange(1, 1947)), {}, "1,946 images scored"),
        (listed, replace(answers, margin=np.full(1947, 0.1)), {}, "no row for AFLW2000 at the margin 0.1"),
        (listed, replace(answers, margin=np.full(1947, np.nan)), {}, "the margin is not known"),
        (own, answers, {}, "not the published lists"),
        (replace(listed, dataset=DATASETS["synthetic"]), answers, {}, "not a dataset of the paper"),
        (None, answers, {}, "the lists are unknown"),
        (split, replace(frames, margin=np.full(5217, 0.1)), {}, "which videos the paper's split has is unknown"),
        (listed, answers, {"file": file}, "from which crops"),
        (listed, answers, {"weights": views}, "the mean of 6 views"),
    ]:
        card = card_of(doubtful, predictions, **more)
        assert not card["evaluation_protocol"]
        assert len(card["departures"]) == 1 and reason in card["departures"][0]
    assert card_of(*published("biwi", 15648))["evaluation_protocol"]
    assert card_of(split, frames)["images"]["expected"] == 5217
    assert "no row for 300W-LP" in card_of(*published("300w-lp", 3))["departures"][0]


def test_the_training_is_no_part_of_the_evaluation():
    listed, answers = published("aflw2000", 1947)
    heads = [{"path": "heads/crops.txt", "rows": 3, "sha256": "0", "published": False}]
    run = {"lists": heads, "all_images": False, "started_from": "synthetic", "mean_pose": None}
    card = card_of(listed, answers, weights={"trained_by": run})
    assert card["evaluation_protocol"] and card["weights"]["trained_by"] == run


# --- The run that wrote the weights -----------------------------------------------------------------------------------
RUN = {"command": "c", "date": "d", "commit": "e", "hardware": "h", "lists": [["train"], ["test"]]}
RUN |= {"options": {"seed": 1, "weights": "synthetic", "allow_missing": False, "limit": 0}}
RUN |= {"resumed": [{"command": "c --resume", "date": "f"}], "mean_pose": {"yaw": 1.0, "pitch": 2.0, "roll": 3.0}}


@pytest.fixture
def weights_file(tmp_path):
    (tmp_path / "w.keras").write_text("weights")
    return tmp_path / "w.keras"


def test_a_run_is_credited_with_a_file_only_where_its_record_holds_the_files_hash(weights_file):
    record = weights_file.with_name("run.json")
    assert protocol.weights_facts(weights_file, "tiny")["trained_by"] is None
    for hashes, credited in (({}, False), ({"w.keras": "0"}, False), ({"w.keras": sha256(weights_file)}, True)):
        record.write_text(json.dumps(RUN | {"weights": hashes}))
        assert (protocol.weights_facts(weights_file, "tiny")["trained_by"] is not None) == credited
    record.write_text(json.dumps(RUN))  # of an older version
    assert protocol.weights_facts(weights_file, "tiny")["trained_by"] is None


@pytest.mark.parametrize(("setting", "whole"), [({}, True), ({"allow_missing": True}, False), ({"limit": 5}, False)])
def test_a_card_says_how_the_training_began_and_whether_it_left_images_out(setting, whole, weights_file):
    run = RUN | {"options": RUN["options"] | setting, "weights": {"w.keras": sha256(weights_file)}}
    weights_file.with_name("run.json").write_text(json.dumps(run))
    assert protocol.weights_facts(weights_file, "tiny")["trained_by"] == {
        "command": "c", "date": "d", "commit": "e", "hardware": "h", "seed": 1, "started_from": "synthetic",
        "resumed_by": ["c --resume"], "lists": ["train"], "all_images": whole, "mean_pose": RUN["mean_pose"],
    }  # fmt: skip


def test_the_suites_own_weights_name_their_run_and_a_path_that_is_the_same_on_every_machine():
    facts = protocol.weights_facts(ROOT / "pretrained" / "synthetic.weights.h5", "small")
    assert Path(facts["file"]).as_posix() == "pretrained/synthetic.weights.h5"
    assert facts["trained_by"]["command"].startswith("train_rafa-net.py --synthetic full")


def test_a_card_says_by_which_option_images_were_left_out():
    listed, answers = published("biwi", 20)
    listed = replace(limited(replace(listed, records=listed.records[3:], missing=3), 5), split="17-7 train")
    images = card_of(listed, answers.select(np.isin(answers.path, listed.records["path"])))["images"]
    assert images == {
        "expected": None, "listed": 15648, "rejected": {}, "usable": 20, "found": 17, "scored": 5, "left_out": 15,
        "left_out_by": "--allow-missing, --limit",
    }  # fmt: skip
    assert card_of(*published("biwi", 20))["images"]["left_out_by"] == ""


# --- What is resampled ------------------------------------------------------------------------------------------------
def test_persons_are_resampled_where_known_then_videos_then_images():
    _, answers = published("biwi", 4)
    videos, persons = np.array(["1", "1", "2", "2"]), np.array(["p", "p", "p", "p"])
    assert protocol.clusters_of(answers) == ("images", None)
    assert protocol.clusters_of(replace(answers, video=videos, person=videos))[0] == "videos"
    unit, names = protocol.clusters_of(replace(answers, video=videos, person=persons))
    assert (unit, set(names)) == ("persons", {"p"})
    assert protocol.clusters_of(replace(answers, video=np.array(["1", "", "2", "2"])))[0] == "images"


def test_a_card_warns_where_intervals_are_too_narrow():
    def notes(videos, frames=2):
        names = np.array([f"{n:02d}" for n in range(videos) for _ in range(frames)])
        listed, answers = published("biwi", len(names))
        card = card_of(listed, replace(answers, video=names, person=names))
        assert card["resampled"] == {"unit": "videos", "number": videos}
        return card["notes"]

    assert notes(20) == []
    (few,) = notes(19)
    assert few.startswith("with 19 videos the intervals are too narrow")
    assert f"{metrics.COVERAGE[4]}% with 4 videos" in few
    assert notes(1) == ["a single video gives no interval"]
    (unnamed,) = card_of(*published("biwi", 3))["notes"]
    assert "images were resampled, which is too narrow for frames of videos" in unnamed
    assert card_of(*published("aflw2000", 3))["notes"] == []


# --- Scores -----------------------------------------------------------------------------------------------------------
def test_a_result_holds_means_the_worst_images_and_the_error_of_the_mean_pose():
    listed, answers = published("synthetic", 3)
    target = np.array([[0, 0, 0], [10, 20, 30], [-175, 0, 0]], float)
    answers = replace(answers, target=target, predicted=target + np.array([[1, 2, 3], [-3, 6, 9], [-10, 0, 2]]))
    run = {"lists": [], "all_images": True, "mean_pose": {"yaw": 10, "pitch": 5, "roll": -1}}
    result = scored(listed, answers, weights={"trained_by": run}, worst=2)
    values = [result["estimates"][key].value for key in metrics.MAE_KEYS]
    assert values == pytest.approx([14 / 3, 8 / 3, 14 / 3, 36 / 9])
    assert [(row["path"], row["mae"]) for row in result["worst"]] == [("00001.jpg", 6), ("00002.jpg", 4)]
    assert result["worst"][0]["true"] == [10, 20, 30]
    assert result["worst"][0]["predicted"] == [7, 26, 39]
    # yaw: 10, 0, 175; pitch: 5, 15, 5; roll: 1, 31, 1
    baseline = [result["baseline"][key] for key in metrics.MAE_KEYS]
    assert baseline == pytest.approx([185 / 3, 25 / 3, 33 / 3, 243 / 9])
    assert scored(listed, answers, weights={"trained_by": None})["baseline"] is None
    assert scored(None, answers)["baseline"] is None


def test_the_sets_of_images_in_use_are_those_of_aflw2000():
    assert [size["name"] for size in scored(*published("aflw2000", 32))["set_sizes"]] == ["32: every row with a box"]
    assert scored(*published("biwi", 37))["set_sizes"] == []


# --- Result files -----------------------------------------------------------------------------------------------------
def test_results_come_back_from_a_result_file(tmp_path):
    listed, answers = published("aflw2000", 20)
    result = scored(listed, answers.select(np.arange(1)))  # one image has no interval: NaN
    protocol.write_results(tmp_path / "r.json", [result], absent={"biwi": "none"})
    written = results_of(tmp_path / "r.json")
    assert written["absent"] == {"biwi": "none"}
    assert written["results"][0]["estimates"]["mae"]["low"] is None
    (back,) = protocol.read_results(tmp_path / "r.json")
    assert back["card"] == protocol.plain(result["card"])
    for key, estimate in result["estimates"].items():
        assert isinstance(back["estimates"][key], metrics.Estimate)
        np.testing.assert_equal(tuple(back["estimates"][key]), tuple(estimate))
    assert math.isnan(back["estimates"]["mae"].low)


@pytest.mark.parametrize(
    ("departures", "papers"),
    [
        (["the network was not trained on the published lists of 300W-LP", "the training left images out"], True),
        (["the network was not trained on the published lists of 300W-LP", "394 images scored"], False),
    ],
)
def test_an_older_result_is_judged_without_its_training(departures, papers, tmp_path):
    result = protocol.plain(scored(*published("aflw2000", 1947)))
    del result["card"]["evaluation_protocol"]
    result["card"] |= {"paper_protocol": False, "departures": departures}
    (tmp_path / "r.json").write_text(json.dumps({"results": [result]}))
    (card,) = (result["card"] for result in protocol.read_results(tmp_path / "r.json"))
    assert (card["evaluation_protocol"], card["departures"]) == (papers, [] if papers else departures[1:])


# --- Predictions of any model -----------------------------------------------------------------------------------------
def test_predictions_with_mat_signs_score_like_those_with_list_signs(tmp_path, capsys):
    ours = run(capsys, "score", file_of(tmp_path / "ours.csv", LIST_SIGNS), "--result", tmp_path / "ours.json")
    theirs = run(
        capsys, "score", file_of(tmp_path / "theirs.csv", MAT_SIGNS), "--roll-sign", "mat", "--result",
        tmp_path / "theirs.json",
    )  # fmt: skip
    for text in (ours, theirs):
        row = cells_of(text)[2]
        assert row[2] == "unknown / unknown / 3"
        # roll: (5 + 10 + 3) / 3
        assert [cell.split(" [")[0] for cell in row[3:7]] == ["1.33", "1.33", "6.00", "2.89"]
    estimates = [results_of(tmp_path / name)["results"][0]["estimates"] for name in ("ours.json", "theirs.json")]
    assert estimates[0] == estimates[1]
    assert "roll sign of the file: mat" in theirs
    assert "the lists are unknown" in theirs


def test_a_card_without_lists_claims_none(tmp_path, capsys):
    command = ["score", file_of(tmp_path / "p.csv", LIST_SIGNS), "--worst", "2", "--seed", "3"]
    run(capsys, *command, "--result", tmp_path / "r.json")
    (result,) = results_of(tmp_path / "r.json")["results"]
    card = result["card"]
    assert [row["path"] for row in result["worst"]] == ["b.jpg", "a.jpg"]  # mean errors 11/3, 3, 2
    assert card["intervals"].endswith("over 3 images, 50 samples, seed 3")
    assert (card["lists"], card["weights"], card["evaluation_protocol"]) == ([], None, False)
    assert card["boxes"] == card["channel_order"] == card["crop"] == "not in a predictions file"
    assert card["predictions"]["sha256"] == hashlib.sha256((tmp_path / "p.csv").read_bytes()).hexdigest()
    assert "no videos or persons are named: images were resampled" in card["notes"][0]


def test_every_margin_and_split_of_a_file_is_scored_separately(tmp_path, capsys):
    other = [row.replace(",0.2,", ",0.3,").replace(",25", ",23") for row in LIST_SIGNS]
    train = [row.replace(",all,", ",train,").replace("a.jpg", "d.jpg") for row in LIST_SIGNS[:1]]
    answers = cells_of(run(capsys, "score", file_of(tmp_path / "p.csv", [*LIST_SIGNS, *other, *train])))[2:5]
    assert [row[0] for row in answers] == ["unknown dataset, p.csv"] * 2 + ["unknown dataset, train, p.csv"]
    assert [(row[1], row[5].split(" ")[0]) for row in answers] == [("0.2", "6.00"), ("0.3", "5.33"), ("0.2", "5.00")]


def test_several_files_are_seeds_with_mean_and_standard_deviation(tmp_path, capsys):
    first = file_of(tmp_path / "1.csv", LIST_SIGNS)
    second = file_of(tmp_path / "2.csv", [row.replace(",25", ",28") for row in reversed(LIST_SIGNS)])
    text = run(capsys, "score", first, second, "--result", tmp_path / "r.json")
    assert [row[0] for row in cells_of(text)[2:4]] == ["unknown dataset, 1.csv", "unknown dataset, 2.csv"]
    # roll: 6 and 7 degrees, so 6.5 and the sample standard deviation 1 / sqrt(2)
    assert "| MAE roll (°) | 6.50 ± 0.71 (n = 2) |" in text
    (spread,) = results_of(tmp_path / "r.json")["spreads"].values()
    assert spread["mae_roll"] == {"mean": 6.5, "sd": pytest.approx(0.5**0.5), "n": 2}
    third = file_of(tmp_path / "3.csv", [row.replace(",0.2,", ",0.3,") for row in LIST_SIGNS])
    assert "| MAE roll (°) | 6.50 ± 0.71 (n = 2) | 6.00 (n = 1) |" in run(capsys, "score", first, second, third)
    fourth = file_of(tmp_path / "4.csv", LIST_SIGNS[:2])
    text = run(capsys, "score", first, fourth)
    assert "margin 0.2: no mean over the files, which hold different images" in text and "±" not in text


def test_predictions_without_truth_are_joined_with_the_lists_by_path(data, tmp_path, capsys):
    listed = load_dataset("biwi", data)
    path = foreign_file(tmp_path / "p.csv", listed, slice(None, None, -1))
    command = ["score", path, "--roll-sign", "mat"]
    text = run(capsys, *command, "--data-dir", data, "--truth", "biwi", "--result", tmp_path / "r.json")
    row = cells_of(text)[2]
    assert row[1:3] == ["not stated", "15,648 / unknown / 15 of 5 videos"]
    assert [cell.split(" [")[0] for cell in row[3:]] == ["2.00", "0.00", "0.00", "0.67", "2.00"]
    card = results_of(tmp_path / "r.json")["results"][0]["card"]
    assert [Path(file["path"]).name for file in card["lists"]] == ["biwi_rect.txt", "biwi_angle.txt"]
    with pytest.raises(InputError, match=r"missing columns yaw_true"):
        run(capsys, *command)


def test_common_only_says_what_was_left_out(data, tmp_path, capsys):
    listed = load_dataset("aflw2000", data)
    path = foreign_file(tmp_path / "p.csv", listed, slice(5, None))
    with path.open("a") as file:
        file.write("AFLW2000/not_in_the_list.jpg,,1,2,3\n")
    command = ["score", path, "--roll-sign", "mat", "--data-dir", data, "--truth", "aflw2000"]
    with pytest.raises(InputError, match=r"different images: .* --common-only"):
        run(capsys, *command)
    text = run(capsys, *command, "--common-only")
    assert cells_of(text)[2][2] == "1,947 / unknown / 30 (5 LEFT OUT: no prediction)"
    assert "LEFT OUT: 1 rows of the file, not in the lists or without a prediction" in text
    assert "27 of 32" in text

"""Scores: the same for every batch size, with cards that tell the truth, tables that hide nothing, errors that help."""

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import data_loaders
import evaluate
import metrics
import reports
import scoring
from data_loaders import (
    AXES,
    DATA_SETS,
    RECORD,
    DataError,
    Listed,
    ListFile,
    blob_id,
    load_crop,
    load_data_set,
)

ROOT = Path(__file__).parent.parent
HEADER = "path,split,video,person,margin,yaw_true,pitch_true,roll_true,yaw_predicted,pitch_predicted,roll_predicted"
FACES = 35
VIDEOS = ("01", "03", "06", "09")  # of which the split 16-8 tests on all but 01


@pytest.fixture(scope="module")
def model():
    import keras

    from rafa_model import build_rafa_net

    keras.utils.set_random_seed(3)
    model = build_rafa_net("tiny", weights=None)
    for axis in AXES:  # random weights answer with several turns of the head
        layer = model.get_layer(axis)
        layer.set_weights([0.05 * values for values in layer.get_weights()])
    return model


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "last.keras"
    model.save(path)
    return str(path)


@pytest.fixture(autouse=True)
def load_the_network_once(weights, model, monkeypatch):
    """Spare the tests the seconds of reading the same file again."""
    load, known = evaluate.load_network, {weights: (model, scoring.weights_facts(weights, "tiny"))}
    monkeypatch.setattr(evaluate, "load_network", lambda options: known.get(options.weights) or load(options))


def write_lists(folder, names, crop_list, angle_list, unit, rng):
    """Pictures of noise with a box each, and both lists, in the order of `names`."""
    boxes, angles = [], []
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 255, (4, 4, 3), np.uint8)
        cv2.imwrite(str(path), cv2.resize(noise, (60, 50), interpolation=cv2.INTER_CUBIC))
        boxes.append(f"{name}\t{rng.integers(0, 15)} {rng.integers(0, 15)} 30 30 ")
        degrees = rng.uniform(-85, 85, 3)
        angles.append("\t".join([name, *map(str, degrees if unit == "degrees" else np.radians(degrees))]))
    (folder / crop_list).write_text("\n".join(boxes) + "\n")
    (folder / angle_list).write_text("\n".join(angles) + "\n")


@pytest.fixture
def data(tmp_path):
    """A folder with the layout of AFLW2000 and BIWI, in an order of its own."""
    rng, folder = np.random.default_rng(5), tmp_path / "data"
    faces = [f"AFLW2000/image{number:05d}.jpg" for number in rng.permutation(90000)[:FACES]]
    write_lists(folder, faces, "Aflw2000crop.txt", "Aflw2000_euler_cls.txt", "radians", rng)
    frames = [f"BIWI/hpdb/{video}/frame_{n:05d}_rgb.png" for video in VIDEOS for n in range(3)]
    write_lists(folder, frames, "biwi_rect.txt", "biwi_angle.txt", "degrees", rng)
    return folder


def run(capsys, *arguments):
    evaluate.main([*map(str, arguments), "--rounds", "50"])
    return capsys.readouterr().out


def results_of(path):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=refuse)


def rows_of(text):
    """Cells of every Markdown row of a text."""
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]


def file_of(path, rows):
    path.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return path


# --- Predicting -------------------------------------------------------------------------------------------------------
def test_predictions_are_the_same_for_every_batch_size_and_number_of_workers(model, data):
    listed = load_data_set("aflw2000", data)
    settings = [(16, 2), (1, 1), (7, 3), (16, 5), (64, 2)]
    first, *others = [evaluate.predict(model, listed, 0.2, *setting).predicted for setting in settings]
    assert first.std(axis=0).min() > 1e-3  # the network does not answer the same for all
    for other in others:
        np.testing.assert_allclose(other, first, rtol=0, atol=1e-5)


def test_predictions_are_the_networks_answers_in_degrees_in_the_order_of_the_list(model, data):
    listed = load_data_set("biwi", data)
    found = evaluate.predict(model, listed, 0.3)
    answers = model.predict_on_batch(np.stack([load_crop(listed, record, 0.3) for record in listed.records]))
    expected = np.degrees(np.concatenate([answers[axis] for axis in AXES], axis=1))
    np.testing.assert_allclose(found.predicted, expected, atol=2e-3)
    np.testing.assert_allclose(found.true, np.degrees(listed.records["angles"]))
    assert found.path.tolist() == listed.records["path"].tolist()
    assert found.video.tolist() == [video for video in VIDEOS for _ in range(3)]
    assert set(found.margin) == {0.3}


# --- One data set -----------------------------------------------------------------------------------------------------
def test_a_data_set_is_scored_at_every_margin_with_a_card_that_names_what_was_used(weights, data, tmp_path, capsys):
    out = tmp_path / "deep" / "er"
    text = run(
        capsys, "aflw2000", "--weights", weights, "--data-dir", data, "--margin", "0.2", "0.4", "--seed", "7",
        "--predictions", out / "p.csv", "--result", out / "r.json",
    )  # fmt: skip
    predictions = metrics.read_predictions(out / "p.csv")
    assert len(predictions) == 2 * FACES
    results = results_of(out / "r.json")["results"]
    for margin, result in zip((0.2, 0.4), results, strict=True):
        part = predictions.select(predictions.margin == margin)
        error = np.abs(part.true - part.predicted)
        error = np.minimum(error, 360 - error)
        for index, axis in enumerate(AXES):
            assert result["estimates"][f"mae_{axis}"]["value"] == pytest.approx(error[:, index].mean())
        assert f"{error.mean():.2f} [" in text
        worst = np.argsort(-error.mean(axis=1))[:10]
        assert [row["path"] for row in result["worst"]] == part.path[worst].tolist()
    card = results[0]["card"]
    lists = [data / name for name in ("Aflw2000crop.txt", "Aflw2000_euler_cls.txt")]
    assert [found["sha256"] for found in card["lists"]] == [hashlib.sha256(f.read_bytes()).hexdigest() for f in lists]
    assert card["weights"]["sha256"] == hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    assert (card["weights"]["backbone"], card["margin"], card["seed"]) == ("tiny", 0.2, 7)
    numbers = {key: card["images"][key] for key in ("expected", "listed", "usable", "found", "scored", "left_out")}
    assert numbers == {
        "expected": 1947,
        "listed": FACES,
        "usable": FACES,
        "found": FACES,
        "scored": FACES,
        "left_out": 0,
    }
    assert set(card["made"]) == {"command", "date", "commit", "hardware", "versions"}
    assert not card["paper_protocol"]
    assert "not the published lists" in card["departures"]
    assert "NOT the published lists" in text
    assert "| paper" not in text  # whose numbers would be no comparison
    for fact in ("roll sign", "wrap", "R = Rx", "SHA-256", "seed 7", "trained by      unknown"):
        assert fact in text


def test_pictures_left_out_cannot_be_overlooked(weights, data, tmp_path, capsys):
    listed = load_data_set("aflw2000", data)
    for path in listed.records["path"][[0, 34]]:
        (data / path).unlink()
    command = ["aflw2000", "--weights", weights, "--data-dir", data, "--margin", "0.2"]
    with pytest.raises(DataError, match=r"2 of 35 listed pictures (.|\n)* --allow-missing"):
        run(capsys, *command)
    text = run(capsys, *command, "--allow-missing", "--result", tmp_path / "r.json")
    assert rows_of(text)[2][2] == "1,947 / 33 / 33 (2 LEFT OUT: --allow-missing)"
    images = results_of(tmp_path / "r.json")["results"][0]["card"]["images"]
    assert (images["usable"], images["found"], images["scored"], images["left_out"]) == (35, 33, 33, 2)


def test_the_released_codes_set_is_the_first_full_batches_in_the_order_of_the_list(weights, data, tmp_path, capsys):
    listed = load_data_set("aflw2000", data)
    (data / listed.records["path"][3]).unlink()
    text = run(
        capsys, "aflw2000", "--weights", weights, "--data-dir", data, "--margin", "0.2", "--allow-missing",
        "--predictions", tmp_path / "p.csv", "--result", tmp_path / "r.json",
    )  # fmt: skip
    found = metrics.read_predictions(tmp_path / "p.csv")
    first = np.isin(found.path, listed.records["path"][:32])
    whole, part = results_of(tmp_path / "r.json")["results"][0]["set_sizes"]
    assert (whole["size"], whole["scored"], part["size"], part["scored"]) == (35, 34, 32, 31)
    expected = metrics.angle_errors(found.true[first], found.predicted[first]).mean()
    assert part["estimates"]["mae"]["value"] == pytest.approx(expected)
    assert part["estimates"]["mae"]["value"] != whole["estimates"]["mae"]["value"]
    assert "| 32: the first 32 in list order" in text
    assert "31 of 32" in text


def test_the_training_run_beside_the_weights_is_on_the_card(weights, data, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "last.keras").write_bytes(Path(weights).read_bytes())
    lists = [{"path": "lists/own.txt", "rows": 3, "sha256": "0", "published": False}]
    record = {
        "command": "train_rafa-net.py --synthetic",
        "date": "2031-01-02",
        "commit": "abc",
        "hardware": "2 CPU cores",
    }
    record |= {"options": {"seed": 4, "allow_missing": False, "limit": 9}, "lists": [lists, lists]}
    (folder / "run.json").write_text(json.dumps(record))
    command = ["biwi", "--weights", folder / "last.keras", "--data-dir", data, "--margin", "0.2"]
    text = run(capsys, *command, "--result", tmp_path / "r.json")
    card = results_of(tmp_path / "r.json")["results"][0]["card"]
    assert card["weights"]["trained_by"]["command"] == "train_rafa-net.py --synthetic"
    assert "trained by      train_rafa-net.py --synthetic (2031-01-02, commit abc)" in text
    assert "the network was not trained by the published lists of 300W-LP" in card["departures"]
    assert "the training left pictures out" in card["departures"]
    (folder / "run.json").write_text("{}")
    with pytest.raises(DataError, match="not the record of a run"):
        run(capsys, *command)


def test_pictures_and_the_sweep_are_drawn(weights, data, tmp_path, capsys):
    folder = tmp_path / "new" / "figures"
    text = run(
        capsys, "biwi", "--weights", weights, "--data-dir", data, "--sweep", "--figures", folder, "--worst", "3",
        "--result", tmp_path / "r.json",
    )  # fmt: skip
    names = ["biwi-0.2-error-by-angle.png", "biwi-0.2-worst.png", "biwi-margin-sweep.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    for name in names:
        assert cv2.imread(str(folder / name)).std() > 5
    written = results_of(tmp_path / "r.json")
    assert [result["card"]["margin"] for result in written["sweep"]] == [round(0.05 * n, 2) for n in range(11)]
    same = [result for result in written["sweep"] if result["card"]["margin"] == 0.2]
    assert same == written["results"]
    assert "12 / 12 of 4 videos" in text


def test_a_tile_shows_the_box_and_both_poses():
    picture, record = np.full((300, 300, 3), 128, np.uint8), np.zeros(1, RECORD)[0]
    record["row"], record["column"], record["size"] = 100, 100, 100
    same = reports.pose_tile(picture, record, {"true": [30, 0, 0], "predicted": [30, 0, 0]})
    other = reports.pose_tile(picture, record, {"true": [30, 0, 0], "predicted": [-30, 0, 0]})
    assert same.shape == other.shape == (336, 336, 3)
    assert (same[84, 90:240] != 128).any(axis=1).all()  # the upper edge of the box, a quarter down the tile
    left, right = ((other != same).any(axis=2)[:, part].sum() for part in (slice(0, 167), slice(169, 336)))
    assert left > 50  # where the nose of the first prediction was
    assert right > 50  # where that of the second is


# --- The paper's tables -----------------------------------------------------------------------------------------------
def test_table_1_has_our_rows_in_place_with_differences(weights, data, tmp_path, capsys):
    text = run(
        capsys, "table1", "--weights", weights, "--data-dir", data, "--predictions", tmp_path / "p.csv",
        "--result", tmp_path / "r.json",
    )  # fmt: skip
    rows = [row for row in rows_of(text) if len(row) == 9]
    methods = [row[0] for row in rows[2:]]
    assert methods[-4] == "RAFA-Net γ=0.3"
    assert methods[-2] == "RAFA-Net γ=0.2"
    assert methods[-3].startswith("**this network, γ=0.3**")
    assert methods[-1].startswith("**this network, γ=0.2**")
    assert rows[2] == ["Dlib (68 landmarks)", "23.15", "13.63", "10.55", "15.78", "16.76", "13.80", "6.19", "12.25"]
    assert rows[5][:5] == ["KEPLER", "-", "-", "-", "-"]
    for name, cell in (("aflw2000", rows[-1][4]), ("biwi", rows[-1][8])):
        found = metrics.read_predictions(tmp_path / f"p-{name}.csv")
        found = found.select(found.margin == 0.2)
        mae = metrics.angle_errors(found.true, found.predicted).mean()
        assert cell.startswith(f"{mae:.2f} [")
        paper = {"aflw2000": 4.12, "biwi": 5.17}[name]
        assert cell.endswith(f", {mae - paper:+.2f}")
    assert len(results_of(tmp_path / "r.json")["results"]) == 4


def test_a_data_set_that_is_absent_is_named_in_the_table_and_else_an_error_before_the_network(
    weights, data, capsys, monkeypatch
):
    (data / "biwi_rect.txt").unlink()
    command = ["table1", "--weights", weights, "--data-dir", data]
    text = run(capsys, *command, "--allow-missing")
    ours = [row for row in rows_of(text) if row[0].startswith("**this network")]
    assert all(f"BIWI: not available here: no lists of BIWI in {data}" in row[0] for row in ours)
    assert all(row[5:] == ["not available here"] * 4 for row in ours)
    monkeypatch.setattr(evaluate, "load_network", lambda options: pytest.fail("the network was loaded"))
    with pytest.raises(DataError, match=r"biwi_rect\.txt is neither in"):
        run(capsys, *command)
    for path in data.glob("AFLW2000/*.jpg"):
        path.unlink()
    with pytest.raises(DataError, match="35 of 35 listed pictures"):
        run(capsys, *command)
    text = run(capsys, *command, "--allow-missing")
    assert "AFLW2000: not available here: none of its 35 listed pictures" in text
    assert "Nothing was scored" in text


def test_a_malformed_list_is_an_error_even_where_missing_is_allowed(weights, data, capsys):
    (data / "biwi_rect.txt").write_text("BIWI/hpdb/01/frame_00003_rgb.png\t1 2 3\n")
    with pytest.raises(DataError, match="line 1: expected a box of four whole numbers"):
        run(capsys, "table1", "--weights", weights, "--data-dir", data, "--allow-missing")


def test_table_2_is_our_split_and_says_so(weights, data, tmp_path, capsys):
    text = run(capsys, "table2", "--weights", weights, "--data-dir", data, "--predictions", tmp_path / "p.csv")
    rows = [row for row in rows_of(text) if len(row) == 6 and row[0].startswith("RGB")]
    assert [row[1][:24] for row in rows[-4::2]] == ["RAFA-Net γ=0.2", "RAFA-Net γ=0.1"]
    for row, margin in zip(rows[-3::2], ("0.2", "0.1"), strict=True):
        assert row[1].startswith(f"**this network, γ={margin}, test videos of our split 16-8: the paper's own split is")
        assert "5,217 / 9 / 9 of 3 videos" in row[1]
    found = metrics.read_predictions(tmp_path / "p-biwi.csv")
    assert set(found.video) == {"03", "06", "09"}
    assert set(found.split) == {"16-8 test"}


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
    return scoring.protocol_card(listed, predictions, {"unit": "images", "number": 1, "rounds": 1, "seed": 0}, **more)


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


def test_the_papers_row_stands_under_a_result_by_the_published_lists(weights, data, capsys, monkeypatch):
    for name in ("biwi_rect.txt", "biwi_angle.txt"):
        monkeypatch.setitem(data_loaders.PUBLISHED_BLOBS, name, blob_id((data / name).read_bytes()))
    rows = rows_of(run(capsys, "biwi", "--weights", weights, "--data-dir", data))
    assert [row[:2] for row in rows[2:6]] == [
        ["BIWI", "0.2"], ["paper, Table 1, RAFA-Net", "0.2"], ["BIWI", "0.3"], ["paper, Table 1, RAFA-Net", "0.3"]
    ]  # fmt: skip
    assert rows[3][3:] == ["5.67", "6.26", "3.60", "5.17"]
    text = run(capsys, "biwi", "--weights", weights, "--data-dir", data, "--split", "16-8")
    assert [row[1] for row in rows_of(text)[2:6]] == ["0.1", "0.1", "0.2", "0.2"]
    assert "95 % percentile bootstrap over 3 persons" in text  # the published lists name the persons
    assert "with 3 persons the intervals are too narrow" in text


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
    with pytest.raises(DataError, match="different images"):
        run(capsys, "score", first, other)
    with pytest.raises(DataError, match="1 of 2 files"):
        run(capsys, "score", first, file_of(tmp_path / "4.csv", [row.replace(",0.2,", ",0.3,") for row in LIST_SIGNS]))


def foreign(path, listed, rows, offset=2.0):
    """Predictions of some other model, without true angles, with the roll of the .mat files."""
    lines = ["path,yaw_predicted,pitch_predicted,roll_predicted"]
    for record in listed.records[rows]:
        yaw, pitch, roll = np.degrees(record["angles"])
        lines.append(f"{record['path']},{yaw + offset},{pitch},{-roll}")
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
    with pytest.raises(DataError, match=r"missing columns yaw_true"):
        run(capsys, *command)


def test_common_only_says_what_was_left_out(data, tmp_path, capsys):
    listed = load_data_set("aflw2000", data)
    path = foreign(tmp_path / "p.csv", listed, slice(5, None))
    with path.open("a") as file:
        file.write("AFLW2000/not_in_the_list.jpg,1,2,3\n")
    command = ["score", path, "--roll-sign", "mat", "--data-dir", data, "--truth", "aflw2000"]
    with pytest.raises(DataError, match=r"missing in the file 5 .*unknown to the truth 1 .*common_only"):
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
    with pytest.raises(DataError, match="different images"):
        run(capsys, "compare", a, b, "--roll-sign-b", "mat")
    text = run(capsys, "compare", a, b, "--roll-sign-b", "mat", "--common-only")
    assert "2 images, the same in both; LEFT OUT by --common-only: 1 images of A, 0 of B" in text
    line = next(row for row in rows_of(text) if row[0] == "MAE roll (°)")
    assert line[1:] == ["7.50", "7.50", "0.00 [0.00, 0.00]", "2", "undecided"]
    with pytest.raises(DataError, match="true angles differ"):
        run(capsys, "compare", a, b, "--common-only")


def test_comparisons_keep_margins_apart_and_can_set_one_against_another(tmp_path, capsys):
    at = {m: [row.replace(",0.2,", f",{m},") for row in LIST_SIGNS] for m in ("0.1", "0.2", "0.3")}
    both = file_of(tmp_path / "both.csv", [*at["0.2"], *at["0.3"]])
    one = file_of(tmp_path / "one.csv", at["0.1"])
    headings = re.findall(r"Margin γ (.*?):", run(capsys, "compare", both, both))
    assert headings == ["0.2", "0.3"]
    two = file_of(tmp_path / "two.csv", at["0.2"])
    assert re.findall(r"Margin γ (.*?):", run(capsys, "compare", one, two)) == ["0.1 in A, 0.2 in B"]
    with pytest.raises(DataError, match="margins"):
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
    right = scoring.score(replace(listed, data_set=DATA_SETS["synthetic"]), found, 5, made=made)
    heads, paper = json.loads(json.dumps(scoring.plain([right, right])))
    heads["card"]["lists"][0]["published"] = False
    paper["card"] |= {"data_set": "AFLW2000", "paper_protocol": True, "departures": []}
    (tmp_path / "r.json").write_text(json.dumps({"results": [paper, heads]}))
    out = tmp_path / "doc" / "results.md"
    evaluate.main(["results", str(tmp_path / "r.json"), "--out", str(out)])
    text = out.read_text(encoding="utf-8")
    free, licensed = (text.index(title) for title in ("without the licensed data sets", "## The paper's protocols"))
    assert free < licensed < text.index("## Other runs") < text.index("## How each row was made")
    assert "| 2 | generated heads, test part" in text[free:licensed]
    assert "| 1 | AFLW2000 | 0.2 |" in text[licensed:]
    assert text.count("| not measured here |") > 5
    assert "not measured here: which videos it used is unknown" in text
    for fact in ("seed 0", "c0ffee", "9 cores", "2031-05-06", "`evaluate.py aflw2000 --weights w`"):
        assert text.count(fact) >= 2
    with pytest.raises(DataError, match="not a result file"):
        evaluate.main(["results", str(file_of(tmp_path / "p.csv", LIST_SIGNS)), "--out", str(out)])
    assert out.read_text(encoding="utf-8") == text


def test_a_table_refuses_an_empty_cell():
    with pytest.raises(ValueError, match="empty or missing cell"):
        reports.table(["a", "b"], [["1", ""]])


# --- The command line -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["biwi", "--weights", "absent.keras"], r"absent\.keras: no such file; --weights wants"),
        (["score", "absent.csv"], r"absent\.csv: the predictions cannot be read"),
    ],
)
def test_what_is_missing_is_said(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        run(capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lists", "--weights", "w"], "one's own lists need --lists"),
        (["score", "p.csv", "--truth", "lists"], "one's own lists need --lists"),
        (["score", "p.csv", "--truth", "aflw2000", "--split", "16-8"], "only biwi has splits"),
        (["biwi", "--weights", "w", "--margin", "-0.1"], "a margin is a share of the box"),
        (["biwi", "--weights", "w", "--workers", "0"], "--workers must be at least 1"),
        (["biwi"], "--weights"),
        (["table3"], "invalid choice"),
        ([], "WHAT"),
    ],
)
def test_wrong_options_end_with_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_file_that_is_no_network_is_said(data, tmp_path, capsys):
    (tmp_path / "w.keras").write_text("no network")
    with pytest.raises(DataError, match="damaged or not a file of this suite"):
        run(capsys, "biwi", "--weights", tmp_path / "w.keras", "--data-dir", data)


def test_errors_end_with_status_1_and_neither_they_nor_help_load_tensorflow(tmp_path):
    path = file_of(tmp_path / "p.csv", ["a.jpg,all,,,0.2,1,2,3,4,5,north"])
    code = f"import runpy, sys\ntry: runpy.run_path({str(ROOT / 'evaluate.py')!r}, run_name='__main__')\n"
    code += "finally: assert 'keras' not in sys.modules"
    for arguments, status, output in [
        (["score", str(path)], 1, f"error: {path}, line 2: roll_predicted is 'north'"),
        (["--help"], 0, "table1"),
    ]:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert done.returncode == status, done.stderr
        assert output in done.stdout + done.stderr
        assert "Traceback" not in done.stderr

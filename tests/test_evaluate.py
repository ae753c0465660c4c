"""Scores: the same for every batch size, with cards that tell the truth, tables that hide nothing, errors that help."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from scored import FACES, VIDEOS, file_of, results_of, rows_of, run, write_data

import data_loaders
import evaluate
from data_loaders import (
    AXES,
    RECORD,
    blob_id,
    load_crop,
    load_data_set,
)
from util import metrics, protocol, tables
from util.errors import InputError

ROOT = Path(__file__).parent.parent


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
    load, known = evaluate.load_network, {weights: (model, protocol.weights_facts(weights, "tiny"))}
    monkeypatch.setattr(evaluate, "load_network", lambda options: known.get(options.weights) or load(options))


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data")


# --- Predicting -------------------------------------------------------------------------------------------------------
def test_predictions_are_the_same_for_every_batch_size_and_number_of_workers(model, data):
    listed = load_data_set("aflw2000", data)
    settings = [(16, 2), (1, 1), (7, 3), (16, 5), (64, 2)]
    first, *others = [evaluate.predict(model, listed, 0.2, *setting).predicted for setting in settings]
    assert first.std(axis=0).min() > 1e-3  # the network does not answer the same for all
    for other in others:
        np.testing.assert_allclose(other, first, rtol=0, atol=1e-7)  # a hundredth of what users are promised


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
    with pytest.raises(InputError, match=r"2 of 35 listed pictures (.|\n)* --allow-missing"):
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
    with pytest.raises(InputError, match="not the record of a run"):
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
    same = tables.pose_tile(picture, record, {"true": [30, 0, 0], "predicted": [30, 0, 0]})
    other = tables.pose_tile(picture, record, {"true": [30, 0, 0], "predicted": [-30, 0, 0]})
    assert same.shape == other.shape == (336, 336, 3)
    assert (same[84, 90:240] != 128).any(axis=1).all()  # the upper edge of the box, a quarter down the tile
    assert (other[168 + 85, 168] == 255).all()  # the true pose, in white, reaches further than the predicted one
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
    with pytest.raises(InputError, match=r"biwi_rect\.txt is neither in"):
        run(capsys, *command)
    for path in data.glob("AFLW2000/*.jpg"):
        path.unlink()
    with pytest.raises(InputError, match="35 of 35 listed pictures"):
        run(capsys, *command)
    text = run(capsys, *command, "--allow-missing")
    assert "AFLW2000: not available here: none of its 35 listed pictures" in text
    assert "Nothing was scored" in text


def test_a_malformed_list_is_an_error_even_where_missing_is_allowed(weights, data, capsys):
    (data / "biwi_rect.txt").write_text("BIWI/hpdb/01/frame_00003_rgb.png\t1 2 3\n")
    with pytest.raises(InputError, match="line 1: expected a box of four whole numbers"):
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


# --- The command line -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["biwi", "--weights", "absent.keras"], r"absent\.keras: no such file; --weights wants"),
        (["synthetic", "--weights", __file__], r"no generated heads in data/synthetic; draw them: python synthetic"),
        (["score", "absent.csv"], r"absent\.csv: the predictions cannot be read"),
    ],
)
def test_what_is_missing_is_said(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
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
    with pytest.raises(InputError, match="damaged or not a file of this suite"):
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

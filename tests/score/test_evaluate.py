"""The commands of evaluate.py: cards that tell the truth, tables that hide nothing, errors that help."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.scores import FACES, FRAMES, LIST_SIGNS, VIDEOS, cells_of, errors_of, file_of, results_of, run, write_data

import evaluate
import rafa_model
from data_loaders import load_crop
from rafa.datasets.lists import load_dataset
from rafa.datasets.sets import DATASETS
from rafa.files import sha256
from rafa.pose import AXES
from rafa.score.predictions import read_predictions
from rafa.script import InputError

ROOT = Path(__file__).parents[2]
OTHER_RUN = {
    "command": "train_rafa-net.py --synthetic",
    "date": "2031-01-02",
    "commit": "abc",
    "hardware": "2 CPU cores",
    "options": {"seed": 4, "allow_missing": False, "limit": 9},
    "lists": [[{"path": "lists/own.txt", "rows": 3, "sha256": "0", "published": False}], []],
    "mean_pose": {"yaw": 10.0, "pitch": -5.0, "roll": 2.0},
}


@pytest.fixture(autouse=True)
def load_the_network_once(weights, model, monkeypatch):
    """Spare the tests the seconds of reading the same file again."""
    load, known = rafa_model.load_rafa_net, Path(weights).read_bytes()
    monkeypatch.setattr(rafa_model, "load_rafa_net", lambda p: model if Path(p).read_bytes() == known else load(p))


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data")


# --- One dataset -----------------------------------------------------------------------------------------------------
def test_predictions_are_the_networks_answers_in_degrees_in_the_order_of_the_list(
    model, weights, data, tmp_path, capsys
):
    command = ["biwi", "--weights", weights, "--data-dir", data, "--margin", "0.3", "--predictions"]
    run(capsys, *command, tmp_path / "p.csv", "--workers", "1")
    run(capsys, *command, tmp_path / "q.csv", "--workers", "3")
    assert (tmp_path / "p.csv").read_text() == (tmp_path / "q.csv").read_text()
    saved, listed = read_predictions(tmp_path / "p.csv")[0], load_dataset("biwi", data)
    answers = model.predict_on_batch(np.stack([load_crop(listed, record, 0.3) for record in listed.records]))
    expected = np.degrees(np.concatenate([answers[axis] for axis in AXES], axis=1))
    np.testing.assert_allclose(saved.predicted, expected, atol=2e-3)
    np.testing.assert_allclose(saved.target, np.degrees(listed.records["angles"]))
    assert saved.path.tolist() == listed.records["path"].tolist()
    assert saved.video.tolist() == [video for video in VIDEOS for _ in range(FRAMES)]
    assert set(saved.margin) == {0.3}


def test_six_views_are_three_margins_and_their_mirror_images_and_depart_from_the_papers_evaluation(
    model, weights, data, tmp_path, capsys
):
    command = ["biwi", "--weights", weights, "--data-dir", data, "--margin", "0.2", "--views", "6"]
    text = run(capsys, *command, "--predictions", tmp_path / "p.csv")
    assert "the mean of 6 views" in text and "BIWI (NOT the published lists), mean of 6 views" in text
    listed, answers = load_dataset("biwi", data), []
    for margin in (0.2, 0.1, 0.3):
        crops = np.stack([load_crop(listed, record, margin) for record in listed.records])
        for view, sign in ((crops, (1, 1, 1)), (crops[:, :, ::-1], (-1, 1, -1))):
            answer = model.predict_on_batch(view)
            answers.append(np.concatenate([answer[axis] for axis in AXES], axis=1) * sign)
    saved = read_predictions(tmp_path / "p.csv")[0]
    np.testing.assert_allclose(saved.predicted, np.degrees(np.mean(answers, axis=0)), atol=2e-3)


def test_a_dataset_is_scored_at_every_margin_with_a_card_that_names_what_was_used(weights, data, tmp_path, capsys):
    out = tmp_path / "deep" / "er"
    text = run(
        capsys, "aflw2000", "--weights", weights, "--data-dir", data, "--margin", "0.2", "0.4", "--seed", "7",
        "--predictions", out / "p.csv", "--result", out / "r.json",
    )  # fmt: skip
    predictions, _ = read_predictions(out / "p.csv")
    assert len(predictions) == 2 * FACES
    results = results_of(out / "r.json")["results"]
    for margin, result in zip((0.2, 0.4), results, strict=True):
        part = predictions.select(predictions.margin == margin)
        error = errors_of(part)
        for index, axis in enumerate(AXES):
            assert result["estimates"][f"mae_{axis}"]["value"] == pytest.approx(error[:, index].mean())
        assert f"{error.mean():.2f} [" in text
    card = results[0]["card"]
    lists = [data / name for name in ("Aflw2000crop.txt", "Aflw2000_euler_cls.txt")]
    assert [file["sha256"] for file in card["lists"]] == [sha256(f) for f in lists]
    assert card["weights"]["sha256"] == sha256(weights)
    assert (card["weights"]["backbone"], card["margin"], card["seed"]) == ("tiny", 0.2, 7)
    counts = [card["images"][key] for key in ("expected", "listed", "usable", "found", "scored", "left_out")]
    assert counts == [1947, FACES, FACES, FACES, FACES, 0]
    assert card["channel_order"] == "RGB minus (103.939, 116.779, 123.68), inside the network"
    assert set(card["made"]) >= {"command", "date", "commit", "hardware", "versions"}
    assert card["made"]["command"].startswith("evaluate.py aflw2000 --weights")
    assert not card["evaluation_protocol"]
    assert "not the published lists" in card["departures"]
    assert "NOT the published lists" in text
    assert "| paper" not in text  # whose numbers would be no comparison
    for fact in ("roll sign", "wrap", "R = Rx", "SHA-256", "seed 7", "trained by      unknown"):
        assert fact in text


@pytest.mark.parametrize("command", ["aflw2000", "table1"])
def test_a_file_that_cannot_be_written_takes_no_result(command, weights, data, tmp_path, capsys):
    options = [command, "--weights", str(weights), "--data-dir", str(data), "--allow-missing"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        evaluate.main([*options, "--predictions", str(tmp_path / "file/p.csv")])
    assert "| AFLW2000" in capsys.readouterr().out


def test_images_left_out_cannot_be_overlooked(weights, data, tmp_path, capsys):
    listed = load_dataset("aflw2000", data)
    for path in listed.records["path"][[0, 34]]:
        (data / path).unlink()
    command = ["aflw2000", "--weights", weights, "--data-dir", data, "--margin", "0.2"]
    with pytest.raises(InputError, match=r"2 of 35 listed (.|\n)*--allow-missing"):
        run(capsys, *command)
    text = run(capsys, *command, "--allow-missing", "--result", tmp_path / "r.json")
    assert cells_of(text)[2][2] == "1,947 / 33 / 33 (2 LEFT OUT: --allow-missing)"
    images = results_of(tmp_path / "r.json")["results"][0]["card"]["images"]
    assert (images["usable"], images["found"], images["scored"], images["left_out"]) == (35, 33, 33, 2)


def test_the_released_codes_set_is_the_first_full_batches_in_the_order_of_the_list(weights, data, tmp_path, capsys):
    listed = load_dataset("aflw2000", data)
    (data / listed.records["path"][3]).unlink()
    text = run(
        capsys, "aflw2000", "--weights", weights, "--data-dir", data, "--margin", "0.2", "--allow-missing",
        "--predictions", tmp_path / "p.csv", "--result", tmp_path / "r.json",
    )  # fmt: skip
    saved, _ = read_predictions(tmp_path / "p.csv")
    first = np.isin(saved.path, listed.records["path"][:32])
    whole, part = results_of(tmp_path / "r.json")["results"][0]["set_sizes"]
    assert (whole["size"], whole["scored"], part["size"], part["scored"]) == (35, 34, 32, 31)
    assert part["estimates"]["mae"]["value"] == pytest.approx(errors_of(saved.select(first)).mean())
    assert part["estimates"]["mae"]["value"] != whole["estimates"]["mae"]["value"]
    assert "| 32: without the last partial batch" in text
    assert "31 of 32" in text


def test_the_training_run_that_wrote_the_weights_is_on_the_card_with_its_mean_pose(weights, data, tmp_path, capsys):
    (tmp_path / "last.keras").write_bytes(Path(weights).read_bytes())
    command = ["biwi", "--weights", tmp_path / "last.keras", "--data-dir", data, "--margin", "0.2"]
    run_record = OTHER_RUN | {"weights": {"last.keras": sha256(weights)}}
    (tmp_path / "run.json").write_text(json.dumps(run_record))
    text = run(capsys, *command, "--result", tmp_path / "r.json")
    (result,) = results_of(tmp_path / "r.json")["results"]
    assert result["card"]["weights"]["trained_by"]["command"] == "train_rafa-net.py --synthetic"
    assert "trained by      train_rafa-net.py --synthetic (2031-01-02, commit abc)" in text
    errors = np.abs(np.degrees(load_dataset("biwi", data).records["angles"]) - [10, -5, 2]).mean(axis=0)
    assert [result["baseline"][f"mae_{axis}"] for axis in AXES] == pytest.approx(errors)
    assert result["baseline"]["mae"] == pytest.approx(errors.mean())
    row = cells_of(text)[3]
    assert row[:-1] == [
        "mean pose of the training list",
        "-",
        "the same",
        *(f"{e:.2f}" for e in (*errors, errors.mean())),
    ]
    (tmp_path / "run.json").write_text(json.dumps(OTHER_RUN))  # of other weights, for all one knows
    text = run(capsys, *command, "--result", tmp_path / "r.json")
    assert "mean pose" not in text and "trained by      unknown" in text
    assert results_of(tmp_path / "r.json")["results"][0]["baseline"] is None


def test_figures_and_the_sweep_are_drawn(weights, data, tmp_path, capsys):
    folder = tmp_path / "new" / "figures"
    text = run(
        capsys, "biwi", "--weights", weights, "--data-dir", data, "--sweep", "--figures", folder, "--worst", "3",
        "--result", tmp_path / "r.json",
    )  # fmt: skip
    names = ["biwi-0.2-error-by-angle.png", "biwi-0.2-worst.png", "biwi-margin-sweep.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    for name in names:
        assert min(cv2.imread(str(folder / name)).shape[:2]) > 300
    written = results_of(tmp_path / "r.json")
    assert [result["card"]["margin"] for result in written["sweep"]] == [round(0.05 * n, 2) for n in range(11)]
    same = [result for result in written["sweep"] if result["card"]["margin"] == 0.2]
    assert same == written["results"]
    assert len(same[0]["worst"]) == 3
    assert len([row for row in cells_of(text) if row[2:3] == ["15,648 / 15 / 15 of 5 videos"]]) == 1 + 11


@pytest.mark.parametrize(
    ("split", "tested", "frames"),
    [("16-8", "03 09", "5,217"), ("17-7", "07 09", "4,647"), ("17-7-b", "04 09", "4,889")],
)
def test_a_split_scores_its_own_test_videos(split, tested, frames, weights, data, tmp_path, capsys):
    command = ["biwi", "--weights", weights, "--data-dir", data, "--split", split, "--margin", "0.1"]
    text = run(capsys, *command, "--predictions", tmp_path / "p.csv")
    saved, _ = read_predictions(tmp_path / "p.csv")
    assert sorted(set(saved.video)) == tested.split()
    assert set(saved.split) == {f"{split} test"}
    assert f"{frames} / 6 / 6 of 2 videos" in text
    again = ["score", tmp_path / "p.csv", "--data-dir", data, "--truth", "biwi", "--split"]
    assert f"{frames} / unknown / 6 of 2 videos" in run(capsys, *again, split)
    with pytest.raises(InputError, match="different images"):
        run(capsys, *again, "17-7" if split == "16-8" else "16-8")


def test_your_own_lists_are_scored_in_their_unit(weights, data, tmp_path, capsys):
    command = ["lists", "--weights", weights, "--data-dir", data, "--lists", data / "biwi_rect.txt"]
    text = run(
        capsys, *command, data / "biwi_angle.txt", "--angle-unit", "degrees", "--predictions", tmp_path / "p.csv"
    )
    saved, _ = read_predictions(tmp_path / "p.csv")
    roll, pitch, yaw = map(float, (data / "biwi_angle.txt").read_text().splitlines()[0].split("\t")[1:])
    np.testing.assert_allclose(saved.target[0], [yaw, pitch, roll])
    assert cells_of(text)[2][0].startswith("your own lists (biwi_rect.txt)")
    assert cells_of(text)[2][1] == "0.2"
    assert "not that of the paper: not a dataset of the paper" in text


# --- The paper's tables -----------------------------------------------------------------------------------------------
def test_table_1_has_our_rows_inserted_with_differences(weights, data, tmp_path, capsys):
    text = run(
        capsys, "table1", "--weights", weights, "--data-dir", data, "--predictions", tmp_path / "p.csv",
        "--result", tmp_path / "r.json",
    )  # fmt: skip
    rows = [row for row in cells_of(text) if len(row) == 11]
    methods = [row[0] for row in rows[2:]]
    assert methods[-4] == "RAFA-Net γ=0.3"
    assert methods[-2] == "RAFA-Net γ=0.2"
    assert methods[-3].startswith("**this network, margin 0.3**")
    assert methods[-1].startswith("**this network, margin 0.2**")
    for margin, row in ((0.3, rows[-3]), (0.2, rows[-1])):
        for name, cells, paper in (
            ("aflw2000", row[1:5], {0.3: [3.60, 4.92, 3.88, 4.13], 0.2: [3.52, 4.93, 3.91, 4.12]}[margin]),
            ("biwi", row[6:10], {0.3: [5.71, 6.28, 3.64, 5.21], 0.2: [5.67, 6.26, 3.60, 5.17]}[margin]),
        ):
            saved, _ = read_predictions(tmp_path / f"p-{name}.csv")
            errors = errors_of(saved.select(saved.margin == margin))
            for cell, mae, number in zip(cells, (*errors.mean(axis=0), errors.mean()), paper, strict=True):
                assert cell.startswith(f"{mae:.2f} [")
                assert cell.endswith(f", {mae - number:+.2f}")
    assert len(results_of(tmp_path / "r.json")["results"]) == 4


def test_a_dataset_that_is_absent_is_named_in_the_table_and_else_an_error_before_the_network(
    weights, data, capsys, monkeypatch
):
    (data / "biwi_rect.txt").unlink()
    command = ["table1", "--weights", weights, "--data-dir", data]
    text = run(capsys, *command, "--allow-missing")
    ours = [row for row in cells_of(text) if row[0].startswith("**this network")]
    assert all(f"BIWI: not available here: no lists of BIWI in {data}" in row[0] for row in ours)
    assert all(row[6:] == ["not available here"] * 5 for row in ours)
    monkeypatch.setattr("rafa.net.inference.load_network", lambda path: pytest.fail("the network was loaded"))
    with pytest.raises(InputError, match=r"biwi_rect\.txt is neither in"):
        run(capsys, *command)
    for path in data.glob("AFLW2000/*.jpg"):
        path.unlink()
    with pytest.raises(InputError, match="35 of 35 listed"):
        run(capsys, *command)
    (data / "earlier.json").write_text("kept")
    assert evaluate.main([*map(str, command), "--allow-missing", "--result", str(data / "earlier.json")]) == 1
    assert (data / "earlier.json").read_text() == "kept"
    text = capsys.readouterr().out
    assert "AFLW2000: not available here: none of its 35 listed images" in text
    assert "Nothing was scored" in text


def test_a_malformed_list_is_an_error_even_where_missing_is_allowed(weights, data, capsys):
    (data / "biwi_rect.txt").write_text("BIWI/hpdb/01/frame_00003_rgb.png\t1 2 3\n")
    with pytest.raises(InputError, match=r"line 1: .*four whole numbers"):
        run(capsys, "table1", "--weights", weights, "--data-dir", data, "--allow-missing")


def test_table_2_is_our_split_and_says_so(weights, data, tmp_path, capsys):
    text = run(capsys, "table2", "--weights", weights, "--data-dir", data, "--predictions", tmp_path / "p.csv")
    rows = [row for row in cells_of(text) if len(row) == 7 and row[0].startswith("RGB")]
    assert [row[1] for row in rows[-4::2]] == ["RAFA-Net γ=0.2", "RAFA-Net γ=0.1"]
    for row, margin in zip(rows[-3::2], ("0.2", "0.1"), strict=True):
        assert row[1].startswith(f"**this network, margin {margin}, our split 16-8 (the paper's is unknown)**")
        assert "5,217 / 6 / 6 of 2 videos" in row[1]
    saved, _ = read_predictions(tmp_path / "p-biwi.csv")
    assert set(saved.video) == {"03", "09"}
    assert set(saved.split) == {"16-8 test"}


def test_the_papers_row_stands_under_a_result_by_the_published_lists(weights, data, capsys, publish):
    publish(data, "biwi")
    rows = cells_of(run(capsys, "biwi", "--weights", weights, "--data-dir", data))
    assert [row[:2] for row in rows[2:6]] == [
        ["BIWI", "0.2"], ["paper, Table 1, RAFA-Net", "0.2"], ["BIWI", "0.3"], ["paper, Table 1, RAFA-Net", "0.3"]
    ]  # fmt: skip
    assert rows[3][3:] == ["5.67", "6.26", "3.60", "5.17", "-"]
    text = run(capsys, "biwi", "--weights", weights, "--data-dir", data, "--split", "16-8")
    assert [row[1] for row in cells_of(text)[2:6]] == ["0.1", "0.1", "0.2", "0.2"]
    assert "95% percentile bootstrap over 2 persons" in text  # the published lists name the persons
    assert "with 2 persons the intervals are too narrow" in text


# --- The command line -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["biwi", "--weights", "absent.keras"], "absent.keras: no such file"),
        (["synthetic", "--weights", __file__], "python synthetic_heads.py"),
        (["lists", "--weights", __file__], "--lists"),
        (["score", "p.csv", "--truth", "lists"], "--truth lists"),
        (["score", "p.csv", "--truth", "lists", "--lists", "a", "b"], "--angle-unit"),
        (["score", "p.csv", "--truth", "biwi", "--lists", "a", "b", "--angle-unit", "degrees"], "--truth lists"),
        (["compare", "a", "b", "--truth", "aflw2000", "--split", "16-8"], "--split has no effect"),
        (["score", "p.csv", "--common-only"], "--common-only has no effect"),
        (["compare", "a", "b", "--data-dir", "d"], "--data-dir has no effect"),
        (["compare", "a"], "two predictions files"),
        (["score", "a", "--unit", "degrees", "--unit", "radians"], "--unit is given 2 times for 1 file"),
    ],
)
def test_options_that_lack_something_or_have_no_effect_are_refused(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        evaluate.main(arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["aflw2000", "--weights", "w", "--split", "16-8"], "--split"),
        (["biwi", "--weights", "w", "--margin", "-0.1"], "--margin"),
        (["score", "p.csv", "--order", "yaw,yaw,roll"], "--order"),
        (["score", "p.csv", "--order", "yaw,pitch"], "--order"),
        (["score", "p.csv", "--signs", "yaw,tilt"], "--signs"),
        (["score", "p.csv", "--roll-sign", "mat", "--signs", "yaw"], "--signs: not allowed with argument --roll-sign"),
    ],
)
def test_wrong_options_end_with_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        (["score", "p.csv", "--truth", "synthetic"], "data/synthetic"),
        (["score", "p.csv", "--truth", "aflw2000"], "data"),
        (["score", "p.csv", "--truth", "aflw2000", "--data-dir", "d"], "d"),
        (["synthetic", "--weights", __file__], "data/synthetic"),
        (["table1", "--weights", __file__], "data"),
    ],
)
def test_the_data_folder_is_that_of_the_dataset(arguments, folder):
    assert evaluate.parse_options(arguments).data_dir == folder


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_is_a_command_and_a_truth(name):
    assert evaluate.parse_options([name, "--weights", __file__]).split == "all"
    assert evaluate.parse_options(["score", "p.csv", "--truth", name]).truth == name


def test_errors_end_with_status_2_and_neither_they_nor_help_load_tensorflow_or_scipy(tmp_path):
    path = file_of(tmp_path / "p.csv", ["a.jpg,all,,,0.2,1,2,3,4,5,north"])
    code = f"import runpy, sys\ntry: runpy.run_path({str(ROOT / 'evaluate.py')!r}, run_name='__main__')\n"
    code += "finally: assert not {'tensorflow', 'keras', 'scipy'} & {*sys.modules}"
    for arguments, status, output in [
        (["score", str(path)], 2, f"error: {path}: roll_predicted of a.jpg is 'north'"),
        (["score", "absent.csv"], 2, "absent.csv"),
        (["--help"], 0, "table1"),
        (["score", "--help"], 0, "--bootstrap-samples"),
    ]:
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == status, done.stderr
        assert output in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--result", "p.csv"), "this file is read"),
        (("--result", "p.json"), "record"),
    ],
)
def test_files_that_are_read_are_not_written(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file_of(tmp_path / "p.csv", LIST_SIGNS)
    (tmp_path / "p.json").write_text('{"method": "A"}')
    with pytest.raises(InputError, match=words):
        evaluate.main(["score", "p.csv", *arguments])
    assert (tmp_path / "p.json").read_text() == '{"method": "A"}'


def test_weights_and_their_run_are_not_replaced_by_a_result(tmp_path):
    weights, run = tmp_path / "last.keras", tmp_path / "run.json"
    for file in (weights, run):
        file.write_text("kept")
        for option in ("--result", "--predictions"):
            with pytest.raises(InputError, match="this file is read"):
                evaluate.main(["table1", "--weights", str(weights), option, str(file)])
        assert file.read_text() == "kept"
    both = ["--predictions", str(tmp_path / "x"), "--result", str(tmp_path / "x")]
    with pytest.raises(InputError, match="written already"):
        evaluate.main(["table1", "--weights", str(weights), *both])


@pytest.mark.parametrize(
    "record",
    ["{", "5", '{"note": ["x"]}', '{"published": 5.07}', '{"published": ["4"]}', '{"published": [1, 2, 3, 4, 5, 6]}'],
)
def test_a_malformed_record_is_named(record, tmp_path):
    file_of(tmp_path / "p.csv", LIST_SIGNS)
    (tmp_path / "p.json").write_text(record)
    with pytest.raises(InputError, match=r"p\.json: not a record"):
        evaluate.main(["score", str(tmp_path / "p.csv")])

"""Wrong signs, orders and units are noted with what to do, and bad networks are not."""

import csv
import itertools

import numpy as np
import pytest
from helpers.scores import foreign_file, results_of, run, write_data

from rafa.datasets.lists import load_dataset
from rafa.pose import AXES, angle_errors
from rafa.score.conventions import Convention, doubts
from rafa.score.predictions import Predictions, write_predictions
from rafa.script import InputError

CONVENTIONS = [
    Convention(signs, order, unit)
    for signs in ((), ("roll",), ("yaw", "pitch"))
    for order in (AXES, ("pitch", "yaw", "roll"), ("roll", "yaw", "pitch"))
    for unit in ("degrees", "radians")
]


def poses(n=400, noise=4.0, seed=0):
    """Targets, and the answers of a good network."""
    rng = np.random.default_rng(seed)
    target = rng.normal(0, (30, 15, 12), (n, 3))
    return target, target + rng.normal(0, noise, (n, 3))


def written_by(convention, angles):
    """The columns yaw, pitch, roll of a file that writes angles by a convention: worked out axis by axis."""
    columns = np.empty_like(angles)
    for column, axis in enumerate(convention.order):
        columns[:, column] = angles[:, AXES.index(axis)] * (-1 if axis in convention.signs else 1)
    return columns / (57.29577951308232 if convention.unit == "radians" else 1)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_convention_gives_back_the_angles_that_were_written_by_it(convention):
    _, predicted = poses(9)
    np.testing.assert_allclose(convention.angles(written_by(convention, predicted)), predicted)


@pytest.mark.parametrize(("right", "read"), [*itertools.product(CONVENTIONS, (Convention(), Convention(("roll",))))])
def test_a_file_that_is_read_by_a_wrong_convention_is_told_the_right_one(right, read):
    target, predicted = poses()
    angles = read.angles(written_by(right, predicted))
    notes = doubts(target, angles, read)
    if right == read:
        assert notes == []
    else:
        (note,) = notes
        assert note.endswith(f": {right.options() or '--signs none'}")
        then, now = (angle_errors(target, each).mean(axis=0) for each in (predicted, angles))
        for error in (*then, *now):
            assert f"{error:.2f}°" in note


def test_the_note_names_what_is_wrong():
    target, predicted = poses()
    for wrong, text in (
        (predicted * (1, -1, 1), "pitch runs against the true pitch"),
        (predicted[:, [1, 0, 2]], "yaw, pitch look exchanged"),
        (np.radians(predicted), "look like radians"),
    ):
        assert text in doubts(target, wrong, Convention())[0]
    assert "look like degrees" in doubts(target, predicted * 57.3, Convention(unit="radians"))[0]
    assert "check signs" in doubts(target, predicted * (-1, 1, 1), None)[0]  # of a network of this suite
    target[0, 0] = 175
    assert "no true angle is beyond" in doubts(np.radians(target), np.radians(predicted), Convention())[0]
    assert doubts(np.radians(target[:20]), np.radians(predicted[:20]), Convention()) == []  # too few to tell


@pytest.mark.parametrize("seed", range(5))
def test_a_bad_network_gets_no_note(seed):
    rng = np.random.default_rng(seed)
    target, good = poses(300, seed=seed)
    bad = [rng.normal(rng.normal(0, 10, 3), rng.uniform(1, 30, 3), (300, 3)), np.full((300, 3), 3.0), good * 0.2 + 15]
    bad += [rng.normal(0, 1, 3) * target[:, :1] * 0.05 + rng.normal(0, 12, (300, 3)), good * (0.01, 0.3, 0.2)]
    bad += [
        good * -0.05,
        good[:, [1, 1, 2]] * (1, 0, 1) + rng.normal(0, 1, (300, 3)),
    ]  # one of two exchanged, the other lost
    for predicted in bad:
        assert doubts(target, predicted, Convention()) == []
    assert doubts(target[:12], -good[:12], Convention()) == []  # reversed, but too few to tell


def test_an_axis_that_never_turns_hides_no_other(recwarn):
    target, predicted = poses()
    target[:, 2], predicted[:, 2] = 0, 1
    assert "yaw runs against" in doubts(target, predicted * (-1, 1, 1), Convention())[0]
    assert "--unit radians" in doubts(target, np.radians(predicted), Convention())[0]
    assert not recwarn.list


def test_angles_from_0_to_360_degrees_are_judged_as_those_about_0():
    target, predicted = poses()
    assert "yaw runs against" in doubts(target, predicted * (-1, 1, 1) % 360, Convention())[0]
    assert doubts(target, predicted % 360, Convention()) == []


# --- Files ------------------------------------------------------------------------------------------------------------
def test_a_wrong_sign_is_said_beside_the_table_and_on_the_card_and_mended_by_the_option_it_names(tmp_path, capsys):
    target, predicted = poses(60)
    names = [f"{i}.jpg" for i in range(60)]
    write_predictions(tmp_path / "p.csv", Predictions(names, target, predicted * (1, -1, 1)))
    command = ["score", tmp_path / "p.csv", "--result", tmp_path / "r.json"]
    text = run(capsys, *command)
    assert "DOUBT: pitch runs against" in text.partition("Protocol card")[0]
    (note,) = [note for note in results_of(tmp_path / "r.json")["results"][0]["card"]["notes"] if "DOUBT" in note]
    assert note.endswith(": --signs pitch")
    write_predictions(tmp_path / "p.csv", Predictions(names, target * (1, -1, 1), predicted * (1, -1, 1)))
    assert "DOUBT" not in run(capsys, *command, "--signs", "pitch")
    (result,) = results_of(tmp_path / "r.json")["results"]
    assert result["card"]["predictions"]["convention"]["signs"] == ["pitch"]
    assert result["estimates"]["mae_pitch"]["value"] == pytest.approx(np.abs(target - predicted)[:, 1].mean())


@pytest.mark.parametrize("convention", CONVENTIONS[1::4])
def test_the_options_of_a_note_read_the_file(convention, tmp_path, capsys):
    target, predicted = poses(40)
    truth, answers = written_by(convention, target), written_by(convention, predicted)
    write_predictions(tmp_path / "p.csv", Predictions([f"{i}.jpg" for i in range(40)], truth, answers))
    command = ["score", tmp_path / "p.csv", *convention.options().split(), "--result", tmp_path / "r.json"]
    assert "DOUBT" not in run(capsys, *command)
    expected = np.abs(target - predicted).mean(axis=0)
    estimates = results_of(tmp_path / "r.json")["results"][0]["estimates"]
    assert [estimates[f"mae_{axis}"]["value"] for axis in AXES] == pytest.approx(expected)


def test_paths_without_their_folders_find_their_rows_where_the_name_is_the_only_one(tmp_path, capsys):
    data = write_data(tmp_path / "data")
    for name, unique in (("aflw2000", True), ("biwi", False)):
        listed = load_dataset(name, data)
        path = foreign_file(tmp_path / "p.csv", listed, slice(None))
        rows = list(csv.reader(path.open()))
        path.write_text("\n".join(",".join([row[0].rpartition("/")[2], *row[1:]]) for row in rows))
        command = ["score", path, "--roll-sign", "mat", "--truth", name, "--data-dir", data, "--result", tmp_path / "r"]
        if unique:
            run(capsys, *command)
            assert results_of(tmp_path / "r")["results"][0]["estimates"]["mae_yaw"]["value"] == pytest.approx(2)
        else:
            with pytest.raises(InputError, match=r"frame_00000_rgb\.png may be BIWI/hpdb/01.*as the lists do"):
                run(capsys, *command)

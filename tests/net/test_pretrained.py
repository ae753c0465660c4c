"""The suite's own weights: found by name, described with the error that was measured with that very file."""

import json
import shutil

import numpy as np
import pytest

import evaluate
import predict
from rafa.net import weights as pretrained
from rafa.pose import AXES
from rafa.score.protocol import read_results
from rafa.script import InputError
from rafa_model import load_rafa_net


@pytest.fixture
def shipped(weights, monkeypatch, tmp_path):
    """Other weights in the place of the suite's own, without a result."""
    monkeypatch.setattr(pretrained, "ROOT", tmp_path)
    monkeypatch.setattr(pretrained, "FILE", tmp_path / "synthetic.keras")
    monkeypatch.setattr(pretrained, "RESULT", tmp_path / "aflw2000.json")
    shutil.copy(weights, pretrained.FILE)
    return pretrained.FILE


def test_the_name_stands_for_the_file_and_a_path_for_itself(shipped, weights):
    assert pretrained.weights_file("synthetic") == str(shipped)
    assert pretrained.weights_file(weights) == weights
    with pytest.raises(InputError, match=r"w\.keras: no such file; --weights takes synthetic"):
        pretrained.weights_file("w.keras")


def test_the_error_is_that_of_a_result_with_this_file(shipped, folder, loaded):
    assert pretrained.described().endswith("trained on synthetic heads alone; not measured")
    lists = ["--lists", str(folder / "crop.txt"), str(folder / "angles.txt"), "--angle-unit", "radians"]
    command = ["lists", *lists, "--data-dir", str(folder), "--weights", "synthetic", "--views", "6"]
    evaluate.main([*command, "--result", str(pretrained.RESULT)])
    (result,) = read_results(pretrained.RESULT)
    assert "the mean of 6 views of each face" in result["card"]["departures"]
    mae = result["estimates"]["mae"]
    words = f"mean error {mae.value:.1f}° [{mae.low:.1f}, {mae.high:.1f}] on 7 photographs of"
    assert words in pretrained.described()
    shipped.write_bytes(shipped.read_bytes() + b"another file")
    assert pretrained.described().endswith("not measured")


def test_predict_takes_the_own_weights_by_default_with_six_views(shipped, model, tmp_path, loaded, capsys):
    from helpers.images import NOISE, write_image

    write_image(tmp_path / "a.png", NOISE)
    box = ["--box", "20", "30", "40"]
    rows = {}
    for name, more in (("default", []), ("one", ["--views", "1"]), ("spread", ["--uncertainty"])):
        assert predict.main([str(tmp_path / "a.png"), *box, *more, "--format", "jsonl"]) == 0
        out, err = capsys.readouterr()
        rows[name] = json.loads(out)
        assert err.startswith("weights: synthetic.keras, trained on synthetic heads alone")
    angles = {name: [row[axis] for axis in AXES] for name, row in rows.items()}
    assert angles["default"] == angles["spread"] != angles["one"]
    assert all(rows["spread"][f"{axis}_spread"] > 0 for axis in AXES) and "yaw_spread" not in rows["default"]


def test_the_shipped_file_is_small_of_this_suite_and_knows_its_run():
    if not pretrained.FILE.is_file():
        pytest.skip("no weights are shipped yet")
    assert pretrained.FILE.stat().st_size <= 4_000_000
    network = load_rafa_net(pretrained.FILE)
    assert network.name == "rafa_net_small"
    assert np.isfinite(network.predict_on_batch(np.zeros((1, 224, 224, 3)))["yaw"]).all()
    run = json.loads(pretrained.FILE.with_name("run.json").read_text())
    assert run["options"]["synthetic"] == "full" and run["commit"]
    assert "mean error" in pretrained.described()

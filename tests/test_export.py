"""An exported network gives the angles of the Keras model, or is not written."""

from pathlib import Path

import keras
import pytest

import predict
import rafa_model
from util import export


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    return rafa_model.build_rafa_net("tiny", weights=None)


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.keras"
    model.save(path)
    return str(path)


@pytest.fixture
def at_hand(model, monkeypatch):
    """The script gets its network without building it again."""
    monkeypatch.setattr(rafa_model, "load_rafa_net", lambda path: model)


@pytest.mark.parametrize("name", ["saved", "model.tflite", "model.onnx"])
def test_an_export_gives_the_same_angles_for_one_crop_and_for_eight(at_hand, weights, tmp_path, capsys, name):
    if name.endswith(".onnx"):
        for package in export.ONNX_PACKAGES:
            pytest.importorskip(package)
    assert predict.main(["--weights", weights, "--export", str(tmp_path / name)]) == 0
    out = capsys.readouterr().out
    assert "batch 1: yaw 0.00" in out and "batch 8: yaw 0.00" in out and "written" in out
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_export_that_answers_otherwise_is_refused(at_hand, weights, model, tmp_path, monkeypatch, capsys):
    def wrong(path):
        return lambda crops: {axis: values + 0.001 for axis, values in model.predict_on_batch(crops).items()}

    monkeypatch.setattr(export, "saved_model_answers", wrong)
    monkeypatch.setattr(keras.Model, "export", lambda self, path, **_: Path(path).mkdir())
    assert predict.main(["--weights", weights, "--export", str(tmp_path / "saved")]) == 2
    assert "differ by more than 0.01 degrees" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_packages_that_an_export_lacks_are_named_with_their_versions(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    assert predict.main(["--weights", weights, "--export", str(tmp_path / "m.onnx")]) == 2
    assert "tf2onnx==1.17.0" in capsys.readouterr().err


def test_exports_in_the_way_or_of_no_known_format_are_refused(weights, tmp_path, capsys):
    for name, message in (("m.pb", "NAME.onnx"), ("", "there already"), ("none/m.tflite", "no such folder")):
        target = f"{tmp_path}/{name}".rstrip("/")
        assert predict.main(["--weights", weights, "--export", target]) == 2
        assert message in capsys.readouterr().err

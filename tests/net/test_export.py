"""An exported network gives the angles of the Keras model, or is not written."""

import cv2
import numpy as np
import pytest

from rafa.files import ROOT, sha256
from rafa.net import export
from rafa.net.export import export_checked
from rafa.net.inference import predict_angles
from rafa.script import InputError


@pytest.mark.slow
@pytest.mark.parametrize("name", ["saved", "model.tflite", "model.onnx"])
def test_an_export_gives_the_same_angles_for_any_number_of_crops(model, loaded, weights, tmp_path, capsys, name):
    if name.endswith(".onnx"):
        for package in export.ONNX_PACKAGES:
            pytest.importorskip(package)
    export_checked(weights, tmp_path / name)
    compared, written = capsys.readouterr().out.splitlines()
    assert "yaw 0.00" in compared and str(tmp_path / name) in written
    assert [path.name for path in tmp_path.iterdir()] == [name]
    crops = np.random.default_rng(1).integers(0, 256, (5, 224, 224, 3)).astype("float32")
    expected = model.predict_on_batch(crops)
    for count in (1, 5):
        angles = export.answers_of(tmp_path / name, crops[:count])
        for column, axis in enumerate(("yaw", "pitch", "roll")):
            np.testing.assert_allclose(angles[:, [column]], expected[axis][:count], atol=1e-4)


@pytest.mark.slow
def test_an_onnx_file_for_one_crop_says_what_it_is_and_runs_in_opencv(model, loaded, weights, tmp_path):
    for package in export.ONNX_PACKAGES:
        pytest.importorskip(package)
    file = tmp_path / "model.onnx"
    export_checked(weights, file, 1)
    about = export.ExportedNetwork(file).session.get_modelmeta()
    assert "RGB" in about.description and about.custom_metadata_map["weights_sha256"] == sha256(weights)
    assert set(about.custom_metadata_map) >= {"input", "margin", "outputs", "signs", "licence"}
    crops = np.random.default_rng(1).integers(0, 256, (3, 224, 224, 3)).astype("float32")
    expected = predict_angles(model, crops)
    np.testing.assert_allclose(export.answers_of(file, crops), expected, atol=1e-4)
    network = cv2.dnn.readNetFromONNX(str(file))
    for crop, angles in zip(crops, expected, strict=True):
        network.setInput(crop[None], "crop")
        np.testing.assert_allclose(np.ravel(network.forward(["yaw", "pitch", "roll"])), angles, atol=1e-4)


@pytest.fixture
def export_with(loaded, monkeypatch, tmp_path):
    """An export whose angles differ by so many degrees in one axis, in one of the crops."""

    def export_with(column, degrees):
        def answers(path, crops):
            angles = export.predict_angles(loaded, crops)
            angles[-1, column] += np.radians(degrees)
            return angles

        monkeypatch.setattr(type(loaded), "export", lambda self, path, **_: path.mkdir())
        monkeypatch.setattr(export, "answers_of", answers)
        export_checked("w.keras", tmp_path / "saved")

    return export_with


@pytest.mark.parametrize(("column", "degrees"), [(0, 0.02), (1, -0.02), (2, np.nan)])
def test_an_export_with_other_angles_is_not_written(export_with, tmp_path, column, degrees):
    with pytest.raises(InputError, match="not written"):
        export_with(column, degrees)
    assert not list(tmp_path.iterdir())


def test_an_export_within_the_tolerance_is_written_with_its_difference_in_degrees(export_with, tmp_path, capsys):
    export_with(1, 0.005)
    assert "pitch 0.005" in capsys.readouterr().out and (tmp_path / "saved").is_dir()


def test_missing_onnx_packages_are_named_with_the_versions_of_requirements_dev(tmp_path, monkeypatch):
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: name == "onnx" or None)
    with pytest.raises(InputError, match="tf2onnx, onnxruntime, not installed: pip install tf2onnx=="):
        export_checked("w.keras", tmp_path / "m.onnx")
    pinned = dict(line.split("==") for line in (ROOT / "requirements-dev.txt").read_text().split() if "==" in line)
    assert {package: pinned[package] for package in export.ONNX_PACKAGES} == export.ONNX_PACKAGES


def test_an_unknown_format_and_a_fixed_batch_of_others_than_onnx_are_refused(tmp_path):
    for name, size in (("m.tflite", 1), ("saved", 1), ("m.onnx", 2)):
        with pytest.raises(InputError, match="--batch-size"):
            export_checked("w.keras", tmp_path / name, size)
    with pytest.raises(InputError, match=r"m\.pb"):
        export_checked("w.keras", tmp_path / "m.pb")

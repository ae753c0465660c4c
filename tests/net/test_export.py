"""An exported network gives the angles of the Keras model, or is not written."""

import numpy as np
import pytest

from rafa.files import ROOT
from rafa.net import export
from rafa.net.export import export_checked
from rafa.script import InputError


@pytest.mark.slow
@pytest.mark.parametrize("name", ["saved", "model.tflite", "model.onnx"])
def test_an_export_gives_the_same_angles_for_any_number_of_crops(model, loaded, tmp_path, capsys, name):
    if name.endswith(".onnx"):
        for package in export.ONNX_PACKAGES:
            pytest.importorskip(package)
    export_checked("w.keras", tmp_path / name)
    compared, written = capsys.readouterr().out.splitlines()
    assert "yaw 0.00" in compared and str(tmp_path / name) in written
    assert [path.name for path in tmp_path.iterdir()] == [name]
    crops = np.random.default_rng(1).integers(0, 256, (5, 224, 224, 3)).astype("float32")
    expected = model.predict_on_batch(crops)
    for count in (1, 5):
        angles = export.answers_of(tmp_path / name, crops[:count])
        for column, axis in enumerate(("yaw", "pitch", "roll")):
            np.testing.assert_allclose(angles[:, [column]], expected[axis][:count], atol=1e-4)


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


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"m\.pb"):
        export_checked("w.keras", tmp_path / "m.pb")

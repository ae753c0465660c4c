"""An exported network gives the angles of the Keras model, or is not written."""

from pathlib import Path

import numpy as np
import pytest

from rafa.net import export
from rafa.net.backend import keras
from rafa.net.export import export_checked
from rafa.script import InputError

ROOT = Path(export.__file__).parents[2]


@pytest.fixture(scope="module")
def crops():
    return export.check_crops()


@pytest.fixture
def other_answers(loaded, crops, monkeypatch):
    """An export whose answers are those of the model after a change: call it with the change."""

    def changed(change):
        monkeypatch.setattr(export, "check_crops", lambda: crops)
        monkeypatch.setattr(export, "_saved_model", lambda path: lambda crops: change(loaded.predict_on_batch(crops)))
        monkeypatch.setattr(keras.Model, "export", lambda self, path, **_: Path(path).mkdir())

    return changed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["saved", "model.tflite", "model.onnx"])
def test_an_export_gives_the_same_angles_for_one_crop_and_for_eight(loaded, tmp_path, capsys, name):
    if name.endswith(".onnx"):
        for package in export.ONNX_PACKAGES:
            pytest.importorskip(package)
    export_checked("w.keras", tmp_path / name)
    lines = capsys.readouterr().out.splitlines()
    assert "batch of 1: yaw 0.00" in lines[-3] and "batch of 8: yaw 0.00" in lines[-2]
    assert lines[-1] == f"written: {tmp_path / name}"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_crops_to_compare_on_are_synthetic_heads_that_all_differ(crops):
    assert crops.shape == (8, 224, 224, 3) and crops.dtype == np.float32
    assert crops.min() >= 0 and 200 < crops.max() <= 255
    assert len({image.tobytes() for image in crops}) == 8


def test_the_comparison_is_the_largest_difference_per_axis_in_degrees(loaded, crops):
    def answers(crops):
        found = {axis: values.copy() for axis, values in loaded.predict_on_batch(crops).items()}
        found["pitch"][-1] += np.radians(2)
        found["roll"][0] -= np.radians(3)
        return found

    found = export.compare(loaded, answers, crops)
    assert list(found) == [1, 8]
    for batch in (1, 8):
        assert found[batch] == pytest.approx([0, 2, 3], abs=1e-3)


@pytest.mark.parametrize(("axis", "degrees"), [("yaw", 0.02), ("pitch", -0.02), ("roll", np.nan)])
def test_an_export_with_other_angles_is_not_written(other_answers, tmp_path, axis, degrees):
    other_answers(lambda found: found | {axis: found[axis] + np.radians(degrees)})
    with pytest.raises(InputError, match=r"saved was not written: its angles differ by more than 0\.01°"):
        export_checked("w.keras", tmp_path / "saved")
    assert not list(tmp_path.iterdir())


def test_an_export_within_the_tolerance_is_written(other_answers, tmp_path):
    other_answers(lambda found: found | {"yaw": found["yaw"] + np.radians(0.005)})
    export_checked("w.keras", tmp_path / "saved")
    assert (tmp_path / "saved").is_dir()


def test_an_export_with_another_shape_of_answers_is_not_written(other_answers, tmp_path):
    other_answers(lambda found: found | {"roll": found["roll"][:, 0]})
    with pytest.raises(InputError, match=r"answers 1 crops with shape \(1,\); expected \(1, 1\)"):
        export_checked("w.keras", tmp_path / "saved")
    assert not list(tmp_path.iterdir())


def test_missing_onnx_packages_are_named_with_the_versions_of_requirements_dev(tmp_path, monkeypatch):
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: name == "onnx" or None)
    install = "tf2onnx, onnxruntime, not installed: pip install tf2onnx==.* onnx==.* onnxruntime=="
    with pytest.raises(InputError, match=install):
        export_checked("w.keras", tmp_path / "m.onnx")
    pinned = dict(line.split("==") for line in (ROOT / "requirements-dev.txt").read_text().split() if "==" in line)
    assert {package: pinned[package] for package in export.ONNX_PACKAGES} == export.ONNX_PACKAGES


def test_unknown_formats_and_folders_in_the_way_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"m\.pb: expected NAME\.onnx, NAME\.tflite, or a folder name without a dot"):
        export_checked("w.keras", tmp_path / "m.pb")
    with pytest.raises(InputError, match="the folder exists already"):
        export_checked("w.keras", tmp_path)

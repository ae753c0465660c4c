"""From crops to angles: order, units, batches, full float32 precision, and exported networks."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from data_loaders import crop, mean_of_views, views_of
from rafa.datasets.lists import Listed, read_lists
from rafa.files import ROOT
from rafa.net.backend import tf
from rafa.net.inference import NETWORK_BATCH, ExportedNetwork, load_network, predict_angles
from rafa.pose import AXES
from rafa.score.predictions import predict_listed
from rafa.script import InputError

CROPS = np.random.default_rng(0).integers(0, 256, (NETWORK_BATCH + 3, 224, 224, 3)).astype("uint8")


class Network:
    """Answers each crop with its first three pixel values in degrees, and notes what it was given."""

    def __init__(self):
        self.batches, self.reduced = [], []

    def predict_on_batch(self, crops):
        self.batches.append(np.array(crops))
        self.reduced.append(tf.config.experimental.tensor_float_32_execution_enabled())
        degrees = crops[:, 0, 0].astype("float32")
        return {axis: np.radians(degrees[:, [i]]) for i, axis in enumerate(AXES)}


def test_every_crop_is_answered_in_order_whatever_fills_the_last_batch():
    for fill, sizes in ((False, [NETWORK_BATCH, 3]), (True, [NETWORK_BATCH, NETWORK_BATCH])):
        network = Network()
        angles = predict_angles(network, CROPS, fill=fill)
        assert angles.shape == (len(CROPS), 3) and angles.dtype == float
        np.testing.assert_allclose(np.degrees(angles), CROPS[:, 0, 0], rtol=1e-5)
        assert [len(batch) for batch in network.batches] == sizes
    assert not network.batches[1][3:].any()


def test_the_answers_are_those_of_the_network(model):
    answers = model.predict(CROPS[:6], verbose=0)
    expected = np.concatenate([answers[axis] for axis in AXES], axis=1)
    np.testing.assert_allclose(predict_angles(model, CROPS[:6]), expected, atol=1e-5)


def test_an_answer_that_is_not_finite_is_refused():
    network = Network()
    network.predict_on_batch = lambda crops: dict.fromkeys(
        AXES, np.where(np.arange(len(crops)) == 1, np.nan, 0)[:, None]
    )
    with pytest.raises(InputError, match="1 of 3 crops are not finite"):
        predict_angles(network, CROPS[:3])


@pytest.mark.parametrize("before", [True, False])
def test_tf32_is_off_while_predicting_and_as_before_afterwards(before):
    tf.config.experimental.enable_tensor_float_32_execution(before)
    try:
        network = Network()
        predict_angles(network, CROPS)
        assert network.reduced == [False, False]
        assert tf.config.experimental.tensor_float_32_execution_enabled() == before

        network.predict_on_batch = None
        with pytest.raises(TypeError):
            predict_angles(network, CROPS)
        assert tf.config.experimental.tensor_float_32_execution_enabled() == before
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(True)


@pytest.fixture
def listed(tmp_path) -> Listed:
    """Twenty images of one colour each, whose boxes show the colour at margin 0 and black around it at margin 1."""
    import cv2

    names = [f"{number}.png" for number in range(20)]
    for number, name in enumerate(names):
        cv2.imwrite(str(tmp_path / name), np.full((40, 40, 3), (3 * number, 2 * number, number), np.uint8))
    (tmp_path / "crop.txt").write_text("\n".join(f"{name}\t0 0 40 40" for name in names))
    (tmp_path / "angles.txt").write_text("\n".join(f"{name}\t1\t2\t3" for name in names))
    return read_lists(tmp_path / "crop.txt", tmp_path / "angles.txt", "degrees", tmp_path)


def test_a_list_becomes_predictions_in_degrees_in_its_order(listed):
    predictions = predict_listed(partial(predict_angles, Network(), fill=True), listed, 0.0, workers=2)
    colours = np.arange(20)[:, None] * (1, 2, 3)  # RGB
    np.testing.assert_allclose(predictions.predicted, colours, rtol=1e-5)
    np.testing.assert_allclose(predictions.target, np.tile((3, 2, 1), (20, 1)))
    assert predictions.path.tolist() == [f"{number}.png" for number in range(20)]
    assert set(predictions.margin) == {0.0}


def test_the_margin_reaches_the_crops(listed):
    predictions = predict_listed(partial(predict_angles, Network()), listed, 1.0, workers=1)
    assert not predictions.predicted.any() and set(predictions.margin) == {1.0}


def test_six_views_are_three_margins_and_their_mirror_images():
    image = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    views = views_of(image, 20, 30, 40, 0.2, 6)
    for number, margin in enumerate((0.2, 0.1, 0.3)):
        wanted = crop(image, 20, 30, 40, margin)
        np.testing.assert_array_equal(views[2 * number], wanted)
        np.testing.assert_array_equal(views[2 * number + 1], wanted[:, ::-1])
    np.testing.assert_array_equal(views_of(image, 20, 30, 40, 0.2), views[:1])
    assert (views_of(image, 20, 30, 40, 0.05, 6)[2] == crop(image, 20, 30, 40, 0)).all()


def test_mirrored_answers_are_turned_back_before_the_mean():
    one = np.array([3.0, 2.0, 1.0])
    answers = np.stack([one, one * (-1, 1, -1)] * 3 + [one + 1, (one - 1) * (-1, 1, -1)] * 3)
    mean, spread = mean_of_views(answers, 6)
    np.testing.assert_allclose(mean, [one, one])
    np.testing.assert_allclose(spread, [[0, 0, 0], [1, 1, 1]])
    np.testing.assert_allclose(mean_of_views(answers, 1)[0], answers)


def test_several_views_of_a_list_are_their_mean(listed):
    def width(crops):
        """The pitch is the share of the crop that is not black."""
        return (crops.max(axis=3) > 0).mean(axis=(1, 2))[:, None] * (0, 1, 0)

    single = [np.radians(predict_listed(width, listed, m, 1).predicted[5, 1]) for m in (0.5, 0.4, 0.6)]
    mean = predict_listed(width, listed, 0.5, 2, views=6)
    assert np.radians(mean.predicted[5, 1]) == pytest.approx(np.mean(single)) and set(mean.margin) == {0.5}


# --- Exported networks ---


def onnx_file(path, side=224, axes=AXES):
    """An ONNX file whose answers are the means of red, green and blue in thousandths of a radian."""
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    info, nodes, of = onnx.helper.make_tensor_value_info, onnx.helper.make_node, onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [
            nodes("ReduceMean", ["crop", "places"], ["means"], keepdims=0),
            nodes("Mul", ["means", "scale"], ["angles"]),
            nodes("Split", ["angles"], list(axes), axis=1, num_outputs=3),
        ],
        "means",
        [info("crop", of, ["b", side, side, 3])],
        [info(axis, of, ["b", 1]) for axis in reversed(axes)],
        [
            onnx.helper.make_tensor("places", onnx.TensorProto.INT64, [2], [1, 2]),
            onnx.helper.make_tensor("scale", of, [], [1e-3]),
        ],
    )
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, ir_version=10, opset_imports=[opset]), str(path))
    return str(path)


def test_an_exported_network_answers_by_name_and_in_every_batch_size(tmp_path):
    network = load_network(onnx_file(tmp_path / "Means.ONNX"))
    for fill in (False, True):
        answers = predict_angles(network, CROPS, fill=fill)
        np.testing.assert_allclose(answers, CROPS.mean(axis=(1, 2)) / 1000, rtol=1e-5)
    assert network.name.startswith("exported to ONNX, run by onnxruntime 1.")


def test_exported_networks_are_refused_by_name_where_they_cannot_be_used(tmp_path, monkeypatch):
    network = onnx_file(tmp_path / "means.onnx")
    (tmp_path / "damaged.onnx").write_bytes(b"not ONNX")
    with pytest.raises(InputError, match=r"damaged\.onnx is damaged"):
        ExportedNetwork(tmp_path / "damaged.onnx")
    for other in ({"side": 112}, {"axes": ("yaw", "pitch", "tilt")}):
        with pytest.raises(InputError, match=r"other\.onnx is not a network of this suite"):
            ExportedNetwork(onnx_file(tmp_path / "other.onnx", **other))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"pip install onnxruntime==1\."):
        ExportedNetwork(network)


_WITHOUT_TENSORFLOW = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("tensorflow" in sys.modules, "keras" in sys.modules, "scipy.stats" in sys.modules)
"""


def test_exported_networks_predict_and_are_scored_without_tensorflow(listed, tmp_path):
    network = ["--weights", onnx_file(tmp_path / "means.onnx")]
    box = ["--box", "0", "0", "40", "--margin", "0"]
    lists = ["--lists", str(tmp_path / "crop.txt"), str(tmp_path / "angles.txt"), "--angle-unit", "degrees"]
    scores = ["evaluate.py", "lists", *lists, "--data-dir", str(tmp_path)]
    row = ",".join(f"{np.degrees(mean / 1000):.4f}".rstrip("0") for mean in (9, 18, 27))  # RGB of the image
    predicts = ["predict.py", str(tmp_path / "9.png"), *box]
    for command, expected in ((predicts, f"{row},ok"), (scores, "means.onnx (exported to ONNX, run by onnxruntime 1.")):
        called = [sys.executable, "-c", _WITHOUT_TENSORFLOW, *command, *network]
        done = subprocess.run(called, cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "False False False" and expected in done.stdout

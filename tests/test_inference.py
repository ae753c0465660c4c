"""From crops to angles: order, units, batches, and full float32 precision."""

import numpy as np
import pytest

from data_loaders import AXES, Listed, read_lists
from util.backend import tf
from util.errors import InputError
from util.inference import NETWORK_BATCH, predict_angles, predict_listed

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
    expected = model.predict(CROPS[:4], verbose=0)
    found = predict_angles(model, CROPS[:4])
    np.testing.assert_allclose(found, np.concatenate([expected[axis] for axis in AXES], axis=1), atol=1e-5)


def test_an_answer_that_is_not_finite_is_refused():
    network = Network()
    network.predict_on_batch = lambda crops: dict.fromkeys(
        AXES, np.where(np.arange(len(crops)) == 1, np.nan, 0)[:, None]
    )
    with pytest.raises(InputError, match="1 of 3 predicted angles are not finite"):
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


def test_a_list_becomes_predictions_in_degrees_in_its_order(listed, capsys):
    predictions = predict_listed(Network(), listed, 0.0, workers=2)
    colours = np.arange(20)[:, None] * (1, 2, 3)  # RGB
    np.testing.assert_allclose(predictions.predicted, colours, rtol=1e-5)
    np.testing.assert_allclose(predictions.true, np.tile((3, 2, 1), (20, 1)))
    assert predictions.path.tolist() == [f"{number}.png" for number in range(20)]
    assert set(predictions.margin) == {0.0} and "20 of 20 images" in capsys.readouterr().err


def test_the_margin_reaches_the_crops(listed):
    predictions = predict_listed(Network(), listed, 1.0, workers=1)
    assert not predictions.predicted.any() and set(predictions.margin) == {1.0}

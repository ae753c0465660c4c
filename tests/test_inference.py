"""From crops to angles: order, units, batches, and full float32 precision."""

import numpy as np
import pytest

from data_loaders import AXES, Listed, crop, read_lists, views_of
from util.backend import tf
from util.errors import InputError
from util.inference import NETWORK_BATCH, mean_of_views, predict_angles, predict_listed

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
    class Width:
        """Answers the share of the crop that is not black."""

        def predict_on_batch(self, crops):
            share = (crops.max(axis=3) > 0).mean(axis=(1, 2))[:, None]
            return {"yaw": 0 * share, "pitch": share, "roll": 0 * share}

    single = [np.radians(predict_listed(Width(), listed, m, 1).predicted[5, 1]) for m in (0.5, 0.4, 0.6)]
    found = predict_listed(Width(), listed, 0.5, 2, views=6)
    assert np.radians(found.predicted[5, 1]) == pytest.approx(np.mean(single)) and set(found.margin) == {0.5}

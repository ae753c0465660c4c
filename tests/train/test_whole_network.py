"""Training steps of the whole network, in double precision, against numbers computed with the released code."""

from pathlib import Path

import numpy as np
import pytest
from helpers.whole_network import CANCELLED, generator, give_weights, given, images_and_labels

from rafa.net.backend import computing_in, keras
from rafa.net.inference import predict_angles
from rafa.pose import AXES, CHANNEL_MEANS
from rafa.train.recipe import compile_rafa_net, compile_with, training_step
from rafa_model import build_rafa_net

pytestmark = pytest.mark.slow
PARITY = Path(__file__).parents[1] / "parity"


@pytest.fixture(scope="module")
def network():
    keras.config.set_floatx("float64")
    with computing_in("float64"):
        yield build_rafa_net("resnet50", weights=None)
    keras.config.set_floatx("float32")


def test_angles_losses_and_every_gradient_meet_the_released_code(network, monkeypatch):
    parity = dict(np.load(PARITY / "network.npz"))
    named = give_weights(network)
    # Keras rounds this list to single precision, as the authors' runs did; these numbers were computed without.
    monkeypatch.setattr(network.get_layer("subtract_means"), "offset", -np.array(CHANNEL_MEANS))
    crops = parity["images_rgb_every_32nd_pixel"].repeat(32, axis=1).repeat(32, axis=2)
    np.testing.assert_allclose(predict_angles(network, crops), parity["angles"], rtol=0, atol=1e-10)

    optimizer = keras.optimizers.SGD(1.0, momentum=0.5)  # its momenta after a step are the gradients, negative
    compile_with(network, optimizer, "float64")
    targets = {axis: parity["targets"][:, [column]] for column, axis in enumerate(AXES)}
    losses = training_step(network)(crops, targets)
    np.testing.assert_allclose([losses[axis] for axis in AXES], parity["training_losses"], rtol=1e-10)
    norms = {weight.path: np.linalg.norm(optimizer.momentums[i]) for i, weight in enumerate(network.trainable_weights)}
    assert {name for name, weight in named.items() if weight.trainable} == set(parity["gradient_names"])
    for name, expected in zip(parity["gradient_names"], parity["gradient_norms"], strict=True):
        wanted = pytest.approx(0, abs=1e-8) if name.endswith(CANCELLED) else pytest.approx(expected, rel=1e-10)
        assert norms[named[name].path] == wanted, name


def test_five_training_steps_meet_the_released_code(network):
    numbers = dict(np.load(PARITY / "training_steps.npz"))
    parity = {key.removeprefix("lr_1e-6."): numbers[key] for key in numbers if key.startswith("lr_1e-6.")}
    named = give_weights(network)
    compile_rafa_net(network, 1e-6)  # at 1e-3 rounding would be 10% after five steps: ReLU and the maxima switch
    step = training_step(network)
    for index in range(5):
        losses = step(*images_and_labels(f"step/{index}"))
        computed = [sum(losses.values()), *(losses[axis] for axis in AXES)]
        np.testing.assert_allclose(computed, parity["losses"][index], rtol=1e-6)
        norms = [np.linalg.norm(named[name]) for name in numbers["averages"]]
        np.testing.assert_allclose(norms, parity["average_norms"][index], rtol=1e-7)
        if index in (0, 4):
            assert_moved(named, numbers["names"], parity, f"after_{index + 1}")
    crops, _ = images_and_labels("predict")
    np.testing.assert_allclose(predict_angles(network, crops), parity["predictions"], rtol=0, atol=1e-6)


def assert_moved(named, names, parity, when):
    """Each weight has its norm, the length of its move from the given value, and the move's sum with signs by name."""
    for place, name in enumerate(names):
        if not name.endswith(CANCELLED):
            weight = named[name].numpy()
            move = weight - given(name, weight.shape)
            expected = parity[f"moves_{when}"][place]
            signs = generator(f"signs/{name}").integers(0, 2, move.size) * 2 - 1
            assert np.linalg.norm(weight) == pytest.approx(parity[f"norms_{when}"][place], rel=1e-7), name
            assert np.linalg.norm(move) == pytest.approx(expected, rel=1e-5), name
            projection = parity[f"projections_{when}"][place]
            assert move.ravel() @ signs == pytest.approx(projection, rel=0, abs=1e-4 * expected), name

"""Ten steps of a tiny network whose batch statistics are frozen; test_distribution.py runs it on several devices.

python tests/shared_training.py DEVICES FOLDER    prints the losses as JSON; FOLDER gets a checkpoint
"""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from rafa.net.backend import keras, tf
from rafa.net.keras224 import BatchNormalization, count_steps
from rafa.pose import AXES
from rafa.train.devices import all_devices, this_machine
from rafa.train.recipe import compile_rafa_net, training_step
from rafa_model import build_rafa_net

BATCH, STEPS, RATE = 6, 10, 1e-5


def batch(step, devices):
    rng, here = np.random.default_rng(step), devices.machine.places(BATCH, BATCH)
    crops = rng.integers(0, 256, (BATCH, 224, 224, 3)).astype("uint8")
    return crops[here], {axis: rng.uniform(-1, 1, (BATCH, 1)).astype("float32")[here] for axis in AXES}


def averages(devices):
    """After three steps of a layer with clipped gradients: its weights, their average, and a moving mean."""
    with devices.scope():
        x = keras.Input((4,))
        norm, dense = BatchNormalization(momentum=0.9), keras.layers.Dense(1, kernel_initializer="ones")
        model = keras.Model(x, {"norm": norm(x), "angle": dense(x)})
        optimizer = keras.optimizers.Adam(0.1, global_clipnorm=1.0, use_ema=True, ema_momentum=0.5, epsilon=1.0)
        optimizer.build(model.trainable_variables)
        model.compile(optimizer)
        count_steps(model, optimizer)
    step = training_step(model, {"norm": (0.0, "squared"), "angle": (1.0, "squared")}, devices)
    for index in range(3):
        rng = np.random.default_rng(index)
        x, angle = rng.normal(3, 5, (BATCH, 4)).astype("float32"), rng.normal(size=(BATCH, 1)).astype("float32")
        here = devices.machine.places(BATCH, BATCH)
        step(x[here], {"norm": x[here], "angle": angle[here]})
    devices.averaging(model)()
    weights = dense.kernel.numpy().tolist()
    optimizer.finalize_variable_values(model.trainable_variables)
    return [weights, dense.kernel.numpy().tolist(), norm.moving_mean.numpy().tolist()]


def main(devices, folder):
    logical = [tf.config.LogicalDeviceConfiguration()] * int(devices)
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], logical)
    devices = all_devices(this_machine())
    keras.utils.set_random_seed(5)
    with devices.scope():
        model = build_rafa_net("tiny", weights=None)
        compile_rafa_net(model, RATE)
    norms = [layer for layer in model.layers if isinstance(layer, BatchNormalization)]
    for norm in norms:
        norm.trainable = False
    step = training_step(model, devices=devices)
    losses = [{axis: float(loss) for axis, loss in step(*batch(index, devices)).items()} for index in range(STEPS)]
    if devices.machine.index == 0:
        model.save(Path(folder, "network.keras"))
    print(json.dumps({"devices": devices.count, "losses": losses, "averages": averages(devices)}))


if __name__ == "__main__":
    main(*sys.argv[1:])

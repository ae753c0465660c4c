"""What several devices compute; a program of its own, since devices are cut before TensorFlow starts.

python tests/helpers/several_devices.py DEVICES PART [FOLDER]     prints it as JSON

PART "training": ten losses of a tiny network whose batch statistics are frozen, and its checkpoint into FOLDER, and
three steps with clipped gradients.  PART "each": what each device holds.
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


def part_of(devices, rows):
    return rows[devices.machine.of(np.arange(len(rows)), len(rows))]


def compiled(optimizer, inputs, outputs):
    model = keras.Model(inputs, outputs)
    model.compile(optimizer)
    optimizer.build(model.trainable_variables)
    count_steps(model, optimizer)
    return model


def training(devices, folder):
    keras.utils.set_random_seed(5)
    with devices.scope():
        model = build_rafa_net("tiny", weights=None)
        compile_rafa_net(model, RATE)
    for layer in model.layers:
        layer.trainable = layer.trainable and not isinstance(layer, BatchNormalization)
    step, losses = training_step(model, devices=devices), []
    for index in range(STEPS):
        rng = np.random.default_rng(index)
        crops = part_of(devices, rng.integers(0, 256, (BATCH, 224, 224, 3)).astype("uint8"))
        targets = {axis: part_of(devices, rng.uniform(-1, 1, (BATCH, 1)).astype("float32")) for axis in AXES}
        losses.append(list(step(crops, targets).values()))
    if devices.machine.index == 0:
        model.save(Path(folder, "network.keras"))
    return {"devices": devices.count, "losses": losses, "clipped": clipped(devices)}


def clipped(devices):
    """After three steps of a layer with clipped gradients: its weights, their average, and a moving mean."""
    with devices.scope():
        x = keras.Input((4,))
        norm, dense = BatchNormalization(momentum=0.9), keras.layers.Dense(1, kernel_initializer="ones")
        clip = {"global_clipnorm": 1.0 / devices.count, "use_ema": True, "ema_momentum": 0.5}
        model = compiled(keras.optimizers.Adam(0.1, epsilon=1.0, **clip), x, {"norm": norm(x), "angle": dense(x)})
    step = training_step(model, {"norm": (0.0, "squared"), "angle": (1.0, "squared")}, devices)
    for index in range(3):
        rng = np.random.default_rng(index)
        inputs = part_of(devices, rng.normal(3, 5, (BATCH, 4)).astype("float32"))
        step(inputs, {"norm": inputs, "angle": part_of(devices, rng.normal(size=(BATCH, 1)).astype("float32"))})
    devices.averaging(model)()
    weights = dense.kernel.numpy().tolist()
    model.optimizer.finalize_variable_values(model.trainable_variables)
    return [weights, dense.kernel.numpy().tolist(), norm.moving_mean.numpy().tolist()]


def each(devices, folder):
    def on_each(variable):
        return [part.numpy().tolist() for part in devices.strategy.experimental_local_results(variable.value)]

    with devices.scope():
        x, norm = keras.Input((2,)), BatchNormalization()
        model = compiled(keras.optimizers.SGD(0.0), x, {"y": norm(x)})
        y, dense = keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
        scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
        other = compiled(scaled, y, {"y": dense(y)})
    batch = np.float32([[0, 1], [2, 5], [10, 0], [50, 7]])
    squared = {"y": (1.0, "squared")}
    training_step(model, squared, devices)(batch, {"y": batch})
    averages = (norm.moving_mean, norm.moving_variance)
    before = [on_each(average) for average in averages]
    average_statistics = devices.averaging(model)
    for _ in range(7):  # TensorFlow warns on stderr where each call traces again
        average_statistics()
    statistics = [before, [on_each(average) for average in averages]]
    step, overflow = training_step(other, squared, devices), []
    for second in (1e18, 1.0):  # its gradient overflows on the second device alone
        step(np.float32([[1], [second]]), {"y": np.float32([[0], [0]])})
        overflow.append([on_each(dense.kernel), float(scaled.dynamic_scale.numpy())])
    return {"statistics": statistics, "overflow": overflow}


def main(count, part, folder=""):
    logical = [tf.config.LogicalDeviceConfiguration()] * int(count)
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], logical)
    print(json.dumps({"training": training, "each": each}[part](all_devices(this_machine()), folder)))


if __name__ == "__main__":
    main(*sys.argv[1:])

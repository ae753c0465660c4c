"""What each of two devices holds; a process of its own computes it, since devices are cut before TensorFlow starts.

python tests/two_devices.py    prints it as JSON
"""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from rafa.net.backend import keras, tf
from rafa.net.keras224 import BatchNormalization, count_steps
from rafa.train.devices import LossScale, all_devices
from rafa.train.recipe import training_step

SQUARED = {"y": (1.0, "squared")}


def on_each(devices, variable):
    return [part.numpy().tolist() for part in devices.strategy.experimental_local_results(variable.value)]


def statistics(devices):
    """Moving mean and variance on each device, before and after they are averaged."""
    with devices.scope():
        x = keras.Input((2,))
        norm = BatchNormalization()
        model = keras.Model(x, {"y": norm(x)})
        model.compile(keras.optimizers.SGD(0.0))
        count_steps(model, model.optimizer)
    batch = np.float32([[0, 1], [2, 5], [10, 0], [50, 7]])
    training_step(model, SQUARED, devices)(batch, {"y": batch})
    averages = {"mean": norm.moving_mean, "variance": norm.moving_variance}
    before = {name: on_each(devices, variable) for name, variable in averages.items()}
    average_statistics = devices.averaging(model)
    for _ in range(7):  # TensorFlow warns on stderr where each call traces again
        average_statistics()
    return {name: [before[name], on_each(devices, variable)] for name, variable in averages.items()}


def overflow(devices):
    """Weight, factor and steps of the loss scale on each device: after an overflow on the second alone, and a step."""
    with devices.scope():
        x = keras.Input((1,))
        dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
        model = keras.Model(x, {"y": dense(x)})
        model.compile(keras.optimizers.SGD(0.1))
        model.optimizer.build(model.trainable_variables)
        scale = LossScale(model.optimizer)
    step, found = training_step(model, SQUARED, devices, scale), []
    for second in (1e18, 1.0):
        step(np.float32([[1], [second]]), {"y": np.float32([[0], [0]])})
        found.append([on_each(devices, variable) for variable in (dense.kernel, scale.factor, scale.steps)])
    return found


def main():
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
    devices = all_devices()
    print(json.dumps({"statistics": statistics(devices), "overflow": overflow(devices)}))


if __name__ == "__main__":
    main()

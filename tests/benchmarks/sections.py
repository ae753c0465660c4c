"""What the benchmarks measure: every section returns Markdown."""

import contextlib
import io
import logging
import math
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from timing import NOT_HERE, alternated, in_child, run_python, spread

from data_loaders import KeptImages, output_targets, read_lists, scoring_batches, shuffled, training_batches
from rafa.datasets.lists import Listed
from rafa.datasets.sets import DATASETS
from rafa.heads.dataset import write_dataset
from rafa.net.inference import full_float32, predict_angles
from rafa.pose import CHANNEL_MEANS, CROP_SIZE
from rafa.score.predictions import predict_listed
from rafa.score.tables import table

SIDE = 450  # pixels of an image, as in 300W-LP and AFLW2000
BATCH = 16
MARGIN = 0.5  # the largest in training
IMAGES = 128
EPOCH = 1024  # images, where starting the threads must not count
BATCH_SIZES = (4, 8, 16, 32)
WORKERS = (1, 2, 4)


# --- Images -----------------------------------------------------------------------------------------------------------
def write_images(folder: Path, number: int = IMAGES) -> Listed:
    """Smooth JPEG images of 450 × 450 pixels with boxes and angles, as a list."""
    rng, boxes, angles = np.random.default_rng(0), [], []
    for index in range(number):
        name, size = f"{index}.jpg", int(rng.integers(140, 220))
        row, column = rng.integers(20, SIDE - 20 - size, 2)
        image = cv2.resize(rng.integers(0, 256, (30, 30, 3), np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        grain = np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / name), grain, [cv2.IMWRITE_JPEG_QUALITY, 85])
        boxes.append(f"{name}\t{row} {column} {size} {size}")
        angles.append(f"{name}\t0.1\t0.2\t0.3")
    for file, rows in (("crops.txt", boxes), ("angles.txt", angles)):
        (folder / file).write_text("\n".join(rows) + "\n", encoding="utf-8")
    return read_lists(folder / "crops.txt", folder / "angles.txt", "radians", folder)


def authors_batches(listed: Listed) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """The way of the released code: one thread, a border of the box's size around the whole image, float batches."""
    order, _, rng = shuffled(len(listed.records), BATCH, 0, 0)
    for start in range(0, len(order), BATCH):
        crops, chosen = np.empty((BATCH, CROP_SIZE, CROP_SIZE, 3), np.float32), order[start : start + BATCH]
        for place, record in enumerate(listed.records[chosen]):
            image, size = cv2.imread(str(listed.data_dir / record["path"])), int(record["size"])
            grow = int(size * np.float32(rng.uniform(0, MARGIN)))
            bordered = cv2.copyMakeBorder(image, size, size, size, size, cv2.BORDER_CONSTANT, value=(0, 0, 0))
            rows, columns = (
                slice(first + size - grow, first + 2 * size + grow) for first in (record["row"], record["column"])
            )
            face = cv2.resize(bordered[rows, columns], (CROP_SIZE, CROP_SIZE)).astype(np.float32)[..., ::-1]
            for channel, mean in enumerate(CHANNEL_MEANS):
                face[..., channel] -= mean
            crops[place] = face
        yield crops, output_targets(listed.records["angles"][chosen])


def images(rounds: int, slow: bool) -> str:
    """Batches of training and scoring: the authors' loop against ours."""
    own = "the authors' loop, 1 thread"
    exhaust = deque[object](maxlen=0).extend
    with tempfile.TemporaryDirectory() as name:
        listed = write_images(Path(name), EPOCH)
        kilobytes = np.mean([path.stat().st_size for path in Path(name).glob("*.jpg")]) / 1000
        read, kept = KeptImages(listed, MARGIN), KeptImages(listed, MARGIN, memory=1e9)
        exhaust(training_batches(kept, BATCH, 0, 0, 2))  # the first epoch
        batches: dict[str, Callable[[], Iterator[object]]] = {own: partial(authors_batches, listed)}
        for what, of in (("training batches", read), ("the same, kept from the first epoch", kept)):
            for workers in WORKERS:
                batches[f"{what}, workers: {workers}"] = partial(training_batches, of, BATCH, 0, 1, workers)
        for workers in WORKERS:
            batches[f"scoring batches, workers: {workers}"] = partial(scoring_batches, listed, BATCH, 0.2, workers)
        tasks = {what: lambda epoch=epoch: exhaust(epoch()) for what, epoch in batches.items()}
        seconds = alternated(tasks, rounds)
        worked = alternated(tasks, rounds, time.process_time)
    columns = ["Reading, cropping, batching", "Images a second", "Times the authors' rate", "Processor, ms an image"]
    rows = []
    for task, times in seconds.items():
        ratio = "1" if task == own else spread(seconds[own] / times, 2)
        rows.append([task, spread(EPOCH / times, 0), ratio, spread(worked[task] / EPOCH * 1e3, 2)])
    text = f"{EPOCH:,} JPEG images of {SIDE} × {SIDE} pixels, {kilobytes:.0f} kB on average, batches of {BATCH}.\n\n"
    return text + table(columns, rows)


# --- The matrix product, by which networks are judged -----------------------------------------------------------------
SIDE_OF_PRODUCT = 2048
PRODUCT_NOTE = (
    "Share of the matrix product: floating-point operations a second, divided by those of a float32 product of two "
    f"{SIDE_OF_PRODUCT} × {SIDE_OF_PRODUCT} matrices, {{rate}} GFLOP/s, in the same rounds. A forward pass counts two "
    "operations for each multiplication of a value with a weight, {flop:.1f} GFLOP a crop of resnet50; a step counts "
    "three passes."
)


def matrix_product() -> Callable[[], Any]:
    """A float32 product of two square matrices, which ends when it has been computed."""
    from rafa.net.backend import tf

    matrix = tf.random.stateless_normal((SIDE_OF_PRODUCT, SIDE_OF_PRODUCT), (0, 0))

    def multiply() -> Any:
        with full_float32():
            return tf.matmul(matrix, matrix)[0, 0].numpy()

    return multiply


def forward_flop(backbone: str) -> float:
    """Floating-point operations of a network for one crop: two for each multiplication of a value with a weight."""
    from rafa_model import build_rafa_net

    flop = 0
    for layer in build_rafa_net(backbone, weights=None).layers:
        output = layer.output[0] if isinstance(layer.output, (list, tuple)) else layer.output
        matrices = (math.prod(weight.shape) for weight in layer.weights if weight.ndim > 1 and weight.trainable)
        flop += 2 * math.prod(output.shape[1:-1]) * sum(matrices)
    return flop


def share_of_product(flop: float, times: np.ndarray, product: np.ndarray) -> str:
    """Work of so many operations, as a share in % of what the matrix product reached in the same rounds."""
    return spread(100 * (flop / times) / (2 * SIDE_OF_PRODUCT**3 / product), 0)


def product_note(product: np.ndarray) -> str:
    """What the column says, with the rate of the matrix product."""
    rate = spread(2 * SIDE_OF_PRODUCT**3 / product / 1e9, 0)
    return PRODUCT_NOTE.format(rate=rate, flop=forward_flop("resnet50") / 1e9)


# --- Training steps ---------------------------------------------------------------------------------------------------
def _device() -> str:
    """Where TensorFlow computes."""
    from rafa.net.backend import tf

    return "GPU" if tf.config.list_physical_devices("GPU") else "CPU"


def random_crops(rng: np.random.Generator, number: int) -> np.ndarray:
    """(number, 224, 224, 3) uint8 crops of noise."""
    return rng.integers(0, 256, (number, CROP_SIZE, CROP_SIZE, 3), np.uint8)


def steps(rounds: int, slow: bool) -> str:
    """One update by network, batch size, and precision."""
    device, rows, rng, products = _device(), [], np.random.default_rng(0), []
    half = "mixed_float16" if device == "GPU" else "mixed_bfloat16"
    for backbone in ("small", "resnet50") if slow else ("small",):
        tasks: dict[Any, Callable[[], Any]] = {"product": matrix_product()}
        flop = 3 * forward_flop(backbone)
        for precision, sizes in (("float32", BATCH_SIZES), (half, (BATCH,))):
            step = _compiled_step(backbone, precision)
            for size in sizes:
                batch = random_crops(rng, size), output_targets(rng.normal(0, 0.3, (size, 3)))
                tasks[precision.removeprefix("mixed_"), size] = partial(step, *batch)
        seconds = alternated(tasks, rounds)
        products.append(product := seconds.pop("product"))
        for (precision, size), times in seconds.items():
            ratio = "1" if precision == "float32" else spread(times / seconds["float32", size], 2)
            cells = [spread(times * 1e3, 0), spread(size / times, 1), ratio]
            rows.append([backbone, device, precision, size, *cells, share_of_product(size * flop, times, product)])
    if device == "CPU":
        rows.append(["both", "GPU", "all", "all", *[NOT_HERE] * 4])
    columns = ["Network", "Device", "Precision", "Batch", "ms a step", "Images a second", "/ float32"]
    text = table([*columns, "Share of the matrix product, %"], rows) + "\n\n" + product_note(np.concatenate(products))
    return f"{text}\n\n{_waiting(_compiled_step(backbone, 'float32'), backbone, rounds)}"


def _compiled_step(backbone: str, precision: str) -> Callable[..., Any]:
    """A training step of a network with random weights, which ends when the update has been computed."""
    from rafa.net.backend import computing_in
    from rafa.train.recipe import compile_rafa_net, training_step
    from rafa_model import build_rafa_net

    with computing_in(precision):
        model = build_rafa_net(backbone, weights=None)
        compile_rafa_net(model, precision=precision)
    return training_step(model)


def _waiting(step: Callable[..., Any], backbone: str, rounds: int) -> str:
    """How long a network that trains on images from the disk waits for them."""
    shares = []
    with tempfile.TemporaryDirectory() as name:
        listed = write_images(Path(name), BATCH * (rounds + 1))
        batches = training_batches(KeptImages(listed, MARGIN), BATCH, 0, 1, os.cpu_count() or 1)
        start = time.perf_counter()
        for batch in batches:
            read = time.perf_counter()
            step(*batch)
            end = time.perf_counter()
            shares.append(100 * (read - start) / (end - start))
            start = end
    return f"Share of a step of {BATCH} in which {backbone} waits for images from the disk: {spread(shares[1:], 2)} %."


# --- Start ------------------------------------------------------------------------------------------------------------
_START = """
import numpy as np
from rafa.net.backend import keras
imported = time.perf_counter()
from rafa_model import build_rafa_net
from rafa.train.recipe import compile_rafa_net, training_step
model = build_rafa_net(sys.argv[1], weights=None)
built = time.perf_counter()
compile_rafa_net(model)
step = training_step(model)
step(np.zeros((4, 224, 224, 3), np.uint8), {axis: np.zeros((4, 1), np.float32) for axis in model.output})
first = time.perf_counter()
keras.applications.ResNet50(weights=None, include_top=False, input_shape=(224, 224, 3))
report(imports=imported - started, build=built - imported, update=first - built, keras=time.perf_counter() - first)
"""


def _arrays(runs: list[dict[str, float]]) -> dict[str, np.ndarray]:
    """What several processes reported: {name: (runs,)}."""
    return {name: np.array([run[name] for run in runs]) for name in runs[0]}


def start(rounds: int, slow: bool) -> str:
    """From the start of a process to the end of the first update."""
    backbones = ("small", "resnet50") if slow else ("small",)
    runs: dict[str, list[dict[str, float]]] = {backbone: [] for backbone in backbones}
    for _ in range(rounds):
        for backbone in backbones:
            runs[backbone].append(in_child(_START, backbone))
    rows = []
    for backbone, facts in runs.items():
        part = _arrays(facts)
        whole = part["imports"] + part["build"] + part["update"]
        cells = [spread(values, 1) for values in (part["imports"], part["build"], part["update"], whole)]
        rows.append([backbone, *cells, spread(part["build"] / part["keras"], 2), spread(part["peak"], 0)])
    columns = ["Imports, s", "Building, s", "First update (batch of 4), s", "Sum, s"]
    return table(["Network", *columns, "Building / building Keras' ResNet50", "Peak memory, MB"], rows)


# --- Prediction -------------------------------------------------------------------------------------------------------
def predict(rounds: int, slow: bool) -> str:
    """Crops → angles, evaluate's rate beside the network's own, and the scripts from start to end."""
    from rafa_model import build_rafa_net

    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # Keras' `predict` traces once for each size of batch
    crops = random_crops(np.random.default_rng(0), IMAGES)
    device, rows, rates, products = _device(), [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listed = write_images(folder)
        for backbone in ("small", "resnet50") if slow else ("small",):
            model = build_rafa_net(backbone, weights=None)
            tasks: dict[object, Callable[[], Any]] = {"product": matrix_product()}
            for size in (1, BATCH):
                tasks[size] = partial(predict_angles, model, crops[:size])
                tasks["keras", size] = partial(model.predict, crops[:size], verbose=0)
            seconds = alternated(tasks, rounds)
            for size in (1, BATCH):
                ratio = spread(seconds["keras", size] / seconds[size], 2)
                share = share_of_product(size * forward_flop(backbone), seconds[size], seconds["product"])
                rows.append([backbone, device, size, spread(seconds[size] * 1e3, 1), ratio, share])
            products.append(seconds["product"])
            predict_filled = partial(predict_angles, model, fill=True)
            tasks = {
                "evaluate": partial(predict_listed, predict_filled, listed, 0.2, 2),
                "network": partial(predict_angles, model, crops),
            }
            with contextlib.redirect_stderr(io.StringIO()):  # the progress
                seconds = alternated(tasks, rounds)
            share = spread(seconds["network"] / seconds["evaluate"], 2)
            rates.append([backbone, *(spread(IMAGES / values, 1) for values in seconds.values()), share])
        model = build_rafa_net("small", weights=None)
        model.save_weights(folder / "small.weights.h5")
        scripts = _scripts(folder, rounds)
    if device == "CPU":
        rows.append(["both", "GPU", "1, 16", *[NOT_HERE] * 3])
    columns = ["Network", "Device", "Crops", "ms", "Times the speed of Keras' `predict`"]
    text = table([*columns, "Share of the matrix product, %"], rows) + "\n\n" + product_note(np.concatenate(products))
    columns = ["Network", "`evaluate.py`, images a second", "The network alone, crops in memory", "Share"]
    text += "\n\n" + table(columns, rates)
    return text + "\n\n" + table(["Script, from start to end", "s", "/ `import tensorflow`"], scripts)


def _scripts(folder: Path, rounds: int) -> list[list[str]]:
    write_dataset(folder / "heads", train=0, test=1, workers=1)
    image, exported = str(folder / "heads/AFLW2000/image00002.jpg"), str(folder / "small.onnx")
    weights = ["--weights", str(folder / "small.weights.h5")]
    given = [image, *weights, "--box", "100", "100", "200"]
    commands = {
        "import tensorflow": ["-c", "import tensorflow"],
        "predict.py --help": ["predict.py", "--help"],
        "evaluate.py --help": ["evaluate.py", "--help"],
        "predict.py, a face whose box is given, network small": ["predict.py", *given],
        "predict.py, the same, six views": ["predict.py", *given, "--views", "6"],
        "predict.py, looking for the face": ["predict.py", image, *weights],
        "predict.py, looking for the face, network exported to ONNX": ["predict.py", image, "--weights", exported],
    }
    run_python("predict.py", *weights, "--export", exported)
    seconds = alternated({name: partial(run_python, *command) for name, command in commands.items()}, rounds)
    base = seconds["import tensorflow"]
    return [[f"`{name}`", spread(times, 2), spread(times / base, 2)] for name, times in seconds.items()]


# --- Scoring ----------------------------------------------------------------------------------------------------------
_SCORE = """
import numpy as np
from pathlib import Path
from data_loaders import read_lists
from rafa.score import metrics, protocol
from rafa.score.predictions import targets_of
from dataclasses import replace
folder, number = Path(sys.argv[1]), int(sys.argv[2])
names = [f"faces/{index:06d}.jpg" for index in range(number)]
(folder / "crops.txt").write_text("".join(f"{name}\\t10 10 90 90\\n" for name in names))
(folder / "angles.txt").write_text("".join(f"{name}\\t0.1\\t0.2\\t0.3\\n" for name in names))
start = time.perf_counter()
listed = read_lists(folder / "crops.txt", folder / "angles.txt", "radians", folder)
read = time.perf_counter() - start
predictions = targets_of(listed)
noise = np.random.default_rng(0).normal(0, 5, predictions.target.shape)
predictions = replace(predictions, predicted=predictions.target + noise, margin=np.full(number, 0.2))
metrics.summarise(metrics.per_image(predictions), samples=2)  # what is imported on first use must not count
start = time.perf_counter()
metrics.summarise(metrics.per_image(predictions), samples=1000)
bootstrap = time.perf_counter() - start
start = time.perf_counter()
protocol.score(listed, predictions)
report(read=read, bootstrap=bootstrap, score=time.perf_counter() - start)
"""


def scoring(rounds: int, slow: bool) -> str:
    """Lists and scores by the number of images."""
    numbers = (DATASETS["aflw2000"].usable, DATASETS["biwi"].usable, *((122_450,) if slow else ()))
    runs: dict[int, list[dict[str, float]]] = {number: [] for number in numbers}
    with tempfile.TemporaryDirectory() as name:
        for _ in range(rounds):
            for number in numbers:
                runs[number].append(in_child(_SCORE, name, number))
    rows = []
    for number, facts in runs.items():
        part = _arrays(facts)
        cells = [spread(part[key], 2) for key in ("read", "bootstrap", "score")]
        rows.append([f"{number:,}", *cells, spread(part["peak"], 0)])
    columns = ["Reading both lists, s", "Errors and bootstrap (1,000 samples), s", "Whole result with card, s"]
    return table(["Images", *columns, "Peak memory, MB"], rows)


SECTIONS: dict[str, tuple[str, Callable[[int, bool], str]]] = {
    "images": ("Images into batches", images),
    "steps": ("Training steps", steps),
    "start": ("From the start to the first update", start),
    "predict": ("Prediction", predict),
    "scoring": ("Scoring", scoring),
}

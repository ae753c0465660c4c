"""What the benchmarks measure: every section returns Markdown."""

import contextlib
import io
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from timing import NOT_HERE, ROOT, alternated, in_child, spread

from data_loaders import labels, scoring_batches, shuffled_epochs, training_batches
from rafa.datasets.lists import Listed, read_lists
from rafa.datasets.sets import DATASETS
from rafa.heads.dataset import write_dataset
from rafa.pose import CHANNEL_MEANS, CROP_SIZE
from rafa.score.tables import table

SIDE = 450  # pixels of an image, as in 300W-LP and AFLW2000
BATCH = 16
IMAGES = 128
EPOCH = 1024  # images, where starting the threads must not count
BATCH_SIZES = (4, 8, 16, 32)


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


def authors_batches(listed: Listed, max_margin: float) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """The way of the released code: one thread, a border of the box's size around the whole image, float batches."""
    for order, rng in shuffled_epochs(listed, BATCH, 0, 0):
        for start in range(0, len(order), BATCH):
            crops, chosen = np.empty((BATCH, CROP_SIZE, CROP_SIZE, 3), np.float32), order[start : start + BATCH]
            for place, record in enumerate(listed.records[chosen]):
                image, size = cv2.imread(str(listed.data_dir / record["path"])), int(record["size"])
                grow = int(size * np.float32(rng.uniform(0, max_margin)))
                bordered = cv2.copyMakeBorder(image, size, size, size, size, cv2.BORDER_CONSTANT, value=(0, 0, 0))
                rows, columns = (
                    slice(first + size - grow, first + 2 * size + grow) for first in (record["row"], record["column"])
                )
                face = cv2.resize(bordered[rows, columns], (CROP_SIZE, CROP_SIZE)).astype(np.float32)[..., ::-1]
                for channel, mean in enumerate(CHANNEL_MEANS):
                    face[..., channel] -= mean
                crops[place] = face
            yield crops, labels(listed.records["angles"][chosen])


def images(rounds: int, slow: bool) -> str:
    """Batches of training and scoring: the authors' loop against ours."""
    with tempfile.TemporaryDirectory() as name:
        listed = write_images(Path(name), EPOCH)
        kilobytes = np.mean([path.stat().st_size for path in Path(name).glob("*.jpg")]) / 1000
        own = "the authors' loop, 1 thread"
        tasks: dict[str, Callable[[], Any]] = {own: lambda: _take(authors_batches(listed, 0.5))}
        for workers in (1, 2, 4):
            what = f"training batches, workers: {workers}"
            tasks[what] = lambda workers=workers: _take(training_batches(listed, BATCH, 0.5, 0, workers))
        for workers in (1, 2, 4):
            later = training_batches(listed, BATCH, 0.5, 0, workers, memory=1e9)
            _take(later)  # the first epoch
            tasks[f"the same, kept from the first epoch, workers: {workers}"] = lambda later=later: _take(later)
        for workers in (1, 2, 4):
            what = f"scoring batches, workers: {workers}"
            tasks[what] = lambda workers=workers: _take(scoring_batches(listed, BATCH, 0.2, workers))
        seconds = alternated(tasks, rounds)
        worked = alternated(tasks, rounds, time.process_time)
    columns = ["Reading, cropping, batching", "Images a second", "Times the authors' rate", "Processor, ms an image"]
    rows = []
    for task, times in seconds.items():
        ratio = "1" if task == own else spread(seconds[own] / times, 2)
        rows.append([task, spread(EPOCH / times, 0), ratio, spread(worked[task] / EPOCH * 1e3, 2)])
    text = f"{EPOCH:,} JPEG images of {SIDE} × {SIDE} pixels, {kilobytes:.0f} kB on average, batches of {BATCH}.\n\n"
    return text + table(columns, rows)


def _take(batches: Iterator[Any]) -> None:
    for _ in islice(batches, EPOCH // BATCH):
        pass


def _device() -> str:
    """Where TensorFlow computes."""
    from rafa.net.backend import tf

    return "GPU" if tf.config.list_physical_devices("GPU") else "CPU"


# --- Training steps ---------------------------------------------------------------------------------------------------
def steps(rounds: int, slow: bool) -> str:
    """One update by network, batch size, and precision."""
    from rafa.train.devices import choose_precision

    device, rows, rng = _device(), [], np.random.default_rng(0)
    for backbone in ("small", "resnet50") if slow else ("small",):
        tasks = {}
        for precision, sizes in (("float32", BATCH_SIZES), (choose_precision(True, {}), (BATCH,))):
            step = _compiled_step(backbone, precision)
            for size in sizes:
                batch = random_crops(rng, size), labels(rng.normal(0, 0.3, (size, 3)))
                tasks[precision.removeprefix("mixed_"), size] = lambda step=step, batch=batch: step(*batch)
        seconds = alternated(tasks, rounds)
        for (precision, size), found in seconds.items():
            ratio = "1" if precision == "float32" else spread(found / seconds["float32", size], 2)
            rows.append([backbone, device, precision, size, spread(found * 1e3, 0), spread(size / found, 1), ratio])
    if device == "CPU":
        rows.append(["both", "GPU", "all", "all", *[NOT_HERE] * 3])
    columns = ["Network", "Device", "Precision", "Batch", "ms a step", "Images a second", "/ float32"]
    return f"{table(columns, rows)}\n\n{_waiting(_compiled_step(backbone, 'float32'), backbone, rounds)}"


def _compiled_step(backbone: str, precision: str) -> Callable[..., Any]:
    """A training step of a network with random weights, which ends when the update has been computed."""
    from rafa.net.backend import computing_in
    from rafa.train.devices import loss_scale_for
    from rafa.train.recipe import compile_rafa_net, training_step
    from rafa_model import build_rafa_net

    with computing_in(precision):
        model = build_rafa_net(backbone, weights=None)
        scale = loss_scale_for(compile_rafa_net(model), precision)
    step = training_step(model, loss_scale=scale)
    return lambda crops, true: step(crops, true)["yaw"].numpy()


def _waiting(step: Callable[..., Any], backbone: str, rounds: int) -> str:
    """How long a network that trains on images from the disk waits for them."""
    waited, whole = [], []
    with tempfile.TemporaryDirectory() as name:
        batches = training_batches(write_images(Path(name)), BATCH, 0.5, 0, os.cpu_count() or 1)
        for _ in range(rounds + 1):
            start = time.perf_counter()
            crops, true = next(batches)
            waited.append(time.perf_counter() - start)
            step(crops, true)
            whole.append(time.perf_counter() - start)
    share = 100 * np.array(waited[1:]) / np.array(whole[1:])
    return f"Shard of a step of {BATCH} in which {backbone} waits for images from the disk: {spread(share, 2)} %."


# --- Profile ----------------------------------------------------------------------------------------------------------
def profile(rounds: int, slow: bool) -> str:
    """The ten kinds of operations that take most of a training step, by TensorFlow's profiler."""
    from rafa.net.backend import tf

    from tensorflow.tsl.profiler.protobuf import xplane_pb2  # isort: skip  (after TensorFlow's greeting is held back)

    backbone = "resnet50" if slow else "small"
    step, rng = _compiled_step(backbone, "float32"), np.random.default_rng(0)
    batch = random_crops(rng, BATCH), labels(rng.normal(0, 0.3, (BATCH, 3)))
    step(*batch)
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(rounds):
                step(*batch)
        space = xplane_pb2.XSpace()
        space.ParseFromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
    spent, calls = Counter[str](), Counter[str]()
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            node, _, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
            if node and node[-1] != ":" and kind.isidentifier():  # not a function of the runtime's
                spent[kind] += event.duration_ps
                calls[kind] += 1
    whole = sum(spent.values())
    rows = [
        [f"`{kind}`", f"{calls[kind] / rounds:,.0f}", f"{time / rounds / 1e9:,.0f}", f"{100 * time / whole:.1f}"]
        for kind, time in spent.most_common(10)
    ]
    text = f"The ten largest of {len(spent)} kinds of operations in a step of {backbone}, batch {BATCH}."
    text += " Operations run beside each other, so that their times add up to more than the step.\n\n"
    return text + table(["Operation", "Calls", "ms a step", "% of all"], rows)


def random_crops(rng: np.random.Generator, number: int) -> np.ndarray:
    """(number, 224, 224, 3) uint8 crops of noise."""
    return rng.integers(0, 256, (number, CROP_SIZE, CROP_SIZE, 3), np.uint8)


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
crops, true = np.zeros((4, 224, 224, 3), np.uint8), {axis: np.zeros((4, 1), np.float32) for axis in model.output}
step(crops, true)["yaw"].numpy()
first = time.perf_counter()
keras.applications.ResNet50(weights=None, include_top=False, input_shape=(224, 224, 3))
report(imports=imported - started, build=built - imported, update=first - built, keras=time.perf_counter() - first)
"""


def start(rounds: int, slow: bool) -> str:
    """From the start of a process to the end of the first update."""
    backbones = ("small", "resnet50") if slow else ("small",)
    runs: dict[str, list[dict[str, float]]] = {backbone: [] for backbone in backbones}
    for _ in range(rounds):
        for backbone in backbones:
            runs[backbone].append(in_child(_START, backbone))
    rows = []
    for backbone, found in runs.items():
        part = {key: np.array([run[key] for run in found]) for key in found[0]}
        whole = part["imports"] + part["build"] + part["update"]
        cells = [spread(values, 1) for values in (part["imports"], part["build"], part["update"], whole)]
        rows.append([backbone, *cells, spread(part["build"] / part["keras"], 2), spread(part["peak"], 0)])
    columns = ["Imports, s", "Building, s", "First update (batch of 4), s", "Sum, s"]
    return table(["Network", *columns, "Building / building Keras' ResNet50", "Peak memory, MB"], rows)


# --- Prediction -------------------------------------------------------------------------------------------------------
def predict(rounds: int, slow: bool) -> str:
    """Crops → angles, evaluate's rate beside the network's own, and the scripts from start to end."""
    from rafa.net.inference import predict_angles
    from rafa.score.predictions import predict_listed
    from rafa_model import build_rafa_net

    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # Keras' `predict` traces once for each size of batch
    rng, crops = np.random.default_rng(0), random_crops(np.random.default_rng(0), BATCH)
    device, rows, rates = _device(), [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listed = write_images(folder)
        for backbone in ("small", "resnet50") if slow else ("small",):
            model = build_rafa_net(backbone, weights=None)
            tasks = {
                "1": lambda model=model: predict_angles(model, crops[:1]),
                "keras 1": lambda model=model: model.predict(crops[:1], verbose=0),
                "16": lambda model=model: predict_angles(model, crops),
                "keras 16": lambda model=model: model.predict(crops, verbose=0),
            }
            seconds = alternated(tasks, rounds)
            for size in ("1", "16"):
                ratio = spread(seconds[f"keras {size}"] / seconds[size], 2)
                rows.append([backbone, device, size, spread(seconds[size] * 1e3, 1), ratio])
            every = random_crops(rng, IMAGES)
            tasks = {
                "evaluate": lambda model=model: predict_listed(model, listed, 0.2, 2),
                "network": lambda model=model, every=every: predict_angles(model, every),
            }
            with contextlib.redirect_stderr(io.StringIO()):  # the progress
                seconds = alternated(tasks, rounds)
            share = spread(seconds["network"] / seconds["evaluate"], 2)
            rates.append([backbone, *(spread(IMAGES / values, 1) for values in seconds.values()), share])
        model = build_rafa_net("small", weights=None)
        model.save_weights(folder / "small.weights.h5")
        scripts = _scripts(folder, rounds)
    if device == "CPU":
        rows.append(["both", "GPU", "1, 16", NOT_HERE, NOT_HERE])
    text = table(["Network", "Device", "Crops", "ms", "Times the speed of Keras' `predict`"], rows)
    columns = ["Network", "`evaluate.py`, images a second", "The network alone, crops in memory", "Shard"]
    text += "\n\n" + table(columns, rates)
    return text + "\n\n" + table(["Script, from start to end", "s", "/ `import tensorflow`"], scripts)


def _scripts(folder: Path, rounds: int) -> list[list[str]]:
    python, weights = [sys.executable], ["--weights", str(folder / "small.weights.h5")]
    write_dataset(folder / "heads", train=0, test=1, workers=1)
    image, exported = str(folder / "heads/AFLW2000/image00002.jpg"), str(folder / "small.onnx")
    box = ["--box", "100", "100", "200"]
    onnx = ["--weights", exported]
    commands = {
        "import tensorflow": [*python, "-c", "import tensorflow"],
        "predict.py --help": [*python, "predict.py", "--help"],
        "evaluate.py --help": [*python, "evaluate.py", "--help"],
        "predict.py, a face whose box is given, network small": [*python, "predict.py", image, *box, *weights],
        "predict.py, the same, six views": [*python, "predict.py", image, *box, *weights, "--views", "6"],
        "predict.py, looking for the face": [*python, "predict.py", image, *weights],
        "predict.py, looking for the face, network exported to ONNX": [*python, "predict.py", image, *onnx],
    }

    def call(command: list[str]) -> None:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)

    call([*python, "predict.py", *weights, "--export", exported])
    tasks = {name: lambda command=command: call(command) for name, command in commands.items()}
    seconds = alternated(tasks, rounds)
    base = seconds["import tensorflow"]
    return [[f"`{name}`", spread(values, 2), spread(values / base, 2)] for name, values in seconds.items()]


# --- Scoring ----------------------------------------------------------------------------------------------------------
_SCORE = """
import numpy as np
from pathlib import Path
from data_loaders import DATASETS, RECORD, Listed, read_lists
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
found = targets_of(listed)
noise = np.random.default_rng(0).normal(0, 5, found.target.shape)
found = replace(found, predicted=found.target + noise, margin=np.full(number, 0.2))
metrics.summarise(metrics.per_image(found), 2, 0, None)  # what is imported on first use must not count
start = time.perf_counter()
metrics.summarise(metrics.per_image(found), 1000, 0, None)
bootstrap = time.perf_counter() - start
start = time.perf_counter()
protocol.score(listed, found)
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
    for number, found in runs.items():
        part = {key: np.array([run[key] for run in found]) for key in ("read", "bootstrap", "score", "peak")}
        cells = [spread(part[key], 2) for key in ("read", "bootstrap", "score")]
        rows.append([f"{number:,}", *cells, spread(part["peak"], 0)])
    columns = ["Reading both lists, s", "Errors and bootstrap (1,000 rounds), s", "Whole result with card, s"]
    return table(["Images", *columns, "Peak memory, MB"], rows)


SECTIONS: dict[str, tuple[str, Callable[[int, bool], str]]] = {
    "images": ("Images into batches", images),
    "steps": ("Training steps", steps),
    "profile": ("What a training step spends its time on", profile),
    "start": ("From the start to the first update", start),
    "predict": ("Prediction", predict),
    "scoring": ("Scoring", scoring),
}

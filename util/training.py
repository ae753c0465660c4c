"""Parts of a training run: its folder, the learning rate of an epoch, one training step, the expected time."""

import argparse
import csv
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from data_loaders import AXES, Batch, Listed, training_batches
from util import metrics
from util.errors import InputError
from util.inference import predict_listed
from util.protocol import MAE_KEYS
from util.provenance import write_text, written_whole

KEEP_EVERY = 5  # epochs: those checkpoints are kept under their number
CHECKPOINT_SECONDS = 30  # epochs of seconds are not all saved


# --- The recipe -------------------------------------------------------------------------------------------------------


def learning_rate_of(epoch: int, base: float, decay_every: int) -> float:
    """The learning rate of an epoch, counted from 0: the base, divided by ten every `decay_every` epochs (0: never)."""
    return base * 0.1 ** (epoch // decay_every) if decay_every else base


# What an output of the network costs: its weight, and "squared" or "absolute" errors, whose mean is taken.
Losses = dict[str, tuple[float, str]]
PAPER_LOSSES: Losses = dict.fromkeys(AXES, (1.0, "squared"))


def compile_rafa_net(model: Any, learning_rate: float = 1e-3) -> Any:
    """Give a network the authors' optimizer and losses: mean squared error in radians, loss weights 1, 1, 1.

    Returns:
        The optimizer, `util.keras224.RMSprop`, ready to be saved and loaded with the model; its steps are those that
        batch normalisation counts.
    """
    from util.keras224 import RMSprop, count_steps

    optimizer = RMSprop(learning_rate)
    model.compile(optimizer, loss=dict.fromkeys(AXES, "mean_squared_error"), jit_compile=False)
    optimizer.build(model.trainable_variables)
    count_steps(model, optimizer)
    return optimizer


def training_step(model: Any, losses: Losses = PAPER_LOSSES) -> Callable[..., dict[str, Any]]:
    """One update of a compiled network, as a function of a batch.

    The function takes RGB crops (b, 224, 224, 3), 0...255, and what is true, {axis: (b, 1)} in radians; it returns the
    unweighted losses {axis: scalar} from before the update.
    """
    from util.backend import tf

    errors = {"squared": tf.square, "absolute": tf.abs}

    # XLA takes longer to compile and runs no faster on a CPU; it is on with a GPU, where it was not measured.
    @tf.function(reduce_retracing=True, jit_compile=bool(tf.config.list_physical_devices("GPU")))
    def step(crops: Any, true: dict[str, Any]) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            found = model(tf.cast(crops, tf.float32), training=True)
            means = {name: tf.reduce_mean(errors[kind](found[name] - true[name])) for name, (_, kind) in losses.items()}
            loss = tf.add_n([weight * means[name] for name, (weight, _) in losses.items()])
        variables = model.trainable_variables
        model.optimizer.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)
        return means

    return step


class PaperRecipe:
    """What a run trains and how, with the options of `train_rafa-net.py`: the authors' way.

    `util.synthetic_recipe` has another.
    """

    losses = PAPER_LOSSES

    def __init__(self, options: argparse.Namespace, train: Listed) -> None:
        self.options, self.train = options, train

    def build(self) -> Any:
        """The compiled network."""
        from rafa_model import build_rafa_net

        weights = None if self.options.resume or self.options.weights == "none" else self.options.weights
        model = build_rafa_net(self.options.backbone, weights)
        compile_rafa_net(model, self.options.learning_rate)
        return model

    def start_epoch(self, model: Any, epoch: int) -> None:
        """Set the learning rate of an epoch, counted from 0."""
        rate = learning_rate_of(epoch, self.options.learning_rate, self.options.decay_every)
        model.optimizer.learning_rate = rate

    def batches(self, first_epoch: int) -> Iterator[Batch]:
        """Endless batches of crops and labels."""
        options = self.options
        return training_batches(
            self.train, options.batch_size, options.train_margin, options.seed, options.workers, first_epoch
        )

    def finish(self, model: Any, run: "RunFolder") -> tuple[Any, Path]:
        """The network to be scored after the last epoch, and its file."""
        return model, run.checkpoint


def watch(model: Any, test: Listed, margin: float, workers: int) -> dict[str, float]:
    """Mean absolute errors on the test list in degrees, for monitoring only: {"test_mae_yaw": ..., "test_mae": ...}."""
    columns = metrics.per_image(predict_listed(model, test, margin, workers))
    return {f"test_{key}": float(columns[key].mean()) for key in MAE_KEYS}


class ExpectedTime:
    """Says after 20 steps how long an epoch and the run will take."""

    def __init__(self, steps: int, epochs: int) -> None:
        self.steps, self.epochs, self.done, self.start = steps, epochs, 0, 0.0

    def count(self) -> None:
        """Count a step; the first ones compile and do not count."""
        self.done += 1
        if self.done == 5:
            self.start = time.monotonic()
        if self.done == 25:
            seconds = (time.monotonic() - self.start) / 20 * self.steps
            print(f"expected: {seconds:.0f} s an epoch, {seconds * self.epochs / 60:.0f} min for the run", flush=True)


# --- The run folder ---------------------------------------------------------------------------------------------------


class RunFolder:
    """A training run on disk.

    - run.json: options, versions, commit, lists with their hashes, and every resume.
    - metrics.csv: a row per epoch, and tensorboard/ the same as curves.
    - last.keras: network and optimizer after the last saved epoch; epoch-005.keras, epoch-010.keras ... are kept.
    - predictions.csv, result.json, result.md: the final score.

    Every file is written whole or not at all.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.record_file, self.log_file = self.path / "run.json", self.path / "metrics.csv"
        self.checkpoint = self.path / "last.keras"
        self._saved = -float(CHECKPOINT_SECONDS)
        self._curves: Any = None

    def record(self) -> dict[str, Any]:
        """What run.json says.

        Raises:
            InputError: not the folder of a run, or of a run of an earlier version, whose batch normalisation differs.
        """
        try:
            record = json.loads(self.record_file.read_text(encoding="utf-8"))
            options, version = dict(record["options"]), record.get("suite")
            _hashes(record["lists"])  # an error where they are not what `resume` needs
            list(record.get("resumed", []))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{self.path} is not the folder of a run that can be resumed: {error!r}") from error
        if version is None:
            raise InputError(
                f"{self.path} was started by version 0.1 of this suite, whose batch normalisation differs: "
                "its networks can be scored, but it cannot be resumed; start a new run"
            )
        return {**record, "options": options}

    def refuse_if_used(self) -> None:
        """Raise an InputError if the folder holds anything."""
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            what = "is not empty" if self.path.is_dir() else "is a file"
            raise InputError(f"{self.path} {what}; give another --run-dir, or --resume to continue the run in it")

    def start(self, record: dict[str, Any]) -> None:
        """Take the folder for a new run; of two runs that start at once, one gets an InputError."""
        self.refuse_if_used()
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with self.record_file.open("x", encoding="utf-8") as file:
                file.write(json.dumps(record, indent=2) + "\n")
        except FileExistsError as error:
            raise InputError(f"{self.path} was taken by another run just now; give another --run-dir") from error

    def resume(self, model: Any, record: dict[str, Any]) -> int:
        """Load the last checkpoint into a compiled network; returns how many epochs it has done.

        What was logged after that checkpoint is dropped.

        Raises:
            InputError: lists that are not those of the run, a checkpoint that is missing or damaged.
        """
        begun = self.record()
        if _hashes(begun["lists"]) != _hashes(record["lists"]):
            raise InputError(f"the lists are not those that {self.path} started with; put those back to resume it")
        epoch = self._load_checkpoint(model, record["steps_per_epoch"])
        self._keep_rows(epoch)
        again = {"after_epoch": epoch, **record}
        kept = {**begun, "options": record["options"], "resumed": [*begun.get("resumed", []), again]}
        write_text(self.record_file, json.dumps(kept, indent=2) + "\n")
        return epoch

    def _load_checkpoint(self, model: Any, steps: int) -> int:
        from rafa_model import STEMS
        from util.weights import load_into

        if not self.checkpoint.is_file():
            if len(self._rows()) > 1:
                raise InputError(f"{self.checkpoint} is missing; {self._way_on()}")
            print(f"{self.path} holds no checkpoint yet: the run starts again at epoch 1")
            return 0
        try:
            load_into(model, self.checkpoint, STEMS)
        except InputError as error:
            raise InputError(f"{error}; {self._way_on()}") from error
        done = int(model.optimizer.iterations)
        if done % steps:
            raise InputError(
                f"{self.checkpoint} has done {done} steps, which is not a whole number of epochs of {steps} steps: the "
                "training list or the images present have changed since"
            )
        return done // steps

    def _way_on(self) -> str:
        kept = sorted(self.path.glob("epoch-*.keras"))
        return f"to resume from an earlier epoch, copy {kept[-1]} to last.keras" if kept else "start a new run"

    def log(self, row: dict[str, Any]) -> None:
        """Add the row of an epoch to metrics.csv and to TensorBoard's curves; every row has the same keys."""
        from util.backend import tf

        with self.log_file.open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, row, lineterminator="\n")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
        self._curves = self._curves or tf.summary.create_file_writer(str(self.path / "tensorboard"))
        with self._curves.as_default(step=row["epoch"]):
            for key, value in row.items():
                if isinstance(value, float):
                    tf.summary.scalar(key, value)
        self._curves.flush()

    def save(self, model: Any, epoch: int, last: bool) -> None:
        """Save network and optimizer after an epoch (counted from 1).

        At least 30 s lie between two checkpoints, but for every fifth epoch, which is kept, and the last.
        """
        keep = epoch % KEEP_EVERY == 0
        if time.monotonic() - self._saved < CHECKPOINT_SECONDS and not keep and not last:
            return
        with written_whole(self.checkpoint) as unfinished:
            model.save(unfinished)
        if keep:
            with written_whole(self.path / f"epoch-{epoch:03d}.keras") as unfinished:
                shutil.copyfile(self.checkpoint, unfinished)
        self._saved = time.monotonic()

    def _lines(self) -> list[str]:
        if not self.log_file.is_file():
            return []
        return self.log_file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)

    def _rows(self) -> list[str]:
        """The whole rows of metrics.csv, without its header."""
        return [line for line in self._lines()[1:] if line.endswith("\n")]

    def _keep_rows(self, epochs: int) -> None:
        """Drop what an interrupted run logged after its last checkpoint, and say if rows before it are lost."""
        done = {str(epoch) for epoch in range(1, epochs + 1)}
        kept = [row for row in self._rows() if row.split(",", maxsplit=1)[0] in done]
        if self.log_file.is_file():
            write_text(self.log_file, "".join([self._lines()[0], *kept] if kept else []))
        if len(kept) < epochs:
            print(f"note: {self.log_file} holds {len(kept)} of the {epochs} epochs done; the other rows are lost")


def _hashes(lists: list[list[dict[str, str]]]) -> list[str]:
    """The SHA-256 of every list of a run."""
    return [file["sha256"] for part in lists for file in part]

"""The folder of a training run: its record, log and checkpoints, and how an interrupted run goes on."""

import contextlib
import csv
import json
import shlex
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rafa.files import write_text, written_whole
from rafa.pose import AXES
from rafa.script import InputError
from rafa.train.devices import LostMachineError

MALFORMED = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
CHECKPOINT_SECONDS = 30  # epochs of seconds are not all saved
LOCK = ".lock"
OWN = {".json", ".csv", ".md", ".keras", ".h5"}  # suffixes of what a run writes

Found = dict[str, float]  # the losses of a step


class DivergedError(InputError):
    """A training whose losses or weights are beyond use: a resume would only repeat it."""


class RunFolder:
    """A training run on disk.

    - run.json: options, versions, commit, lists with their hashes, and every resume.
    - metrics.csv: a row per epoch, and tensorboard/ the same as curves.
    - last.keras: network and optimizer after the last saved epoch; epoch-005.keras ... where they are kept.
    - unfinished.json: the losses of the steps that last.keras has done since, where the run was stopped in an epoch.
    - predictions.csv, result.json, result.md: the final score.

    metrics.csv grows by a row per epoch, and a torn last row is dropped; every other file is written whole or not at
    all.

    Args:
        path: the folder.
        keep_every: epochs; those checkpoints are kept under their number; 0: none.
    """

    def __init__(self, path: str | Path, keep_every: int = 0) -> None:
        self.path, self.keep_every = Path(path), keep_every
        self.record_file, self.log_file = self.path / "run.json", self.path / "metrics.csv"
        self.checkpoint, self.curves = self.path / "last.keras", self.path / "tensorboard"
        self.unfinished_file = self.path / "unfinished.json"
        self.epochs_saved: int | None = None  # until the run has started or is resumed
        self.steps_saved = 0  # after those epochs
        self._saved_at = -float(CHECKPOINT_SECONDS)
        self._writer: Any = None

    # --- Taking the folder ---
    @contextlib.contextmanager
    def taken(self, resume: bool) -> Iterator[None]:
        """Hold the folder while the block runs; what stops the run then says what is saved and how to go on.

        Raises:
            InputError: another process holds the folder, it is not empty and not to be resumed, or the run failed.
            KeyboardInterrupt: as raised in the block.
        """
        if True:
            self.path.mkdir(parents=True, exist_ok=True)
            if not resume:
                self.refuse_if_used()
            for left in self._left_behind():
                left.unlink()
            try:
                yield
            except KeyboardInterrupt as stop:
                stop.args = (f"{self._saved()}{self._go_on()}",)
                raise
            except (InputError, OSError) as error:
                if self.epochs_saved is None:
                    raise
                go_on = "" if isinstance(error, DivergedError | LostMachineError) else self._go_on()
                raise InputError(f"{error}; {self._saved()}{go_on}") from error

    def _left_behind(self) -> list[Path]:
        """What a killed run was writing, see `written_whole`."""
        return [file for file in self.path.glob(".[0-9]*-*") if file.suffix in OWN]

    def _saved(self) -> str:
        epochs = self.epochs_saved or 0
        if self.steps_saved:
            return f"{self.checkpoint} holds the run up to step {self.steps_saved} of epoch {epochs + 1}"
        return f"{self.checkpoint} holds the run up to epoch {epochs}" if epochs else "no epoch was saved"

    def _go_on(self) -> str:
        if self.epochs_saved is None:
            return ""
        return f"; go on with: python train_rafa-net.py --run-dir {shlex.quote(str(self.path))} --resume"

    def refuse_if_used(self) -> None:
        """Raise an InputError if the folder holds anything."""
        if self.path.exists() and (
            not self.path.is_dir() or {*self.path.iterdir()} - {self.path / LOCK, *self._left_behind()}
        ):
            what = "is not empty" if self.path.is_dir() else "is a file"
            raise InputError(f"{self.path} {what}; give another --run-dir, or --resume to continue the run in it")

    def check_disk(self, model: Any, first_epoch: int, epochs: int) -> None:
        """Print what the checkpoints of a compiled network will take.

        Raises:
            InputError: the disk has less.
        """
        if first_epoch >= epochs:
            return
        one = 4 * sum(int(np.prod(variable.shape)) for variable in (*model.variables, *model.optimizer.variables))
        kept = epochs // self.keep_every - first_epoch // self.keep_every if self.keep_every else 0
        needed = one * (kept + 1 + (not self.checkpoint.exists()))  # one more is being written
        free = shutil.disk_usage(self.path).free
        text = f"checkpoints of {_gigabytes(one)} each take {_gigabytes(needed)}; {_gigabytes(free)} are free"
        if needed > free:
            raise InputError(f"{self.path}: {text}: make room, or give another --run-dir or a larger --keep-every")
        print(f"disk: {text}")

    # --- The record ---
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
        except (OSError, *MALFORMED) as error:
            raise InputError(f"{self.path} is not the folder of a run that can be resumed: {error!r}") from error
        if version is None:
            raise InputError(
                f"{self.path} was started by version 0.1 of this suite, whose batch normalisation differs: "
                "its networks can be scored, but it cannot be resumed; start a new run"
            )
        return {**record, "options": options}

    def start(self, record: dict[str, Any]) -> None:
        """Write the record of a new run into the folder that was taken."""
        write_text(self.record_file, json.dumps(record, indent=2, allow_nan=False) + "\n")
        self.epochs_saved = 0

    def resume(self, model: Any, record: dict[str, Any]) -> tuple[int, list[Found]]:
        """Load the last checkpoint into a compiled network.

        What was logged after that checkpoint is dropped.

        Returns:
            How many epochs it has done, and the losses of the steps after them, if the run was stopped in an epoch.

        Raises:
            InputError: lists that are not those of the run, a checkpoint that is missing or damaged.
        """
        begun = self.record()
        if _hashes(begun["lists"]) != _hashes(record["lists"]):
            raise InputError(f"the lists are not those that {self.path} started with; put those back to resume it")
        epoch, losses = self._load_checkpoint(model, record["steps_per_epoch"])
        if epoch + bool(losses) > (asked := record["options"]["epochs"]):
            raise InputError(f"--epochs is {asked}, and this run has begun more: its last checkpoint is beyond that")
        if not losses:
            self.unfinished_file.unlink(missing_ok=True)
            if (copy := self._kept(epoch)) and not copy.exists():  # the run ended before it could
                self._copy(copy)
        self._keep_rows(epoch)
        again = {"after_epoch": epoch, **record}
        kept = {**begun, "options": record["options"], "resumed": [*begun.get("resumed", []), again]}
        write_text(self.record_file, json.dumps(kept, indent=2, allow_nan=False) + "\n")
        self.epochs_saved, self.steps_saved = epoch, len(losses)
        return epoch, losses

    # --- Checkpoints ---
    def _load_checkpoint(self, model: Any, steps: int) -> tuple[int, list[Found]]:
        if not self.checkpoint.is_file():
            if len(self._rows()) > 1:
                raise InputError(f"{self.checkpoint} is missing; {self._way_on(model, steps)}")
            print(f"{self.path} holds no checkpoint yet: the run starts again at epoch 1")
            return 0, []
        try:
            return _load(model, self.checkpoint, steps, *self._unfinished())
        except InputError as error:
            raise InputError(f"{error}; {self._way_on(model, steps)}") from error

    def _way_on(self, model: Any, steps: int) -> str:
        """What to do where last.keras cannot be used: the newest kept checkpoint that can be."""
        kept = {int(file.stem[6:]): file for file in self.path.glob("epoch-*.keras") if file.stem[6:].isdecimal()}
        for _, file in sorted(kept.items(), reverse=True):
            with contextlib.suppress(InputError):
                _load(model, file, steps)
                return f"to resume from an earlier epoch, copy {file} to {self.checkpoint.name}"
        return "start a new run"

    def _unfinished(self) -> tuple[int, list[Found]]:
        """All steps that the checkpoint beside unfinished.json has done, and the losses; none where it is damaged."""
        try:
            facts = json.loads(self.unfinished_file.read_text(encoding="utf-8"))
            losses = [{name: float(loss) for name, loss in each.items()} for each in facts["losses"]]
            if any(not each.keys() >= {*AXES} for each in losses):
                raise ValueError("a step without the loss of every axis")
            return int(facts["steps"]), losses
        except (OSError, *MALFORMED):
            return 0, []

    def save_unfinished(self, model: Any, epoch: int, losses: list[Found]) -> None:
        """Save network and optimizer in an epoch, after `epoch` whole ones and the steps with these losses."""
        facts = {"steps": int(model.optimizer.iterations.numpy()), "losses": losses}
        write_text(self.unfinished_file, json.dumps(facts) + "\n")
        self._write(model, f"epoch {epoch + 1}, step {len(losses)}")
        self.epochs_saved, self.steps_saved = epoch, len(losses)

    @contextlib.contextmanager
    def saving_stops(self, model: Any, epoch: int, losses: list[Found]) -> Iterator[None]:
        """Where Ctrl-C or SIGTERM stops the block, save what `save_unfinished` does."""
        try:
            yield
        except KeyboardInterrupt:
            self.save_unfinished(model, epoch, losses)
            raise

    def save(self, model: Any, epoch: int, last: bool) -> None:
        """Save network and optimizer after an epoch (counted from 1).

        At least 30 s lie between two checkpoints, but for those that are kept, and the last.

        Raises:
            DivergedError: weights that are not finite; the checkpoint before them stays.
        """
        kept = self._kept(epoch)
        if time.monotonic() - self._saved_at < CHECKPOINT_SECONDS and not kept and not last:
            return
        self._write(model, f"epoch {epoch}")
        self.epochs_saved, self.steps_saved = epoch, 0
        self.unfinished_file.unlink(missing_ok=True)
        if kept:
            self._copy(kept)
        self._saved_at = time.monotonic()

    def _kept(self, epoch: int) -> Path | None:
        """Where the checkpoint of an epoch is kept; None if it is not."""
        is_kept = epoch and self.keep_every and epoch % self.keep_every == 0
        return self.path / f"epoch-{epoch:03d}.keras" if is_kept else None

    def _copy(self, file: Path) -> None:
        """Copy the last checkpoint."""
        with written_whole(file) as unfinished:
            shutil.copyfile(self.checkpoint, unfinished)

    def _write(self, model: Any, where: str) -> None:
        from rafa.net.weights import not_finite

        if name := not_finite(model):
            raise DivergedError(f"{where}: {name} is not finite: the training has diverged; lower --learning-rate")
        with written_whole(self.checkpoint) as unfinished:
            model.save(unfinished)

    # --- The log ---
    def log(self, row: dict[str, Any]) -> None:
        """Add the row of an epoch to metrics.csv and to TensorBoard's curves; every row has the same keys."""
        with self.log_file.open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, row, lineterminator="\n")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
        self._draw(row)

    def _draw(self, row: dict[str, Any]) -> None:
        """Add the numbers of an epoch to TensorBoard's curves."""
        from rafa.net.backend import tf

        try:
            self._writer = self._writer or tf.summary.create_file_writer(str(self.curves))
            with self._writer.as_default(step=int(row["epoch"])):
                for key, value in row.items():
                    if isinstance(value, float):
                        tf.summary.scalar(key, value)
            self._writer.flush()
        except tf.errors.OpError as error:
            raise OSError(f"{self.curves}: {' '.join(error.message.split())}") from error

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
        self._draw_again()

    def _draw_again(self) -> None:
        """Replace TensorBoard's curves by those of metrics.csv, which has no epoch twice."""
        shutil.rmtree(self.curves, ignore_errors=True)
        if self.log_file.is_file():
            with self.log_file.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    with contextlib.suppress(ValueError, TypeError, KeyError):  # a damaged row
                        numbers = {key: float(text) for key, text in row.items() if key != "epoch" and text}
                        self._draw({"epoch": row["epoch"], **numbers})


class FollowersFolder(RunFolder):
    """The run folder for the machines that follow the first: they resume from its checkpoint, and write nothing."""

    @contextlib.contextmanager
    def taken(self, resume: bool) -> Iterator[None]:
        """Nothing, as all that follow: the first machine takes, checks and writes the folder."""
        yield

    def refuse_if_used(self) -> None:
        pass

    def check_disk(self, model: Any, first_epoch: int, epochs: int) -> None:
        pass

    def start(self, record: dict[str, Any]) -> None:
        pass

    def resume(self, model: Any, record: dict[str, Any]) -> tuple[int, list[Found]]:
        """Load the last checkpoint, as the first machine does."""
        return self._load_checkpoint(model, record["steps_per_epoch"])

    def save_unfinished(self, model: Any, epoch: int, losses: list[Found]) -> None:
        pass

    def save(self, model: Any, epoch: int, last: bool) -> None:
        pass

    def log(self, row: dict[str, Any]) -> None:
        pass


def _load(
    model: Any, checkpoint: Path, steps: int, unfinished: int = 0, losses: Sequence[Found] = ()
) -> tuple[int, list[Found]]:
    """Load a checkpoint into a compiled network.

    Returns:
        How many epochs of `steps` steps it has done, and the losses of those after them, if it did `unfinished` in all.
    """
    from rafa.net.weights import load_into

    load_into(model, checkpoint)
    done = int(model.optimizer.iterations.numpy())
    begun = list(losses) if done == unfinished else []
    if not done or (done - len(begun)) % steps:
        raise InputError(
            f"{checkpoint} has done {done} steps, which is not a whole number of epochs of {steps} steps: it is of "
            "another run, or the training list or the images present have changed since, or unfinished.json, which a "
            "run has beside it that was stopped in an epoch, is missing or damaged"
        )
    return (done - len(begun)) // steps, begun


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


def _hashes(lists: list[list[dict[str, str]]]) -> list[str]:
    """The SHA-256 of every list of a run."""
    return [file["sha256"] for part in lists for file in part]

"""The folder of a training run: its record, its log and its checkpoints."""

import argparse
import contextlib
import csv
import json
import shlex
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rafa.datasets.lists import Listed
from rafa.files import environment, sha256, write_text, written_whole
from rafa.pose import AXES
from rafa.script import InputError


class DivergedError(InputError):
    """Losses or weights that are not finite: to go on would only repeat it."""


class RunFolder:
    """A training run on disk.

    - run.json: options, versions, commit, lists with their hashes, every resume, and the hashes of kept networks.
    - metrics.csv: a row per epoch, and tensorboard/ the same as curves.
    - last.keras: network and optimizer after the last epoch; epoch-005.keras ... where they are kept.
    - network.weights.h5: the final network of `--synthetic full`.
    - predictions.csv, result.json, result.md: the final score.

    metrics.csv grows by a row per epoch; every other file is written whole or not at all.

    Args:
        path: the folder.
        keep_every: epochs; those checkpoints are kept under their number; 0: none.
        writes: False for all but the first of several machines, which read its checkpoint and write nothing.
    """

    def __init__(self, path: str | Path, keep_every: int = 0, writes: bool = True) -> None:
        self.path, self.keep_every, self.writes = Path(path), keep_every, writes
        self.record_file, self.log_file = self.path / "run.json", self.path / "metrics.csv"
        self.checkpoint, self.curves = self.path / "last.keras", self.path / "tensorboard"
        self.epochs_saved = 0
        self._writer: Any = None

    # --- The record ---
    def refuse_if_used(self) -> None:
        """Raise an InputError if the folder holds anything."""
        used = any(self.path.iterdir()) if self.path.is_dir() else self.path.exists()
        if used and self.writes:
            raise InputError(f"{self.path} is not empty; give another --run-dir, or --resume to continue the run in it")

    def record(self) -> dict[str, Any]:
        """What run.json says.

        Raises:
            InputError: there is none, or it is of a version before 0.3.
        """
        if not self.record_file.is_file():
            raise InputError(f"{self.record_file}: no such file; --resume needs the --run-dir of a run")
        try:
            record = json.loads(self.record_file.read_text(encoding="utf-8"))
            _ = what_is_read(record), dict(record["options"])
        except (ValueError, LookupError, TypeError) as error:
            raise InputError(f"{self.record_file} is of no run of this version ({error!r}); start a new run") from error
        return record

    def start(self, record: dict[str, Any], resumed: bool = False) -> None:
        """Write the record of a new run, or of a resume, before the first epoch.

        Raises:
            InputError: the folder is not empty.
        """
        if not self.writes:
            return
        if resumed:
            self._resume(record)
            return
        self.path.mkdir(parents=True, exist_ok=True)
        self.refuse_if_used()
        try:
            with self.record_file.open("x", encoding="utf-8") as file:  # of two programs only one can make it
                file.write(_json(record))
        except FileExistsError:
            self.refuse_if_used()
        except OSError:  # a full disk: the folder stays free
            self.record_file.unlink()
            raise

    def _resume(self, record: dict[str, Any]) -> None:
        """Add a resume to the record, or begin again without a saved epoch; drop the rows of epochs not saved."""
        if self.epochs_saved:
            begun = self.record()
            resumes = [*begun.get("resumed", []), {"after_epoch": self.epochs_saved, **record}]
            record = {**begun, "options": record["options"], "resumed": resumes}
        write_text(self.record_file, _json(record))
        rows = self.log_file.read_text(encoding="utf-8").splitlines(keepends=True) if self.log_file.exists() else []
        write_text(self.log_file, "".join(rows[: self.epochs_saved + 1]))
        shutil.rmtree(self.curves, ignore_errors=True)
        with self.log_file.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                self._draw({key: float(text) for key, text in row.items() if text})

    # --- Checkpoints ---
    def save(self, model: Any, epoch: int) -> None:
        """Save network and optimizer after an epoch, counted from 1; the number is the archive's comment.

        Raises:
            InputError: weights that are not finite; the checkpoint before them stays.
        """
        from rafa.net.weights import not_finite

        if not self.writes:
            return
        if name := not_finite(model):
            raise DivergedError(
                f"the training has diverged: {name} is not finite; start again with a lower --learning-rate"
            )
        with written_whole(self.checkpoint) as unfinished:
            model.save(unfinished)
            with zipfile.ZipFile(unfinished, "a") as archive:
                archive.comment = str(epoch).encode()
            if self.keep_every and epoch % self.keep_every == 0:  # before last.keras says it is done
                kept = self.path / f"epoch-{epoch:03d}.keras"
                with written_whole(kept) as copy:
                    shutil.copyfile(unfinished, copy)
                self.note_weights(kept)
        self.epochs_saved = epoch

    def note_weights(self, file: Path) -> None:
        """Write the hash of a network's file into the record, by which its results are credited to this run."""
        record = self.record()
        record["weights"] = {**record.get("weights", {}), file.name: sha256(file)}
        write_text(self.record_file, _json(record))

    def restore(self, model: Any, record: dict[str, Any]) -> int:
        """Load the last checkpoint into a compiled network; returns how many epochs it has done.

        Raises:
            InputError: other lists or images, fewer epochs than the run has done, or a damaged checkpoint.
        """
        from rafa.net.weights import load_into

        if what_is_read(self.record()) != what_is_read(record):
            raise InputError(f"the lists or images present are not those that {self.path} began with; put those back")
        load_into(model, self.checkpoint)
        with zipfile.ZipFile(self.checkpoint) as archive:
            self.epochs_saved = int(archive.comment)
        if self.epochs_saved > (epochs := record["options"]["epochs"]):
            raise InputError(f"--epochs is {epochs}, and {self.path} has done {self.epochs_saved} already; give more")
        return self.epochs_saved

    @contextlib.contextmanager
    def saying_how_to_go_on(self) -> Iterator[None]:
        """Whatever stops the block then says what is saved, and how to go on."""
        try:
            yield
        except (InputError, OSError, KeyboardInterrupt) as error:
            saved = f"{self.checkpoint} holds the run up to epoch {self.epochs_saved}"
            go_on = f"python train_rafa-net.py --run-dir {shlex.quote(str(self.path))} --resume"
            text = saved if self.epochs_saved else "no epoch is saved"
            text += "" if isinstance(error, DivergedError) else f"; to go on: {go_on}"
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(text) from error
            raise InputError(f"{error}; {text}") from error

    # --- The log ---
    def log(self, row: dict[str, Any]) -> None:
        """Print the row of an epoch, and add it to metrics.csv and to TensorBoard's curves; all have the same keys."""
        if not self.writes:
            return
        numbers = {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}
        print(", ".join(f"{key} {value}" for key, value in numbers.items() if value != ""), flush=True)
        with self.log_file.open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, row, lineterminator="\n")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(numbers)
        self._draw(row)

    def _draw(self, row: dict[str, Any]) -> None:
        from rafa.net.backend import tf

        try:
            self._writer = self._writer or tf.summary.create_file_writer(str(self.curves))
            with self._writer.as_default(step=int(row["epoch"])):
                for key, value in row.items():
                    if isinstance(value, float):
                        tf.summary.scalar(key, value)
            self._writer.flush()
        except tf.errors.OpError as error:  # as of a full disk
            raise OSError(f"{self.curves}: {' '.join(error.message.split())}") from error


def run_record(options: argparse.Namespace, train: Listed, test: Listed) -> dict[str, Any]:
    """What run.json says of a run."""
    mean_pose = np.degrees(train.records["angles"]).mean(axis=0)
    return {
        "options": vars(options),
        "lists": [[asdict(file) for file in part.files] for part in (train, test)],
        "images": [len(train.records), len(test.records)],
        "mean_pose": dict(zip(AXES, mean_pose.tolist(), strict=True)),  # of the training list, in degrees
        "notes": [list(train.notes), list(test.notes)],
        **environment(),
    }


def _json(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=2, allow_nan=False) + "\n"


def what_is_read(record: dict[str, Any]) -> tuple[list[str], list[int]]:
    """By what the lists and images of two runs are the same, wherever they lie: hashes, and numbers of images."""
    return [file["sha256"] for part in record["lists"] for file in part], record["images"]

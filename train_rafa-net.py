"""Train RAFA-Net.

python train_rafa-net.py                 the paper's run: 300W-LP, watched and scored on AFLW2000
python train_rafa-net.py --protocol 2    BIWI, 16 videos to train and 8 to test
python train_rafa-net.py --synthetic     generated heads and a tiny network: from nothing to a table in minutes
python train_rafa-net.py --run-dir DIR --resume
"""

import argparse
import csv
import datetime
import json
import os
import shutil
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from data_loaders import (
    AXES,
    BIWI_SPLITS,
    batches_per_epoch,
    keep_present,
    load_data_set,
    read_lists,
    training_batches,
)
from util import metrics, protocol, tables
from util.errors import InputError
from util.inference import predict_listed
from util.predictions import write_predictions
from util.provenance import environment

# What an option is when it is not given.  The paper's run, and what differs for the generated heads.
PAPER = {
    "protocol": 1,
    "split": "16-8",
    "backbone": "resnet50",
    "weights": "imagenet",
    "epochs": 100,
    "batch_size": 16,
    "learning_rate": 1e-3,
    "decay_every": 0,
    "train_margin": 0.5,
    "test_margin": 0.2,
    "seed": 0,
    "data_dir": "data",
    "angle_unit": "radians",
    "workers": os.cpu_count(),
    "limit": 0,
    "watch_every": 5,
}
SYNTHETIC = {"backbone": "tiny", "weights": "none", "epochs": 15, "batch_size": 32, "decay_every": 11}
SYNTHETIC |= {"data_dir": "data/synthetic", "watch_every": 0}
LOGGED = ("learning_rate", "loss", *(f"{axis}_loss" for axis in AXES))
MAY_CHANGE_ON_RESUME = {"epochs", "workers", "data_dir"}


def parse_options(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    run = parser.add_argument_group("what to run")
    run.add_argument("--protocol", type=int, choices=(1, 2), help="1: 300W-LP → AFLW2000; 2: BIWI (1)")
    run.add_argument("--split", choices=tuple(BIWI_SPLITS), help="of BIWI, for protocol 2 (16-8)")
    run.add_argument("--synthetic", action="store_true", help="generated heads, drawn on first use; tiny backbone")
    run.add_argument("--train-lists", nargs=2, metavar=("CROP", "ANGLES"), help="one's own lists to train on")
    run.add_argument("--test-lists", nargs=2, metavar=("CROP", "ANGLES"), help="one's own lists to test on")
    run.add_argument("--angle-unit", choices=("radians", "degrees"), help="of one's own lists (radians)")
    run.add_argument("--data-dir", help="folder at which the lists' paths start (data)")
    run.add_argument("--allow-missing", action="store_true", help="go on with the listed pictures that are there")
    run.add_argument("--limit", type=int, help="use at most so many pictures of each list, evenly spread (0: all)")
    network = parser.add_argument_group("network")
    network.add_argument("--backbone", choices=("resnet50", "tiny"), help="(resnet50)")
    network.add_argument("--weights", help="to start from: imagenet, none, or a file (imagenet)")
    recipe = parser.add_argument_group("recipe, the paper's by default")
    recipe.add_argument("--epochs", type=int, help="(100)")
    recipe.add_argument("--batch-size", type=int, help="(16)")
    recipe.add_argument("--learning-rate", type=float, help="of RMSprop (1e-3)")
    recipe.add_argument(
        "--decay-every", type=int, help="divide the learning rate by ten every so many epochs (0: never)"
    )
    recipe.add_argument("--train-margin", type=float, help="margins are drawn from U(0, this) (0.5)")
    recipe.add_argument("--test-margin", type=float, help="fixed margin in testing (0.2)")
    recipe.add_argument(
        "--watch-every", type=int, help="score the test list every so many epochs (5; 0: only at the end)"
    )
    recipe.add_argument("--seed", type=int, help="(0)")
    files = parser.add_argument_group("files and machine")
    files.add_argument("--run-dir", help="folder for everything the run writes (runs/NAME-DATE)")
    files.add_argument("--resume", action="store_true", help="go on with the run in --run-dir from its last checkpoint")
    files.add_argument("--workers", type=int, help="threads that read pictures (all cores)")
    options = parser.parse_args(arguments)
    defaults = PAPER | (SYNTHETIC if options.synthetic else {})
    if options.resume:
        defaults = resumed_options(parser, options)
    for name, value in defaults.items():
        if not was_given(options, name):
            setattr(options, name, value)
    check_options(parser, options)
    return options


def resumed_options(parser, options):
    """The options of the run to go on with; only some may be given anew."""
    if not options.run_dir:
        parser.error("--resume needs the --run-dir to go on with")
    try:
        saved = json.loads(Path(options.run_dir, "run.json").read_text(encoding="utf-8"))["options"]
    except (OSError, json.JSONDecodeError, KeyError) as error:
        parser.error(f"{options.run_dir} is not the folder of a run that can be resumed: {error}")
    for name, value in saved.items():
        given = getattr(options, name)
        may_change = name in {*MAY_CHANGE_ON_RESUME, "run_dir", "resume"}
        if was_given(options, name) and given != value and not may_change:
            parser.error(f"--{name.replace('_', '-')} was {value} in this run and cannot become {given} on the way")
    return saved


def was_given(options, name):
    """Whether an option stands on the command line; 0 may."""
    return getattr(options, name) is not None and getattr(options, name) is not False


def check_options(parser, options):
    for name, low, high in [
        ("epochs", 1, 1e6),
        ("batch_size", 1, 1e5),
        ("learning_rate", 1e-12, 10),
        ("decay_every", 0, 1e6),
        ("train_margin", 0, 5),
        ("test_margin", 0, 5),
        ("seed", 0, 2**31),
        ("workers", 1, 1024),
        ("limit", 0, 1e9),
        ("watch_every", 0, 1e6),
    ]:
        if not low <= getattr(options, name) <= high:
            parser.error(f"--{name.replace('_', '-')} must lie in {low:g}...{high:g}, not {getattr(options, name):g}")


def load_lists(options):
    """The training and the test part, with every picture present."""
    names = ("synthetic-train", "synthetic") if options.synthetic else ("300w-lp", "aflw2000")
    listed = []
    for name, part, own in zip(names, ("train", "test"), (options.train_lists, options.test_lists), strict=True):
        if own:
            part_listed = read_lists(*own, options.angle_unit, options.data_dir)
        elif options.protocol == 2:
            part_listed = load_data_set("biwi", options.data_dir, options.split, part)
        else:
            part_listed = load_data_set(name, options.data_dir)
        part_listed = keep_present(part_listed, options.allow_missing)
        if 0 < options.limit < len(part_listed.records):
            chosen = np.linspace(0, len(part_listed.records) - 1, options.limit).astype(int)
            note = f"--limit: {options.limit} of {len(part_listed.records):,} pictures"
            part_listed = replace(part_listed, records=part_listed.records[chosen], notes=(*part_listed.notes, note))
        listed.append(part_listed)
    return listed


def describe(listed):
    """One printed line per part, and what run.json says of it."""
    for role, part in zip(("train", "test"), listed, strict=True):
        rejected = "".join(f", {len(paths):,} {reason}" for reason, paths in part.rejected.items())
        absent = f", {part.missing:,} pictures absent" if part.missing else ""
        print(f"{role:5}  {part.data_set.title}, {part.split}: {len(part.records):,} pictures{rejected}{absent}")
        for note in part.notes:
            print(f"       note: {note}")
    return [[asdict(file) for file in part.files] for part in listed]


def main():
    options = parse_options()
    if options.synthetic:
        from synthetic_heads import ensure_data_set

        ensure_data_set(options.data_dir)
    train, test = listed = load_lists(options)
    lists = describe(listed)
    name = "synthetic" if options.synthetic else f"protocol{options.protocol}"
    run_dir = Path(options.run_dir or f"runs/{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}")
    checkpoint, log = run_dir / "last.keras", run_dir / "metrics.csv"
    if run_dir.exists() and any(run_dir.iterdir()) and not options.resume:
        raise InputError(f"{run_dir} is not empty; give another --run-dir, or --resume to go on with it")

    # TensorFlow is loaded only now, when the options are right and the data is there.
    from rafa_model import build_rafa_net, compile_rafa_net
    from util.backend import keras, tf

    steps = batches_per_epoch(train, options.batch_size)
    keras.utils.set_random_seed(options.seed)
    first_epoch = 0
    if options.resume and checkpoint.is_file():
        model = keras.saving.load_model(checkpoint)  # with the optimizer's state; safe mode: no code in it can run
        first_epoch = int(model.optimizer.iterations) // steps
        keep_rows(log, first_epoch)
        print(f"resume after epoch {first_epoch} of {options.epochs}")
    else:
        model = build_rafa_net(options.backbone, None if options.weights == "none" else options.weights)
        compile_rafa_net(model, options.learning_rate)
        run_dir.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
    record = {"options": vars(options), "lists": lists, "steps_per_epoch": steps, **environment()}
    if first_epoch:  # keep what the run began with
        begun = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
        again = {"after_epoch": first_epoch, **record}
        record = {**begun, "options": vars(options), "resumed": [*begun.get("resumed", []), again]}
    (run_dir / "run.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    size = f"{model.count_params():,} parameters, {steps} steps an epoch"
    print(f"{model.name}: {size}, on {environment()['hardware']}")
    print(f"everything goes to {run_dir}")

    class Log(keras.callbacks.Callback):
        """One row of metrics.csv per epoch.

        Every few epochs it holds the scores on the test list: watched as the released code does, nothing is chosen by
        them.
        """

        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.monotonic()

        def on_epoch_end(self, epoch, logs=None):
            row = {"epoch": epoch + 1, "seconds": f"{time.monotonic() - self.start:.1f}"}
            row |= {name: f"{logs[name]:.6g}" for name in LOGGED}
            watched = dict.fromkeys(protocol.MAE_KEYS, "")
            if options.watch_every and (epoch + 1) % options.watch_every == 0:
                found = predict_listed(model, test, options.test_margin, options.workers)
                watched = {key: f"{metrics.per_image(found)[key].mean():.4f}" for key in protocol.MAE_KEYS}
                logs |= {f"test_{key}": float(value) for key, value in watched.items()}  # for TensorBoard
                print(f"  watched on the test list: mean absolute error {float(watched['mae']):.2f}°")
            row |= {f"test_{key}": value for key, value in watched.items()}
            append_row(log, row)

    class Checkpoint(keras.callbacks.Callback):
        """Network and optimizer state after an epoch; written beside and put in place whole.

        Epochs of seconds are not all saved: at least 30 s lie between, but for every fifth epoch and the last.
        """

        def on_epoch_end(self, epoch, logs=None):
            fifth, last = (epoch + 1) % 5 == 0, epoch + 1 == options.epochs
            if time.monotonic() - getattr(self, "saved", -30) < 30 and not fifth and not last:
                return
            partial = run_dir / "partial.keras"
            model.save(partial)
            self.saved = time.monotonic()
            if fifth:
                shutil.copy(partial, run_dir / f"epoch-{epoch + 1:03d}.keras")
            os.replace(partial, checkpoint)

    class ExpectedTime(keras.callbacks.Callback):
        """Says after 20 steps how long an epoch and the run will take."""

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            if self.epoch == first_epoch and batch == 4:
                self.start = time.monotonic()
            if self.epoch == first_epoch and batch == 24:
                seconds = (time.monotonic() - self.start) / 20 * steps
                left = seconds * (options.epochs - first_epoch) / 60
                print(f"\nexpected: {seconds:.0f} s an epoch, {left:.0f} min for the run, without the test list")

    def rate(epoch):
        decay = epoch // options.decay_every if options.decay_every else 0
        return options.learning_rate * 0.1**decay

    batches = training_batches(
        train, options.batch_size, options.train_margin, options.seed, options.workers, first_epoch
    )
    failures = []

    def watched_batches():
        try:
            yield from batches
        except InputError as error:
            failures.append(error)
            raise

    start = time.monotonic()
    try:
        model.fit(
            watched_batches(),
            shuffle=False,  # the batches come shuffled
            steps_per_epoch=steps,
            initial_epoch=first_epoch,
            epochs=options.epochs,
            verbose=1 if sys.stdout.isatty() else 2,
            callbacks=[
                keras.callbacks.LearningRateScheduler(rate),
                ExpectedTime(),
                Log(),
                keras.callbacks.TensorBoard(run_dir / "tensorboard", write_graph=False),
                Checkpoint(),
            ],
        )
    except tf.errors.OpError:
        if failures:  # TensorFlow wraps what a generator raises in a page of its own
            raise failures[0] from None
        raise
    print(f"trained {max(0, options.epochs - first_epoch)} epochs in {time.monotonic() - start:.0f} s")

    predictions = predict_listed(model, test, options.test_margin, options.workers)
    write_predictions(run_dir / "predictions.csv", predictions)
    baseline = metrics.mean_pose_baseline(np.degrees(train.records["angles"]), predictions.true)
    result = protocol.score(test, predictions, weights=protocol.weights_facts(checkpoint, options.backbone))
    protocol.write_results(run_dir / "result.json", [result])
    table = tables.result_table([result])
    table += f"\n\nAlways answering the mean pose of the training list: {baseline['mae']:.2f} degrees."
    (run_dir / "result.md").write_text(table + "\n", encoding="utf-8")
    files = "last.keras, metrics.csv, predictions.csv, result.md, result.json, run.json, tensorboard/"
    print(f"\n{table}\n\n{run_dir}: {files}")


def append_row(log, row):
    """Add a row to a CSV file, after a header if the file is new."""
    new = not log.is_file()
    with log.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, row, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def keep_rows(log, epochs):
    """Drop what an interrupted run logged after its last checkpoint."""
    if log.is_file():
        header, *rows = log.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [row for row in rows if row.endswith("\n") and int(row.split(",", maxsplit=1)[0]) <= epochs]
        log.write_text("".join([header, *kept]), encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except (InputError, ValueError) as error:
        sys.exit(f"error: {error}")

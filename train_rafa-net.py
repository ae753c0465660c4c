"""Train RAFA-Net.

python train_rafa-net.py                 protocol 1: 300W-LP, scored on AFLW2000
python train_rafa-net.py --protocol 2    BIWI, 16 videos to train and 8 to test
python train_rafa-net.py --synthetic     synthetic heads and a small network: from nothing to a table in minutes
python train_rafa-net.py --synthetic full    the suite's own weights, by a recipe of their own, in under two hours
python train_rafa-net.py --run-dir DIR --resume
"""

import argparse
import contextlib
import datetime
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from data_loaders import Shard, batches_per_epoch
from rafa.datasets.check import keep_present, note_damage
from rafa.datasets.lists import Listed, limited, load_dataset, read_lists
from rafa.datasets.sets import BIWI_SPLITS
from rafa.files import environment, write_text
from rafa.net.inference import predict_angles
from rafa.pose import AXES
from rafa.score import protocol, tables
from rafa.score.predictions import predict_listed, write_predictions
from rafa.script import InputError, number, option_parser, progress, run_script
from rafa.train.devices import all_devices, this_machine
from rafa.train.recipe import ExpectedTime, Losses, PaperRecipe, refuse_diverged, training_step, watch
from rafa.train.run_folder import FollowersFolder, RunFolder

# What --synthetic changes: smaller network, fewer epochs, larger batches.
SYNTHETIC = {"backbone": "small", "batch_size": 32, "watch_every": 0}
DEMO = SYNTHETIC | {"weights": "synthetic", "epochs": 6, "decay_every": 4, "data_dir": "data/synthetic"}
FULL = SYNTHETIC | {"weights": "none", "epochs": 24, "data_dir": "data/synthetic-full"}
FULL["cache"] = 0.0  # its augmentation uses the whole of every image
FULL_HEADS = {"train": 16_000, "test": 400, "per_person": 1}
ADDED_OPTIONS = {"mixed_precision", "xla", "cache"}  # which the run.json of an older run lacks
MAY_CHANGE_ON_RESUME = {"epochs", "workers", "data_dir", "run_dir", "resume", "keep_every", "cache"}


def option_definitions() -> argparse.ArgumentParser:
    """Every option with its default: what the released code runs."""
    parser = option_parser(__doc__)
    run = parser.add_argument_group("what to run")
    run.add_argument("--protocol", type=int, choices=(1, 2), default=1, help="1: 300W-LP → AFLW2000; 2: BIWI")
    run.add_argument("--split", choices=tuple(BIWI_SPLITS), help="BIWI split of protocol 2 (default: 16-8)")
    demo, full = (", ".join(f"{key.replace('_', ' ')} {value}" for key, value in each.items()) for each in (DEMO, FULL))
    text = "synthetic heads, drawn on first use, with other defaults. demo: the paper's recipe on a small network "
    text += f"({demo}). full: the recipe of the suite's own weights ({full}) (default: demo)"
    run.add_argument("--synthetic", nargs="?", const="demo", choices=("demo", "full"), help=text)
    run.add_argument("--train-lists", nargs=2, metavar=("CROP", "ANGLES"), help="your own lists to train on")
    run.add_argument("--test-lists", nargs=2, metavar=("CROP", "ANGLES"), help="your own lists to test on")
    run.add_argument("--angle-unit", choices=("radians", "degrees"), help="unit of your own lists (default: radians)")
    run.add_argument("--data-dir", default="data", help="folder at which the lists' paths start")
    run.add_argument("--allow-missing", action="store_true", help="skip missing images (their number is reported)")
    text = "use at most N evenly spaced images per list; 0: all"
    run.add_argument("--limit", type=number(int, 0), default=0, metavar="N", help=text)
    network = parser.add_argument_group("network")
    text = "the paper's, or a smaller one"
    network.add_argument("--backbone", choices=("resnet50", "small", "tiny"), default="resnet50", help=text)
    text = "to start from: imagenet or synthetic, which leave the axis heads random, none, or a file"
    network.add_argument("--weights", default="imagenet", help=text)
    recipe = parser.add_argument_group("recipe")
    recipe.add_argument("--epochs", type=number(int, 1), default=100, metavar="N", help="passes over the training list")
    recipe.add_argument("--batch-size", type=number(int, 1), default=16, metavar="N", help="images per step")
    text = "learning rate of RMSprop, or with --synthetic full the highest one of Adam. The released code runs 1e-3; "
    text += "its history implies 1e-4 with --decay-every 25"
    recipe.add_argument("--learning-rate", type=number(float, 1e-12, 10), default=1e-3, metavar="RATE", help=text)
    text = "divide the learning rate by ten every N epochs; 0: never"
    recipe.add_argument("--decay-every", type=number(int, 0), default=0, metavar="N", help=text)
    text = "maximum training margin m, drawn from U(0, m), as a share of the box"
    recipe.add_argument("--train-margin", type=number(float, 0, 5), default=0.5, metavar="M", help=text)
    text = "fixed margin in testing, as a share of the box"
    recipe.add_argument("--test-margin", type=number(float, 0, 5), default=0.2, metavar="M", help=text)
    text = "score the test list every N epochs, for monitoring only; 0: only at the end"
    recipe.add_argument("--watch-every", type=number(int, 0), default=5, metavar="N", help=text)
    text = "seed of initial weights, order and margins"
    recipe.add_argument("--seed", type=number(int, 0, 2**31), default=0, help=text)
    files = parser.add_argument_group("files and machine")
    files.add_argument("--run-dir", help="folder for everything the run writes (default: runs/NAME-DATE)")
    text = "continue the run in --run-dir from its last checkpoint; --epochs, --keep-every, --workers, --cache and "
    text += "--data-dir may change"
    files.add_argument("--resume", action="store_true", help=text)
    text = "keep the checkpoint of every Nth epoch, each as large as last.keras; 0: last.keras alone"
    files.add_argument("--keep-every", type=number(int, 0), default=0, metavar="N", help=text)
    text = "compute in half precision, but for weights, attention and losses: float16 on a GPU, bfloat16 on a "
    text += "processor, where it is slow without instructions for it"
    files.add_argument("--mixed-precision", action=argparse.BooleanOptionalAction, default=False, help=text)
    text = "compile the training step with XLA, on one device; not measured on GPUs"
    files.add_argument("--xla", action=argparse.BooleanOptionalAction, default=False, help=text)
    files.add_argument("--workers", type=number(int, 1, 1024), default=os.cpu_count(), help="threads that read images")
    text = "memory for decoded training images, which later epochs need not read again"
    files.add_argument("--cache", type=number(float, 0, 1e5), default=1.0, metavar="GB", help=text)
    return parser


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a run: given ones, then those of the run that is resumed or of --synthetic, then the paper's."""
    parser = option_definitions()
    options = parser.parse_args(arguments)
    if options.resume:
        if not options.run_dir:
            parser.error("--resume needs the --run-dir of the run to continue")
        saved = checked(RunFolder(options.run_dir).record()["options"], options.run_dir)
        parser.set_defaults(**saved)
        options = parser.parse_args(arguments)
        fixed = saved.keys() - MAY_CHANGE_ON_RESUME
        if saved["synthetic"] == "full":
            fixed |= {"epochs"}  # the learning rate falls over all of them
        for name in sorted(fixed):
            if (given := getattr(options, name)) != saved[name]:
                parser.error(f"--{name.replace('_', '-')} is {saved[name]} in this run and cannot become {given}")
        return options
    if options.synthetic:
        parser.set_defaults(**(FULL if options.synthetic == "full" else DEMO))
        options = parser.parse_args(arguments)
    check_options(parser, options)
    options.split = options.split or "16-8"
    options.angle_unit = options.angle_unit or "radians"
    name = "synthetic" if options.synthetic else f"protocol{options.protocol}"
    options.run_dir = options.run_dir or f"runs/{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    return options


def checked(saved: dict[str, Any], run_dir: str) -> dict[str, Any]:
    """The options of a run.json, with the default for one that did not exist when the run began.

    Raises:
        InputError: options that are not this script's, by name, type or value.
    """
    parser = option_definitions()

    def refuse(message: str) -> NoReturn:
        raise InputError(f"{run_dir}/run.json does not hold this script's options: {' '.join(message.split())}")

    parser.error = refuse  # type: ignore[method-assign]
    defaults, given = vars(parser.parse_args([])), list[str]()
    saved = {name: defaults[name] for name in MAY_CHANGE_ON_RESUME | ADDED_OPTIONS} | saved
    for name, value in saved.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, list):
            given += [option, *map(str, value)]
        elif value is True and defaults.get(name) is False:
            given.append(option)
        elif value is not None and value is not False:
            given.append(f"{option}={value}")
    parsed = vars(parser.parse_args(given))
    if wrong := sorted(name for name in parsed | saved if name not in saved or parsed.get(name) != saved[name]):
        refuse(f"see {', '.join(wrong)}")
    return saved


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse options that would have no effect."""
    if options.split and options.protocol != 2:
        parser.error("--split belongs to --protocol 2")
    if options.angle_unit and not (options.train_lists or options.test_lists):
        parser.error("--angle-unit belongs to --train-lists and --test-lists; the published lists have theirs")
    if options.synthetic and options.protocol == 2:
        parser.error("--synthetic has its own training and test list; --protocol 2 is BIWI")
    if options.synthetic == "full":
        if options.decay_every:
            parser.error("--decay-every has no effect with --synthetic full, whose learning rate falls with a cosine")
        if options.cache:
            parser.error("--cache has no effect with --synthetic full, which uses the whole of every image")
        if options.weights != "none" or options.train_lists:
            parser.error("--synthetic full starts from random weights and trains on synthetic heads alone")


def load_lists(options: argparse.Namespace) -> list[Listed]:
    """The training and the test list, with every image present; prints a line for each."""
    names = ("synthetic-train", "synthetic") if options.synthetic else ("300w-lp", "aflw2000")
    lists = []
    for name, part, own in zip(names, ("train", "test"), (options.train_lists, options.test_lists), strict=True):
        if own:
            crop_list, angle_list = own
            listed = read_lists(crop_list, angle_list, options.angle_unit, options.data_dir)
        elif options.protocol == 2:
            listed = load_dataset("biwi", options.data_dir, options.split, part)
        else:
            listed = load_dataset(name, options.data_dir)
        listed = keep_present(listed, options.allow_missing)
        listed = note_damage(limited(listed, options.limit))
        rejected = "".join(f", {len(paths):,} rejected: {reason}" for reason, paths in listed.rejected.items())
        absent = f", {listed.missing:,} images absent" if listed.missing else ""
        print(f"{part:5}  {listed.dataset.title}, {listed.split}: {len(listed.records):,} images{rejected}{absent}")
        for note in listed.notes:
            print(f"       note: {note}")
        lists.append(listed)
    return lists


def main(arguments: Sequence[str] | None = None) -> None:
    options, machine = parse_options(arguments), this_machine()
    run = (FollowersFolder if machine.index else RunFolder)(options.run_dir, options.keep_every)
    if not options.resume:
        run.refuse_if_used()
    if options.synthetic:
        from rafa.heads.dataset import ensure_dataset

        ensure_dataset(options.data_dir, **(FULL_HEADS if options.synthetic == "full" else {}))
    train, test = load_lists(options)
    with run.taken(options.resume):
        train_and_score(run, train, test, options, machine)


def train_and_score(run: RunFolder, train: Listed, test: Listed, options: argparse.Namespace, machine: Shard) -> None:
    """Start or resume the run in a folder that was taken, and finish it."""
    steps = batches_per_epoch(train, options.batch_size)

    # TensorFlow is loaded only now, when the options are right and the data is there.
    from rafa.heads.recipe import HeadsRecipe
    from rafa.net.backend import computing_in, keras
    from rafa.train.devices import choose_precision, loss_scale_for

    devices = all_devices(machine)
    devices.refuse_unlike(started_with(options, train, test))
    devices.check(min(options.batch_size, len(train.records)), options.xla)
    begun = run.record() if options.resume else {}
    if (before := begun.get("devices", devices.count)) != devices.count:
        changed = f"the run was started on {before} device(s), and goes on with {devices.count}"
        print(f"note: {changed}: batch normalisation sees other parts of a batch, so the numbers differ")
    precision = choose_precision(options.mixed_precision, begun)
    keras.utils.set_random_seed(options.seed)
    recipe = (HeadsRecipe if options.synthetic == "full" else PaperRecipe)(options, train, devices, precision)
    with devices.scope(), computing_in(precision):
        model = recipe.build()
        loss_scale = loss_scale_for(model.optimizer, precision)
    computed = {"devices": devices.count, "machines": machine.count, "precision": precision}
    record = run_record(options, train, test, steps) | computed
    first_epoch, losses = 0, list[dict[str, float]]()
    if options.resume:
        first_epoch, losses = run.resume(model, record)
        devices.refuse_unlike({"the checkpoint in --run-dir": (first_epoch, losses)})
        within = f" and step {len(losses)} of {steps}" if losses else ""
        print(f"resume after epoch {first_epoch} of {options.epochs}{within}")
    run.check_disk(model, first_epoch, options.epochs)
    if not options.resume:
        run.start(record)
    print(f"{model.name}: {model.count_params():,} parameters, {steps} steps an epoch, on {record['hardware']}")
    print(f"everything goes to {run.path if machine.index == 0 else 'the first machine'}", flush=True)

    step = training_step(model, recipe.losses, devices, loss_scale, options.xla)
    expected = ExpectedTime(steps, options.epochs - first_epoch)
    batches, average_statistics = recipe.batches(first_epoch, len(losses)), devices.averaging(model)
    for epoch in range(first_epoch, options.epochs):
        start, title, left = time.monotonic(), f"epoch {epoch + 1}/{options.epochs}", steps - len(losses)
        recipe.start_epoch(model, epoch)
        with contextlib.nullcontext(lambda: False) as stop:
            for crops, true in progress(islice(batches, left), left, title, "step"):
                found = step(crops, true)
                losses.append({name: float(loss) for name, loss in found.items()})
                refuse_diverged(losses[-1], recipe.losses, f"epoch {epoch + 1}, step {len(losses)}")
                expected.count()
                if stop():
                    break
            if len(losses) == steps:
                average_statistics()
            if stop() and (len(losses) == steps or not devices.strategy):  # several devices differ in an epoch
                run.save_unfinished(model, epoch, losses)
        seconds, rate = time.monotonic() - start, float(model.optimizer.learning_rate.numpy())
        with run.saving_stops(model, epoch, losses):
            row = epoch_row(epoch + 1, seconds, rate, losses, recipe.losses)
            if options.watch_every and machine.index == 0:
                row |= dict.fromkeys((f"test_{key}" for key in protocol.MAE_KEYS), "")
                if (epoch + 1) % options.watch_every == 0:
                    row |= watch(recipe.to_score(model), test, options.test_margin, options.workers)
        with contextlib.nullcontext(lambda: False) as stop:
            run.log(row)
            run.save(model, epoch + 1, last=epoch + 1 == options.epochs or stop())
        losses = []
    if machine.index == 0:
        score_run(run, *recipe.finish(model, run), test, options)
    for note in (*train.notes, *test.notes):
        print(f"note: {note}")


def started_with(options: argparse.Namespace, train: Listed, test: Listed) -> dict[str, Any]:
    """What must be the same on all machines of a training, by name."""
    own = MAY_CHANGE_ON_RESUME - {"epochs", "resume"} | {"train_lists", "test_lists"}
    facts = {f"--{name.replace('_', '-')}": value for name, value in sorted(vars(options).items()) if name not in own}
    for name, part in (("the training list", train), ("the test list", test)):
        facts[name] = ([file.sha256 for file in part.files], part.records["path"].tolist())
    return facts


def run_record(options: argparse.Namespace, train: Listed, test: Listed, steps: int) -> dict[str, Any]:
    """What run.json says of a run."""
    mean_pose = np.degrees(train.records["angles"]).mean(axis=0)
    return {
        "options": vars(options),
        "lists": [[asdict(file) for file in part.files] for part in (train, test)],
        "mean_pose": dict(zip(AXES, mean_pose.tolist(), strict=True)),  # of the training list, in degrees
        "notes": [list(part.notes) for part in (train, test)],
        "steps_per_epoch": steps,
        **environment(),
    }


def epoch_row(
    epoch: int, seconds: float, learning_rate: float, steps: list[dict[str, float]], losses: Losses
) -> dict[str, Any]:
    """The row of an epoch in metrics.csv, printed too, from the unweighted losses of its steps."""
    means = {name: float(np.mean([step[name] for step in steps])) for name in losses}
    loss = sum(weight * means[name] for name, (weight, _) in losses.items())
    parts = ", ".join(f"{name} {mean:.4f}" for name, mean in means.items())
    print(f"epoch {epoch}: {seconds:.0f} s, loss {loss:.4f} ({parts})", flush=True)
    row = {"epoch": epoch, "seconds": round(seconds, 1), "learning_rate": learning_rate, "loss": loss}
    return row | {f"{name}_loss": mean for name, mean in means.items()}


def score_run(run: RunFolder, model: Any, path: Path, test: Listed, options: argparse.Namespace) -> None:
    """Score the network on the test list, write the result into the run folder and print its table."""
    predictions = predict_listed(partial(predict_angles, model, fill=True), test, options.test_margin, options.workers)
    write_predictions(run.path / "predictions.csv", predictions)
    result = protocol.score(test, predictions, weights=protocol.weights_facts(path, options.backbone, run.record()))
    protocol.write_results(run.path / "result.json", [result])
    table = tables.result_table([result])
    write_text(run.path / "result.md", table + "\n")
    print(f"\n{table}\n\n{run.path}: {', '.join(sorted(file.name for file in run.path.glob('[!.]*')))}")


if __name__ == "__main__":
    run_script(main)

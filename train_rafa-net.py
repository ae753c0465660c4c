"""Train RAFA-Net.

python train_rafa-net.py                 protocol 1: 300W-LP, scored on AFLW2000
python train_rafa-net.py --protocol 2    BIWI, 16 videos to train and 8 to test
python train_rafa-net.py --synthetic     synthetic heads and a small network: from nothing to a table in minutes
python train_rafa-net.py --synthetic full    the suite's own weights, by a recipe of their own, in about two hours
python train_rafa-net.py --run-dir DIR --resume
"""

import argparse
import datetime
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from data_loaders import batches_per_epoch, scoring_batches
from rafa.datasets.check import keep_present
from rafa.datasets.lists import Listed, limited, load_dataset, read_lists
from rafa.datasets.sets import BIWI_SPLITS
from rafa.files import write_text
from rafa.net.inference import predict_angles
from rafa.score import metrics, protocol, tables
from rafa.score.predictions import Predictions, predict_listed, write_predictions
from rafa.script import InputError, number, option_parser, progress, run_script
from rafa.train.devices import all_devices, this_machine
from rafa.train.run_folder import RunFolder, run_record, what_is_read

# Other defaults of --synthetic and of --synthetic full.
OF_BOTH = {"backbone": "small", "batch_size": 32, "evaluate_every": 0}
DEMO = OF_BOTH | {"weights": "synthetic-backbone", "epochs": 6, "decay_every": 4, "data_dir": "data/synthetic"}
FULL = OF_BOTH | {"weights": "none", "epochs": 45, "cache": 0.0, "data_dir": "data/synthetic-full"}
FULL_HEADS = {"train": 16_000, "test": 400, "per_person": 1}


# --- Options ----------------------------------------------------------------------------------------------------------
def option_definitions() -> argparse.ArgumentParser:
    """Every option with its default: what the released code runs."""
    parser, share = option_parser(__doc__), number(float, 0, 5)
    add = parser.add_argument_group("what to run").add_argument
    add("--protocol", type=int, choices=(1, 2), default=1, help="1: 300W-LP → AFLW2000; 2: BIWI")
    add("--split", choices=tuple(BIWI_SPLITS), default="16-8", help="BIWI split of protocol 2")
    heads = (
        "synthetic heads, drawn on first use, with defaults of their own; full: the recipe of the suite's own weights"
    )
    add("--synthetic", nargs="?", const="demo", choices=("demo", "full"), help=heads)
    add("--train-lists", nargs=2, metavar=("CROP", "ANGLES"), help="your own lists to train on")
    add("--test-lists", nargs=2, metavar=("CROP", "ANGLES"), help="your own lists to test on")
    add("--angle-unit", choices=("radians", "degrees"), default="radians", help="unit of your own lists")
    add("--data-dir", default="data", metavar="DIR", help="folder at which the lists' paths start")
    add("--allow-missing", action="store_true", help="skip missing images (their number is reported)")
    add("--limit", type=number(int, 0), default=0, metavar="N", help="at most N images per list, evenly spaced; 0: all")

    add = parser.add_argument_group("network").add_argument
    add("--backbone", choices=("resnet50", "small", "tiny"), default="resnet50", help="the paper's, or a smaller one")
    start = "to start from: imagenet or synthetic-backbone, which leave the axis heads random, none, or a file"
    add("--weights", default="imagenet", metavar="FILE", help=start)

    add = parser.add_argument_group("recipe").add_argument
    add("--epochs", type=number(int, 1), default=100, metavar="N", help="passes over the training list")
    add("--batch-size", type=number(int, 1), default=16, metavar="N", help="images per step, over all devices")
    rate = "the released code runs 1e-3; its history implies 1e-4 with --decay-every 25"
    add("--learning-rate", type=number(float, 1e-12, 10), default=1e-3, metavar="RATE", help=rate)
    decay = "divide the learning rate by ten every N epochs; 0: never"
    add("--decay-every", type=number(int, 0), default=0, metavar="N", help=decay)
    add("--train-margin", type=share, default=0.5, metavar="M", help="margins in training are drawn from U(0, M)")
    add("--test-margin", type=share, default=0.2, metavar="M", help="margin in testing, as a share of the box")
    every = "score the test list every N epochs, for monitoring only; 0: only at the end"
    add("--evaluate-every", type=number(int, 0), default=5, metavar="N", help=every)
    add("--seed", type=number(int, 0), default=0, metavar="N", help="of initial weights, order and margins")

    add = parser.add_argument_group("files and machine").add_argument
    add("--run-dir", metavar="DIR", help="folder for everything the run writes (default: runs/NAME-DATE)")
    add("--resume", action="store_true", help="continue the run in --run-dir from its last checkpoint")
    keep = "keep the checkpoint of every Nth epoch, each as large as last.keras; 0: last.keras alone"
    add("--keep-every", type=number(int, 0), default=0, metavar="N", help=keep)
    half = "half precision in all but weights, attention and losses: float16 is for GPUs, bfloat16 for processors"
    add("--precision", choices=("float32", "mixed_bfloat16", "mixed_float16"), default="float32", help=half)
    add("--xla", action="store_true", help="compile the training step with XLA, on one device")
    add("--workers", type=number(int, 1), default=os.cpu_count(), metavar="N", help="threads that read images")
    cache = "memory for decoded training images, which later epochs need not read again"
    add("--cache", type=number(float, 0), default=1.0, metavar="GB", help=cache)
    return parser


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a run: given ones, then those of the run that is resumed or of --synthetic, then the paper's."""
    parser = option_definitions()
    options = parser.parse_args(arguments)
    if options.resume:
        if not options.run_dir:
            parser.error("--resume needs the --run-dir of the run to continue")
        saved = RunFolder(options.run_dir).record()["options"]
        parser.set_defaults(**saved)
        options = parser.parse_args(arguments)
        for name, given in fixed_options(options).items():
            if given != (had := saved.get(name, "unknown")):
                parser.error(f"--{name.replace('_', '-')} is {had} in this run and cannot become {given}")
        return options
    if options.split != "16-8" and options.protocol != 2:
        parser.error("--split is of --protocol 2")
    if options.synthetic:
        if options.protocol == 2 or options.train_lists:
            parser.error("--synthetic has lists of its own; leave --protocol 2 and --train-lists out")
        parser.set_defaults(**(FULL if options.synthetic == "full" else DEMO))
        options = parser.parse_args(arguments)
        if options.synthetic == "full" and (options.decay_every or options.weights != "none"):
            parser.error(
                "--synthetic full has a schedule and a start of its own; leave --decay-every and --weights out"
            )
    name = "synthetic" if options.synthetic else f"protocol{options.protocol}"
    options.run_dir = options.run_dir or f"runs/{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    return options


def fixed_options(options: argparse.Namespace) -> dict[str, Any]:
    """Those that cannot change in a run, and must be the same on all machines."""
    may_change = {"workers", "data_dir", "run_dir", "resume", "keep_every", "cache"}
    may_change |= set() if options.synthetic == "full" else {"epochs"}  # over which its learning rate falls
    return {name: value for name, value in sorted(vars(options).items()) if name not in may_change}


# --- Lists ------------------------------------------------------------------------------------------------------------
def load_lists(options: argparse.Namespace) -> list[Listed]:
    """The training and the test list, with every image present; prints a line for each."""
    if options.synthetic:
        from rafa.heads.dataset import VERSION, ensure_dataset

        if options.resume and (drawn := getattr(options, "heads", "unknown")) != VERSION:
            raise InputError(
                f"{options.run_dir} began with synthetic heads of version {drawn}, this program draws {VERSION}: "
                "use the commit that run.json names, or begin a new run"
            )
        options.heads = VERSION
        ensure_dataset(options.data_dir, **(FULL_HEADS if options.synthetic == "full" else {}))
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
        lists.append(limited(keep_present(listed, options.allow_missing), options.limit))
        print(f"{part:5}  {lists[-1].summary()}")
    return lists


# --- Training ---------------------------------------------------------------------------------------------------------
def main(arguments: Sequence[str] | None = None) -> None:
    options, machine = parse_options(arguments), this_machine()
    run = RunFolder(options.run_dir, options.keep_every, writes=machine.index == 0)
    if not options.resume:
        run.refuse_if_used()
    train, test = load_lists(options)
    steps = batches_per_epoch(len(train.records), options.batch_size)

    # TensorFlow is loaded only now, when the options are right and the data is there.
    from rafa.heads.recipe import HeadsRecipe
    from rafa.net.backend import computing_in, keras
    from rafa.train.recipe import PaperRecipe, mean_losses, to_score, training_step

    devices = all_devices(machine)
    devices.check(min(options.batch_size, len(train.records)), options.xla)
    keras.utils.set_random_seed(options.seed)
    kind: type[PaperRecipe | HeadsRecipe] = HeadsRecipe if options.synthetic == "full" else PaperRecipe
    recipe = kind(options, train, devices)
    with devices.scope(), computing_in(options.precision):
        model = recipe.build(restored := options.resume and run.checkpoint.exists())
    record = run_record(options, train, test)
    first = run.restore(model, record) if restored else 0
    devices.refuse_unlike((fixed_options(options), what_is_read(record), first))
    run.start(record, resumed=options.resume)
    print(f"{model.name}: {model.count_params():,} parameters, {steps} steps an epoch, on {record['hardware']}")
    print(f"{first} of {options.epochs} epochs are done; everything goes to {run.path}", flush=True)

    step, average_statistics = training_step(model, recipe.losses, devices, options.xla), devices.averaging(model)
    with run.saying_how_to_go_on():
        for epoch in range(first, options.epochs):
            start, losses = time.monotonic(), list[dict[str, float]]()
            title = f"epoch {epoch + 1}/{options.epochs}"
            for crops, targets in progress(recipe.batches(epoch), steps, title, "step"):
                model.optimizer.learning_rate = rate = recipe.learning_rate(epoch * steps + len(losses))
                losses.append(step(crops, targets))  # stops where a loss is not finite
            average_statistics()
            if epoch == 0:  # where an image of the test list cannot be used, it is said now
                for _ in scoring_batches(test, options.batch_size, options.test_margin, options.workers):
                    pass
            row: dict[str, Any] = {"epoch": epoch + 1, "seconds": round(time.monotonic() - start, 1)}
            row |= {"learning_rate": rate} | mean_losses(losses, recipe.losses)
            if run.writes and options.evaluate_every:  # for monitoring only
                row |= dict.fromkeys((f"test_{key}" for key in metrics.MAE_KEYS), "")
                if (epoch + 1) % options.evaluate_every == 0:
                    columns = metrics.per_image(predicted(to_score(model, options, devices), test, options))
                    row |= {f"test_{key}": float(columns[key].mean()) for key in metrics.MAE_KEYS}
            run.log(row)
            run.save(model, epoch + 1)
        if run.writes:
            write_result(run, *recipe.finish(model, run), test, options)


def predicted(network: Any, test: Listed, options: argparse.Namespace) -> Predictions:
    """The network's angles for the test list."""
    predict = partial(predict_angles, network, fill=True)
    return predict_listed(predict, test, options.test_margin, options.workers)


def write_result(run: RunFolder, network: Any, weights: Path, test: Listed, options: argparse.Namespace) -> None:
    """Score the network on the test list, write the result into the run folder and print its table."""
    run.note_weights(weights)
    predictions = predicted(network, test, options)
    write_predictions(run.path / "predictions.csv", predictions)
    facts = protocol.weights_facts(weights, options.backbone)
    result = protocol.score(test, predictions, weights=facts)
    protocol.write_results(run.path / "result.json", [result])
    table = tables.result_table([result])
    write_text(run.path / "result.md", table + "\n")
    print(f"\n{table}\n\n{run.path}: {', '.join(sorted(file.name for file in run.path.glob('[!.]*')))}")


if __name__ == "__main__":
    run_script(main)

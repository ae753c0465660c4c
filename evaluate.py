"""Score head-pose predictions, of this network or of any other, with 95% intervals and a protocol card.

    python evaluate.py table1 --weights FILE                  the paper's Table 1 with your rows inserted; also table2
    python evaluate.py aflw2000 --weights FILE --margin 0.2   one dataset; also biwi, synthetic
    python evaluate.py lists --lists CROP ANGLES --angle-unit degrees --weights FILE
    python evaluate.py score FILE.csv --roll-sign mat --truth aflw2000
    python evaluate.py compare A.csv B.csv
    python evaluate.py results RESULT.json --out doc/results.md

Each command has its own help, for example: python evaluate.py aflw2000 --help
The columns of a predictions file are described at the top of util/predictions.py.

Exit status: 0, 1 if a table of the paper was asked for and nothing could be scored, 2 for bad options or input.
"""

import os
import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rafa.datasets.check import keep_present
from rafa.datasets.lists import Listed, find_list, image_path, load_dataset, read_lists
from rafa.datasets.sets import BIWI_SPLITS, DATASETS
from rafa.files import environment, sha256, write_text
from rafa.media import panels
from rafa.net import inference
from rafa.score import metrics, plots, protocol, reports, tables
from rafa.score.comparison import compared, comparison_card, pairs_of
from rafa.score.predictions import ROLL_SIGNS, Predictions, aligned, predict_listed, stack, write_predictions
from rafa.score.protocol import Facts, paper_rows, write_results
from rafa.script import HelpFormatter, InputError, number, option_parser, run_script

SWEEP = tuple(round(0.05 * step, 2) for step in range(11))
OUR_MARGIN = 0.2  # where the paper has no row
Scored = dict[float, tuple[Predictions, Facts]]  # predictions and result by margin
Group = Any  # of options; argparse keeps its class to itself


# --- What is scored ---------------------------------------------------------------------------------------------------
def load_listed(name: str, options: Namespace, split: str | None) -> Listed:
    """The lists of a dataset, or your own; images are not looked for."""
    if name == "lists":
        crop_list, angle_list = options.lists
        return read_lists(crop_list, angle_list, options.angle_unit, options.data_dir)
    if name == "synthetic" and not has_lists(name, options.data_dir):
        make = f"python synthetic_heads.py --out {options.data_dir}"
        raise InputError(f"no synthetic heads in {options.data_dir}; make them with: {make}")
    return load_dataset(name, options.data_dir, split or "all")


def with_images(listed: Listed, options: Namespace) -> Listed:
    """The listed images that are there."""
    return keep_present(listed, options.allow_missing)


def has_lists(name: str, data_dir: str) -> bool:
    """Whether the data folder holds both lists of a dataset."""
    try:
        return all(find_list(data_dir, file) for file in (DATASETS[name].crop_list, DATASETS[name].angle_list))
    except InputError:
        return False


def load_network(options: Namespace) -> tuple[Any, Facts]:
    """The network of --weights as a function from crops to angles, and what its cards say; loads TensorFlow."""
    model = inference.load_network(options.weights)
    predict = partial(inference.predict_angles, model, fill=True)
    weights = protocol.weights_facts(options.weights, model.name.removeprefix("rafa_net_")) | {"views": options.views}
    return predict, {"weights": weights, "made": environment(options.command), "worst": options.worst}


def score_network(options: Namespace, network: tuple[Any, Facts], listed: Listed, margins: Iterable[float]) -> Scored:
    """One pass over the images for each margin."""
    predict, facts = network
    scored = {}
    for margin in dict.fromkeys(margins):
        found = predict_listed(predict, listed, margin, options.workers, options.views)
        scored[margin] = found, protocol.score(listed, found, options.rounds, options.seed, **facts)
    return scored


# --- One dataset -----------------------------------------------------------------------------------------------------
def run_dataset(options: Namespace) -> None:
    """Score the network on one dataset at the margins asked for, and at those of the sweep."""
    listed = with_images(load_listed(options.what, options, options.split), options)
    margins = dict.fromkeys(options.margin or sorted(row["margin"] for row in paper_rows(listed)) or [OUR_MARGIN])
    swept = SWEEP if options.sweep else ()
    scored = score_network(options, load_network(options), listed, [*margins, *swept])
    asked, sweep = ([scored[margin][1] for margin in chosen] for chosen in (margins, swept))
    try:
        if options.predictions:
            write_predictions(options.predictions, stack([found for found, _ in scored.values()]))
        if options.result:
            write_results(options.result, asked, sweep=sweep)
        if options.figures:
            draw(options, listed, [scored[margin] for margin in margins], sweep)
    finally:  # where a file cannot be written, the table is not lost
        print(f"{tables.result_table(asked)}\n")
        if sweep:
            print(f"Error against the margin at test time:\n\n{tables.result_table(sweep)}\n")
        print(reports.details(asked))


def draw(options: Namespace, listed: Listed, asked: Sequence[tuple[Predictions, Facts]], sweep: list[Facts]) -> None:
    """Error by angle and worst images at each margin asked for, and the sweep."""
    folder = Path(options.figures)
    folder.mkdir(parents=True, exist_ok=True)
    for found, result in asked:
        name = f"{options.what}-{result['card']['margin']:g}"
        plots.draw_error_by_angle(folder / f"{name}-error-by-angle.png", found, result["card"])
        panels.draw_worst(folder / f"{name}-worst.png", listed, result, tables.heading(result["card"]))
    if sweep:
        paper = {row["margin"]: f": MAE {row['mae'][-1]:.2f}" for row in paper_rows(listed)} or {0.2: "", 0.3: ""}
        marked = [(0.0, "released code"), *((margin, f"paper{mae}") for margin, mae in sorted(paper.items()))]
        plots.draw_sweep(folder / f"{options.what}-margin-sweep.png", sweep, marked)
    print(f"figures: {folder}", file=sys.stderr)


# --- A table of the paper ---------------------------------------------------------------------------------------------
def run_table(options: Namespace) -> int:
    """Score the network on every dataset and margin of a table of the paper; exit status 1 if there was nothing."""
    split = "all" if options.what == "table1" else "16-8"
    parts = {name: available(name, options, split) for name in tables.GROUPS[options.what]}
    absent = {name: part for name, part in parts.items() if isinstance(part, str)}
    listed = {name: part for name, part in parts.items() if isinstance(part, Listed)}
    margins = [row["margin"] for row in protocol.paper_tables()[options.what] if "margin" in row]
    network = load_network(options) if listed else (None, {})
    scored = {name: score_network(options, network, part, margins) for name, part in listed.items()}
    results = {(name, margin): result for name in scored for margin, (_, result) in scored[name].items()}
    try:
        if options.predictions:
            out = Path(options.predictions)
            for name, found in scored.items():
                write_predictions(out.with_stem(f"{out.stem}-{name}"), stack([part for part, _ in found.values()]))
        if options.result:
            write_results(options.result, list(results.values()), absent=absent)
    finally:  # as above
        print(f"{tables.paper_table(options.what, results, absent)}\n")
        print(reports.details(list(results.values())) if results else "Nothing was scored.")
    return 0 if results else 1


def available(name: str, options: Namespace, split: str) -> Listed | str:
    """A dataset with its images, or, with --allow-missing, why there is none of it.

    Raises:
        InputError: what is there is malformed or, without --allow-missing, incomplete.
    """
    if options.allow_missing and not has_lists(name, options.data_dir):
        return f"no lists of {DATASETS[name].title} in {options.data_dir}"
    listed = load_listed(name, options, split)
    if options.allow_missing and not any(image_path(listed, record).is_file() for record in listed.records):
        return f"none of its {len(listed.records):,} listed images in {options.data_dir}"
    return with_images(listed, options)


# --- Predictions files and result files -------------------------------------------------------------------------------
def refuse_repeated(paths: Iterable[str]) -> None:
    """An InputError for a file that is given twice, by whatever names."""
    known: dict[str, str] = {}
    for path in paths:
        content = sha256(path)
        if content in known:
            raise InputError(f"{known[content]} and {path} are the same, byte for byte; give each file once")
        known[content] = path


def run_score(options: Namespace) -> None:
    """Score predictions files; several are the seeds of one method."""
    refuse_repeated(options.files)
    listed = load_listed(options.truth, options, options.split) if options.truth else None
    made, several = environment(options.command), len(options.files) > 1
    groups: dict[str, list[tuple[Predictions, Facts]]] = {}
    for path in options.files:
        predictions, file = protocol.read_file(path, options.roll_sign, listed, options.common_only)
        facts = {"file": file, "made": made, "worst": options.worst}
        for part in protocol.parts_of(predictions):
            result = protocol.score(listed, part, options.rounds, options.seed, **facts)
            groups.setdefault(tables.heading(result["card"], with_file=False), []).append((part, result))
    results = [result for group in groups.values() for _, result in group]
    spreads = {title: spread_of(title, group, options.files) for title, group in groups.items() if several}
    if options.result:
        write_results(options.result, results, spreads=spreads)
    print(f"{tables.result_table(results)}\n")
    if spreads:
        print(f"{tables.spread_table(spreads)}\n")
    print(reports.details(results))


def spread_of(title: str, group: list[tuple[Predictions, Facts]], files: list[str]) -> dict[str, metrics.Spread]:
    """Mean and standard deviation over files, which must have scored the same images."""
    expected = "expected the seeds of one method, scored on the same images"
    if len(group) != len(files):
        raise InputError(f"{title}: in {len(group)} of {len(files)} files; {expected}")
    for file, (part, _) in zip(files[1:], group[1:], strict=True):
        aligned(group[0][0], part, f"{files[0]} and {file}", expected)  # an InputError if images or true angles differ
    return metrics.across_seeds([result["estimates"] for _, result in group])


def run_compare(options: Namespace) -> None:
    """Paired differences of two predictions files, at every margin that both have."""
    refuse_repeated((options.a, options.b))
    listed = load_listed(options.truth, options, options.split) if options.truth else None
    a, facts_a = protocol.read_file(options.a, options.roll_sign_a, listed, options.common_only)
    b, facts_b = protocol.read_file(options.b, options.roll_sign_b, listed, options.common_only)
    print(comparison_card(facts_a, facts_b, listed, environment(options.command)))
    settings = {"common_only": options.common_only, "rounds": options.rounds, "seed": options.seed}
    for first, second, margin in pairs_of(a, b, options.common_only):
        print(f"\n{compared(first, second, margin, **settings)}")


def run_results(options: Namespace) -> None:
    """Write the document of results from result files."""
    refuse_repeated(options.files)
    found = []
    for path in options.files:
        results = protocol.read_results(path)
        try:
            reports.results_document(results)
        except protocol.MALFORMED as error:
            raise InputError(f"{path} is not a result file of evaluate.py --result: {error!r}") from error
        found += results
    write_text(options.out, reports.results_document(found))
    print(f"{options.out}: {len(found)} results of {len(options.files)} files")


# --- Options ----------------------------------------------------------------------------------------------------------
COMMANDS = {
    "table1": (run_table, "the paper's Table 1: AFLW2000 and all of BIWI at the margins 0.3 and 0.2"),
    "table2": (run_table, "the paper's Table 2: test videos of BIWI, our split 16-8, at the margins 0.2 and 0.1"),
    "aflw2000": (run_dataset, "score a network on AFLW2000, by the published lists"),
    "biwi": (run_dataset, "score a network on BIWI, by the published lists"),
    "synthetic": (run_dataset, "score a network on the test part of the synthetic heads"),
    "lists": (run_dataset, "score a network on your own lists"),
    "score": (run_score, "score predictions files of any model; several files: also mean and deviation over seeds"),
    "compare": (run_compare, "compare two predictions files image by image"),
    "results": (run_results, "write the document of results from result files"),
}


def parse_options(arguments: list[str] | None = None) -> Namespace:
    parser = option_parser(__doc__)
    commands = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    parsers = {}
    for name, (_, text) in COMMANDS.items():
        add = commands.add_parser
        parsers[name] = add(name, help=text, description=text, formatter_class=HelpFormatter, allow_abbrev=False)
        if name == "results":
            parsers[name].add_argument("files", nargs="+", metavar="RESULT.json", help="a result file, from --result")
            parsers[name].add_argument("--out", default="doc/results.md", metavar="FILE.md", help="document to write")
        elif name in ("score", "compare"):
            add_file_options(parsers[name], name)
        else:
            add_network_options(parsers[name], name)
    options = parser.parse_args(arguments)
    check_options(parsers[options.what], options)
    options.command = shlex.join(["evaluate.py", *(sys.argv[1:] if arguments is None else arguments)])
    return options


def add_network_options(parser: ArgumentParser, name: str) -> None:
    """Options of the commands that run a network."""
    what, table = parser.add_argument_group("what to score"), name.startswith("table")
    text = f"the network: .keras, .weights.h5, .onnx (exported), or {inference.SYNTHETIC} for the suite's own weights"
    what.add_argument("--weights", required=True, metavar="FILE", help=text)
    text = "6: score the mean of three margins and their mirror images, which is not the paper's protocol"
    what.add_argument("--views", type=int, choices=(1, 6), default=1, help=text)
    if name == "lists":
        add_own_lists(what, required=True)
    if name == "biwi":
        what.add_argument("--split", choices=BIWI_SPLITS, help="score the test videos of this split (default: all)")
    else:
        parser.set_defaults(split=None)
    data_dir = "data/synthetic" if name == "synthetic" else "data"
    what.add_argument("--data-dir", default=data_dir, metavar="DIR", help="folder at which the lists' paths start")
    what.add_argument("--allow-missing", action="store_true", help="skip missing images (their number is reported)")
    output = add_score_options(parser)
    text = f"write a row for each image and margin{', a file for each dataset' if table else ''}"
    output.add_argument("--predictions", metavar="OUT.csv", help=text)
    text = "threads that read images"
    output.add_argument("--workers", type=number(int, 1), default=os.cpu_count(), metavar="N", help=text)
    if not table:
        default = f"the paper's, else {OUR_MARGIN}" if name in ("aflw2000", "biwi") else OUR_MARGIN
        text = f"margins at test time, as shares of the box's side (default: {default})"
        what.add_argument("--margin", nargs="+", type=number(float, 0, 5), metavar="M", help=text)
        what.add_argument("--sweep", action="store_true", help="also score at the margins 0, 0.05 ... 0.5")
        output.add_argument("--figures", metavar="DIR", help="draw the error by angle, the worst images and the sweep")


def add_file_options(parser: ArgumentParser, name: str) -> None:
    """Options of the commands that read predictions files."""
    what, several = parser.add_argument_group("what to score"), name == "score"
    for side, sign, file in [("files", "", "FILE")] if several else [("a", "-a", "A"), ("b", "-b", "B")]:
        what.add_argument(side, nargs="+" if several else None, metavar=f"{file}.csv", help="a predictions file")
        text = f"roll sign convention of {file}.csv: the published lists', or the .mat files'"
        what.add_argument(f"--roll-sign{sign}", choices=ROLL_SIGNS, default="list", help=text)
    text = "take the true angles from these lists, matched by path (default: those in the files)"
    what.add_argument("--truth", choices=("aflw2000", "biwi", "synthetic", "lists"), help=text)
    add_own_lists(what, required=False)
    text = "with --truth biwi: the test videos of this split (default: all)"
    what.add_argument("--split", choices=BIWI_SPLITS, help=text)
    text = "with --truth: folder of the lists (default: data, or data/synthetic with --truth synthetic)"
    what.add_argument("--data-dir", metavar="DIR", help=text)
    text = f"use only images present in both {'a file and the lists of --truth' if several else 'files'}"
    what.add_argument("--common-only", action="store_true", help=f"{text} (the number of others is reported)")
    add_score_options(parser, several)


def add_own_lists(group: Group, required: bool) -> None:
    text = f"{'' if required else 'with --truth lists: '}your own lists, in the format of the published ones"
    group.add_argument("--lists", nargs=2, required=required, metavar=("CROP", "ANGLES"), help=text)
    text = "unit of your own list of angles"
    group.add_argument("--angle-unit", choices=("radians", "degrees"), required=required, help=text)


def add_score_options(parser: ArgumentParser, with_result: bool = True) -> Group:
    output = parser.add_argument_group("output")
    output.add_argument("--rounds", type=number(int, 1), default=protocol.ROUNDS, metavar="N", help="bootstrap rounds")
    output.add_argument("--seed", type=number(int, 0), default=0, metavar="N", help="seed of the bootstrap")
    if with_result:
        text = "how many of the images with the largest errors to name"
        output.add_argument("--worst", type=number(int, 1), default=protocol.WORST, metavar="N", help=text)
        output.add_argument("--result", metavar="OUT.json", help="write metrics, intervals and protocol cards")
    return output


def check_options(parser: ArgumentParser, options: Namespace) -> None:
    """What argparse cannot judge one by one; an option without effect is an error."""
    if "weights" in options:
        options.weights = inference.weights_file(options.weights)
    if "truth" not in options:
        return
    for name, truth in (("lists", "lists"), ("angle_unit", "lists"), ("split", "biwi")):
        if getattr(options, name) and options.truth != truth:
            parser.error(f"--{name.replace('_', '-')} has no effect without --truth {truth}")
    if options.truth == "lists" and not (options.lists and options.angle_unit):
        parser.error("--truth lists needs --lists CROP ANGLES and --angle-unit")
    if not options.truth and (options.data_dir or (options.what == "score" and options.common_only)):
        parser.error(f"{'--data-dir' if options.data_dir else '--common-only'} has no effect without --truth")
    options.data_dir = options.data_dir or ("data/synthetic" if options.truth == "synthetic" else "data")


def main(arguments: list[str] | None = None) -> int | None:
    options = parse_options(arguments)
    return COMMANDS[options.what][0](options)


if __name__ == "__main__":
    run_script(main)

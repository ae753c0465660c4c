"""Score head-pose predictions, of this network or of any other, with 95% intervals and a protocol card.

    python evaluate.py table1 --weights FILE                  the paper's Table 1 with your rows inserted; also table2
    python evaluate.py aflw2000 --weights FILE --margin 0.2   one dataset; also biwi, synthetic
    python evaluate.py lists --lists CROP ANGLES --angle-unit degrees --weights FILE
    python evaluate.py score FILE.csv --roll-sign mat --truth aflw2000
    python evaluate.py compare A.csv B.csv ...
    python evaluate.py results RESULT.json --out doc/results.md

Each command has its own help, for example: python evaluate.py aflw2000 --help
The columns of a predictions file are described at the top of rafa/score/predictions.py.

Exit status: 0, 1 if a table of the paper was asked for and nothing could be scored, 2 for bad options or input.
"""

import os
import shlex
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

from data_loaders import VIEWS
from rafa.datasets.check import keep_present
from rafa.datasets.lists import Listed, has_lists, image_path, load_dataset, read_lists
from rafa.datasets.sets import BIWI_SPLITS, DATASETS, PAPER_DATASETS
from rafa.files import environment, sha256, write_text
from rafa.media import panels
from rafa.net import inference
from rafa.net.pretrained import SYNTHETIC, SYNTHETIC_FILE, SYNTHETIC_MADE, weights_file
from rafa.pose import AXES
from rafa.score import metrics, plots, protocol, reports, tables
from rafa.score.comparison import Scored, common_images, difference, pairs_with_first
from rafa.score.conventions import UNITS, Convention
from rafa.score.predictions import ROLL_SIGNS, Predictions, parts_of, predict_listed, stack, write_predictions
from rafa.score.protocol import BOOTSTRAP_SAMPLES, WORST, Facts, paper_rows
from rafa.script import HelpFormatter, InputError, number, option_parser, run_script

SWEEP = tuple(round(0.05 * step, 2) for step in range(11))
OUR_MARGIN = 0.2  # where the paper has no row


# --- What is scored ---------------------------------------------------------------------------------------------------
def load_listed(name: str, options: Namespace) -> Listed:
    """The lists of a dataset, or your own; images are not looked for."""
    if name == "lists":
        crop_list, angle_list = options.lists
        return read_lists(crop_list, angle_list, options.angle_unit, options.data_dir)
    if name not in PAPER_DATASETS and not has_lists(name, options.data_dir):
        title, source = DATASETS[name].title, DATASETS[name].source
        raise InputError(f"no lists of {title} in {options.data_dir}; get them with: {source}")
    return load_dataset(name, options.data_dir, options.split)


def network_scorer(options: Namespace) -> Callable[[Listed, float], Scored]:
    """Load TensorFlow and the network of --weights: a function that scores it on lists at a margin."""
    model = inference.load_network(options.weights)
    predict = partial(inference.predict_angles, model, fill=True)
    weights = protocol.weights_facts(options.weights, model.name.removeprefix("rafa_net_")) | {"views": options.views}
    facts = {"weights": weights, "made": environment(options.command), "worst": options.worst}

    def score_at(listed: Listed, margin: float) -> Scored:
        predictions = predict_listed(predict, listed, margin, options.workers, options.views)
        result = protocol.score(listed, predictions, options.bootstrap_samples, options.seed, **facts)
        return predictions, with_own_weights_named(result)

    return score_at


def with_own_weights_named(result: Facts) -> Facts:
    """A result, with a note where it is of the suite's own weights: its card knows the lists of a training alone."""
    weights, notes = result["card"]["weights"], result["card"]["notes"]
    note = f"the suite's own weights: {SYNTHETIC_MADE}"
    if weights and weights["sha256"] == sha256(SYNTHETIC_FILE) and note not in notes:
        notes.append(note)
    return result


def report(
    options: Namespace, text: str, results: Sequence[Facts], files: Mapping[Path, list[Predictions]], **more: Any
) -> None:
    """Write predictions and results where that was asked for, and print the tables, even where a file fails."""
    try:
        for path, parts in files.items():
            write_predictions(path, stack(parts))
        if options.result and results:
            protocol.write_results(options.result, results, **more)
    finally:
        print(f"{text}\n\n{reports.details(results)}" if results else f"{text}\n\nNothing was scored.")


# --- One dataset ------------------------------------------------------------------------------------------------------
def run_dataset(options: Namespace) -> None:
    """Score the network on one dataset at the margins asked for, and at those of the sweep."""
    listed = keep_present(load_listed(options.what, options), options.allow_missing)
    margins = options.margin or sorted(row["margin"] for row in paper_rows(listed)) or [OUR_MARGIN]
    margins, swept = dict.fromkeys(margins), SWEEP if options.sweep else ()
    score_at = network_scorer(options)
    scored = {margin: score_at(listed, margin) for margin in dict.fromkeys([*margins, *swept])}
    results, sweep = ([scored[margin][1] for margin in chosen] for chosen in (margins, swept))
    text = tables.result_table(results)
    if sweep:
        text += f"\n\nError against the margin at test time:\n\n{tables.result_table(sweep)}"
    files = {Path(options.predictions): [part for part, _ in scored.values()]} if options.predictions else {}
    report(options, text, results, files, sweep=sweep)
    if options.figures:
        draw(options, listed, {margin: scored[margin] for margin in margins}, sweep)


def draw(options: Namespace, listed: Listed, asked: dict[float, Scored], sweep: Sequence[Facts]) -> None:
    """Error by angle and worst images at each margin asked for, and the sweep."""
    folder, name = Path(options.figures), options.what if options.split == "all" else f"{options.what}-{options.split}"
    for margin, (predictions, result) in asked.items():
        start, heading = folder / f"{name}-{margin:g}", tables.heading(result["card"])
        plots.draw_error_by_angle(f"{start}-error-by-angle.png", predictions, heading)
        panels.draw_worst(f"{start}-worst.png", listed, result, heading)
    if sweep:
        paper = sorted((row["margin"], f"paper: MAE {row['mae'][-1]:.2f}") for row in paper_rows(listed))
        marked = [(0.0, "released code"), *paper]
        title = tables.title_of(sweep[0]["card"])
        plots.draw_sweep(folder / f"{name}-margin-sweep.png", sweep, marked, title)
    print(f"figures: {folder}", file=sys.stderr)


# --- A table of the paper ---------------------------------------------------------------------------------------------
def run_table(options: Namespace) -> int:
    """Score the network on every dataset and margin of a table of the paper; exit status 1 if there was nothing."""
    parts = {name: available(name, options) for name in tables.TABLE_DATASETS[options.what]}
    absent = {name: part for name, part in parts.items() if isinstance(part, str)}
    present = {name: part for name, part in parts.items() if isinstance(part, Listed)}
    margins = [row["margin"] for row in protocol.paper_tables()[options.what] if "margin" in row]
    scored: dict[tuple[str, float], Scored] = {}
    if present:
        score_at = network_scorer(options)
        scored = {(name, margin): score_at(listed, margin) for name, listed in present.items() for margin in margins}
    results, files = {key: result for key, (_, result) in scored.items()}, {}
    for name in present if options.predictions else ():
        path = Path(options.predictions)
        files[path.with_stem(f"{path.stem}-{name}")] = [scored[name, margin][0] for margin in margins]
    text = tables.paper_table(options.what, results, absent)
    report(options, text, list(results.values()), files, absent=absent)
    return 0 if results else 1


def available(name: str, options: Namespace) -> Listed | str:
    """A dataset with its images, or, with --allow-missing, why there is none of it.

    Raises:
        InputError: what is there is malformed or, without --allow-missing, incomplete.
    """
    if options.allow_missing and not has_lists(name, options.data_dir):
        return f"no lists of {DATASETS[name].title} in {options.data_dir}"
    listed = load_listed(name, options)
    if options.allow_missing and not any(image_path(listed, record).is_file() for record in listed.records):
        return f"none of its {len(listed.records):,} listed images in {options.data_dir}"
    return keep_present(listed, options.allow_missing)


# --- Predictions files and result files -------------------------------------------------------------------------------
def run_score(options: Namespace) -> None:
    """Score predictions files; several are the seeds of one method."""
    scored = [each for parts in score_files(options) for each in parts]
    results = [result for _, result in scored]
    text, spreads, seeds = tables.result_table(results), {}, dict[str, list[Scored]]()
    for part, result in scored if len(options.files) > 1 else ():
        seeds.setdefault(tables.heading(result["card"], with_file=False), []).append((part, result))
    for title, runs in seeds.items():
        if len({frozenset(part.path.tolist()) for part, _ in runs}) == 1:
            spreads[title] = metrics.across_seeds([result["estimates"] for _, result in runs])
        else:
            text += f"\n\n{title}: no mean over the files, which hold different images."
    text += f"\n\n{tables.spread_table(spreads)}" if spreads else ""
    report(options, text, results, {}, spreads=spreads)


def run_compare(options: Namespace) -> None:
    """Errors of several methods on the same images, and their paired differences to the first."""
    if len(options.files) < 2:
        raise InputError("compare takes two predictions files or more")
    scored = score_files(options)
    for names, (part, result), (other_part, other) in pairs_with_first(options.files, scored):
        paired = difference(part, other_part, names, options.bootstrap_samples, options.seed)
        other["compared"] = {"with": tables.heading(result["card"])} | paired
    results = [result for parts in scored for _, result in parts]
    print(reports.comparison(results))
    if options.result:
        protocol.write_results(options.result, results)


def score_files(options: Namespace) -> list[list[Scored]]:
    """The results of each file, one for every split and margin."""
    listed = load_listed(options.truth, options) if options.truth else None
    files = zip(options.files, conventions_of(options), strict=True)
    read = [protocol.read_file(path, convention, listed, options.common_only) for path, convention in files]
    parts = [parts_of(predictions) for predictions, _ in read]
    if options.what == "compare" and options.common_only:
        parts = common_images(parts)
    made, scored = environment(options.command), []
    for (predictions, file), kept in zip(read, parts, strict=True):
        if left_out := len(predictions) - sum(map(len, kept)):
            file["notes"].append(f"LEFT OUT: {left_out:,} rows of the file whose images another file lacks")
        facts = {"file": file, "made": made, "worst": options.worst}
        scored.append(
            [(part, protocol.score(listed, part, options.bootstrap_samples, options.seed, **facts)) for part in kept]
        )
    return scored


def conventions_of(options: Namespace) -> list[Convention]:
    """How each file writes angles: by options that are given once for all files, or once for each."""
    defaults = {"roll_sign": "list", "signs": (), "order": AXES, "unit": UNITS[0]}
    given, files = {name: getattr(options, name) or [text] for name, text in defaults.items()}, len(options.files)
    for name, texts in given.items():
        if len(texts) not in (1, files):
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} is given {len(texts)} times for {files} files; give it once, or once for each")
    conventions = []
    for file in range(files):
        roll_sign, signs, order, unit = (texts[file % len(texts)] for texts in given.values())
        opposite = ("roll",) if roll_sign == "mat" else signs
        conventions.append(Convention(tuple(axis for axis in AXES if axis in opposite), order, unit))
    return conventions


def axes(text: str) -> tuple[str, ...]:
    """An option's type: some of the axes, none twice; or "none"."""
    names = () if text == "none" else tuple(name.strip() for name in text.split(","))
    if not set(names) <= {*AXES} or len(set(names)) < len(names):
        raise ArgumentTypeError(f"{text!r} is not some of {','.join(AXES)}")
    return names


def run_results(options: Namespace) -> None:
    """Write the document of results from result files."""
    results = [with_own_weights_named(result) for path in options.files for result in protocol.read_results(path)]
    write_text(options.out, reports.results_document(results))
    print(f"{options.out}: {len(results)} results of {len(options.files)} files")


# --- Options ----------------------------------------------------------------------------------------------------------
def parse_options(arguments: list[str] | None = None) -> Namespace:
    """The options of a command.

    Raises:
        InputError: weights that do not exist, options that contradict each other or have no effect.
    """
    options = command_parser().parse_args(arguments)
    options.command = shlex.join(["evaluate.py", *(sys.argv[1:] if arguments is None else arguments)])
    if "weights" in options:
        options.weights = weights_file(options.weights)
    if "data_dir" in options:
        check_lists(options, options.truth if "truth" in options else options.what)
    refuse_overwriting(options)
    return options


def refuse_overwriting(options: Namespace) -> None:
    """No file that is read is written, nor the record beside one; an older result there is."""
    files = [Path(file) for file in getattr(options, "files", ())]
    weights = [options.weights, Path(options.weights).with_name("run.json")] if "weights" in options else []
    beside = [file.with_suffix(".json") for file in files]
    records = [file for file in beside if file.is_file() and "results" not in protocol.read_record(file)]
    taken = {Path(file).resolve() for file in (*files, *records, *weights, *(getattr(options, "lists", None) or ()))}
    for name in ("result", "predictions", "out"):
        if (file := getattr(options, name, None)) and Path(file).resolve() in taken:
            why = "this file is read or written already, or is the record beside one"
            raise InputError(f"--{name} {file}: {why}; give another name")
        taken |= {Path(file).resolve()} if file else set()


def check_lists(options: Namespace, name: str | None) -> None:
    """Check the options that say which lists to read (None: no lists), and fill in the data folder."""
    if "lists" in options and len({bool(options.lists), bool(options.angle_unit), name == "lists"}) > 1:
        where = "--truth lists" if "truth" in options else "the command lists"
        raise InputError(f"{where}, --lists CROP ANGLES and --angle-unit belong together; give all of them or none")
    if options.split != "all" and "truth" in options and name != "biwi":
        raise InputError("--split has no effect without --truth biwi")
    if name is None and (options.data_dir or (options.what == "score" and options.common_only)):
        raise InputError(f"{'--data-dir' if options.data_dir else '--common-only'} has no effect without --truth")
    options.data_dir = options.data_dir or ("data/synthetic" if (name or "").startswith("synthetic") else "data")


def command_parser() -> ArgumentParser:
    """Every command with its options; each dataset of DATASETS is a command."""
    parser = option_parser(__doc__)
    commands = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    sets = option_sets()

    def command(name: str, run: Callable[[Namespace], int | None], text: str, *used: str) -> ArgumentParser:
        parents = [sets[each] for each in used]
        added = commands.add_parser(
            name, help=text, description=text, parents=parents, formatter_class=HelpFormatter, allow_abbrev=False
        )
        added.set_defaults(run=run, split="all")
        return added

    text = "the paper's Table 1: AFLW2000 and all of BIWI at the margins 0.3 and 0.2"
    command("table1", run_table, text, "network", "scored")
    text = "the paper's Table 2: test videos of BIWI, our split 16-8, at the margins 0.2 and 0.1"
    command("table2", run_table, text, "network", "scored").set_defaults(split="16-8")
    for name, dataset in DATASETS.items():
        split = ["split"] if name == "biwi" else []
        command(name, run_dataset, f"score a network on {dataset.title}", *split, "margins", "network", "scored")
    command("lists", run_dataset, "score a network on your own lists", "own lists", "margins", "network", "scored")
    files = "files", "own lists", "split", "scored"
    text = "score predictions files of any model; several files: also mean and deviation over seeds"
    command("score", run_score, text, *files)
    text = "errors of several methods on the same images, and their paired differences to the first"
    command("compare", run_compare, text, *files)
    results = command("results", run_results, "write the document of results from result files")
    results.add_argument("files", nargs="+", metavar="RESULT.json", help="a result file, from --result")
    results.add_argument("--out", default="doc/results.md", metavar="FILE.md", help="the document")
    return parser


def option_sets() -> dict[str, ArgumentParser]:
    """Options that several commands have, as `parents` of argparse."""
    names = "network", "margins", "own lists", "split", "files", "scored"
    sets = {name: ArgumentParser(add_help=False) for name in names}
    add = sets["network"].add_argument
    kinds = f".keras, .weights.h5 or exported .onnx, or {SYNTHETIC} for the suite's own"
    add("--weights", required=True, metavar="FILE", help=f"weights of the network: {kinds}")
    add("--views", type=int, choices=tuple(VIEWS), default=1, help="crops of a face that are averaged; the paper has 1")
    add("--allow-missing", action="store_true", help="skip missing images; the result says how many")
    add("--workers", type=number(int, 1), default=os.cpu_count(), metavar="N", help="threads that read images")
    add("--predictions", metavar="OUT.csv", help="write a row per image and margin; of a table, a file per dataset")
    add = sets["margins"].add_argument
    shares = f"margins of the crops, as shares of the box's side (default: the paper's, else {OUR_MARGIN})"
    add("--margin", nargs="+", type=number(float, 0, 5), metavar="M", help=shares)
    add("--sweep", action="store_true", help="also score at the margins 0, 0.05 ... 0.5")
    add("--figures", metavar="DIR", help="draw the error by angle, the worst images and the sweep")
    add = sets["own lists"].add_argument
    add("--lists", nargs=2, metavar=("CROP", "ANGLES"), help="your own lists of boxes and of angles")
    add("--angle-unit", choices=("radians", "degrees"), help="unit of your own list of angles")
    add = sets["split"].add_argument
    add("--split", choices=tuple(BIWI_SPLITS), default="all", help="only the test videos of this split of BIWI")
    add = sets["files"].add_argument
    add("files", nargs="+", metavar="FILE.csv", help="a predictions file")
    of_file = "(default: those of the file)"
    add("--truth", choices=(*DATASETS, "lists"), help=f"take the true angles from these lists, by path {of_file}")
    add("--common-only", action="store_true", help="leave out images that not all have; the result says how many")
    once = "; once for all files, or once for each"
    text = f"the sign of roll in a file: that of the published lists, or of the .mat files{once} (default: list)"
    one_of = sets["files"].add_mutually_exclusive_group().add_argument
    one_of("--roll-sign", action="append", choices=ROLL_SIGNS, help=text)
    text = f"the axes whose sign in a file is the opposite of the lists', such as yaw,pitch{once} (default: none)"
    one_of("--signs", action="append", type=axes, metavar="AXES", help=text)
    text = f"what a file's columns yaw, pitch, roll hold, such as pitch,yaw,roll{once} (default: {','.join(AXES)})"
    add("--order", action="append", type=axes, choices=[*permutations(AXES)], metavar="AXES", help=text)
    add("--unit", action="append", choices=UNITS, help=f"the unit of a file{once} (default: {UNITS[0]})")
    add = sets["scored"].add_argument
    default = "(default: data, of synthetic heads data/synthetic)"
    add("--data-dir", metavar="DIR", help=f"folder of the lists, at which their paths start {default}")
    samples = number(int, 1)
    add("--bootstrap-samples", type=samples, default=BOOTSTRAP_SAMPLES, metavar="N", help="for the 95%% intervals")
    add("--seed", type=number(int, 0), default=0, metavar="N", help="seed of the bootstrap")
    add("--result", metavar="OUT.json", help="write metrics, intervals and protocol cards")
    add("--worst", type=number(int, 1), default=WORST, metavar="N", help="how many of the worst images to name")
    return sets


def main(arguments: list[str] | None = None) -> int | None:
    options = parse_options(arguments)
    return options.run(options)


if __name__ == "__main__":
    run_script(main)

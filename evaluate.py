"""Score head-pose predictions, this network's or any other's, with 95 % intervals and a protocol card.

    python evaluate.py table1 --weights FILE                  the paper's Table 1 with our rows in place; also table2
    python evaluate.py aflw2000 --weights FILE --margin 0.2   one data set; also biwi, synthetic
    python evaluate.py lists --lists CROP ANGLES --angle-unit degrees --weights FILE
    python evaluate.py score FILE.csv --roll-sign mat --truth aflw2000
    python evaluate.py compare A.csv B.csv
    python evaluate.py results RESULT.json --out doc/results.md

The columns of a predictions file are described at the top of metrics.py.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

from data_loaders import (
    BIWI_SPLITS,
    DATA_SETS,
    find_list,
    image_path,
    keep_present,
    load_data_set,
    read_lists,
)
from util import figures, metrics, tables
from util.errors import InputError
from util.inference import predict_listed
from util.predictions import stack, write_predictions
from util.protocol import (
    compare_pair,
    pairs_of,
    paper_rows,
    paper_tables,
    parts_of,
    read_file,
    read_results,
    score,
    weights_facts,
    write_results,
)
from util.provenance import environment, write_text
from util.tables import result_table

SWEEP = tuple(round(0.05 * step, 2) for step in range(11))


# --- Reading what is to be scored -------------------------------------------------------------------------------------
def load_listed(name, options, split="all"):
    """The lists of a data set, or one's own; pictures are not looked for."""
    if name == "lists":
        return read_lists(*options.lists, options.angle_unit, options.data_dir)
    if name == "synthetic" and missing_list(name, options):
        raise InputError(f"no generated heads in {options.data_dir}; draw them: {DATA_SETS[name].source}")
    return load_data_set(name, options.data_dir, split)


def missing_list(name, options):
    """Whether the data folder lacks a list of a data set."""
    try:
        for file in (DATA_SETS[name].crop_list, DATA_SETS[name].angle_list):
            find_list(options.data_dir, file)
    except InputError:
        return True
    return False


def available(name, options, split):
    """A data set for a table: ("", `Listed`) with its pictures, or (why there is none of it, None).

    Raises:
        InputError: what is there is malformed, or, without --allow-missing, incomplete.
    """
    if options.allow_missing and missing_list(name, options):
        return f"no lists of {DATA_SETS[name].title} in {options.data_dir}", None
    listed = load_listed(name, options, split)
    if options.allow_missing and not any(image_path(listed, record).is_file() for record in listed.records):
        return f"none of its {len(listed.records):,} listed pictures in {options.data_dir}", None
    return "", keep_present(listed, options.allow_missing)


def load_network(options):
    """The network of --weights, and what the card says of it.  TensorFlow is loaded here, when all else is in order."""
    from rafa_model import load_rafa_net

    model = load_rafa_net(options.weights)
    return model, weights_facts(options.weights, model.name.removeprefix("rafa_net_"))


# --- The commands -----------------------------------------------------------------------------------------------------
def run_data_set(options):
    """Score the network on one data set at the margins asked for, and at those of the sweep."""
    listed = keep_present(load_listed(options.what, options, getattr(options, "split", "all")), options.allow_missing)
    margins = options.margin or sorted({row["margin"] for row in paper_rows(listed)}) or [0.2]
    found, results = predict_and_score(options, {options.what: listed}, [*margins, *(SWEEP if options.sweep else ())])
    asked = [results[options.what, margin] for margin in dict.fromkeys(margins)]
    sweep = [results[options.what, margin] for margin in SWEEP] if options.sweep else []
    if options.predictions:
        write_predictions(options.predictions, stack(list(found.values())))
    if options.result:
        write_results(options.result, asked, sweep=sweep)
    if options.figures:
        draw(options, listed, found, asked, sweep)
    print(f"{result_table(asked)}\n")
    if sweep:
        print(f"Error against the margin at test time:\n\n{result_table(sweep)}\n")
    print_details(asked)


def predict_and_score(options, listed, margins):
    """One pass over the pictures per data set and margin: ({(name, margin): predictions}, {(name, margin): result})."""
    model, weights = load_network(options)
    made = environment(options.command)
    found, results = {}, {}
    for name, part in listed.items():
        for margin in dict.fromkeys(margins):
            predictions = predict_listed(model, part, margin, options.workers)
            found[name, margin] = predictions
            results[name, margin] = score(
                part, predictions, options.rounds, options.seed, weights=weights, made=made, worst=options.worst
            )
    return found, results


def run_table(options):
    """Score the network on every data set and margin of a table of the paper."""
    reasons, listed = {}, {}
    for name in tables.GROUPS[options.what]:
        reasons[name], part = available(name, options, "all" if options.what == "table1" else "16-8")
        if part:
            listed[name] = part
    if not listed:
        print(f"{tables.paper_table(options.what, {}, reasons)}\n\nNothing was scored.")
        return
    margins = [row["margin"] for row in paper_tables()[options.what] if "margin" in row]
    found, results = predict_and_score(options, listed, margins)
    if options.predictions:
        out = Path(options.predictions)
        for name in listed:
            parts = [part for (other, _), part in found.items() if other == name]
            write_predictions(out.with_stem(f"{out.stem}-{name}"), stack(parts))
    if options.result:
        write_results(options.result, list(results.values()), absent={k: v for k, v in reasons.items() if v})
    print(f"{tables.paper_table(options.what, results, reasons)}\n")
    print_details(list(results.values()))


def print_details(results):
    """What stands below the mean absolute errors: further metrics, set sizes, worst images, protocol cards."""
    print(tables.metric_table(results))
    for result in results:
        if result["set_sizes"]:
            title = tables.heading(result["card"])
            print(f"\nThe same predictions on the sets of images in use, {title}:\n\n{tables.set_size_table(result)}")
    for result in results:
        print(f"\n{tables.heading(result['card'])}:\n\n{tables.worst_table(result)}")
    print(f"\n{tables.card_texts([result['card'] for result in results])}")


def draw(options, listed, found, asked, sweep):
    """The pictures of a data set: error by angle and worst images at each margin asked for, and the sweep."""
    folder = Path(options.figures)
    folder.mkdir(parents=True, exist_ok=True)
    for result in asked:
        margin = result["card"]["margin"]
        name = f"{options.what}-{margin:g}"
        figures.draw_error_by_angle(folder / f"{name}-error-by-angle.png", found[options.what, margin], result["card"])
        figures.draw_worst(folder / f"{name}-worst.png", listed, result)
    if sweep:
        paper = {row["margin"]: f": MAE {row['mae'][-1]:.2f}" for row in paper_rows(listed)} or {0.2: "", 0.3: ""}
        marked = [(0, "released code"), *((margin, f"paper{number}") for margin, number in sorted(paper.items()))]
        figures.draw_sweep(folder / f"{options.what}-margin-sweep.png", sweep, marked)
    print(f"pictures: {folder}", file=sys.stderr)


def run_score(options):
    """Score predictions files; several are the seeds of one method."""
    listed = load_listed(options.truth, options, options.split) if options.truth else None
    made, groups, results = environment(options.command), {}, []
    for path in options.files:
        predictions, facts = read_file(path, options.roll_sign, listed, options.common_only)
        for part in parts_of(predictions):
            result = score(listed, part, options.rounds, options.seed, file=facts, made=made, worst=options.worst)
            results.append(result)
            groups.setdefault(tables.heading(result["card"], with_file=False), []).append((part, result))
    spreads = [(title, spread_of(title, group, options.files)) for title, group in groups.items()]
    if options.result:
        write_results(options.result, results, spreads=dict(spreads))
    print(f"{result_table(results)}\n")
    if len(options.files) > 1:
        print(f"{tables.spread_table(spreads)}\n")
    print_details(results)


def spread_of(title, group, files):
    """Mean and standard deviation over files that must have scored the same images."""
    if len(group) != len(files):
        raise InputError(f"{title}: in {len(group)} of {len(files)} files; several files are the seeds of one method")
    for part, _ in group[1:]:
        metrics.compare(group[0][0], part, rounds=1, clusters=part.path)  # a InputError if images or truth differ
    return metrics.across_seeds([result["estimates"] for _, result in group])


def run_compare(options):
    """Paired differences of two predictions files, at every margin that both have."""
    listed = load_listed(options.truth, options, options.split) if options.truth else None
    (a, facts_a), (b, facts_b) = (
        read_file(path, sign, listed, options.common_only)
        for path, sign in ((options.a, options.roll_sign_a), (options.b, options.roll_sign_b))
    )
    print(tables.comparison_card(facts_a, facts_b, listed, environment(options.command)))
    for first, second, margin in pairs_of(a, b, options.common_only):
        pair = compare_pair(first, second, common_only=options.common_only, rounds=options.rounds, seed=options.seed)
        print(f"\n{tables.comparison_text(pair, margin)}")


def run_results(options):
    """Write the document of results from result files."""
    found = [result for path in options.files for result in read_results(path)]
    write_text(options.out, tables.results_document(found))
    print(f"{options.out}: {len(found)} results of {len(options.files)} files")


# --- The script -------------------------------------------------------------------------------------------------------
COMMANDS = {
    "table1": (run_table, "the paper's Table 1: AFLW2000 and all of BIWI at the margins 0.3 and 0.2"),
    "table2": (run_table, "the paper's Table 2: test videos of BIWI, our split 16-8, at the margins 0.2 and 0.1"),
    "aflw2000": (run_data_set, "AFLW2000 by the published lists"),
    "biwi": (run_data_set, "BIWI by the published lists"),
    "synthetic": (run_data_set, "generated heads"),
    "lists": (run_data_set, "one's own lists"),
    "score": (run_score, "predictions files of any model; several: mean and standard deviation over seeds"),
    "compare": (run_compare, "two predictions files, paired"),
    "results": (run_results, "write the document of results from result files"),
}


def parse_options(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    parsers = {name: commands.add_parser(name, help=text, description=text) for name, (_, text) in COMMANDS.items()}
    for name, command in parsers.items():
        if name in ("score", "compare"):
            add_truth_options(command, name)
        elif name != "results":
            add_network_options(command, name)
    parsers["results"].add_argument("files", nargs="+", metavar="RESULT.json", help="from --result")
    parsers["results"].add_argument("--out", default="doc/results.md", help="(doc/results.md)")
    options = parser.parse_args(arguments)
    if options.what != "results":
        check_options(parsers[options.what], options)
    options.command = shlex.join(["evaluate.py", *(sys.argv[1:] if arguments is None else arguments)])
    return options


def add_network_options(parser, name):
    parser.add_argument("--weights", required=True, metavar="FILE", help="the network: .keras or .weights.h5")
    parser.add_argument("--allow-missing", action="store_true", help="score the pictures that are there, and say so")
    if not name.startswith("table"):
        parser.add_argument("--margin", nargs="+", type=float, help="test margins γ (the paper's, or 0.2)")
        parser.add_argument("--sweep", action="store_true", help="also score at the margins 0, 0.05 ... 0.5")
        parser.add_argument("--figures", metavar="DIR", help="draw the error by angle, the worst images and the sweep")
    parser.add_argument(
        "--predictions", metavar="OUT.csv", help="write a row per image and margin; a file per data set"
    )
    parser.add_argument(
        "--batch-size", type=int, default=16, help="crops held at a time; scores do not depend on it (16)"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="threads that read pictures (all cores)")
    add_list_options(parser, name)


def add_truth_options(parser, name):
    for side, sign in {"score": [("files", "")], "compare": [("a", "-a"), ("b", "-b")]}[name]:
        parser.add_argument(side, nargs="+" if name == "score" else None, metavar="FILE.csv", help="predictions")
        text = "whose roll the file has: that of the lists or of the .mat files (list)"
        parser.add_argument(f"--roll-sign{sign}", choices=("list", "mat"), default="list", help=text)
    text = "join the true angles of these lists by path, and say what was left out"
    parser.add_argument("--truth", choices=("aflw2000", "biwi", "synthetic", "lists"), help=text)
    parser.add_argument(
        "--common-only", action="store_true", help="where images differ, score those in both, and say so"
    )
    add_list_options(parser, name)


def add_list_options(parser, name):
    if name in ("lists", "score", "compare"):
        parser.add_argument("--lists", nargs=2, metavar=("CROP", "ANGLES"), help="one's own, in the published format")
        parser.add_argument("--angle-unit", choices=("radians", "degrees"), help="of one's own angle list")
    if name in ("biwi", "score", "compare"):
        parser.add_argument("--split", default="all", choices=("all", *BIWI_SPLITS), help="of BIWI: test videos (all)")
    parser.add_argument("--data-dir", help="the data folder (data; data/synthetic for synthetic)")
    parser.add_argument("--rounds", type=int, default=1000, help="of the bootstrap (1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (0)")
    if name != "compare":
        parser.add_argument("--worst", type=int, default=10, metavar="K", help="name the worst images (10)")
        parser.add_argument("--result", metavar="OUT.json", help="write metrics, intervals and protocol cards")


def check_options(parser, options):
    """Options that argparse cannot judge one by one."""
    source = getattr(options, "truth", options.what)
    if "lists" in options and (source == "lists") != bool(options.lists and options.angle_unit):
        parser.error("one's own lists need --lists CROP ANGLES and --angle-unit, and nothing else takes them")
    if getattr(options, "split", "all") != "all" and source != "biwi":
        parser.error("only biwi has splits")
    for margin in getattr(options, "margin", None) or ():
        if not 0 <= margin <= 5:
            parser.error(f"a margin is a share of the box between 0 and 5, not {margin:g}")
    for name in ("batch_size", "workers", "rounds", "worst"):
        if getattr(options, name, 1) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, not {getattr(options, name)}")
    if "weights" in options and not Path(options.weights).is_file():
        raise InputError(
            f"{options.weights}: no such file; --weights wants the .keras or .weights.h5 file of a network"
        )
    options.data_dir = options.data_dir or ("data/synthetic" if source == "synthetic" else "data")


def main(arguments=None):
    options = parse_options(arguments)
    COMMANDS[options.what][0](options)


if __name__ == "__main__":
    try:
        main()
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")

"""Results for people: Markdown tables, protocol cards, doc/results.md and pictures, all from result dicts.

A result is what `evaluate.score` returns: a dict of `card` (the protocol card), `estimates` ({metric: Estimate}),
`paper` (RAFA-Net's own rows for that protocol and margin), `set_sizes` and `worst`.  A result file holds a list of them
as JSON: estimates are objects of value, low, high, n and clusters there, and null stands for NaN.
"""

import math
from dataclasses import asdict
from pathlib import Path

from data_loaders import AXES, DATA_SETS
from util import metrics
from util.protocol import MAE_KEYS, counted, paper_tables

GROUPS = {"table1": ("aflw2000", "biwi"), "table2": ("biwi",)}  # what the columns of a table of the paper stand for
OUR_SPLIT = ", test videos of our split 16-8: the paper's own split is unknown"
MAE_LEGEND = "Mean absolute error in degrees [95 % interval]; MAE is the mean of the three axes."


# --- Cells ------------------------------------------------------------------------------------------------------------
def table(header, rows):
    """A Markdown table; a cell without text is a mistake of the program."""
    rows = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    if not all(len(row) == len(header) and all(row) for row in rows):
        raise ValueError(f"a table of {len(header)} columns has a row with an empty or missing cell")
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def with_interval(estimate):
    """A value with its interval, "no images" where none counts."""
    value, low, high, n, _ = estimate
    if not n:
        return "no images"
    return f"{value:.2f} (no interval)" if math.isnan(low) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def count(number):
    return "unknown" if number is None else f"{number:,}"


def heading(card, with_file=True):
    """A result's name over a table, with or without the predictions file it came from."""
    return f"{title_of(card, with_file)}, margin γ {margin_text(card['margin'])}"


def margin_text(margin):
    return "not stated" if margin is None else f"{margin:g}"


def title_of(card, with_file=True):
    """Data set and split, for a row of a table, and the predictions file."""
    doubt = "" if is_published(card) or not is_licensed(card) else " (NOT the published lists)"
    file = f", {Path(card['predictions']['file']).name}" if card["predictions"] and with_file else ""
    return card["data_set"] + doubt + ("" if card["split"] == "all" else f", {card['split']}") + file


def is_licensed(card):
    """Whether the result names a data set of the paper."""
    return card["data_set"] in ("AFLW2000", "BIWI")


def is_published(card):
    """Whether both lists are the published ones, byte for byte."""
    return bool(card["lists"]) and all(file["published"] for file in card["lists"])


def images_text(card):
    """Images expected / found / scored; that pictures were left out cannot be overlooked."""
    images = card["images"]
    text = " / ".join(count(images[key]) for key in ("expected", "found", "scored"))
    if card["resampled"]["unit"] != "images":
        text += f" of {counted(card['resampled']['number'], card['resampled']['unit'])}"
    return text + (f" ({images['left_out']:,} LEFT OUT: {images['left_out_by']})" if images["left_out"] else "")


def _row_cells(result):
    card = result["card"]
    values = [with_interval(result["estimates"][key]) for key in MAE_KEYS]
    return [title_of(card), margin_text(card["margin"]), images_text(card), *values]


# --- Tables -----------------------------------------------------------------------------------------------------------
MAE_HEADER = ("Result", "Margin γ", "Images expected / found / scored", "Yaw", "Pitch", "Roll", "MAE")


def result_table(results):
    """Markdown: mean absolute errors with intervals, each result followed by the paper's row if it has one."""
    rows = []
    for result in results:
        rows.append(_row_cells(result))
        for row in result["paper"]:
            name = f"paper, {_name_of_table(row['table'])}, RAFA-Net"
            rows.append([name, f"{row['margin']:g}", "not known", *(f"{number:.2f}" for number in row["mae"])])
    return f"{table(MAE_HEADER, rows)}\n\n{MAE_LEGEND}"


def _name_of_table(key):
    return {"table1": "Table 1", "table2": "Table 2 (its split is unknown)"}[key]


def metric_table(results):
    """Markdown: every metric but the mean absolute errors of `result_table`, a column per result."""
    columns = [heading(r["card"]) for r in results]
    rows = []
    for key, title, unit in metrics.METRICS:
        if key not in MAE_KEYS:
            cells = []
            for result in results:
                estimate = result["estimates"][key]
                part = 0 < estimate.n < result["card"]["images"]["scored"]
                cells.append(with_interval(estimate) + (f", {estimate.n:,} images" if part else ""))
            rows.append([f"{title} ({unit})", *cells])
    return table(["Metric [95 % interval]", *columns], rows)


def set_size_table(result):
    """Markdown: the same predictions on the sets of images in circulation."""
    rows = [
        [
            size["name"],
            f"{size['scored']:,} of {size['size']:,}",
            *(with_interval(size["estimates"][k]) for k in MAE_KEYS),
        ]
        for size in result["set_sizes"]
    ]
    return table(["Set of images", "Scored", "Yaw", "Pitch", "Roll", "MAE"], rows)


def worst_table(result):
    """Markdown: the images with the largest mean error of the three axes."""
    rows = []
    for row in result["worst"]:
        pairs = zip(row["true"], row["predicted"], strict=True)
        rows.append([row["path"], f"{row['mae']:.1f}", *(f"{true:+.1f} → {found:+.1f}" for true, found in pairs)])
    return table(["Worst images", "Mean error", *(f"{axis}, true → predicted" for axis in AXES)], rows)


def paper_table(name, results, absent):
    """Markdown: a whole table of the paper with our rows in place, the differences to the paper beside our numbers.

    Args:
        name: "table1" or "table2".
        results: {(data set, margin): result}; absent: {data set: why it could not be scored}.
    """
    groups = GROUPS[name]
    first = ["Method"] if name == "table1" else ["Input", "Method"]
    header = first + [
        f"{DATA_SETS[group].title} {column}" for group in groups for column in ("yaw", "pitch", "roll", "MAE")
    ]
    rows = []
    for row in paper_tables()[name]:
        start = [row["input"]] if "input" in row else []
        numbers = [number for group in groups for number in row[group]]
        rows.append([*start, row["method"], *("-" if number is None else f"{number:.2f}" for number in numbers)])
        if "margin" in row:
            remarks, cells = [], []
            for group in groups:
                result = results.get((group, row["margin"]))
                remarks.append(f"{DATA_SETS[group].title}: {_remark(result, absent.get(group))}")
                cells += _with_differences(result, row[group])
            label = f"**this network, γ={row['margin']:g}{OUR_SPLIT if name == 'table2' else ''}**"
            rows.append([*start, f"{label} ({'; '.join(remarks)})", *cells])
    legend = (
        f"{MAE_LEGEND} Behind an interval: this network minus the paper's row above it. -: the paper has no number."
    )
    return f"{table(header, rows)}\n\n{legend}"


def _remark(result, reason):
    if result is None:
        return f"not available here: {reason}"
    card = result["card"]
    doubt = "" if is_published(card) else "NOT the published lists; "
    return f"{doubt}images expected / found / scored {images_text(card)}"


def _with_differences(result, paper):
    if result is None:
        return ["not available here"] * 4
    found = [result["estimates"][key] for key in MAE_KEYS]
    return [f"{with_interval(e)}, {e.value - number:+.2f}" for e, number in zip(found, paper, strict=True)]


def spread_table(groups):
    """Markdown: mean ± standard deviation over runs, from a list of (title, {metric: Spread})."""
    rows = []
    for key, title, unit in metrics.METRICS:
        spreads = [spread[key] for _, spread in groups]
        cells = ["no images" if math.isnan(s.mean) else f"{s.mean:.2f} ± {s.sd:.2f} (n = {s.n})" for s in spreads]
        rows.append([f"{title} ({unit})", *cells])
    return table(["Mean ± standard deviation", *(name for name, _ in groups)], rows)


def comparison_text(pair, margin):
    """Markdown: every metric of A and of B, and the paired difference B - A with its interval.

    Args:
        pair: from `scoring.compare_pair`; margin: as text.
    """
    rows = []
    for key, title, unit in metrics.METRICS:
        estimate = pair["differences"][key]
        if estimate.n:
            decided = estimate.low > 0 or estimate.high < 0
            better = "B" if (estimate.value < 0) == (unit == "°") else "A"
            reading = f"{better} is better" if decided else "undecided"
            values = f"{pair['a'][key]:.2f}", f"{pair['b'][key]:.2f}", with_interval(estimate)
            rows.append([f"{title} ({unit})", *values, f"{estimate.n:,}", reading])
        else:
            rows.append([f"{title} ({unit})", *["no images"] * 3, "0", "-"])
    left = pair["left_out"]
    left = f"; LEFT OUT by --common-only: {left[0]:,} images of A, {left[1]:,} of B" if any(left) else ""
    return (
        f"Margin γ {margin}: {pair['images']:,} images, the same in both{left}\n\n"
        f"{table(['Metric', 'A', 'B', 'B - A [95 % interval]', 'Images', 'Reading'], rows)}\n\n"
        f"Intervals of the paired difference: {pair['intervals']}."
    )


# --- The protocol card as text ----------------------------------------------------------------------------------------
def card_texts(cards):
    """Protocol cards, a line per fact, those after the first without what they share with it."""
    first, *others = [_card_facts(card) for card in cards]
    texts = [_lines(f"Protocol card: {heading(cards[0])}", first)]
    for card, facts in zip(cards[1:], others, strict=True):
        differing = {name: text for name, text in facts.items() if first.get(name) != text}
        texts.append(_lines(f"Protocol card: {heading(card)}: as the first{', but' if differing else ''}", differing))
    return "\n\n".join(texts)


def _lines(title, facts):
    return "\n".join([title, *(f"  {name:15} {text}" for name, text in facts.items())])


def _card_facts(card):
    """The protocol card as {name: text}; the result file has it in full."""
    images = card["images"]
    rejected = "".join(f", {number:,} {reason}" for reason, number in images["rejected"].items())
    return {
        "paper protocol": "yes" if card["paper_protocol"] else "no: " + "; ".join(card["departures"]),
        "images": f"expected {count(images['expected'])}, listed {count(images['listed'])}{rejected}, usable "
        f"{count(images['usable'])}, found {count(images['found'])}, scored {images['scored']:,}",
        "lists": "; ".join(map(_list_text, card["lists"])) or "unknown: none was given (--truth)",
        "crops": "; ".join(dict.fromkeys((card["boxes"], card["crop"], card["channel_order"]))),
        "angles": f"{card['units']}; roll sign: {card['roll_sign']}; wrap: {card['wrap']}",
        "rotation": card["euler_order"],
        "intervals": card["intervals"],
        **_source_facts(card),
        **_made_facts(card["made"]),
        "notes": "; ".join(card["notes"]) or "none",
    }


def _list_text(file):
    kind = "published" if file["published"] else "not a published list"
    return f"{Path(file['path']).name} ({file['rows']:,} rows, {kind}, SHA-256 {file['sha256'][:12]}…)"


def _source_facts(card):
    """What the predictions came from: a network or a file."""
    facts = {}
    if card["weights"]:
        weights = card["weights"]
        facts["network"] = f"{weights['file']} ({weights['backbone']}), SHA-256 {weights['sha256'][:12]}…"
        facts["trained by"] = trained_by_text(weights["trained_by"])
    if card["predictions"]:
        facts["predictions"] = _predictions_text(card["predictions"])
    return facts


def _predictions_text(file):
    return "{file}, SHA-256 {sha256}, roll sign of the file: {roll_sign}".format(**file)


def _made_facts(made):
    return {
        "made": "{date}, commit {commit}, {hardware}".format(**made),
        "versions": ", ".join(f"{name} {version}" for name, version in made["versions"].items()),
        "command": made["command"],
    }


def trained_by_text(run):
    return (
        "unknown: no run.json beside the weights"
        if run is None
        else "{command} ({date}, commit {commit})".format(**run)
    )


def comparison_card(a, b, listed, made):
    """What stands above a comparison: both files, where the truth came from, what was left out, how it was made."""
    facts = {name: _predictions_text(file) for name, file in (("A", a), ("B", b))}
    facts["truth"] = "; ".join(_list_text(asdict(file)) for file in listed.files) if listed else "that of the files"
    facts |= _made_facts(made)
    facts["notes"] = "; ".join(f"{name}: {n}" for name, file in (("A", a), ("B", b)) for n in file["notes"]) or "none"
    return _lines("Comparison of B with A, paired by image", facts)


# --- doc/results.md ---------------------------------------------------------------------------------------------------
_ABOUT = """# Results

Written by a program from the result files of runs; to change it, run `python evaluate.py results RESULT.json... --out
doc/results.md` again.  The number in front of a row leads to its command, seed, commit, hardware and date below.
"""
_FREE = """## What can be run without the licensed data sets

Generated heads and lists of one's own.  **These are not the paper's data: nothing here compares with its tables.**
"""
_PAPER = """## The paper's protocols

Rows of RAFA-Net in the paper, and beside them what this program measured under the very protocol: the published lists,
every image, the same margin.
"""
_PART = """## Other runs

Parts of the paper's images, other splits, other margins, another training, or predictions that came without their
lists: **not the paper's protocol**; why, is said below.
"""


def results_document(results):
    """The text of doc/results.md: rows by what they may be compared with, and how each was made."""
    numbered = list(enumerate(results, start=1))
    paper = [(n, r) for n, r in numbered if r["card"]["paper_protocol"]]
    free = [(n, r) for n, r in numbered if r["card"]["lists"] and not _is_paper_data(r["card"])]
    parts = [_ABOUT, _FREE, _numbered_table(free), _PAPER, _paper_rows_table(paper), _PART]
    parts += [_numbered_table([pair for pair in numbered if pair not in paper and pair not in free])]
    parts += ["## How each row was made", "\n".join(_provenance(n, result["card"]) for n, result in numbered)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _is_paper_data(card):
    return is_licensed(card) and is_published(card)


def _numbered_table(numbered):
    if not numbered:
        return "Not measured here."
    return f"{table(['Row', *MAE_HEADER], [[n, *_row_cells(result)] for n, result in numbered])}\n\n{MAE_LEGEND}"


def _paper_rows_table(measured):
    """The paper's own rows, each with the results under its protocol or "not measured here" under it."""
    rows = []
    for name, row, group in _paper_cells():
        title, margin = DATA_SETS[group].title, row["margin"]
        label = f"paper, {_name_of_table(name)}: {title}"
        rows.append(["paper", label, f"{margin:g}", "not known", *(f"{number:.2f}" for number in row[group])])
        same = [(n, r) for n, r in measured if (r["card"]["data_set"], r["card"]["margin"]) == (title, margin)]
        ours = [[n, *_row_cells(result)] for n, result in same if name == "table1"]
        why = "not measured here" + (": which videos it used is unknown" if name == "table2" else "")
        rows += ours or [["-", why, f"{margin:g}", *["not measured here"] * 5]]
    return f"{table(['Row', *MAE_HEADER], rows)}\n\n{MAE_LEGEND}"


def _paper_cells():
    """RAFA-Net's results in the paper: (table, row, data set)."""
    for name, groups in GROUPS.items():
        for row in paper_tables()[name]:
            if "margin" in row:
                yield from ((name, row, group) for group in groups)


def _provenance(number, card):
    made, weights = card["made"], card["weights"]
    lines = [f"{number}. {heading(card)}: `{made['command']}`"]
    lines.append(f"seed {card['seed']}; commit {made['commit']}; {made['hardware']}; {made['date']}")
    if weights:
        run = weights["trained_by"]
        seed = f"; seed {run['seed']}; {run['hardware']}" if run else ""
        lines.append(f"network: {weights['backbone']}, SHA-256 {weights['sha256']}")
        lines.append(f"trained by: {trained_by_text(run)}{seed}")
    if card["predictions"]:
        lines.append(f"predictions: {_predictions_text(card['predictions'])}")
    lines.append(card["intervals"])
    lines += [f"not the paper's protocol: {reason}" for reason in card["departures"]]
    return "\n".join([lines[0], *(f"   - {line}" for line in lines[1:])])

"""Texts about results: protocol cards, what is printed below a table, and doc/results.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rafa.datasets.sets import DATASETS
from rafa.score import tables
from rafa.score.conventions import DOUBT, Convention
from rafa.score.metrics import HEADLINE_KEYS
from rafa.score.protocol import Facts, count_text, is_of_paper, paper_tables
from rafa.score.tables import HEADER, heading, headline_table


# --- Below a table ----------------------------------------------------------------------------------------------------
def details(results: Sequence[Facts]) -> str:
    """What comes below the table of errors: further metrics, set sizes, worst images, protocol cards."""
    parts = [*doubts(results), tables.metric_table(results)]
    for result in results:
        if result["set_sizes"]:
            title = f"The same predictions on the sets of images in use, {heading(result['card'])}:"
            parts += [title, tables.set_size_table(result)]
    for result in results:
        parts += [f"{heading(result['card'])}:", tables.worst_table(result)]
    return "\n\n".join([*parts, card_texts([result["card"] for result in results])])


def comparison(results: Sequence[Facts]) -> str:
    """Methods on the same images: their errors, paired differences to the first, further metrics, protocol cards."""
    intervals = dict.fromkeys(result["compared"]["intervals"] for result in results if "compared" in result)
    parts = [tables.comparison_table(list(enumerate(results, start=1))), *doubts(results)]
    parts += [tables.difference_table(results), f"Intervals of the paired differences: {'; '.join(intervals)}."]
    return "\n\n".join([*parts, tables.metric_table(results), card_texts([result["card"] for result in results])])


def doubts(results: Sequence[Facts]) -> list[str]:
    """The doubts about signs, order and units: they belong beside the table, not at the end of a card."""
    notes = ((heading(result["card"]), note) for result in results for note in result["card"]["notes"])
    return list(dict.fromkeys(f"{title}: {note}" for title, note in notes if note.startswith(DOUBT)))


# --- The protocol card as text ----------------------------------------------------------------------------------------
def card_texts(cards: Sequence[Facts]) -> str:
    """Protocol cards, a line for each fact; those after the first without what they share with it."""
    texts, first = [], _card_facts(cards[0])
    for number, card in enumerate(cards):
        facts, title = _card_facts(card), f"Protocol card: {heading(card)}"
        if number:
            facts = {name: text for name, text in facts.items() if first.get(name) != text}
            title += f": as the first{', but' if facts else ''}"
        texts.append("\n".join([title, *(f"  {name:15} {text}" for name, text in facts.items())]))
    return "\n\n".join(texts)


def _card_facts(card: Facts) -> dict[str, str]:
    """The protocol card as {name: text}; the result file has it in full."""
    weights, file = card["weights"], card["predictions"]
    facts = {
        "evaluation": _evaluation_text(card),
        "images": _counts_text(card["images"]),
        "lists": "; ".join(map(list_text, card["lists"])) or "unknown: none was given (--truth)",
        "crops": "; ".join(dict.fromkeys((card["boxes"], card["crop"], card["channel_order"]))),
        "angles": f"{card['units']}; roll sign: {card['roll_sign']}; wrap: {card['wrap']}",
        "rotation": card["euler_order"],
        "intervals": card["intervals"],
    }
    if weights:
        facts["network"] = f"{weights['file']} ({weights['backbone']}), SHA-256 {weights['sha256'][:12]}…"
        facts["trained by"] = _trained_by_text(weights["trained_by"])
        if weights["trained_by"]:
            facts["trained on"] = _trained_on_text(weights["trained_by"])
    if file:
        facts["predictions"] = predictions_text(file)
    facts["made"] = "{date}, commit {commit}, {hardware}".format(**card["made"])
    facts["versions"] = ", ".join(f"{name} {version}" for name, version in card["made"]["versions"].items())
    return facts | {"command": card["made"]["command"], "notes": "; ".join(card["notes"]) or "none"}


def _evaluation_text(card: Facts) -> str:
    """Whether the evaluation, not the network, is the paper's."""
    if card["evaluation_protocol"]:
        return "lists, images, margin and crop are those of the paper; the network and its training are no part of this"
    return f"not that of the paper: {'; '.join(card['departures'])}"


def _counts_text(images: Facts) -> str:
    """Every count of images; the rejected ones by reason."""
    rejected = "".join(f" ({number:,} rejected: {reason})" for reason, number in images["rejected"].items())
    keys = ("expected", "listed", "usable", "found", "scored")
    return ", ".join(f"{key} {count_text(images[key])}{rejected if key == 'listed' else ''}" for key in keys)


def list_text(file: Facts) -> str:
    """A list: name, rows, whether it is the published one, hash."""
    kind = "published" if file["published"] else "not a published list"
    return f"{Path(file['path']).name} ({file['rows']:,} rows, {kind}, SHA-256 {file['sha256'][:12]}…)"


def predictions_text(file: Facts) -> str:
    """A predictions file: name, hash, and how it writes angles."""
    text = "{file}, SHA-256 {sha256}, roll sign of the file: {roll_sign}".format(**file)
    options = Convention(**file.get("convention", {})).options()
    return text + (f", read with {options}" if options not in ("", "--signs roll") else "")


def _trained_by_text(run: Facts | None) -> str:
    if run is None:
        return "unknown: no run.json beside the weights has the SHA-256 of this file"
    start, resumed = run.get("started_from", "none"), run.get("resumed_by")
    text = "{command} ({date}, commit {commit})".format(**run)
    text += f", starting from {start}" if start != "none" else ""
    return text + (f", resumed by {resumed[-1]}" if resumed else "")


def _trained_on_text(run: Facts) -> str:
    return "; ".join([*map(list_text, run["lists"]), *([] if run["all_images"] else ["some images LEFT OUT"])])


# --- doc/results.md ---------------------------------------------------------------------------------------------------
_ABOUT = """# Results

Written by `python evaluate.py results RESULT.json... --out doc/results.md` from the result files of runs; do not edit.
The number of a row leads to its command, commit, hardware, date and seeds below.
"""
_OTHERS = """## Networks of any program, by their predictions

Each by its own margin. What others published of a method stands under it. A predictions file does not say how its crops
were made, nor on what its network was trained: **not the paper's evaluation protocol**.
"""
_FREE = """## Your own lists, and synthetic heads

**These are not the paper's images, or not all of them: do not compare them with its tables.**
"""
_PAPER = """## The paper's evaluation protocol

RAFA-Net's rows in the paper, and what this program measured on the same images: the published lists, every image, the
same margin, one crop. The network and its training may be others: see how each row was made.
"""
_PART = """## Other runs

Part of the paper's images, other lists, splits, margins or crops: **not the paper's evaluation protocol**, for the
reasons given below.
"""


def results_document(results: Sequence[Facts]) -> str:
    """The text of doc/results.md: rows grouped by what they may be compared with, and how each was made."""
    numbered = list(enumerate(results, start=1))
    paper = [(n, r) for n, r in numbered if r["card"]["evaluation_protocol"]]
    files = [(n, r) for n, r in numbered if r["card"]["predictions"]]
    free = [(n, r) for n, r in numbered if not r["card"]["predictions"] and not is_of_paper(r["card"]["data_set"])]
    made = {tables.made_by(result): n for n, result in reversed(numbered)}
    grouped = {number for number, _ in (*paper, *files, *free)}
    other = [pair for pair in numbered if pair[0] not in grouped]
    parts = [_ABOUT, *doubts(results), _PAPER, _paper_table(paper), _numbered_table(paper), _OTHERS]
    parts += [tables.comparison_table(files, ["Row"]) if files else "Not measured here."]
    parts += [_PART, _numbered_table(other), _FREE, _numbered_table(free)]
    parts += ["## How each row was made", "\n".join(_provenance(n, result["card"], made) for n, result in numbered)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _numbered_table(numbered: Sequence[tuple[int, Facts]]) -> str:
    if not numbered:
        return "Not measured here."
    return headline_table(["Row", *HEADER], [[number, *row] for number, row in tables.result_rows(numbered)])


def _paper_table(measured: Sequence[tuple[int, Facts]]) -> str:
    """RAFA-Net's rows in the paper, and beside each what was measured on the same images at the same margin."""
    rows = []
    for name, datasets in tables.TABLE_DATASETS.items():
        for row, dataset in ((row, each) for row in paper_tables()[name] if "margin" in row for each in datasets):
            title, margin = DATASETS[dataset].title, row["margin"]
            here = [
                f"row {number}: {_errors_text([result['estimates'][key].value for key in HEADLINE_KEYS])}"
                for number, result in measured
                if name == "table1" and (result["card"]["data_set"], result["card"]["margin"]) == (title, margin)
            ]
            start = [tables.PAPER_NAMES[name], title, f"{margin:g}", _errors_text(row[dataset])]
            rows.append([*start, "; ".join(here) or "not measured here"])
    header = ["Paper", "Images", "Margin", "Paper: yaw / pitch / roll, MAE", "Here: yaw / pitch / roll, MAE, geodesic"]
    return tables.table(header, rows)


def _errors_text(errors: Sequence[float]) -> str:
    texts = [f"{error:.2f}" for error in errors]
    return ", ".join([" / ".join(texts[:3]), *texts[3:]])


def _provenance(number: int, card: Facts, first_row: Mapping[tuple[str, str], int]) -> str:
    """How a row was made: a numbered item with a line for each fact; `first_row` made by each command and date."""
    made, weights = card["made"], card["weights"]
    if (first := first_row[made["command"], made["date"]]) == number:
        lines = [f"{number}. {heading(card)}: `{made['command']}`"]
        lines.append(f"commit {made['commit']}; {made['hardware']}; {made['date']}")
    else:
        lines = [f"{number}. {heading(card)}: by the command of row {first}"]
    if weights:
        run = weights["trained_by"]
        seed = f"; seed {run['seed']}; {run['hardware']}" if run else ""
        lines.append(f"network: {weights['backbone']}, SHA-256 {weights['sha256']}")
        lines.append(f"trained by: {_trained_by_text(run)}{seed}")
        lines += [f"trained on: {_trained_on_text(run)}"] if run else []
    if card["predictions"]:
        lines.append(f"predictions: {predictions_text(card['predictions'])}")
    lines.append(card["intervals"])
    lines += [f"not the paper's evaluation protocol: {reason}" for reason in card["departures"]]
    lines += [f"note: {note}" for note in card["notes"]]
    return "\n   - ".join(lines)

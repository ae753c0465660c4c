"""Markdown tables of results.  What a result is: see `rafa/score/protocol.py`."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from rafa.datasets.sets import DATASETS
from rafa.pose import AXES
from rafa.score import metrics
from rafa.score.metrics import HEADLINE_KEYS, MAE_KEYS, counted
from rafa.score.protocol import Facts, count_text, is_of_paper, margin_text, paper_tables

TABLE_DATASETS = {"table1": ("aflw2000", "biwi"), "table2": ("biwi",)}  # of the columns of the paper's tables
PAPER_NAMES = {"table1": "Table 1", "table2": "Table 2 (split unknown)"}
HEADER = ("Result", "Margin", "Images expected / found / scored", "Yaw", "Pitch", "Roll", "MAE", "Geodesic")
LEGEND = "Mean errors in degrees [95% interval]; MAE: mean of the axes; geodesic: angle between the poses."
BASELINE = "mean pose of the training list"


# --- Cells ------------------------------------------------------------------------------------------------------------
def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    first, *texts = [[str(cell).replace("|", "\\|") for cell in row] for row in (header, *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (first, ["---"] * len(header), *texts))


def with_interval(estimate: metrics.Estimate) -> str:
    """A value with its interval, or "no images" where none counts."""
    value, low, high, n, _ = estimate
    if not n:
        return "no images"
    return f"{value:.2f} (no interval)" if math.isnan(low) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def headline_cells(estimates: Mapping[str, metrics.Estimate]) -> list[str]:
    """The cells of HEADLINE_KEYS with their intervals; results of older versions may lack some."""
    return [with_interval(estimates[key]) if key in estimates else "-" for key in HEADLINE_KEYS]


def heading(card: Facts, with_file: bool = True) -> str:
    """A result's name above a table, with or without its predictions file."""
    return f"{title_of(card, with_file)}, margin {margin_text(card['margin'])}"


def title_of(card: Facts, with_file: bool = True) -> str:
    """Dataset, split, method or predictions file, and views of a result."""
    doubt = " (NOT the published lists)" if is_of_paper(card["data_set"]) and not is_published(card) else ""
    file = f", {method_of(card)}" if card["predictions"] and with_file else ""
    split = "" if card["split"] == "all" else f", {card['split']}"
    views = (card["weights"] or {}).get("views", 1)
    return card["data_set"] + doubt + split + file + (f", mean of {views} views" if views > 1 else "")


def method_of(card: Facts) -> str:
    """The method that a predictions file's record names, else the name of the file."""
    file, path = card["predictions"], Path(card["predictions"]["file"])
    name = f"{path.parent.name}/{path.name}" if path.name == "predictions.csv" else path.name  # of a run folder
    return file.get("record", {}).get("method") or name


def made_by(result: Facts) -> tuple[str, str]:
    """The command that made a result, and when."""
    return result["card"]["made"]["command"], result["card"]["made"]["date"]


def is_published(card: Facts) -> bool:
    """Whether both lists are the published ones, byte for byte."""
    return bool(card["lists"]) and all(file["published"] for file in card["lists"])


def _images_text(card: Facts) -> str:
    """Images expected / found / scored, and in capitals how many were left out."""
    images, resampled = card["images"], card["resampled"]
    text = " / ".join(count_text(images[key]) for key in ("expected", "found", "scored"))
    if resampled["unit"] != "images":
        text += f" of {counted(resampled['number'], resampled['unit'])}"
    return text + (f" ({images['left_out']:,} LEFT OUT: {images['left_out_by']})" if images["left_out"] else "")


# --- Tables of results ------------------------------------------------------------------------------------------------
def result_table(results: Sequence[Facts]) -> str:
    """Errors with intervals, each result followed by what is published of its method, and by the mean pose."""
    return headline_table(HEADER, [row for _, row in result_rows(list(enumerate(results, start=1)))])


def headline_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of errors with its legend."""
    shown = any(BASELINE in row for row in rows)
    baseline = " Mean pose: the error of always predicting it." if shown else ""
    return f"{table(header, rows)}\n\n{LEGEND}{baseline}"


def result_rows(numbered: Sequence[tuple[int, Facts]]) -> Iterator[tuple[object, list[str]]]:
    """(number or "-", row) of every result, and under it what is published of its method, and the baseline once.

    RAFA-Net's rows in the paper stand under this suite's networks alone, and not under predictions of others.
    """
    following = [result["baseline"] for _, result in numbered[1:]] + [None]
    for (number, result), next_baseline in zip(numbered, following, strict=True):
        card, baseline = result["card"], result["baseline"]
        cells = headline_cells(result["estimates"])
        yield number, [title_of(card), margin_text(card["margin"]), _images_text(card), *cells]
        for row in () if card["predictions"] else result["paper"]:
            yield "-", plain_row(f"paper, {PAPER_NAMES[row['table']]}, RAFA-Net", f"{row['margin']:g}", row["mae"])
        record = (card["predictions"] or {}).get("record", {})
        if "published" in record:
            yield "-", plain_row(f"published: {record.get('source', method_of(card))}", "-", record["published"])
        if baseline and baseline != next_baseline:
            yield "-", plain_row(BASELINE, "-", [baseline.get(key) for key in HEADLINE_KEYS], "the same")


def plain_row(name: str, margin: str, numbers: Sequence[float | None], images: str = "unknown") -> list[str]:
    """A row of numbers without intervals, "-" where there is none."""
    cells = ["-" if number is None else f"{number:.2f}" for number in numbers]
    return [name, margin, images, *cells, *["-"] * (len(HEADLINE_KEYS) - len(cells))]


def comparison_table(numbered: Sequence[tuple[int, Facts]], first_column: Sequence[str] = ()) -> str:
    """Errors of several methods on the same images, with MAEV and the paired difference of MAE to the first."""
    rows, results = [], {str(number): result for number, result in numbered}
    firsts = {(each["compared"]["with"], *made_by(each)) for each in results.values() if "compared" in each}
    for number, row in result_rows(numbered):
        more = ["-", "-"]
        if result := results.get(str(number)):
            compared = result.get("compared")
            is_first = (heading(result["card"]), *made_by(result)) in firsts
            difference = with_interval(compared["differences"]["mae"]) if compared else "first" if is_first else "-"
            more = [with_interval(result["estimates"]["maev"]), difference]
        rows.append([*([number] if first_column else []), *row, *more])
    legend = "MAEV: mean angle between true and predicted head vectors. MAE - first: paired with the row so marked."
    return f"{headline_table([*first_column, *HEADER, 'MAEV', 'MAE - first'], rows)} {legend}"


def difference_table(results: Sequence[Facts]) -> str:
    """The paired difference of every metric to the first file, and whether it is decided, a column for each other."""
    others = [result for result in results if "compared" in result]

    def cell(result: Facts, key: str, unit: str) -> str:
        value, low, high, n, _ = estimate = result["compared"]["differences"][key]
        better = (value < 0) == (unit == "°")  # small errors, and large shares, are good
        verdict = "undecided" if not (low > 0 or high < 0) else "better" if better else "worse"
        return f"{verdict}: {_of_some(estimate, result)}" if n else "no images"

    return _metrics_table("Difference to the first [95% interval]", others, cell)


def metric_table(results: Sequence[Facts]) -> str:
    """Every metric, a column for each result."""
    return _metrics_table(
        "Metric [95% interval]", results, lambda result, key, _: _of_some(result["estimates"][key], result)
    )


def _metrics_table(corner: str, results: Sequence[Facts], cell: Callable[[Facts, str, str], str]) -> str:
    rows = [[f"{title} ({unit})", *(cell(each, key, unit) for each in results)] for key, title, unit in metrics.METRICS]
    return table([corner, *(heading(result["card"]) for result in results)], rows)


def _of_some(estimate: metrics.Estimate, result: Facts) -> str:
    """A value with its interval, and its number of images where not all count."""
    part = 0 < estimate.n < result["card"]["images"]["scored"]
    return with_interval(estimate) + (f", {counted(estimate.n, 'images')}" if part else "")


def set_size_table(result: Facts) -> str:
    """The same predictions on the sets of images in use."""
    sizes = result["set_sizes"]
    rows = [[s["name"], f"{s['scored']:,} of {s['size']:,}", *headline_cells(s["estimates"])] for s in sizes]
    return table(["Set of images", "Scored", *HEADER[3:]], rows)


def worst_table(result: Facts) -> str:
    """The images with the largest mean error of the three axes."""
    rows = []
    for row in result["worst"]:
        pairs = zip(row["true"], row["predicted"], strict=True)
        cells = [f"{target:+.1f} → {predicted:+.1f}".replace("-0.0", "+0.0") for target, predicted in pairs]
        rows.append([row["path"], f"{row['mae']:.1f}", *cells])
    axes = [f"{axis.capitalize()}, true → predicted (°)" for axis in AXES]
    return table(["Worst images", "Mean error (°)", *axes], rows)


def spread_table(spreads: Mapping[str, Mapping[str, metrics.Spread]]) -> str:
    """Mean ± standard deviation over runs, a column for each title."""

    def cell(mean: float, sd: float, n: int) -> str:
        deviation = f" ± {sd:.2f}" if n > 1 else ""
        return "no images" if math.isnan(mean) else f"{mean:.2f}{deviation} (n = {n})"

    columns = spreads.values()
    rows = [[f"{title} ({unit})", *(cell(*each[key]) for each in columns)] for key, title, unit in metrics.METRICS]
    return table(["Mean ± standard deviation", *spreads], rows)


# --- The paper's tables -----------------------------------------------------------------------------------------------
def paper_table(name: str, results: Mapping[tuple[str, float], Facts], absent: Mapping[str, str]) -> str:
    """A whole table of the paper with this network's rows inserted, and their difference to the paper's.

    Args:
        name: "table1" or "table2".
        results: by dataset and margin.
        absent: by dataset, why it was not scored.
    """
    datasets = TABLE_DATASETS[name]
    columns = [
        f"{DATASETS[each].title} {column}"
        for each in datasets
        for column in ("yaw", "pitch", "roll", "MAE", "geodesic")
    ]
    split = ", our split 16-8 (the paper's is unknown)" if name == "table2" else ""
    rows, notes = [], []
    for row in paper_tables()[name]:
        start = [row["input"]] if "input" in row else []
        rows.append([*start, row["method"], *(cell for each in datasets for cell in _paper_cells(row, each))])
        means = row.get("mean_of_three", {})
        notes += [f"{mean:.2f} for {row['method']} on {DATASETS[each].title}" for each, mean in means.items()]
        if "margin" in row:
            remarks, cells = [], []
            for each in datasets:
                remark, own = _our_cells(results.get((each, row["margin"])), row[each], absent.get(each))
                remarks.append(f"{DATASETS[each].title}: {remark}")
                cells += own
            rows.append([*start, f"**this network, margin {row['margin']:g}{split}** ({'; '.join(remarks)})", *cells])
    first = ["Method"] if name == "table1" else ["Input", "Method"]
    legend = f"{LEGEND} After an interval: the difference to the paper's row above. -: the paper has no number."
    footnote = f"\n\n† As the paper prints it; the mean of the three axes is {', '.join(notes)}." if notes else ""
    return f"{table([*first, *columns], rows)}\n\n{legend}{footnote}"


def _paper_cells(row: Facts, dataset: str) -> list[str]:
    """Yaw, pitch, roll and MAE as the paper prints them; a dagger where the MAE is not the mean of the three."""
    cells = ["-" if number is None else f"{number:.2f}" for number in row[dataset]]
    cells[-1] += "†" if dataset in row.get("mean_of_three", {}) else ""
    return [*cells, "-"]


def _our_cells(result: Facts | None, paper: Sequence[float], reason: str | None) -> tuple[str, list[str]]:
    """A remark on this network's result, and its cells: each value and its difference to the paper's."""
    if result is None:
        return f"not available here: {reason}", ["not available here"] * len(HEADLINE_KEYS)
    remark = "" if is_published(result["card"]) else "NOT the published lists; "
    remark += f"mean of {views} views; " if (views := (result["card"]["weights"] or {}).get("views", 1)) > 1 else ""
    pairs = zip((result["estimates"][key] for key in MAE_KEYS), paper, strict=True)
    cells = [f"{with_interval(estimate)}, {estimate.value - number:+.2f}" for estimate, number in pairs]
    geodesic = with_interval(result["estimates"]["geodesic"])
    return f"{remark}images expected / found / scored {_images_text(result['card'])}", [*cells, geodesic]

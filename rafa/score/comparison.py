"""Two predictions files compared, image by image: what is paired with what, and the text of a comparison."""

from dataclasses import asdict, replace

import numpy as np

from rafa.datasets.lists import Listed
from rafa.score.metrics import METRICS, Clusters, Columns, per_image, summarise
from rafa.score.predictions import Predictions, aligned
from rafa.score.protocol import Facts, clusters_of, counted, interval_text, margin_text
from rafa.score.reports import card_lines, list_text, made_facts, predictions_text
from rafa.score.tables import table, with_interval
from rafa.script import InputError


def pairs_by_margin(a: Predictions, b: Predictions, common_only: bool) -> list[tuple[Predictions, Predictions, str]]:
    """What to compare: A, B and their margin as text, for each common margin, or across margins if each has just one.

    Raises:
        InputError: the margins differ.
    """
    in_a, in_b = (_by_margin(part) for part in (a, b))
    if len(in_a) == len(in_b) == 1:
        (text,), (other,) = in_a, in_b
        text = text if text == other else f"{text} in A, {other} in B"
        unknown = np.array(np.nan)
        return [(replace(a, margin=unknown), replace(b, margin=unknown), text)]
    common = [text for text in in_a if text in in_b]
    if not common or (in_a.keys() != in_b.keys() and not common_only):
        mend = "--common-only compares the common ones" if common else "expected at least one in common"
        raise InputError(f"A has the margins {', '.join(in_a)}, B has {', '.join(in_b)}; {mend}")
    return [(in_a[text], in_b[text], text) for text in common]


def _by_margin(predictions: Predictions) -> dict[str, Predictions]:
    """The rows of each margin, by its text, in ascending order; rows without a margin come last."""
    texts = np.array([margin_text(margin) for margin in predictions.margin.tolist()])
    names = dict.fromkeys(texts[np.argsort(predictions.margin)].tolist())
    return {name: predictions.select(texts == name) for name in names}


def comparison_text(a: Predictions, b: Predictions, margin: str, *, common_only: bool, samples: int, seed: int) -> str:
    """Markdown: every metric of A and of B on the same images, and the paired difference B - A with its interval.

    Args:
        a, b: predictions of two methods, from `pairs_by_margin`.
        margin: of both, as text.
        common_only: compare the images that both have, instead of refusing different images.
        samples, seed: of the bootstrap, over persons or videos where either file names them, else over images.

    Raises:
        InputError: the images or their target angles differ.
    """
    all_a, all_b = len(a), len(b)
    if common_only:
        a, b = a.select(np.isin(a.path, b.path)), b.select(np.isin(b.path, a.path))
    if not len(a):
        raise InputError("A and B have no image in common; expected predictions for the same images, by the same paths")
    b = aligned(a, b)
    clusters_known = [each for each in map(clusters_of, (a, b)) if each[1] is not None]
    unit, clusters = clusters_known[0] if clusters_known else ("images", None)
    number = len(a) if clusters is None else len(set(clusters.tolist()))
    left_out = ""
    if common_only and (all_a, all_b) != (len(a), len(b)):
        left_out = f"; LEFT OUT by --common-only: {all_a - len(a):,} images of A, {all_b - len(b):,} of B"
    return (
        f"Margin {margin}: {counted(len(a), 'images')}, the same in both{left_out}\n\n"
        f"{_difference_table(per_image(a), per_image(b), samples, seed, clusters)}\n\n"
        f"Intervals of the paired difference: {interval_text(unit, number, samples, seed)}."
    )


def _difference_table(a: Columns, b: Columns, samples: int, seed: int, clusters: Clusters) -> str:
    differences = summarise({key: b[key] - a[key] for key in a}, samples, seed, clusters)
    rows = []
    for key, title, unit in METRICS:
        difference = differences[key]
        row = [f"{title} ({unit})", *["no images"] * 3, "0", "-"]
        if difference.n:
            better = "B" if (difference.value < 0) == (unit == "°") else "A"  # small errors, and large shares, are good
            decided = difference.low > 0 or difference.high < 0
            means = (f"{column[np.isfinite(column)].mean():.2f}" for column in (a[key], b[key]))
            conclusion = f"{better} is better" if decided else "undecided"
            row[1:] = [*means, with_interval(difference), f"{difference.n:,}", conclusion]
        rows.append(row)
    return table(["Metric", "A", "B", "B - A [95% interval]", "Images", "Conclusion"], rows)


def comparison_card(a: Facts, b: Facts, listed: Listed | None, made: Facts) -> str:
    """The card above a comparison: both files, where the targets came from, what was left out, how it was made.

    Args:
        a, b: the files, from `protocol.read_file`.
        listed: the lists that gave the target angles, or None where the files did.
        made: from `files.environment`.
    """
    facts = {"A": predictions_text(a), "B": predictions_text(b)}
    facts["true angles"] = "; ".join(list_text(asdict(file)) for file in listed.files) if listed else "of the files"
    facts |= made_facts(made)
    facts["notes"] = "; ".join(f"{name}: {n}" for name, file in (("A", a), ("B", b)) for n in file["notes"]) or "none"
    return card_lines("Comparison of B with A, paired by image", facts)

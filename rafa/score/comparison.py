"""Several predictions files on the same images: every file after the first paired with it, image by image."""

from collections.abc import Sequence

import numpy as np

from rafa.score.metrics import per_image, summarise
from rafa.score.predictions import Predictions, aligned
from rafa.score.protocol import Facts, clusters_of, interval_text, margin_text
from rafa.script import InputError

Scored = tuple[Predictions, Facts]  # at one split and margin: predictions and their result
COMMON = "--common-only compares the images that all have"


def common_images(files: Sequence[Sequence[Predictions]]) -> list[list[Predictions]]:
    """The parts of several files, each with the images that all have.

    Raises:
        InputError: they have none in common.
    """
    common = set.intersection(*(set(part.path.tolist()) for parts in files for part in parts))
    if not common:
        raise InputError(
            "the files have no image in common; expected predictions for the same images, by the same paths"
        )
    return [[part.select(np.isin(part.path, list(common))) for part in parts] for parts in files]


def paired(first: Sequence[Scored], other: Sequence[Scored], names: str) -> list[tuple[Scored, Scored]]:
    """The parts of two files at the same splits and margins, or across margins where each file has just one.

    Raises:
        InputError: splits or margins differ.
    """
    if len(first) == len(other) == 1:
        return [(first[0], other[0])]
    a, b = ({(part.split[0], margin_text(part.margin[0])): (part, facts) for part, facts in f} for f in (first, other))
    if a.keys() != b.keys():
        in_a, in_b = (", ".join(f"{split or 'all'} at {margin}" for split, margin in parts) for parts in (a, b))
        raise InputError(f"{names} have different splits and margins: {in_a}, and {in_b}")
    return [(a[key], b[key]) for key in a]


def difference(a: Predictions, b: Predictions, names: str, samples: int, seed: int) -> Facts:
    """The paired differences B - A of every metric, with intervals: {intervals, differences: {metric: Estimate}}.

    Args:
        a, b: predictions of two methods for the same images.
        names: of both, for errors.
        samples, seed: of the bootstrap, over persons or videos where either file names them, else over images.

    Raises:
        InputError: the images or their target angles differ.
    """
    b = aligned(a, b, names, COMMON)
    known = [each for each in map(clusters_of, (a, b)) if each[1] is not None]
    unit, clusters = known[0] if known else ("images", None)
    number = len(a) if clusters is None else len(set(clusters.tolist()))
    columns_a, columns_b = per_image(a), per_image(b)
    differences = summarise({key: columns_b[key] - columns_a[key] for key in columns_a}, samples, seed, clusters)
    return {"intervals": interval_text(unit, number, samples, seed), "differences": differences}

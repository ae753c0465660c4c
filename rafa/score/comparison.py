"""Several predictions files on the same images: every file after the first paired with it, image by image."""

from collections.abc import Iterator, Sequence

import numpy as np

from rafa.score.metrics import interval_text, per_image, summarise
from rafa.score.predictions import Predictions, aligned, clusters_of
from rafa.score.protocol import Facts, margin_text
from rafa.script import InputError

Scored = tuple[Predictions, Facts]  # at one split and margin: predictions and their result


def common_images(files: Sequence[Sequence[Predictions]]) -> list[list[Predictions]]:
    """The parts of several files, each with the images that all have at its split and margin, or in their only part.

    Raises:
        InputError: they have none in common.
    """
    place = _place if any(len(parts) > 1 for parts in files) else lambda part: None
    common: dict[object, set[str]] = {}
    for part in (part for parts in files for part in parts):
        paths = set(part.path.tolist())
        common[place(part)] = common.get(place(part), paths) & paths
    if not all(common.values()):
        raise InputError(
            "the files have no image in common; expected predictions for the same images, by the same paths"
        )
    return [[part.select(np.isin(part.path, list(common[place(part)]))) for part in parts] for parts in files]


def _place(part: Predictions) -> tuple[str, str]:
    """The split and the margin of a part of a file."""
    return part.split[0], margin_text(part.margin[0])


def pairs_with_first(files: Sequence[str], scored: Sequence[Sequence[Scored]]) -> Iterator[tuple[str, Scored, Scored]]:
    """The parts of the first file and of each other at the same split and margin, or across them if each has just one.

    Yields:
        The names of both files, the part of the first, the part of the other.

    Raises:
        InputError: splits or margins differ.
    """
    by_name = [{_place(part): (part, result) for part, result in parts} for parts in scored]
    for file, parts, other in zip(files[1:], scored[1:], by_name[1:], strict=True):
        names = f"{files[0]} and {file}"
        if len(scored[0]) == len(parts) == 1:
            yield names, scored[0][0], parts[0]
        elif by_name[0].keys() != other.keys():
            first, second = (", ".join(f"{split} {margin}" for split, margin in each) for each in (by_name[0], other))
            raise InputError(f"{names} have different splits and margins: {first}; {second}")
        else:
            yield from ((names, by_name[0][key], other[key]) for key in other)


def difference(a: Predictions, b: Predictions, names: str, samples: int, seed: int) -> Facts:
    """The paired differences B - A of every metric, with intervals: {intervals, differences: {metric: Estimate}}.

    Args:
        a, b: predictions of two methods for the same images.
        names: of both, for errors.
        samples, seed: of the bootstrap, over persons where either file names them, else videos, else images.

    Raises:
        InputError: the images or their target angles differ.
    """
    b = aligned(a, b, names)
    known = dict(map(clusters_of, (b, a)))
    unit = next(unit for unit in ("persons", "videos", "images") if unit in known)
    clusters = known[unit]
    number = len(a) if clusters is None else len(set(clusters.tolist()))
    columns_a, columns_b = per_image(a), per_image(b)
    differences = summarise({key: columns_b[key] - columns_a[key] for key in columns_a}, samples, seed, clusters)
    return {"intervals": interval_text(unit, number, samples, seed), "differences": differences}

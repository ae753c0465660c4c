"""What the measurements share: a document's parts that programs write, and differences over seeds."""

import re
from pathlib import Path

import numpy as np

from rafa.files import write_text
from rafa.script import InputError


def write_parts(source: Path, parts: dict[str, str], target: Path | None = None) -> None:
    """Write a document with each part between `<!-- measured: NAME -->` (or `<!-- NAME -->`) and its end replaced.

    Args:
        source: the document.
        parts: text by name.
        target: where to write it, if not in place.

    Raises:
        InputError: a document that does not have these marks once.
    """
    text = source.read_text(encoding="utf-8")
    for name, part in parts.items():
        mark = re.compile(rf"(<!-- (?:measured: )?{name} -->\n+).*?(\n+<!-- /(?:measured|{name}) -->)", re.DOTALL)
        if len(mark.findall(text)) != 1:
            raise InputError(f"{source} needs '<!-- measured: {name} -->' and '<!-- /measured -->' once")
        text = mark.sub(lambda found, part=part: found[1] + part + found[2], text)
    write_text(target or source, text)


def with_interval(differences: np.ndarray, digits: int) -> str:
    """The mean of (n,) differences with its 95% interval, that of Student's t."""
    from scipy.stats import ttest_1samp

    interval = ttest_1samp(differences, 0).confidence_interval(0.95)
    values = (round(value, digits) + 0.0 for value in (differences.mean(), interval.low, interval.high))  # no -0.00
    mean, low, high = (f"{value:+.{digits}f}" for value in values)
    return f"{mean} [{low}, {high}]"

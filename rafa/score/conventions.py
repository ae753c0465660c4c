"""How another program writes angles: signs, order and unit; and whether that fits the true angles.

A wrong convention is no bad network: its angles follow the true ones closely, but reversed, in another column or in
another unit.  `doubts` looks for that.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

from rafa.pose import AXES, angle_errors

UNITS = ("degrees", "radians")
DOUBT = "DOUBT: "  # so begin the notes of `doubts`
# A doubt is noted where the angles that are read otherwise correlate with the true ones, by at least this much and this
# many standard errors, and their error is at most this share of what it is as read.  Random answers do neither.
CORRELATION, STANDARD_ERRORS, SHARE = 0.3, 5, 0.75
FEWEST = 50  # images: of fewer, only a correlation of 0.7 and more would be so many standard errors


class Convention(NamedTuple):
    """What the columns yaw, pitch and roll of a predictions file hold."""

    signs: tuple[str, ...] = ()  # the axes whose sign is the opposite of the lists'
    order: tuple[str, ...] = AXES  # the angles in the columns yaw, pitch, roll
    unit: str = "degrees"

    def angles(self, columns: np.ndarray) -> np.ndarray:
        """Yaw, pitch, roll in degrees, list signs, from the (n, 3) columns yaw, pitch, roll of a file."""
        signs = np.array([-1.0 if axis in self.signs else 1.0 for axis in AXES])
        angles = signs * columns[:, [self.order.index(axis) for axis in AXES]]
        return np.degrees(angles) if self.unit == "radians" else angles

    def options(self) -> str:
        """The options of evaluate.py that say so; "" where the file is written as the lists are."""
        texts = [f"--signs {','.join(self.signs)}"] if self.signs else []
        texts += [f"--order {','.join(self.order)}"] if tuple(self.order) != AXES else []
        return " ".join([*texts, *(["--unit radians"] if self.unit == "radians" else [])])


# --- Does it fit? -----------------------------------------------------------------------------------------------------
def doubts(target: np.ndarray, predicted: np.ndarray, convention: Convention | None) -> list[str]:
    """Notes on angles that fit the true ones clearly better if they are read otherwise; empty where all is well.

    Args:
        target, predicted: (n, 3) degrees, list signs.
        convention: by which a file was read; None where a network of this suite predicted.
    """
    if len(target) < FEWEST:
        return []
    if convention and convention.unit == "degrees":
        predicted = (predicted + 180) % 360 - 180  # some programs write 0 to 360
    radians = np.abs(target).max() <= math.pi
    notes = [f"{DOUBT}no true angle is beyond 3.14°; are these radians (--unit, --angle-unit)?"] if radians else []
    now = angle_errors(target, predicted).mean(axis=0)
    if better := _better_reading(target, predicted, now, convention):
        scale, order, signs, errors = better
        moved = [axis for axis, place in zip(AXES, order, strict=True) if axis != AXES[place]]
        seen = [f"the angles look like {'radians' if scale > 1 else 'degrees'}"] if scale != 1 else []
        seen += [f"{', '.join(moved)} look exchanged"] if moved else []
        seen += [f"{axis} runs against the true {axis}" for axis, sign in zip(AXES, signs, strict=True) if sign < 0]
        then, before = (", ".join(f"{error:.2f}°" for error in each) for each in (errors, now))
        mend = "check signs and order of the true angles"
        if convention:
            options = _read_again(convention, scale, order, signs).options()
            mend = f"for this file, in place of all such options: {options or '--signs none'}"
        notes.append(
            f"{DOUBT}{'; '.join(seen)}; read so, the errors of yaw, pitch and roll are {then}, not {before}; {mend}"
        )
    return notes


def _better_reading(
    target: np.ndarray, predicted: np.ndarray, now: np.ndarray, convention: Convention | None
) -> tuple[float, tuple[int, ...], np.ndarray, np.ndarray] | None:
    """The unit, order and signs with the least error, where the evidence is clear: scale, order, signs, (3,) errors."""
    with np.errstate(invalid="ignore", divide="ignore"):  # an axis that never changes correlates with nothing: NaN
        correlation = np.corrcoef(predicted.T, target.T)[:3, 3:]  # (predicted, target)
    needed = max(CORRELATION, STANDARD_ERRORS / math.sqrt(len(target)))
    other_unit = {None: 1.0, "degrees": math.degrees(1), "radians": math.radians(1)}[convention and convention.unit]
    best = None
    for scale, order in itertools.product({1.0, other_unit}, itertools.permutations(range(3))):
        follows = correlation[order, range(3)]  # of what would be read, with the true angles
        signs = np.where(follows <= -needed, -1, 1)
        evident = np.abs(follows) >= needed
        changed = (signs < 0) | (np.array(order) != range(3)) | (evident & (scale != 1))
        if changed.any() and evident[changed].all():
            errors = angle_errors(target, scale * signs * predicted[:, order]).mean(axis=0)
            clear = errors[changed].sum() <= SHARE * now[changed].sum()
            if clear and (best is None or errors.sum() < best[-1].sum()):
                best = scale, order, signs, errors
    return best


def _read_again(convention: Convention, scale: float, order: tuple[int, ...], signs: np.ndarray) -> Convention:
    """The convention of a file whose angles, read by `convention`, were put into another order, reversed and scaled."""
    columns = [convention.order.index(AXES[place]) for place in order]
    against = [(sign < 0) != (AXES[place] in convention.signs) for place, sign in zip(order, signs, strict=True)]
    unit = convention.unit if scale == 1 else next(unit for unit in UNITS if unit != convention.unit)
    reversed_axes = tuple(axis for axis, turned in zip(AXES, against, strict=True) if turned)
    return Convention(reversed_axes, tuple(AXES[columns.index(column)] for column in range(3)), unit)

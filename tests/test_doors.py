"""Which room may use which: the wings of `rafa/`, and the scripts above them."""

import ast
from graphlib import TopologicalSorter

import pytest

from rafa.files import ROOT

GROUND = {"rafa.pose", "rafa.script", "rafa.files"}
DOORS = {  # wing or room → what it may use beside itself and the ground floor
    **{room: set() for room in GROUND},
    "rafa.datasets": set(),
    "data_loaders": {"rafa.datasets"},
    "rafa.net": {"rafa_model"},
    "rafa_model": {"rafa.net"},
    "rafa.media": {"rafa.datasets", "data_loaders"},
    "rafa.score": {"rafa.datasets", "data_loaders"},
    "rafa.train": {"rafa.datasets", "data_loaders", "rafa.net", "rafa_model"},
    "rafa.heads.recipe": {"rafa.datasets", "data_loaders", "rafa.net", "rafa_model", "rafa.train", "rafa.heads"},
    "rafa.heads.dataset": {"rafa.datasets.sets", "rafa.heads"},
    "rafa.heads": set(),
}
FILES = [*ROOT.glob("*.py"), *ROOT.glob("rafa/**/*.py")]
ROOMS = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in FILES if file.stem != "__init__"}


def used_by(room):
    """The rooms that a room imports, at its top or in a function."""
    for node in ast.walk(ast.parse(ROOMS[room].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in ROOMS else node.module for name in names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def within(room, places):
    return any(room == place or room.startswith(f"{place}.") for place in places)


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_uses_only_what_its_doors_lead_to(room):
    ours = {name for name in used_by(room) if name in ROOMS}
    wing = max((place for place in DOORS if within(room, {place})), key=len, default=None)
    allowed = {"rafa", "data_loaders", "rafa_model"} if wing is None else DOORS[wing] | {wing}
    allowed |= set() if room in GROUND else GROUND
    assert {name for name in ours if not within(name, allowed)} == set()


def test_there_is_no_circle():
    graph = {room: {name for name in used_by(room) if name in ROOMS} for room in ROOMS}
    floors = list(TopologicalSorter(graph).static_order())  # an error where there is one
    assert len(floors) == len(ROOMS)

"""Files of any content: read, or refused with the suite's one error."""

import copy
import json
import runpy

import pytest
from tiny_run import EXAMPLES, SCRIPT

hypothesis = pytest.importorskip("hypothesis")
from helpers.scores import HEADER, a_result  # noqa: E402
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import evaluate  # noqa: E402
from rafa.datasets.lists import read_lists
from rafa.heads.dataset import MANIFEST, _refuse_other_files
from rafa.score import protocol
from rafa.score.predictions import read_predictions
from rafa.script import InputError
from rafa.train.run_folder import RunFolder

thoroughly = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.sampled_from(["0", "-1", "10", "1e309", "nan", "1.5", "", "a.jpg", "é", "\0", "9" * 30]) | st.text(
    max_size=6
)


def refused_or_read(read):
    """Whatever `read` raises but the suite's error fails the test; the error is one line."""
    try:
        read()
    except InputError as error:
        assert str(error) and "\n" not in str(error), str(error)


@st.composite
def mutated(draw, good):
    """A JSON document with one part of it replaced, or taken away."""
    document = {"": copy.deepcopy(good)}
    place, key = document, ""
    while isinstance(place[key], dict | list) and place[key] and draw(st.booleans() | st.just(True)):
        place = place[key]
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if draw(st.integers(0, 3)) == 0:
            break
    if draw(st.booleans()) and place is not document:
        del place[key]
    else:
        place[key] = draw(VALUES)
    return document[""]


@st.composite
def lists(draw):
    """The text of a crop list and of an angle list: rows that are nearly right."""
    names = draw(st.lists(st.sampled_from(["a.jpg", "b.jpg", "./c.jpg"]) | FIELDS, max_size=5))
    numbers = st.sampled_from(["5", "40"]) | FIELDS
    texts = []
    for count, separator in ((4, " "), (3, "\t")):
        rows = [f"{name}\t{separator.join(draw(numbers) for _ in range(count))}" for name in names]
        texts.append("\n".join(rows))
    return texts


@thoroughly
@given(lists())
def test_lists(tmp_path, texts):
    for name, text in zip(("crop.txt", "angles.txt"), texts, strict=True):
        (tmp_path / name).write_text(text, encoding="utf-8")
    refused_or_read(lambda: read_lists(tmp_path / "crop.txt", tmp_path / "angles.txt", "degrees", tmp_path))


@thoroughly
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_lists_of_any_bytes(tmp_path, crops, angles):
    (tmp_path / "crop.txt").write_bytes(crops)
    (tmp_path / "angles.txt").write_bytes(angles)
    refused_or_read(lambda: read_lists(tmp_path / "crop.txt", tmp_path / "angles.txt", "degrees", tmp_path))


@thoroughly
@given(st.lists(st.lists(st.sampled_from(["5", "0.2"]) | FIELDS, min_size=10, max_size=11), max_size=4), st.booleans())
def test_predictions_files(tmp_path, rows, with_header):
    lines = [HEADER] * with_header + [",".join(row) for row in rows]
    (tmp_path / "p.csv").write_text("\n".join(lines), encoding="utf-8")
    refused_or_read(lambda: read_predictions(tmp_path / "p.csv", "list"))


@thoroughly
@given(st.binary(max_size=80))
def test_predictions_files_of_any_bytes(tmp_path, content):
    (tmp_path / "p.csv").write_bytes(content)
    refused_or_read(lambda: read_predictions(tmp_path / "p.csv", "list"))


RESULT = protocol.plain(a_result())
RESULTS = {"results": [RESULT]}


@thoroughly
@given(VALUES | mutated(RESULTS))
def test_result_files(tmp_path, document):
    (tmp_path / "r.json").write_text(json.dumps(document), encoding="utf-8")
    refused_or_read(lambda: evaluate.main(["results", str(tmp_path / "r.json"), "--out", str(tmp_path / "out.md")]))


PARSE = runpy.run_path(SCRIPT)["parse_options"]
LISTS = [[{"path": "a.txt", "rows": 3, "sha256": "a" * 64, "published": False}] * 2] * 2
RECORD = {"options": vars(PARSE(["--train-lists", "a", "b"])), "lists": LISTS, "steps_per_epoch": 2}
RECORD |= {"mean_pose": {"yaw": 1.0, "pitch": 2.0, "roll": 3.0}, "command": "c", "date": "d", "suite": "0.2.0"}
RECORD |= {"commit": "e", "hardware": "h", "versions": {"keras": "3"}}


@thoroughly
@given(VALUES | mutated(RECORD))
def test_records_of_runs(tmp_path, record):
    (tmp_path / "run.json").write_text(json.dumps(record), encoding="utf-8")
    (tmp_path / "last.keras").touch()
    refused_or_read(lambda: RunFolder(tmp_path).record())
    refused_or_read(lambda: PARSE(["--run-dir", str(tmp_path), "--resume"]))

    def score():
        facts = protocol.weights_facts(tmp_path / "last.keras", "tiny")
        result = {**RESULT, "card": {**RESULT["card"], "weights": facts}}
        (tmp_path / "r.json").write_text(json.dumps({"results": [result]}), encoding="utf-8")
        evaluate.main(["results", str(tmp_path / "r.json"), "--out", str(tmp_path / "out.md")])

    refused_or_read(score)


@thoroughly
@given(VALUES | mutated({"version": 0, "complete": False, "arguments": {"train": 3, "test": 2, "seed": 0}}))
def test_manifests_of_synthetic_heads(tmp_path, manifest):
    (tmp_path / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    (tmp_path / "notes.txt").touch()
    refused_or_read(lambda: _refuse_other_files(tmp_path))

"""Fixtures of the reliability tests."""

import json
import runpy
from pathlib import Path

import pytest
from tiny_run import SCRIPT, options, outcome


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.reliability)


@pytest.fixture(scope="session")
def main():
    return runpy.run_path(SCRIPT)["main"]


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """The dataset of `--synthetic` as far as these runs read it: fewer heads, and a manifest that says it is whole."""
    from rafa.heads.dataset import MANIFEST, write_dataset

    folder = tmp_path_factory.mktemp("data") / "synthetic"
    write_dataset(folder, 32, 16, workers=1)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    manifest["arguments"] |= {"train": 1000, "test": 200}
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def whole(main, data_dir, tmp_path_factory):
    """The outcome of a run that nothing interrupted."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    main(options(data_dir, run_dir))
    return outcome(run_dir)

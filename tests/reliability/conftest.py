"""Fixtures of the reliability tests."""

from pathlib import Path

import pytest
from helpers.scores import write_data


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.reliability)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A data folder with images of noise and their lists."""
    return write_data(tmp_path_factory.mktemp("data"))

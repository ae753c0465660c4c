"""A run that is killed at any moment goes on to the same numbers, to the last bit."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.runs import outcome
from tiny_run import KILLS, SCRIPT, options, options_to_go_on

FILE_EVENTS = str(Path(__file__).with_name("file_events.py"))
AT_FILES = KILLS * 2 // 3  # kills when a file is opened, renamed or removed, spread over the run; the others by time


def run(*command):
    return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def uninterrupted(data_dir, tmp_path_factory):
    """The outcome, the file events and the seconds of a run that nothing interrupted."""
    folder, start = tmp_path_factory.mktemp("uninterrupted"), time.monotonic()
    done = run(FILE_EVENTS, folder, 0, SCRIPT, *options(data_dir, folder / "run"))
    assert done.returncode == 0, done.stderr
    events = [line.removeprefix("event: ") for line in done.stdout.splitlines() if line.startswith("event: ")]
    return outcome(folder / "run"), events, time.monotonic() - start


def outcome_of_going_on(data_dir, run_dir):
    done = run(SCRIPT, *options_to_go_on(data_dir, run_dir))
    assert done.returncode == 0, done.stderr
    for unfinished in run_dir.glob(".*"):  # what a killed program was writing stays
        unfinished.unlink()
    return outcome(run_dir)


@pytest.mark.parametrize("kill", range(AT_FILES))
def test_a_run_killed_at_a_file_goes_on(kill, uninterrupted, data_dir, tmp_path):
    expected, events, _ = uninterrupted
    at = 1 + (2 * kill + 1) * len(events) // (2 * AT_FILES)  # the middle of its part of them
    killed = run(FILE_EVENTS, tmp_path, at, SCRIPT, *options(data_dir, tmp_path / "run"))
    assert killed.returncode == -9, killed.stderr
    print(f"killed at event {at} of {len(events)}: {events[at - 1]}")
    assert outcome_of_going_on(data_dir, tmp_path / "run") == expected


@pytest.mark.parametrize("kill", range(KILLS - AT_FILES))
def test_a_run_killed_at_a_random_moment_goes_on(kill, uninterrupted, data_dir, tmp_path):
    expected, _, seconds = uninterrupted
    process = subprocess.Popen([sys.executable, SCRIPT, *options(data_dir, tmp_path / "run")])
    try:
        process.wait(random.Random(kill).uniform(0.3, 1) * seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert outcome_of_going_on(data_dir, tmp_path / "run") == expected

"""A run that is killed at any moment goes on to the same numbers, to the last bit."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_run import KILLS, SCRIPT, options, outcome, resume_options

FILE_EVENTS = str(Path(__file__).with_name("file_events.py"))


def run(command):
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, timeout=1200)


@pytest.fixture(scope="module")
def uninterrupted(data_dir, tmp_path_factory):
    """Its outcome, its events and its seconds: in processes of its own, as the killed ones."""
    run_dir, start = tmp_path_factory.mktemp("uninterrupted") / "run", time.monotonic()
    done = run([FILE_EVENTS, str(run_dir), "0", SCRIPT, *options(data_dir, run_dir)])
    assert done.returncode == 0, done.stderr
    events = [line.removeprefix("event: ") for line in done.stdout.splitlines() if line.startswith("event: ")]
    return outcome(run_dir), events, time.monotonic() - start


def go_on(run_dir, data_dir):
    """Continue as the README says, or start anew where nothing had begun."""
    command = resume_options(run_dir) if (run_dir / "run.json").exists() else options(data_dir, run_dir)
    done = run([SCRIPT, *command])
    assert done.returncode == 0, done.stderr


# Two thirds at one of the moments when a file is opened, renamed or removed, spread over all of them; the rest by time.
@pytest.mark.parametrize("kill", range(KILLS * 2 // 3))
def test_a_run_killed_at_a_file_goes_on(kill, uninterrupted, data_dir, tmp_path):
    expected, events, _ = uninterrupted
    at = 1 + (2 * kill + 1) * len(events) // (2 * (KILLS * 2 // 3))  # the middle of its share of them
    killed = run([FILE_EVENTS, str(tmp_path / "run"), str(at), SCRIPT, *options(data_dir, tmp_path / "run")])
    assert killed.returncode == -9, killed.stderr
    print(f"killed at event {at} of {len(events)}: {events[at - 1]}")
    go_on(tmp_path / "run", data_dir)
    assert outcome(tmp_path / "run") == expected


@pytest.mark.parametrize("kill", range(KILLS - KILLS * 2 // 3))
def test_a_run_killed_at_a_random_moment_goes_on(kill, uninterrupted, data_dir, tmp_path):
    expected, _, seconds = uninterrupted
    wait = random.Random(kill).uniform(0.3, 1) * seconds
    process = subprocess.Popen([sys.executable, SCRIPT, *options(data_dir, tmp_path / "run")])
    try:
        process.wait(wait)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    go_on(tmp_path / "run", data_dir)
    assert outcome(tmp_path / "run") == expected


SIGNALS = [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C")]


@pytest.mark.parametrize(("number", "status", "name"), SIGNALS)
def test_a_stopped_run_says_in_one_line_how_to_go_on(number, status, name, uninterrupted, data_dir, tmp_path):
    run_dir, pipes = tmp_path / "run", {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, SCRIPT, *options(data_dir, run_dir)], **pipes)
    while process.poll() is None and not (run_dir / "epoch-001.keras").exists():
        time.sleep(0.01)
    process.send_signal(number)
    _, error = process.communicate(timeout=1200)
    assert process.returncode == status, error
    last = error.splitlines()[-1]
    assert last.startswith(f"stopped by {name}: {run_dir}/last.keras holds the run up to ")
    assert "Traceback" not in error
    assert last.endswith(f"go on with: python train_rafa-net.py --run-dir {run_dir} --resume")
    go_on(run_dir, data_dir)
    assert outcome(run_dir) == uninterrupted[0]

"""A disk that is full at any write: one line, nothing lost, and the run goes on to the same numbers."""

import shutil
import subprocess

import pytest
from file_events import FileEvents
from helpers.runs import outcome
from tiny_run import FULL_DISKS, options, options_to_go_on

from rafa.script import InputError

MEGABYTES = 96


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """An empty disk in memory."""
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def run_dir(small_disk):
    yield small_disk / "run"
    (small_disk / "filler").unlink(missing_ok=True)
    shutil.rmtree(small_disk / "run", ignore_errors=True)


def fill(folder):
    """Leave no byte of the disk."""
    with (folder / "filler").open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                pass


def test_a_run_whose_disk_is_full_at_any_write_goes_on(small_disk, run_dir, training_script, data_dir):
    def fill_at_event():
        events.stop()
        fill(small_disk)

    events = FileEvents()
    events.start(small_disk)
    training_script.main(options(data_dir, run_dir))
    events.stop()
    every, whole, refused, unlike = events.seen, outcome(run_dir), 0, []
    places = range(1, len(every) + 1, -(-len(every) // FULL_DISKS))
    for at in places:
        shutil.rmtree(run_dir)
        events.start(small_disk, at, fill_at_event)
        try:
            training_script.main(options(data_dir, run_dir))
        except (InputError, OSError) as error:
            refused += 1
            assert "\n" not in str(error)
            assert "--resume" in str(error) or not run_dir.exists(), str(error)
        (small_disk / "filler").unlink()
        training_script.main(options_to_go_on(data_dir, run_dir))
        if outcome(run_dir) != whole:
            unlike.append(f"{at}: {every[at - 1]}")
    print(f"full at {len(places)} of {len(every)} events; {refused} of them stopped the run")
    assert refused and not unlike


def test_a_resume_on_a_full_disk_loses_nothing(small_disk, run_dir, training_script, data_dir):
    training_script.main(options(data_dir, run_dir))
    whole, files = outcome(run_dir), [file for file in run_dir.iterdir() if file.is_file()]
    before = {file: file.read_bytes() for file in files}
    fill(small_disk)
    with pytest.raises((InputError, OSError), match="No space left"):
        training_script.main([*options_to_go_on(data_dir, run_dir), "--epochs", "4"])
    assert {file: file.read_bytes() for file in run_dir.iterdir() if file.is_file()} == before
    (small_disk / "filler").unlink()
    training_script.main(options_to_go_on(data_dir, run_dir))
    assert outcome(run_dir) == whole

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


@pytest.fixture(scope="module")
def whole(small_disk, data_dir, training_script):
    """The outcome of a run with room for all it writes."""
    training_script.main(options(data_dir, small_disk / "run"))
    whole = outcome(small_disk / "run")
    shutil.rmtree(small_disk / "run")
    return whole


def fill(folder):
    """Leave no byte of the disk."""
    with (folder / "filler").open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                pass


def test_a_run_whose_disk_is_full_at_any_write_goes_on(small_disk, training_script, data_dir, whole):
    run_dir, events = small_disk / "run", FileEvents()

    def fill_at_event():
        events.stop()
        fill(small_disk)

    events.start(small_disk)
    training_script.main(options(data_dir, run_dir))
    events.stop()
    every, refused = events.seen, 0
    shutil.rmtree(run_dir)
    places = range(1, len(every) + 1, -(-len(every) // FULL_DISKS))
    for at in places:
        events.start(small_disk, at, fill_at_event)
        try:
            training_script.main(options(data_dir, run_dir))
        except (InputError, OSError) as error:
            refused += 1
            assert "\n" not in str(error)
            assert "--resume" in str(error) or not run_dir.exists(), str(error)
        (small_disk / "filler").unlink()
        training_script.main(options_to_go_on(data_dir, run_dir))
        assert outcome(run_dir) == whole, f"full at event {at}: {every[at - 1]}"
        shutil.rmtree(run_dir)
    print(f"full at {len(places)} of {len(every)} moments; {refused} of them stopped the run")
    assert refused


def test_a_resume_on_a_full_disk_loses_nothing(small_disk, training_script, data_dir, whole):
    run_dir = small_disk / "run"
    training_script.main(options(data_dir, run_dir))
    before = {file.name: file.read_bytes() for file in run_dir.iterdir() if file.is_file()}
    fill(small_disk)
    with pytest.raises((InputError, OSError), match="No space left"):
        training_script.main([*options_to_go_on(data_dir, run_dir), "--epochs", "4"])
    assert {file.name: file.read_bytes() for file in run_dir.iterdir() if file.is_file()} == before
    (small_disk / "filler").unlink()
    training_script.main(options_to_go_on(data_dir, run_dir))
    assert outcome(run_dir) == whole
    shutil.rmtree(run_dir)

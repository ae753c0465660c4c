"""A disk that is full at any write: one line, nothing lost, and the run goes on to the same numbers."""

import shutil
import subprocess

import pytest
from file_events import FileEvents
from tiny_run import FULL_DISKS, options, outcome, resume_options

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
def events():
    return FileEvents()


def fill(folder):
    """Leave no byte of the disk."""
    with (folder / "filler").open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                pass


def test_a_run_whose_disk_is_full_at_any_write_goes_on(small_disk, events, main, data_dir, whole):
    run_dir = small_disk / "run"
    events.start(run_dir, 0, lambda: None)
    main(options(data_dir, run_dir))
    total, tried, refused = len(events.seen), 0, 0
    shutil.rmtree(run_dir)
    for at in range(1, total + 1, -(-total // FULL_DISKS)):
        tried += 1
        events.start(run_dir, at, lambda: fill(small_disk))
        try:
            main(options(data_dir, run_dir))
        except (InputError, OSError) as error:
            refused += 1
            assert "\n" not in str(error)
            assert "--resume" in str(error) or not (run_dir / "run.json").exists(), str(error)
        events.start("", 0, lambda: None)
        (small_disk / "filler").unlink()
        main(resume_options(run_dir) if (run_dir / "run.json").exists() else options(data_dir, run_dir))
        assert outcome(run_dir) == whole, f"full at event {at}: {events.seen}"
        shutil.rmtree(run_dir)
    print(f"full at {tried} of {total} moments; {refused} of them stopped the run")
    assert refused


def test_a_resume_on_a_full_disk_loses_nothing(small_disk, events, main, data_dir, whole):
    run_dir = small_disk / "run"
    main(options(data_dir, run_dir))
    before = {file.name: file.read_bytes() for file in run_dir.iterdir() if file.is_file()}
    fill(small_disk)
    with pytest.raises((InputError, OSError), match=r"are free: make room|No space left"):
        main([*resume_options(run_dir), "--epochs", "4"])
    assert {file.name: file.read_bytes() for file in run_dir.iterdir() if file.is_file()} == before
    (small_disk / "filler").unlink()
    main(resume_options(run_dir))
    assert outcome(run_dir) == whole
    shutil.rmtree(run_dir)

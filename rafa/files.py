"""What a result was made with (versions, commit, hardware, hashes), and writing a file whole."""

import contextlib
import datetime
import hashlib
import importlib.metadata
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VERSION = "0.7.0"  # of this suite
ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("keras", "tensorflow", "keras-self-attention", "opencv-python", "numpy", "scipy")


def environment(command: str | None = None) -> dict[str, Any]:
    """What a result was made with: command, date, suite, commit, hardware and versions, as a dict for JSON.

    Args:
        command: how the program was called, if not as this process.
    """
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # OpenCV and TensorFlow have other names too
            versions[name] = importlib.metadata.version(name)
    return {
        "command": command or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "suite": VERSION,
        "commit": _commit(),
        "hardware": _hardware(),
        "versions": versions,
    }


def _commit() -> str:
    """The commit of this suite, "+changes" where files differ from it; else "unknown", and why git does not say."""
    if not (ROOT / ".git").exists():  # the folder may lie in a checkout of something else
        return "unknown"
    git = ["git", "-C", str(ROOT)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except OSError as error:
        return f"unknown: {error}"
    except subprocess.CalledProcessError as error:  # such as a checkout that belongs to another user
        return f"unknown: git says: {error.stderr.partition(chr(10))[0]}"
    return commit + ("+changes" if status.strip() else "")


def _hardware() -> str:
    """The class of machine: number of processors, and the graphics cards that TensorFlow sees once it is loaded."""
    machine = [f"{os.cpu_count()} CPU cores, {platform.machine()}"]
    if "tensorflow" in sys.modules:
        devices = sys.modules["tensorflow"].config
        details = map(devices.experimental.get_device_details, devices.list_physical_devices("GPU"))
        machine += [card.get("device_name", "GPU") for card in details]
    return ", ".join(machine)


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A path beside `path` to write a file or a folder to; it is renamed to `path` if the block ends without an error.

    Where the block fails, what it wrote is removed and `path` stays as it was.  Missing parent folders are made.  The
    temporary path ends in the name of `path`, so that writers that go by the suffix see it.

    Raises:
        OSError: nothing was written, or a folder should take the place of something that exists.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    except OSError as error:
        if error.errno and error.filename is None:  # of a full disk
            error.filename = str(path)
        raise
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished)
        else:
            unfinished.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8 with `written_whole`."""
    with written_whole(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="")

"""What a result was made with (versions, commit, hardware, hashes), and writing a file whole."""

import contextlib
import datetime
import hashlib
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def environment(command=None):
    """What a result was made with: versions, commit, hardware class, command, date.

    Args:
        command: how the program was called, if not as this process.
    """
    names = ("keras", "tensorflow", "keras-self-attention", "opencv-python", "numpy", "scipy", "scikit-learn")
    versions = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # OpenCV and TensorFlow have other names too
            versions[name] = importlib.metadata.version(name)
    return {
        "command": command or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
        "hardware": _hardware(),
        "versions": versions,
    }


def _commit():
    """The commit of this suite, "+changes" where files differ from it, or "unknown" outside a git checkout."""
    git = ["git", "-C", str(ROOT)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if status.strip() else "")


def _hardware():
    """The class of machine: number of processors, and the graphics cards that TensorFlow sees once it is loaded."""
    cards = []
    if "tensorflow" in sys.modules:
        devices = sys.modules["tensorflow"].config
        cards = [
            devices.experimental.get_device_details(card).get("device_name", "GPU")
            for card in devices.list_physical_devices("GPU")
        ]
    return ", ".join([f"{os.cpu_count()} CPU cores, {platform.machine()}", *cards])


def sha256(path):
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A path beside `path` to write to; what was written there takes the place of `path` only when it is whole.

    Makes the folders it needs.  The path handed out has the suffix of `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with written_whole(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="")

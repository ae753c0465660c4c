"""Locks between processes that write into one folder; the system releases them when a process ends, in any way."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from util.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def locked(path: Path, in_use: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock file `path`, which is made, and removed at the end; missing parent folders are made.

    Where the file system or Windows has no such locks, a note is printed and nothing is held.

    Args:
        path: the lock file.
        in_use: what to say where another process holds it.
        wait: for that process to end.

    Raises:
        InputError: another process holds it, and `wait` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    said = False
    while (file := _opened(path)) is None:
        if not wait:
            raise InputError(in_use)
        if not said:
            print(f"{in_use}; waiting for it", flush=True)
        said = True
        time.sleep(1)
    try:
        yield
    finally:
        with file, contextlib.suppress(OSError):
            path.unlink()


def _opened(path: Path) -> IO[str] | None:
    """The locked file; None where another process holds it, or has just removed it."""
    file = path.open("a", encoding="utf-8")
    try:
        if fcntl is None:
            raise OSError("not on this system")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError as error:
        print(f"note: {path} cannot be locked ({error}): start no second program that writes here", flush=True)
        return file
    file.close()
    return None

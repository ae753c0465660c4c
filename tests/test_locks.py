"""Locks between programs: one at a time, and none is left by a program that ended in any way."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from util import locks
from util.errors import InputError
from util.locks import locked

ROOT = Path(__file__).parent.parent
HOLD = "import sys, time; from pathlib import Path; from util.locks import locked\n"
HOLD += "with locked(Path(sys.argv[1]), 'taken'): print('held', flush=True); time.sleep(600)"


def test_a_lock_is_held_once_and_removed(tmp_path):
    path = tmp_path / "new" / ".lock"
    with locked(path, "taken"):
        assert path.exists()
        with pytest.raises(InputError, match="taken"), locked(path, "taken"):
            pass
        assert path.exists()
    assert not path.exists()
    with locked(path, "taken"):
        pass


def test_a_killed_program_leaves_no_lock(tmp_path):
    path = tmp_path / ".lock"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="taken"), locked(path, "taken"):
            pass
    finally:
        process.kill()
        process.communicate()
    assert path.exists()
    with locked(path, "taken"):
        pass


def test_a_program_may_wait_for_the_lock(tmp_path, monkeypatch, capsys):
    released, waiting = threading.Event(), threading.Event()
    monkeypatch.setattr(locks.time, "sleep", lambda _: (waiting.set(), released.wait(10)))

    def hold():
        with locked(tmp_path / ".lock", "taken"):
            held.set()
            waiting.wait(10)
        released.set()

    held, holder = threading.Event(), threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    with locked(tmp_path / ".lock", "taken", wait=True):
        assert released.is_set()
    holder.join()
    assert capsys.readouterr().out == "taken; waiting for it\n"


def test_without_locks_a_note_is_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(locks, "fcntl", None)
    with locked(tmp_path / ".lock", "taken"), locked(tmp_path / ".lock", "taken"):
        pass
    assert capsys.readouterr().out.count("cannot be locked (not on this system): start no second program") == 2

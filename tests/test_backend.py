"""Loading TensorFlow: in silence, but not about a crash, and without a change for the program that loads it."""

import os
import subprocess
import sys

import pytest

from util.provenance import ROOT

PROGRAM = """
import gc
class Kept:
    def __del__(self):
        print("ended")
kept = Kept()
kept.itself = kept
gc.{}()
import util.backend
print(gc.isenabled(), gc.get_freeze_count(), len(gc.get_objects(generation=0)) < 100_000)
"""


def run(code, **environment):
    where = {"cwd": ROOT, "env": {**os.environ, **environment}}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **where)


@pytest.mark.parametrize(("before", "enabled"), [("enable", True), ("disable", False)])
def test_tensorflow_is_loaded_in_silence_and_garbage_collected_as_before(before, enabled):
    done = run(PROGRAM.format(before))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{enabled} 0 True\nended\n", "")


def test_what_a_program_froze_before_stays_frozen():
    done = run("import gc; gc.freeze(); import util.backend; print(gc.get_freeze_count() > 0)")
    assert done.stdout == "True\n"


def test_a_crash_while_tensorflow_is_loaded_says_where(tmp_path):
    (tmp_path / "keras.py").write_text("import os\nos.abort()\n")
    done = run("import util.backend", PYTHONPATH=str(tmp_path))
    assert done.returncode and "Aborted" in done.stderr and str(tmp_path / "keras.py") in done.stderr

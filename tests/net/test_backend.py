"""Loading TensorFlow: in silence, but not about a crash, and without a change for the program that loads it."""

import os
import subprocess
import sys

import pytest

from rafa.files import ROOT

PROGRAM = """
import faulthandler, gc
class Kept:
    def __del__(self):
        print("ended")
kept = Kept()
kept.itself = kept
gc.{}()
import rafa.net.backend
print(faulthandler.is_enabled(), gc.isenabled(), gc.get_freeze_count(), len(gc.get_objects(generation=0)) < 100_000)
"""


def run(code, **environment):
    where = {"cwd": ROOT, "env": {**os.environ, **environment}}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **where)


@pytest.mark.parametrize(("before", "enabled"), [("enable", True), ("disable", False)])
def test_tensorflow_is_loaded_in_silence_and_garbage_collected_as_before(before, enabled):
    done = run(PROGRAM.format(before))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"False {enabled} 0 True\nended\n", "")


def test_what_a_program_froze_before_stays_frozen():
    done = run("import gc; gc.freeze(); import rafa.net.backend; print(gc.get_freeze_count() > 0)")
    assert done.stdout == "True\n"


def broken_keras(folder, how):
    """A folder in which `import keras` writes to stderr as native code does, and fails."""
    (folder / "keras.py").write_text(f"import os\nos.write(2, b'native\\n')\n{how}\n")
    return str(folder)


def test_a_crash_while_tensorflow_is_loaded_says_where(tmp_path):
    done = run("import rafa.net.backend", PYTHONPATH=broken_keras(tmp_path, "os.abort()"))
    assert done.returncode and "Aborted" in done.stderr and str(tmp_path / "keras.py") in done.stderr


def test_what_was_held_back_is_shown_with_an_error(tmp_path):
    done = run("import rafa.net.backend", PYTHONPATH=broken_keras(tmp_path, "raise ImportError('no keras')"))
    assert done.returncode and done.stderr.startswith("native\n") and "no keras" in done.stderr


@pytest.mark.parametrize(
    "before",
    [
        "import faulthandler; faulthandler.enable()",
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
    ],
)
def test_nothing_is_held_back_where_others_may_write_meanwhile(before, tmp_path):
    done = run(f"{before}\nimport rafa.net.backend", PYTHONPATH=broken_keras(tmp_path, "os._exit(3)"))
    assert (done.returncode, done.stderr) == (3, "native\n")
    done = run("import rafa.net.backend", PYTHONPATH=broken_keras(tmp_path, "os._exit(3)"))
    assert (done.returncode, done.stderr) == (3, "")

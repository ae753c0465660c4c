"""Loading TensorFlow: in silence, and out of the way of later garbage collections."""

import subprocess
import sys

from util.provenance import ROOT

FACTS = "import gc; gc.{}(); import util.backend; print(gc.isenabled(), gc.get_freeze_count() > 100_000)"


def test_tensorflow_is_loaded_in_silence_and_left_out_of_garbage_collections():
    for before, enabled in (("enable", True), ("disable", False)):
        done = subprocess.run(
            [sys.executable, "-c", FACTS.format(before)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{enabled} True\n", "")

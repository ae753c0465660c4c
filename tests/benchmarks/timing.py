"""How the benchmarks measure: in alternation, as medians with lowest and highest value, in processes of their own."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rafa.files import ROOT

NOT_HERE = "not measured here"


def alternated(
    tasks: Mapping[Any, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[Any, np.ndarray]:
    """Seconds of every task in every round, (rounds,) each.

    A round runs each task once, so that a busy machine slows all of them; one round more, the first, does not count.

    Args:
        clock: `time.process_time` for the seconds that processors worked, in all threads together.
    """
    seconds: dict[Any, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds + 1):
        for name, task in tasks.items():
            start = clock()
            task()
            seconds[name].append(clock() - start)
    return {name: np.array(values[1:]) for name, values in seconds.items()}


def spread(values: ArrayLike, digits: int = 1) -> str:
    """Median [lowest, highest]."""
    median, low, high = (f"{value:,.{digits}f}" for value in (np.median(values), np.min(values), np.max(values)))
    return f"{median} [{low}, {high}]"


def run_python(*arguments: str) -> str:
    """What Python prints, run with these arguments at the suite's root."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def in_child(code: str, *arguments: Any) -> dict[str, Any]:
    """What a new Python process prints as JSON in its last line.

    The code starts at the suite's root; `sys.argv[1:]` are the arguments, and `report(**facts)` prints them with the
    peak of the process's memory in MB, `peak`.
    """
    return json.loads(run_python("-c", f"{_REPORT}\n{code}", *map(str, arguments)).splitlines()[-1])


_REPORT = """
import json, re, sys, time
from pathlib import Path
started = time.perf_counter()
sys.path.insert(0, "")

def report(**facts):
    status = Path("/proc/self/status")  # getrusage starts at the memory of the process that started this one
    found = re.search(r"VmHWM:\\s*(\\d+)", status.read_text()) if status.exists() else None  # Linux
    print(json.dumps({**facts, "peak": int(found[1]) / 2**10 if found else float("nan")}))
"""

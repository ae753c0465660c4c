"""Measure how fast the suite is on this machine, and write doc/performance.md.

    python tests/benchmarks/run.py
    python tests/benchmarks/run.py images predict --rounds 9
    python tests/benchmarks/run.py --no-slow

What is compared runs in alternation, one after the other in every round.  A section that is not chosen stays as it is
in the document, with the machine it was measured on.
"""

import os
import platform
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from sections import SECTIONS

from rafa.files import ROOT, environment, write_text
from rafa.script import number, option_parser, run_script

HEAD = """# Performance

Written by `python tests/benchmarks/run.py`: medians [lowest, highest] over rounds in which everything that is compared
runs in turn. The released code needs Keras 2.2.4 and does not run beside Keras 3: its network was timed apart, see
below. Its way of reading images is timed as the benchmark writes it again: one thread reads an image, puts a border of
the box's size around it, crops, resizes and subtracts the means in floats.

Programs are timed from their start to their end. They keep TensorFlow's import, and their own end, free of garbage
collections: so `predict.py` can take less time than `python -c "import tensorflow"`.

## Beside the released code

Not of this program: measured apart, once. The released code, unchanged, under Keras 2.2.4 on TensorFlow 2.15's v1
interface, and this suite in turn, the released code first, in two rounds; ResNet-50, float32, two CPU cores with
nothing else to do, whose float32 matrix product reached 217 GFLOP/s.

| | Released code, two rounds | This suite, two rounds |
| --- | --- | --- |
| a training step of 16, s | 4.24, 4.14 | 4.41, 4.00 |
| the first step, s | 27.3, 26.7 | 19.5, 16.3 |
| prediction of 16 images, s | 1.28, 1.17 | 1.15, 1.08 |
| prediction of one image, s | 0.153, 0.115 | 0.117, 0.105 |
| peak memory of training, GB | 5.5 | 3.6 |

So a step takes 0.97 to 1.04 of the released code's time. In bfloat16, for which that processor has instructions, it
took 0.63 of its float32 time; a processor without them takes many times as long, see below. Compiled by XLA (`--xla`)
it took 1.7 times as long on a processor.

What a step of 16 spends its time on, by TensorFlow's profiler, in one step on a machine that had other work too, as
shares of the time of all operations: convolutions and their gradients 80%, batch normalisation 10%, element-wise
arithmetic 5%, the gradient of ReLU 2.5%, products of matrices 1.3%, RMSprop's update 0.9%, the gradient of the maxima
0.8%.
"""


def machine() -> str:
    """The processor, its cores, and the versions that a time depends on."""
    made = environment()
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    where = f"{processor()}, {cores} CPU cores, {platform.system()}"
    commit, changes = made["commit"][:12], "+changes" * made["commit"].endswith("+changes")
    return f"{made['date'][:10]}, {where}; {versions}; commit {commit}{changes}"


def processor() -> str:
    """The processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    name = re.search(r"^model name\s*: (.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.is_file() else None
    return name[1] if name else platform.processor() or platform.machine()


def sections_of(document: str) -> dict[str, str]:
    """Name → text of the sections in an earlier document."""
    return dict(re.findall(r"<!-- (\w+) -->\n(.*?)\n<!-- /\1 -->", document, re.DOTALL))


def written(sections: dict[str, str]) -> str:
    """The whole document."""
    parts = [HEAD]
    for name, (title, _) in SECTIONS.items():
        text = sections.get(name, "Not measured yet.")
        parts.append(f"## {title}\n\n<!-- {name} -->\n{text}\n<!-- /{name} -->\n")
    return "\n".join(parts)


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--rounds", type=number(int, 2), default=5, metavar="N", help="rounds that count")
    parser.add_argument("--no-slow", action="store_true", help="leave ResNet-50 and the longest lists out")
    out = ROOT / "doc/performance.md"
    parser.add_argument("--out", type=Path, default=out, metavar="FILE.md", help="document to write")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    sections = sections_of(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    where = machine()  # before the document is written, which changes the working tree
    for name in options.sections or SECTIONS:
        start = time.monotonic()
        text = SECTIONS[name][1](options.rounds, not options.no_slow)
        left = "; without ResNet-50 and the longest lists (--no-slow)" if options.no_slow else ""
        sections[name] = f"{text}\n\nMeasured in {options.rounds} rounds: {where}{left}."
        write_text(options.out, written(sections))
        print(f"\n{SECTIONS[name][0]} ({time.monotonic() - start:.0f} s)\n\n{text}", flush=True)


if __name__ == "__main__":
    run_script(main)

"""What every script does: read options, show progress, and end with one line where the input is bad."""

import argparse
import contextlib
import gc
import io
import math
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import FrameType
from typing import NoReturn, TypeVar

BAD_INPUT = 2  # exit status: bad options (argparse's own), bad input
STOPPED = 128  # and the signal's number: exit status of a program that was stopped, as shells have it

Item = TypeVar("Item")


class InputError(ValueError):
    """Bad input: a list, an image, a weight file, a result file or an option.

    The message says what was given, what was expected, and how to mend it.
    """


def first_three(names: Sequence[str]) -> str:
    """The first three names, and a sign that there are more."""
    return ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])])


# --- Options ----------------------------------------------------------------------------------------------------------
class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults, but for options that are off, and the description as it is written."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        hidden = action.default is None or action.default is False
        return action.help if hidden else super()._get_help_string(action)


def option_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose help shows the description as it is written, and every default."""
    return argparse.ArgumentParser(description=description, formatter_class=HelpFormatter, allow_abbrev=False)


def number(kind: type[int] | type[float], low: float, high: float = math.inf) -> Callable[[str], float]:
    """An option's type for `argparse`: a number of this kind from low to high."""

    def parse(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not {'at least' if high == math.inf else 'within'} {allowed}")
        return value

    allowed = f"{low:g}" if high == math.inf else f"{low:g} to {high:g}"
    parse.__name__ = kind.__name__  # argparse says "invalid float value" where `kind` refuses the text
    return parse


# --- Running ----------------------------------------------------------------------------------------------------------
def progress(items: Iterable[Item], total: int | None, title: str, unit: str = "image") -> Iterator[Item]:
    """Yield the items behind a bar with the time left; without a terminal there is no bar."""
    from tqdm import tqdm

    yield from tqdm(items, title, total, unit=f" {unit}s", dynamic_ncols=True, disable=None)


@contextlib.contextmanager
def native_stderr_hidden() -> Iterator[None]:
    """Hide what native code prints on stderr in the block, past Python."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Run a script's main and exit with its status; bad input is one line on stderr and exit status 2.

    Ctrl-C, SIGTERM and SIGHUP raise KeyboardInterrupt in `main`; what `main` puts into it is printed.
    """
    status = STOPPED + signal.SIGINT

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        nonlocal status
        status = STOPPED + number
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    with contextlib.suppress(AttributeError):  # Windows has neither
        signal.signal(signal.SIGHUP, stop)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` has read enough
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # Windows with `>` and old terminals do not take UTF-8
    try:
        sys.exit(main())
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt as error:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)  # a second one adds nothing
        print("stopped" + (f": {error}" if str(error) else ""), file=sys.stderr)
        sys.exit(status)
    finally:
        gc.freeze()  # else Python searches all of TensorFlow for garbage before it ends: 0.9 s

"""What every script does: read options, show progress, and end with one line where the input is bad."""

import argparse
import contextlib
import gc
import io
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import FrameType
from typing import NoReturn, TypeVar

BAD_INPUT = 2  # exit status: bad options (argparse's own), bad input
STOPPED = 130  # exit status of a program stopped by Ctrl-C, as shells have it
TERMINATED = 143  # exit status of a program stopped by SIGTERM
LOG_SECONDS = 10  # between two lines of progress in a log file

Item = TypeVar("Item")


class InputError(ValueError):
    """Bad input: a list, an image, a weight file, a result file or an option.

    The message says what was given, what was expected, and how to mend it.
    """


def refuse_undecoded(name: str) -> None:
    """Raise an InputError for a file's name that is not UTF-8: OpenCV would end the whole program, without a word."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{name!a}: expected a name in UTF-8; rename the file or the folder") from error


def first_three(names: Sequence[str], more: str = "...") -> str:
    """The first three names, and a sign that there are more."""
    return ", ".join([*names[:3], *([more] if len(names) > 3 else [])])


class Terminated(KeyboardInterrupt):
    """SIGTERM, as `kill`, a job's time limit and a machine that shuts down send it: to be handled like Ctrl-C."""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the description's lines and appends "(default: ...)" to the help of every option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        no_default = action.default is None or action.default is False or action.default == argparse.SUPPRESS
        if not action.option_strings or no_default or "default:" in text:
            return text
        default = action.default if isinstance(action.default, list | tuple) else [action.default]
        return f"{text} (default: {' '.join(map(str, default))})"


def option_parser(description: str) -> argparse.ArgumentParser:
    """A parser whose help shows the description as it is written, and every default."""
    return argparse.ArgumentParser(description=description, formatter_class=HelpFormatter, allow_abbrev=False)


def number(kind: type[int] | type[float], low: float, high: float = math.inf) -> Callable[[str], float]:
    """An option's type for `argparse`: a number of this kind from low to high."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            what = "a whole number" if kind is int else "a number"
            within = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            raise argparse.ArgumentTypeError(f"expected {what} {within}, not {text!r}")
        return value

    return parse


def progress(
    items: Iterable[Item], total: int | None, title: str, unit: str = "image", log: bool = True
) -> Iterator[Item]:
    """Yield the items and show how many are done.

    On a terminal: a bar with the time left.  In a log file: a line for every tenth, at least ten seconds apart, and
    one at the end; none if `log` is false.

    Args:
        total: how many items there are; None if that is not known.
    """
    from tqdm import tqdm

    class Bar(tqdm):
        monitor_interval = 0  # no thread beside the bar: rafa.net.backend then holds back TensorFlow's greeting

    if sys.stderr.isatty():
        yield from Bar(items, title, total, unit=f" {unit}s", dynamic_ncols=True)
        return
    of, tenth = (f" of {total:,}", -(-total // 10)) if total else ("", 1)
    done, shown = 0, time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if log and done != total and done % tenth == 0 and time.monotonic() - shown >= LOG_SECONDS:
            shown = time.monotonic()
            print(f"{title}: {done:,}{of} {unit}s", file=sys.stderr, flush=True)
    if log:
        print(f"{title}: {done:,}{of} {unit}s", file=sys.stderr, flush=True)


def drop_output() -> None:
    """Throw away what is still to be printed: whoever reads it has read enough, as `head` does."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def stops_held_back() -> Iterator[Callable[[], bool]]:
    """Hold back Ctrl-C and SIGTERM in the block: it asks by the function whether one came.

    A second one stops at once; the first one does when the block ends.
    """
    came: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            _stop(number)

    before = {number: signal.signal(number, hold) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        _stop(came[0])


def _stop(number: int, _: object = None) -> NoReturn:
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def stop_status(stop: KeyboardInterrupt) -> int:
    """The exit status of a program that was stopped."""
    return TERMINATED if isinstance(stop, Terminated) else STOPPED


def error_text(error: Exception) -> str:
    """An error in one line; the system's with the file first."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Run a script's main and exit with its status; bad input is one line on stderr and exit status 2.

    Ctrl-C and SIGTERM raise KeyboardInterrupt in `main`; what `main` puts into it is printed.
    """
    _open_streams()
    _print_every_symbol()
    signal.signal(signal.SIGTERM, _stop)
    try:
        for argument in sys.argv[1:]:
            refuse_undecoded(argument)
        sys.exit(main())
    except BrokenPipeError:
        drop_output()
        sys.exit(0)
    except (InputError, OSError) as error:
        print(f"error: {error_text(error)}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt as stop:
        state = f": {stop}" if str(stop) else ""
        print(f"stopped by {'SIGTERM' if isinstance(stop, Terminated) else 'Ctrl-C'}{state}", file=sys.stderr)
        sys.exit(stop_status(stop))
    finally:
        gc.freeze()  # else Python searches all of TensorFlow for garbage before it ends: 0.9 s


def _open_streams() -> None:
    """Open the null device for a standard stream that is closed (`2>&-`), else the next file would take its place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w"))


def _print_every_symbol() -> None:
    """Print what the output's encoding lacks by its number: Windows with `>` and old terminals do not take UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

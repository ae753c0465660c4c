"""What every script does: options, progress, and one line where the input is bad."""

import argparse
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rafa import script
from rafa.files import ROOT
from rafa.script import InputError


def parser():
    options = script.option_parser("Does\n  something.")
    options.add_argument("--epochs", type=script.number(int, 1), default=100, help="passes")
    options.add_argument("--margin", type=script.number(float, 0, 5), help="share of the box")
    options.add_argument("--resume", action="store_true", help="continue")
    return options


def test_the_help_keeps_the_description_and_names_each_default_once():
    text = parser().format_help()
    assert "Does\n  something." in text and "passes (default: 100)" in text and text.count("default") == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--epochs", "0"], "--epochs: 0 is not at least 1"),
        (["--epochs", "1.5"], "--epochs: invalid int value: '1.5'"),
        (["--margin", "5.1"], "--margin: 5.1 is not within 0 to 5"),
        (["--margin", "nan"], "--margin: nan is not within 0 to 5"),
        (["--epoch", "3"], "unrecognized arguments: --epoch"),
    ],
)
def test_a_number_out_of_range_is_refused(given, message, capsys):
    with pytest.raises(SystemExit) as end:
        parser().parse_args(given)
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_the_ends_of_a_range_belong_to_it():
    assert parser().parse_args(["--epochs", "1", "--margin", "5"]) == argparse.Namespace(
        epochs=1, margin=5.0, resume=False
    )


def test_progress_is_a_bar_on_a_terminal_and_nothing_elsewhere(monkeypatch, capsys):
    assert list(script.progress(range(20), 20, "reading")) == list(range(20))
    assert capsys.readouterr().err == ""
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(script.progress(range(20), 20, "reading")) == list(range(20))
    assert "reading" in terminal.getvalue() and "20/20" in terminal.getvalue()


def ended(main, capsys):
    """Exit status and stderr of a script with this main, started in this process."""
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)}
    try:
        with pytest.raises(SystemExit) as end:
            script.run_script(main)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    return end.value.code, capsys.readouterr().err


def raising(error):
    def main():
        raise error

    return main


def test_bad_input_is_one_line_and_exit_status_two(capsys):
    assert ended(raising(InputError("bad list")), capsys) == (2, "error: bad list\n")
    status, said = ended(lambda: Path("nowhere.csv").read_text(), capsys)
    assert status == 2 and "nowhere.csv" in said and said.count("\n") == 1


@pytest.mark.parametrize(("said", "more"), [((), ""), (("epoch 3 is saved",), ": epoch 3 is saved")])
def test_ctrl_c_is_one_line_and_exit_status_130(said, more, capsys):
    assert ended(raising(KeyboardInterrupt(*said)), capsys) == (130, f"stopped{more}\n")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_is_one_line_and_its_own_exit_status(number, status, capsys):
    assert ended(lambda: os.kill(os.getpid(), number), capsys) == (status, "stopped\n")


def test_a_script_ends_with_the_status_of_its_main_and_a_bug_is_not_hidden(capsys):
    assert ended(lambda: 1, capsys) == (1, "")
    with pytest.raises(ValueError, match="a bug"):
        ended(raising(ValueError("a bug")), capsys)


def test_a_reader_that_has_read_enough_is_no_error():
    code = "from rafa.script import run_script; run_script(lambda: [print(i) for i in range(99999)] and None)"
    command = ["bash", "-c", f"{sys.executable} -c '{code}' | head -1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")


SCRIPTS = sorted(path.name for path in ROOT.glob("*.py") if "run_script(main)" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_help_is_printed_whole_where_the_output_is_not_utf_8(name):
    command, environment = [sys.executable, ROOT / name, "--help"], os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout.isascii()
    assert done.stdout.startswith(b"usage: ") and b"--help" in done.stdout

"""What every script does: options, progress, and one line where the input is bad."""

import argparse
import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rafa import script
from rafa.files import ROOT
from rafa.script import InputError


def parser():
    options = script.option_parser("Does\n  something.")
    options.add_argument("--epochs", type=script.number(int, 1), default=100, help="passes")
    options.add_argument("--cell", nargs=2, default=(3, 4), help="a cell")
    options.add_argument("--margin", type=script.number(float, 0, 5), help="share of the box (default: the paper's)")
    options.add_argument("--resume", action="store_true", help="continue")
    return options


def test_the_help_keeps_the_description_and_names_each_default_once():
    text = " ".join(parser().format_help().split())
    assert "passes (default: 100)" in text and "a cell (default: 3 4)" in text
    assert text.count("default:") == 3 and "Does\n  something." in parser().format_help()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--epochs", "0"], "argument --epochs: expected a whole number of at least 1, not '0'"),
        (["--epochs", "1.5"], "expected a whole number of at least 1, not '1.5'"),
        (["--margin", "5.1"], "expected a number from 0 to 5, not '5.1'"),
        (["--margin", "nan"], "expected a number from 0 to 5, not 'nan'"),
        (["--epoch", "3"], "unrecognized arguments: --epoch"),
    ],
)
def test_a_number_out_of_range_is_refused(given, message, capsys):
    with pytest.raises(SystemExit) as end:
        parser().parse_args(given)
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_the_ends_of_a_range_belong_to_it():
    assert parser().parse_args(["--epochs", "1", "--margin", "5"]) == argparse.Namespace(
        epochs=1, margin=5.0, cell=(3, 4), resume=False
    )


def test_a_log_file_gets_few_whole_lines(capsys, monkeypatch):
    assert list(script.progress(range(1000), 1000, "reading")) == list(range(1000))
    assert capsys.readouterr().err == "reading: 1,000 of 1,000 images\n"
    monkeypatch.setattr(script, "LOG_SECONDS", 0)
    list(script.progress(range(1000), 1000, "reading", "row"))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10 and lines[0] == "reading: 100 of 1,000 rows" and lines[-1] == "reading: 1,000 of 1,000 rows"
    list(script.progress(range(5), 5, "training", log=False))
    assert capsys.readouterr().err == ""
    list(script.progress(range(3), None, "frames", "frame"))
    assert capsys.readouterr().err.splitlines()[-1] == "frames: 3 frames"


def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(script.progress(range(20), 20, "reading")) == list(range(20))
    assert "\r" in terminal.getvalue() and "20/20" in terminal.getvalue() and "reading" in terminal.getvalue()


@pytest.mark.parametrize("error", [InputError("bad list"), FileNotFoundError(2, "bad list")])
def test_bad_input_is_one_line_and_exit_status_two(error, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as end:
        script.run_script(main)
    message = capsys.readouterr().err
    assert end.value.code == 2 and message.startswith("error: ") and "bad list" in message and message.count("\n") == 1


def test_a_missing_file_is_named_first(capsys):
    with pytest.raises(SystemExit):
        script.run_script(lambda: Path("nowhere.csv").read_text())
    assert capsys.readouterr().err == "error: nowhere.csv: No such file or directory\n"


def test_an_argument_that_is_not_utf_8_is_refused_before_anything_is_done(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["predict.py", "a.mp4", "--drawn", "caf\udce9"])  # OpenCV would crash on it
    with pytest.raises(SystemExit) as end:
        script.run_script(lambda: pytest.fail("it was run"))
    message = capsys.readouterr().err
    assert end.value.code == 2 and message.startswith("error: 'caf\\udce9': expected a name in UTF-8")


def test_a_reader_that_has_read_enough_is_no_error():
    code = "from rafa.script import run_script; run_script(lambda: [print(i) for i in range(99999)] and None)"
    command = f"{sys.executable} -c '{code}' | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.stdout, done.stderr) == ("0\n0\n", "")


@pytest.mark.parametrize(("said", "more"), [((), ""), (("epoch 3 is saved",), ": epoch 3 is saved")])
def test_ctrl_c_is_one_line_and_exit_status_130(said, more, capsys):
    def main():
        raise KeyboardInterrupt(*said)

    with pytest.raises(SystemExit) as end:
        script.run_script(main)
    assert end.value.code == 130 and capsys.readouterr().err == f"stopped by Ctrl-C{more}\n"


def test_sigterm_is_one_line_and_exit_status_143(capsys):
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as end:
            script.run_script(lambda: os.kill(os.getpid(), signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert end.value.code == 143 and capsys.readouterr().err == "stopped by SIGTERM\n"


SCRIPTS = sorted(path.name for path in ROOT.glob("*.py") if "run_script(main)" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_help_is_printed_whole_where_the_output_is_not_utf_8(name):
    command, environment = [sys.executable, ROOT / name, "--help"], os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout.isascii()
    assert done.stdout.startswith(b"usage: ") and b"--help" in done.stdout


def test_a_table_and_an_unreadable_file_name_are_printed_where_the_output_is_not_utf_8():
    code = "from rafa.script import run_script; run_script(lambda: print('| γ | +1.0 → +2.0 |', 'ä\\udcff.png'))"
    narrow, wide = r"\u03b3 | +1.0 \u2192 +2.0 | \xe4\udcff", r"γ | +1.0 → +2.0 | ä\udcff"
    for encoding, text in (("ascii", narrow), ("utf-8", wide)):
        options = {"env": os.environ | {"PYTHONIOENCODING": encoding}, "cwd": ROOT, "capture_output": True}
        done = subprocess.run([sys.executable, "-c", code], check=True, **options)
        assert done.stdout == f"| {text}.png\n".encode()


def test_a_script_ends_with_the_status_of_its_main_and_a_bug_is_not_hidden():
    with pytest.raises(SystemExit) as end:
        script.run_script(lambda: 1)
    assert end.value.code == 1

    def bug():
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        script.run_script(bug)


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_closed_standard_streams_are_the_null_device():
    code = "from rafa.script import run_script; run_script(lambda: print('seen', open('README.md').fileno()))"
    for closed, seen in (("2>&-", "seen 3\n"), ("<&-", "seen 3\n"), (">&-", ""), (">&- 2>&- <&-", "")):
        shell = ["sh", "-c", f'"{sys.executable}" -c "$0" {closed}', code]
        done = subprocess.run(shell, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, seen, ""), closed


def test_a_bar_starts_no_thread(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := io.StringIO())
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    for _ in script.progress(range(2), 2, "reading"):
        assert not [each for each in threading.enumerate() if type(each).__name__ == "TMonitor"]
    assert "reading: 100%" in terminal.getvalue()

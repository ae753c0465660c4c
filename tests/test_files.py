"""What a result was made with, and files that appear whole or not at all."""

import hashlib
import json
import subprocess
import sys

import pytest

from rafa import files as provenance
from rafa.files import ROOT, VERSION, environment, sha256, write_text, written_whole


# --- What a result was made with --------------------------------------------------------------------------------------
def test_the_environment_names_suite_versions_and_command_and_fits_into_json(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/evaluate.py", "score", "a file.csv"])
    made = json.loads(json.dumps(environment()))
    assert list(made) == ["command", "date", "suite", "commit", "hardware", "versions"]
    assert made["command"] == "evaluate.py score 'a file.csv'"
    assert made["suite"] == VERSION
    assert made["versions"]["keras"].startswith("3.")
    assert made["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert made["date"].endswith("+00:00")
    assert " CPU cores, " in made["hardware"]


def test_the_command_may_be_given():
    assert environment("evaluate.py table1")["command"] == "evaluate.py table1"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git checkout of one commit in the place of the suite, and that commit."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # set where a git hook runs the tests
        monkeypatch.delenv(name, raising=False)

    def git(*arguments):
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    (tmp_path / "file").write_text("old")
    git("init")
    git("add", "file")
    git("commit", "-m", "first")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return git("rev-parse", "HEAD")


def test_the_commit_says_whether_files_differ_from_it(checkout, tmp_path):
    assert environment()["commit"] == checkout
    (tmp_path / "file").write_text("new")
    assert environment()["commit"] == f"{checkout}+changes"


def test_a_copy_without_git_has_no_commit_even_inside_the_checkout_of_something_else(checkout, tmp_path, monkeypatch):
    (tmp_path / "inside").mkdir()
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "inside")
    assert environment()["commit"] == "unknown"


def test_a_checkout_of_another_user_says_why_its_commit_is_unknown(checkout, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert environment()["commit"].startswith("unknown: git says: fatal: detected dubious ownership")


def test_the_root_is_the_folder_of_the_scripts():
    assert (ROOT / "evaluate.py").is_file()


@pytest.mark.parametrize("content", [b"", b"abc", b"x" * (1 << 20) + b"y"])
def test_sha256_is_that_of_the_whole_file(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


# --- Writing a file whole ---------------------------------------------------------------------------------------------
def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_under_its_name_only_when_it_is_whole(tmp_path):
    target = tmp_path / "new" / "folder" / "last.keras"
    with written_whole(target) as unfinished:
        unfinished.write_text("half")
        assert not target.exists()
        assert (unfinished.parent, unfinished.suffix) == (target.parent, ".keras")
    assert names_in(target.parent) == ["last.keras"]
    assert target.read_text() == "half"


def test_a_file_takes_the_place_of_an_old_one(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    write_text(tmp_path / "a.txt", "Ω\n")
    assert (tmp_path / "a.txt").read_bytes() == "Ω\n".encode()


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(error), written_whole(tmp_path / "a.txt") as unfinished:
        unfinished.write_text("half")
        raise error
    assert names_in(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_writer_that_writes_nothing_leaves_the_old_file(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(FileNotFoundError), written_whole(tmp_path / "a.txt"):
        pass
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    def write(complete):
        with written_whole(tmp_path / "model") as unfinished:
            (unfinished / "variables").mkdir(parents=True)
            (unfinished / "variables" / "index").write_text("half")
            if not complete:
                raise RuntimeError("the export failed")

    with pytest.raises(RuntimeError, match="the export failed"):
        write(complete=False)
    assert names_in(tmp_path) == []
    write(complete=True)
    assert names_in(tmp_path) == ["model"]
    assert (tmp_path / "model" / "variables" / "index").read_text() == "half"
    (tmp_path / "model" / "variables" / "index").write_text("old")
    with pytest.raises(OSError, match="not empty"):  # an existing folder is never replaced
        write(complete=True)
    assert names_in(tmp_path) == ["model"]
    assert (tmp_path / "model" / "variables" / "index").read_text() == "old"

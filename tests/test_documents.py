"""README and doc/ say what is so: links, options, files, versions, and tables that programs wrote.

`python tests/test_documents.py` copies the table of the paper's rows and ours from doc/results.md into README.
"""

import ast
import contextlib
import io
import re
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = {str(path.relative_to(ROOT)): path for path in [*ROOT.glob("*.md"), *ROOT.glob("doc/*.md")]}
PAST = ("doc/log.md", "doc/changes.md", "doc/results.md")  # name options of earlier versions
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))
README, RESULTS = ROOT / "README.md", ROOT / "doc" / "results.md"
BEGIN, END, SECTION = "<!-- results -->", "<!-- /results -->", "## The paper's evaluation protocol"
EXAMPLES = {"mine": "aflw2000"}  # CONTRIBUTING's new dataset
DISTRIBUTION = {"cv2": "opencv-python", "PIL": "pillow", "sklearn": "scikit-learn"}  # of imports with other names


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def first_table(text):
    """The lines of the first Markdown table of a text."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    end = next((number for number in range(start, len(lines)) if not lines[number].startswith("|")), len(lines))
    return "\n".join(lines[start:end])


def with_results(readme, results):
    """README's text with the table of the paper's evaluation protocol of doc/results.md between its markers."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{first_table(results.partition(SECTION)[2])}\n{END}{after}"


@cache
def help_of(script, *command):
    """The help text of a script at the root or a program of tests/measurements or tests/benchmarks."""
    folders = (ROOT, ROOT / "tests/measurements", ROOT / "tests/benchmarks")
    path = next(folder / script for folder in folders if (folder / script).exists())
    arguments, sys.argv = sys.argv, [str(path), *command, "--help"]
    try:
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
            runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.argv = arguments
    return out.getvalue()


@cache
def options_of(script, *command):
    return set(re.findall(r"--[a-z][a-z-]*", help_of(script, *command)))


@cache
def scoring_commands():
    """The commands of evaluate.py."""
    return set(re.findall(r"^ {4}([\w-]+)", help_of("evaluate.py").partition("  WHAT")[2], re.MULTILINE))


@cache
def all_options():
    """The options of all scripts, of the commands of evaluate.py, and of the programs behind the documents."""
    programs = [*SCRIPTS, *(path.name for path in ROOT.glob("tests/measurements/*.py")), "run.py"]
    of_commands = (options_of("evaluate.py", command) for command in scoring_commands())
    found = set().union(*map(options_of, programs), *of_commands)
    assert {"--margin", "--signs", "--out", "--resume", "--fetch-lists"} <= found
    return found


def commands_in(text):
    """(script, words after it) of every command in a text."""
    for command in re.findall(r"python (?:tests/(?:measurements|benchmarks)/)?([\w-]+\.py)((?: +[^`#\n]*)?)", text):
        yield command[0], command[1].split()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files_and_headings(name):
    text = text_of(name)
    for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text):
        path, _, heading = "".join(target).partition("#")
        if path.startswith("https://"):
            continue
        linked = DOCUMENTS[name].parent / path if path else DOCUMENTS[name]
        assert linked.exists(), f"{name} links {path}"
        if heading:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in [title.lower().replace(" ", "-") for title in headings], f"{name} links #{heading}"


def test_readme_leads_to_every_document_and_figure():
    linked = set(re.findall(r"doc/[\w.]+", text_of("README.md")))
    files = {f"doc/{path.name}" for path in (ROOT / "doc").iterdir() if path.suffix in (".md", ".png", ".jpg")}
    assert files - linked == set()


@pytest.mark.parametrize("name", sorted(set(DOCUMENTS) - set(PAST)))
def test_options_that_documents_name_exist(name):
    text = text_of(name)
    for script, words in commands_in(text):
        given = {word.strip("\\|") for word in words if word.startswith("--")}
        command = [EXAMPLES.get(words[0], words[0])] if script == "evaluate.py" and words else []
        assert set(command) <= scoring_commands()
        missing = given - options_of(script, *command)
        assert not missing, f"{name}: {script} {' '.join(command)} has no {missing}"
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", re.sub(r"https?://\S+|<!--|-->", "", text)))
    foreign = {"--format", "--check", "--version"} - all_options()
    assert named - all_options() - foreign == set()


def test_readme_runs_every_script():
    run = {script for script, _ in commands_in(text_of("README.md"))}
    assert run == {script for script in SCRIPTS if script != "rafa_model.py"}


def test_one_version_everywhere():
    from rafa.files import VERSION

    citation = text_of("CITATION.cff")
    assert re.search(r'^version: "(.+)"$', citation, re.MULTILINE)[1] == VERSION
    heading = re.search(r"^## (.+)$", text_of("doc/changes.md"), re.MULTILINE)[1]
    released = re.search(r'^date-released: "(.+)"$', citation, re.MULTILINE)[1]
    assert heading == f"{VERSION}, {released}"
    assert re.search(r"version = \{(.+?)\}", text_of("README.md"))[1] == VERSION


def test_readme_has_at_most_1200_words_and_the_table_of_results():
    assert len(text_of("README.md").split()) <= 1200
    assert text_of("README.md") == with_results(text_of("README.md"), text_of("doc/results.md"))


def test_the_check_runs_the_test_command_of_readme():
    extract = re.search(r"^command=\$\((.+)\)$", text_of(".ci/run"), re.MULTILINE)[1]
    command = subprocess.run(["bash", "-c", extract], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert command == (
        "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/python -m pytest tests\n"
    )


def test_numbers_of_parameters_are_those_of_the_networks():
    import rafa_model

    for backbone in ("small", "resnet50"):  # tests/net/test_rafa_model.py counts them
        assert f"{rafa_model.BACKBONES[backbone].parameters:,} parameters" in text_of("doc/model_card.md")


def pinned(name):
    """Package → version(s) pinned in a requirements file."""
    versions = {}
    for package, version in re.findall(r"^([\w-]+)==([\w.]+)", text_of(name), re.MULTILINE):
        versions.setdefault(package, set()).add(version)
    return versions


def test_every_package_that_is_imported_is_pinned():
    imported = set()
    for path in [*ROOT.glob("*.py"), *ROOT.glob("rafa/**/*.py"), *ROOT.glob("tests/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.partition(".")[0])
    own = {path.stem for path in [*ROOT.glob("*.py"), *ROOT.glob("tests/**/*.py")]} | {
        "rafa",
        "helpers",
        "measurements",
    }
    foreign = {DISTRIBUTION.get(name, name.replace("_", "-")) for name in imported - own - sys.stdlib_module_names}
    assert "numpy" in foreign
    assert foreign - pinned("requirements.txt").keys() - pinned("requirements-dev.txt").keys() == set()


def test_exports_name_the_versions_that_checks_use():
    from rafa.net.export import ONNX_PACKAGES

    assert {package: {version} for package, version in ONNX_PACKAGES.items()}.items() <= pinned(
        "requirements-dev.txt"
    ).items()


def test_each_package_is_pinned_in_one_file_with_a_reason():
    assert not pinned("requirements.txt").keys() & pinned("requirements-dev.txt").keys()
    reasons, package = "", ""
    for line in text_of("requirements.txt").splitlines():
        if line.startswith("#") or not line:
            reasons, package = line, ""
            continue
        assert reasons or line.partition("==")[0] == package, line
        reasons, package = "", line.partition("==")[0]


if __name__ == "__main__":
    README.write_text(with_results(text_of("README.md"), text_of("doc/results.md")), encoding="utf-8")
    print(f"copied the table of {SECTION!r} of {RESULTS} into {README}")

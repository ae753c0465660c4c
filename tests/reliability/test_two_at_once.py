"""Two programs that write into one folder at once."""

import subprocess
import sys

from tiny_run import ROOT, SCRIPT, options

DRAW = "import sys; from synthetic_heads import ensure_dataset; ensure_dataset(sys.argv[1], 48, 16)"


def both(*command):
    processes = [
        subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    return [(*process.communicate(timeout=1200), process.returncode) for process in processes]


def test_two_runs_in_one_folder_at_once_are_one_run_and_one_line(data_dir, tmp_path):
    ends = both(SCRIPT, *options(data_dir, tmp_path / "run"))
    (_, error, status), (_, _, other) = sorted(ends, key=lambda end: -end[2])
    assert (status, other) == (2, 0), ends
    assert "is in use by another run" in error or "is not empty" in error
    assert (tmp_path / "run/result.json").exists()


def test_two_first_uses_of_the_synthetic_heads_draw_them_once(tmp_path):
    ends = both("-c", DRAW, str(tmp_path / "heads"))
    assert [status for _, _, status in ends] == [0, 0], ends
    assert sorted("another program draws into" in out for out, _, _ in ends) == [False, True]
    assert len(list((tmp_path / "heads").rglob("*.jpg"))) == 64 and not (tmp_path / "heads/.lock").exists()

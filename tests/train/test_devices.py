"""Training on several devices and machines gives the numbers of one device."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers.lists import read

from data_loaders import KeptImages, Shard, training_batches
from rafa.files import ROOT
from rafa.script import InputError
from rafa.train.devices import Devices, this_machine

PROGRAM = str(ROOT / "tests/helpers/several_devices.py")


def of_machine(index, machines):
    """The environment of a process that plays a machine, the first of them the chief."""
    config = {"cluster": {"chief": machines[:1], "worker": machines[1:]}}
    config["task"] = {"type": "worker" if index else "chief", "index": max(0, index - 1)}
    return os.environ | {"TF_CONFIG": json.dumps(config) if machines else "", "CUDA_VISIBLE_DEVICES": ""}


def start(*command, index=0, machines=()):
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    return subprocess.Popen([sys.executable, *map(str, command)], env=of_machine(index, machines), **piped)


def result_of(process):
    out, said = process.communicate(timeout=500)
    assert process.returncode == 0, said
    assert "retracing" not in said
    return json.loads(out.splitlines()[-1])


def free_addresses(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses


# --- The same numbers ---
@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The losses of ten steps on one device, and its folder."""
    folder = tmp_path_factory.mktemp("alone")
    return result_of(start(PROGRAM, 1, "training", folder)), folder


def assert_same(shared, alone):
    np.testing.assert_allclose(shared["losses"], alone["losses"], rtol=1e-5)
    for ours, theirs in zip(shared["clipped"], alone["clipped"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.slow
def test_two_devices_give_the_losses_of_one_and_a_checkpoint_that_one_reads(alone, tmp_path):
    shared = result_of(start(PROGRAM, 2, "training", tmp_path))
    assert shared["devices"] == 2 and np.std(shared["losses"], axis=0).min() > 1e-3
    assert_same(shared, alone[0])
    from rafa_model import load_rafa_net

    one, two = (load_rafa_net(folder / "network.keras") for folder in (alone[1], tmp_path))
    for ours, theirs in zip(one.variables, two.variables, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_several_machines_give_the_losses_of_one_process(count, alone, tmp_path):
    machines = free_addresses(count)
    processes = [start(PROGRAM, 1, "training", tmp_path, index=index, machines=machines) for index in range(count)]
    for shared in [result_of(process) for process in processes]:
        assert shared["devices"] == count
        assert_same(shared, alone[0])


@pytest.fixture(scope="module")
def each():
    return result_of(start(PROGRAM, 2, "each"))


def test_devices_share_the_mean_of_their_moving_averages(each):
    for before, after in zip(*each["statistics"], strict=True):
        assert before[0] != before[1]
        np.testing.assert_allclose(after, [np.mean(before, axis=0)] * 2, rtol=1e-6)


def test_an_overflow_on_one_of_two_devices_skips_the_step_on_both(each):
    (kernel, scale), (moved, kept) = each["overflow"]
    assert kernel == [[[1]], [[1]]] and scale == kept == 2.0**14
    np.testing.assert_allclose(moved, [[[0.8]], [[0.8]]], rtol=1e-6)


# --- What of a batch ---
def test_a_machine_reads_its_part_of_every_batch(folder):
    samples = np.arange(12)
    assert [Shard(index, 3).of(samples, 6).tolist() for index in range(3)] == [
        [0, 1, 6, 7],
        [2, 3, 8, 9],
        [4, 5, 10, 11],
    ]
    assert Shard().of(samples, 6).tolist() == samples.tolist()

    def batches(shard):
        return list(training_batches(KeptImages(read(folder), 0.5), 3, seed=0, epoch=1, workers=2, shard=shard))

    for (crops, targets), *parts in zip(
        batches(Shard()), *(batches(Shard(index, 3)) for index in range(3)), strict=True
    ):
        np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), crops)
        for axis, angles in targets.items():
            np.testing.assert_array_equal(np.concatenate([part[1][axis] for part in parts]), angles)


def test_what_the_devices_cannot_do_is_refused(capsys):
    devices = Devices()
    devices.check(16, xla=True)
    devices.strategy, devices.count = object(), 3
    with pytest.raises(InputError, match="--batch-size 18"):
        devices.check(16)
    with pytest.raises(InputError, match="--xla"):
        devices.check(15, xla=True)
    assert capsys.readouterr().out == ""
    devices.check(15)
    assert "3 devices, 5 images" in capsys.readouterr().out


# --- Machines ---
@pytest.mark.parametrize(
    ("text", "index", "count"),
    [
        ("", 0, 1),
        ("{}", 0, 1),
        ('{"cluster": {"chief": ["a:1"]}, "task": {"type": "chief", "index": 0}}', 0, 1),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}', 1, 2),
        ('{"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "task": {"type": "chief", "index": 0}}', 0, 3),
        ('{"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "task": {"type": "worker", "index": "1"}}', 2, 3),
    ],
)
def test_tf_config_says_which_machine_this_is_a_chief_first(text, index, count, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    assert this_machine() == Shard(index, count)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"cluster": {"worker": ["a:1", "b:1"]}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "chief", "index": 0}}',
    ],
)
def test_a_wrong_tf_config_is_refused(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match=r"^TF_CONFIG is .*as in"):
        this_machine()


_STARTED = """
import sys
from rafa.train.devices import all_devices, this_machine
devices = all_devices(this_machine())
devices.refuse_unlike({"seed": 1, "lists": ["a", "b"]})
print("alike")
devices.refuse_unlike({"seed": int(sys.argv[1]), "lists": ["a", "b"]})
"""


def test_machines_that_were_not_started_alike_are_all_refused():
    machines = free_addresses(2)
    both = [start("-c", _STARTED, index, index=index, machines=machines) for index in range(2)]
    for process in both:
        out, said = process.communicate(timeout=200)
        assert out.endswith("alike\n") and "InputError: the machines differ" in said
    Devices().refuse_unlike({"seed": 1})


def test_a_machine_that_waits_for_the_others_is_ended_by_ctrl_c():
    code = "from rafa.train.devices import all_devices, this_machine; all_devices(this_machine())"
    process = start("-c", code, machines=free_addresses(2))
    try:
        assert "waiting for the others" in process.stdout.readline()
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == -signal.SIGINT
    finally:
        process.kill()


@pytest.mark.slow
def test_a_training_that_lost_a_machine_ends_and_resumes(folder):
    lists = [folder / "crop.txt", folder / "angles.txt"]
    command = ["--train-lists", *lists, "--test-lists", *lists, "--data-dir", folder, "--backbone", "tiny"]
    command += ["--weights", "none", "--batch-size", 6, "--evaluate-every", 0, "--workers", 2, "--epochs", 1000]

    def train(*more):
        machines, script = free_addresses(2), ROOT / "train_rafa-net.py"
        return [start(script, "--run-dir", folder / "run", *more, index=k, machines=machines) for k in range(2)]

    both = train(*command)
    while not (folder / "run/last.keras").exists():
        assert all(process.poll() is None for process in both)
        time.sleep(0.1)
    both[1].kill()
    _, said = both[0].communicate(timeout=200)
    assert both[0].returncode == 2 and "has lost another" in said and "Traceback" not in said
    assert said.splitlines()[-1].count("--resume") == 1
    done = len((folder / "run/metrics.csv").read_text().splitlines()) - 1
    for process in train("--resume", "--epochs", done + 1):
        _, said = process.communicate(timeout=500)
        assert process.returncode == 0, said
    assert (folder / "run/result.json").exists()
    assert len((folder / "run/metrics.csv").read_text().splitlines()) == done + 2

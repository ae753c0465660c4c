"""Training on several devices and machines gives the numbers of one device."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.lists import read

from data_loaders import Shard, training_batches
from rafa.script import InputError
from rafa.train.devices import Devices, this_machine

ROOT = Path(__file__).parents[2]
SHARED = str(ROOT / "tests/shared_training.py")


def of_machine(machine, machines):
    """The environment of a process that plays a machine."""
    config = {"cluster": {"worker": machines}, "task": {"type": "worker", "index": machine}}
    return os.environ | {"TF_CONFIG": json.dumps(config) if machines else ""}


def start(devices, folder, machine=None, machines=()):
    command = [sys.executable, SHARED, str(devices), str(folder)]
    return subprocess.Popen(command, env=of_machine(machine, machines), stdout=subprocess.PIPE, text=True)


def result_of(process):
    out, _ = process.communicate(timeout=500)
    assert process.returncode == 0
    return json.loads(out.splitlines()[-1])


def free_addresses(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The losses of ten steps on one device, and its folder."""
    folder = tmp_path_factory.mktemp("alone")
    return result_of(start(1, folder)), folder


def losses_of(result):
    return np.array([list(step.values()) for step in result["losses"]])


def assert_same(found, alone):
    np.testing.assert_allclose(losses_of(found), losses_of(alone), rtol=1e-5)
    for ours, theirs in zip(found["averages"], alone["averages"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.slow
def test_two_devices_give_the_losses_of_one_and_a_checkpoint_that_one_reads(alone, tmp_path):
    found = result_of(start(2, tmp_path))
    assert found["devices"] == 2
    assert_same(found, alone[0])
    assert losses_of(found).std(axis=0).min() > 1e-3
    from rafa_model import load_rafa_net

    one, two = (load_rafa_net(folder / "network.keras") for folder in (alone[1], tmp_path))
    for ours, theirs in zip(one.variables, two.variables, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_several_machines_give_the_losses_of_one_process(count, alone, tmp_path):
    addresses = free_addresses(count)
    processes = [start(1, tmp_path, machine, addresses) for machine in range(count)]
    for found in [result_of(process) for process in processes]:
        assert found["devices"] == count
        assert_same(found, alone[0])


@pytest.mark.parametrize("name", ["mean", "variance"])
def test_devices_share_the_mean_of_their_moving_averages(name, two_devices):
    before, after = np.array(two_devices["statistics"][name])
    assert (before[0] != before[1]).all()
    np.testing.assert_allclose(after, [before.mean(axis=0)] * 2, rtol=1e-6)


def test_a_machine_that_waits_for_the_others_is_ended_by_ctrl_c():
    code = "from rafa.train.devices import all_devices, this_machine; all_devices(this_machine())"
    environment = of_machine(0, free_addresses(2))
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    try:
        assert b"waiting for the others; Ctrl-C ends it" in process.stdout.readline()
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == -signal.SIGINT
    finally:
        process.kill()


_STARTED = """
import signal, sys
from rafa.train.devices import all_devices, this_machine
before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
devices = all_devices(this_machine())
assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
devices.refuse_unlike({"--seed": 1, "the lists": ["a", "b"]})
print("alike")
devices.refuse_unlike({"--seed": int(sys.argv[1]), "the lists": ["a", "b"], "--limit": 5 + int(sys.argv[1])})
"""


def test_machines_that_were_not_started_alike_are_all_refused():
    machines = free_addresses(2)
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    both = [
        subprocess.Popen([sys.executable, "-c", _STARTED, str(machine)], env=of_machine(machine, machines), **piped)
        for machine in range(2)
    ]
    for process in both:
        out, said = process.communicate(timeout=200)
        assert out.endswith("alike\n")
        assert "InputError: the machines were not started alike, they differ in --seed, --limit; start" in said
    Devices().refuse_unlike({"--seed": 1})


def test_a_machine_reads_its_part_of_every_batch():
    parts = [Shard(index, 3).places(12, 6).tolist() for index in range(3)]
    assert parts == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]
    assert Shard().places(12, 6).tolist() == list(range(12))


def test_the_parts_of_all_machines_are_the_batches_of_one(folder):
    def first_batches(share):
        batches = training_batches(read(folder), 6, 0.5, seed=0, workers=2, share=share)
        return [next(batches) for _ in range(2)]

    whole, parts = first_batches(Shard()), zip(*(first_batches(Shard(index, 3)) for index in range(3)), strict=True)
    for (crops, true), part in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(np.concatenate([each[0] for each in part]), crops)
        for axis, angles in true.items():
            np.testing.assert_array_equal(np.concatenate([each[1][axis] for each in part]), angles)


def test_a_batch_that_cannot_be_shared_is_refused(capsys):
    devices = Devices()
    devices.count = 3
    with pytest.raises(InputError, match=r"batches of 16 images cannot be shared equally by 3 devices: .* 15 or 18"):
        devices.check(16, False)
    with pytest.raises(InputError, match="such as 3 or 6"):
        devices.check(2, False)
    devices.check(15, False)
    devices.strategy = object()
    devices.check(15, False)
    assert "3 devices: each takes 5 of 15 images" in capsys.readouterr().out
    with pytest.raises(InputError, match="--xla compiles the step of one device, and there are 3"):
        devices.check(15, True)


def test_a_lost_machine_is_said_in_one_line():
    from rafa.net.backend import tf

    def fail():
        raise tf.errors.UnavailableError(None, None, "Socket closed")

    with pytest.raises(InputError, match=r"^machine 1 of 2 .* has lost another machine .* with --resume$"):
        Devices(machine=Shard(1, 2))._lost_machines_said(fail)()
    with pytest.raises(tf.errors.UnavailableError):
        Devices()._lost_machines_said(fail)()


@pytest.mark.slow
def test_a_training_that_lost_a_machine_ends_and_resumes(folder):
    lists = ["--train-lists", folder / "crop.txt", folder / "angles.txt"]
    lists += ["--test-lists", folder / "crop.txt", folder / "angles.txt", "--data-dir", folder]
    small = ["--backbone", "tiny", "--weights", "none", "--batch-size", 6, "--watch-every", 0, "--workers", 2]

    def train(machine, machines, *more):
        command = [sys.executable, ROOT / "train_rafa-net.py", "--run-dir", folder / "run", *more]
        piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([str(part) for part in command], env=of_machine(machine, machines), **piped)

    machines = free_addresses(2)
    both = [train(machine, machines, *lists, *small, "--epochs", 1000) for machine in range(2)]
    while not (folder / "run/last.keras").exists():
        assert all(process.poll() is None for process in both)
        time.sleep(0.1)
    both[1].kill()
    _, said = both[0].communicate(timeout=200)
    assert both[0].returncode == 2 and "has lost another machine of this training" in said and "Traceback" not in said
    assert said.count("--resume") == 1
    done = len((folder / "run/metrics.csv").read_text().splitlines()) - 1
    machines = free_addresses(2)
    both = [train(machine, machines, "--resume", "--epochs", done + 1) for machine in range(2)]
    for process in both:
        _, said = process.communicate(timeout=500)
        assert process.returncode == 0, said
    assert (folder / "run/result.json").exists()
    assert len((folder / "run/metrics.csv").read_text().splitlines()) == done + 2
    assert json.loads((folder / "run/run.json").read_text())["resumed"][0]["machines"] == 2


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "ps", "index": 0}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "chief", "index": 0}}',
        '{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": [1, 2]}, "task": {"type": "worker", "index": 0}}',
        *(
            f'{{"cluster": {{"worker": ["a:1", "b:1"]}}, "task": {{"type": "worker", "index": {index}}}}}'
            for index in ("Infinity", "NaN", "0.9", "true", "false", '"0"', "-1", "null")
        ),
        *(
            f'{{"cluster": {{"worker": ["a:1", "{address}"]}},\n "task": {{"type": "worker", "index": 0}}}}'
            for address in ("a:1", "b", "b:", "b:0", "b:65536", "b:-1", "b:x", ":1", "a:b:1", "[a:1", "\\ud800:1")
        ),
    ],
)
def test_a_wrong_tf_config_is_refused(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match=r"^TF_CONFIG is .*; expected all machines as host:port, none twice, .* {.*$"):
        this_machine()


def test_tf_config_says_which_machine_this_is(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}')
    assert this_machine() == Shard(1, 2)
    monkeypatch.setenv(
        "TF_CONFIG", '{"cluster": {"worker": ["[::1]:1", "10.0.0.2:1"]}, "task": {"type": "worker", "index": 0}}'
    )
    assert this_machine() == Shard(0, 2)
    monkeypatch.delenv("TF_CONFIG")
    assert this_machine() == Shard(0, 1)

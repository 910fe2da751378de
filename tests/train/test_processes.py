"""Trainings in processes of their own: killed at random moments, and asked for twice at once."""

import json
import logging
import multiprocessing
import random
import time

import pytest
import toy
from safetensors import SafetensorError, safe_open

from heatproof.base.settings import Phase
from heatproof.base.store import Store
from heatproof.base.weights import state_hash
from heatproof.stages import train as stage

SETTINGS = toy.training(
    epochs=25, phases=(Phase(20, 0.002, "all"),), augment=("flip",), delete_cells=2, schedule="plateau",
    plateau_patience=2, class_weights=False, balanced_sampling=True, label_smoothing=0.1, clip_norm=1.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def processes():
    """Processes that begin with torch imported and nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["toy", "heatproof.stages.train"])
    return context


def trained(root):
    samples, net = toy.samples(40), toy.net(dropout=0.3)
    return stage.train(samples, net, SETTINGS, toy.CPU, Store(root), progress=False)


def reached(root):
    """(phase, epochs) of the checkpoint, (0, 0) where there is none yet."""
    for path in root.rglob("checkpoint.safetensors"):
        try:
            with safe_open(path, "pt") as file:
                record = json.loads(file.metadata()["state"])["record"]
            return record["phase"], len(record["history"])
        except (OSError, SafetensorError):
            pass  # replaced while it was opened
    return 0, 0


def test_a_training_killed_at_random_moments_ends_with_the_same_bits(tmp_path, processes):
    moments = random.Random(0)
    epochs = [0]
    for phase in (0, 0, 1, 1):
        process = processes.Process(target=trained, args=(tmp_path / "killed",))
        process.start()
        end = time.monotonic() + 120
        while not (phase <= reached(tmp_path / "killed")[0] and reached(tmp_path / "killed")[1] > epochs[-1]):
            assert process.is_alive()
            assert time.monotonic() < end
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.05))
        process.kill()
        process.join()
        epochs.append(reached(tmp_path / "killed")[1])
    assert process.exitcode != 0
    assert epochs[2] < 45
    resumed, whole = trained(tmp_path / "killed"), trained(tmp_path / "whole")
    assert len(resumed.history) == 45
    assert state_hash(resumed.module.state_dict()) == state_hash(whole.module.state_dict())
    without_time = [[{**entry, "seconds": 0} for entry in made.history] for made in (resumed, whole)]
    assert without_time[0] == without_time[1]


def counted(root, barrier, name):
    """Train, leaving a line for each training and the log."""
    fit = stage.fit

    def counting(*given, **more):
        with (root / "trainings").open("a") as file:
            file.write(f"{name}\n")
        return fit(*given, **more)

    stage.fit = counting
    logging.basicConfig(filename=root / f"{name}.log", level=logging.WARNING)
    barrier.wait(60)
    classifier = trained(root / "store")
    (root / f"{name}.json").write_text(json.dumps([classifier.identity, *classifier.remarks]))


def test_two_processes_that_ask_at_once_train_once(tmp_path, processes):
    barrier = processes.Barrier(2)
    asking = [processes.Process(target=counted, args=(tmp_path, barrier, name)) for name in ("one", "two")]
    for process in asking:
        process.start()
    for process in asking:
        process.join(120)
        assert process.exitcode == 0
    (first,) = (tmp_path / "trainings").read_text().split()
    other = {"one": "two", "two": "one"}[first]
    waited = (tmp_path / f"{other}.log").read_text()
    assert "Waiting for another process that makes training of small_cnn" in waited
    assert not (tmp_path / f"{first}.log").read_text()
    made, taken = (json.loads((tmp_path / f"{name}.json").read_text()) for name in (first, other))
    assert made[0] == taken[0]
    assert "the trained classifier is taken from the store" in taken[1:]

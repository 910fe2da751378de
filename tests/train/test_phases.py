from dataclasses import replace

import numpy as np
import pytest
import toy
from test_loop import linear_task, scripted_task
from torch import nn

from heatproof.base.settings import Phase
from heatproof.stages.train.loop import fit

TWO = toy.training(
    epochs=4, phases=(Phase(3, 0.003, "all"), Phase(2, 0.001, "all")), schedule="plateau", plateau_patience=1,
    balanced_sampling=True, weight_decay=0.01,
)  # fmt: skip


def trained(task, settings=TWO, folder=None, asked=None):
    def task_of(phase):
        if asked is not None:
            asked.append(phase)
        return task

    return fit(task_of, settings, folder, progress=False)


def test_phases_follow_each_other_with_rates_of_their_own():
    task, _, _ = linear_task()
    asked = []
    fitted = trained(task, asked=asked)
    assert asked == [Phase(4, 0.01, "all"), *TWO.phases]
    assert [entry["phase"] for entry in fitted.history] == [1, 1, 1, 1, 2, 2, 2, 3, 3]
    assert [entry["epoch"] for entry in fitted.history] == list(range(1, 10))
    assert [fitted.history[i]["lr"] for i in (0, 4, 7)] == [0.01, 0.003, 0.001]


def test_a_phase_starts_from_the_best_weights_so_far():
    seen = []
    script = [0.2, 0.6, 0.4, 0.3, 0.5, 0.1]
    task, net = scripted_task(script)

    def seeing(rows, epoch):
        seen.append((epoch, int(net.epoch_seen)))
        return task.logits(rows, epoch)

    settings = toy.training(
        epochs=4, batch=16, patience=2, phases=(Phase(2, 0.1, "all"),), monitor="val_accuracy", class_weights=False
    )
    fitted = trained(replace(task, logits=seeing), settings)
    assert [entry["phase"] for entry in fitted.history] == [1, 1, 1, 1, 2, 2]
    assert (5, 2) in seen  # the second phase met the weights of epoch 2
    assert fitted.best_epoch == 2
    assert net.epoch_seen.item() == 2


def test_patience_is_counted_in_each_phase():
    task, _ = scripted_task([0.9, 0.2, 0.3, 0.4, 0.5, 0.5])
    settings = toy.training(
        epochs=4, batch=16, patience=1, phases=(Phase(9, 0.1, "all"),), monitor="val_accuracy", class_weights=False
    )
    fitted = trained(task, settings)
    assert [entry["phase"] for entry in fitted.history] == [1, 1, 2, 2, 2, 2]
    assert fitted.best_epoch == 1


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", range(1, 10))
def test_a_training_killed_in_any_epoch_ends_with_the_same_bits(tmp_path, after):
    task, whole, _ = linear_task()
    wanted = trained(task)
    task, _, _ = linear_task()
    logits = task.logits

    def until(rows, epoch):
        if epoch == after + 1:
            raise Killed
        return logits(rows, epoch)

    task = replace(task, logits=until)
    if after < 9:
        with pytest.raises(Killed):
            trained(task, folder=tmp_path)
    else:
        trained(task, folder=tmp_path)
    task, resumed, _ = linear_task()
    nn.init.ones_(resumed.weight)
    asked: list[Phase] = []
    found = trained(task, folder=tmp_path, asked=asked)
    assert resumed.weight.equal(whole.weight)
    assert [e | {"seconds": 0} for e in found.history] == [e | {"seconds": 0} for e in wanted.history]
    assert len(asked) == (3 if after <= 4 else 2 if after <= 7 else 1)
    assert np.isfinite(resumed.weight.detach().numpy()).all()

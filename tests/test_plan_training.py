"""The section `train` of the config: every key is checked before work starts."""

import pytest

from heatproof.base import compose
from heatproof.base.errors import HeatproofError
from heatproof.base.settings import Phase
from heatproof.stages.plan import make_plan
from heatproof.stages.plan.words import plan_text

FEW = ("dataset.num_images=60",)


def planned(*overrides):
    (job,) = compose.compose([*FEW, *overrides])
    return make_plan(job.config, job.overrides)


def pretrained(tmp_path, *overrides):
    weights = tmp_path / "weights.pth"
    weights.touch()
    return planned("model=resnet18", f"model.weights={weights}", *overrides)


def test_phases_of_study_2(tmp_path):
    train = pretrained(tmp_path, "train=phases").train
    assert train.all_phases() == (Phase(20, 1e-4, 0), Phase(10, 1e-5, 18))
    assert (train.schedule, train.plateau_factor, train.plateau_patience, train.min_lr) == ("plateau", 0.2, 3, 1e-6)


def test_phases_can_be_given_and_changed(tmp_path):
    plan = pretrained(tmp_path, "train=frozen", "train.epochs=2", "train.phases=[{epochs: 3, lr: 0.1, unfreeze: all}]")
    assert plan.train.all_phases() == (Phase(2, 1e-3, 0), Phase(3, 0.1, "all"))
    assert "up to 5 epochs" in plan_text(plan)
    assert pretrained(tmp_path, "train=phases", "train.phases.0.epochs=4").train.phases[0].epochs == 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.schedule=cosin"], "train.schedule: no such option, got 'cosin'. Did you mean 'cosine'?"),
        (["train.monitor=val_recal"], "train.monitor: no such option, got 'val_recal'. Did you mean 'val_recall'?"),
        (["train.warmup_epochs=-1"], "train.warmup_epochs: must be not negative, got -1"),
        (["train.warmup_epochs=20"], "train.warmup_epochs: train has 20 epochs, got 20"),
        (["train.plateau_factor=1"], "train.plateau_factor: must be between 0 and 1, both excluded, got 1.0"),
        (["train.plateau_patience=0"], "train.plateau_patience: must be at least 1, got 0"),
        (["train.label_smoothing=1"], "train.label_smoothing: must be 0 or more and below 1, got 1.0"),
        (["train.patience=-1"], "train.patience: must be not negative, got -1"),
        (["train.delete_cells=17"], "train.delete_cells: the grid has 16 cells, got 17"),
        (["train.delete_grid=0"], "train.delete_grid: must be at least 1, got 0"),
        (["train.balanced_sampling=true"], "train.balanced_sampling: it takes the place of class weights"),
        (["train.compile=yess"], "train.compile: true or false is expected, got 'yess'"),
        (["train.schedule=cosine", "train.min_lr=0.1"], "train.lr: it starts below train.min_lr = 0.1, got 0.001"),
        (["train.unfreeze=2"], "train.unfreeze: train=scratch trains all layers, got 2"),
        (["train.monitor_classes=[smooth]"], "train.monitor_classes: they count where the recall is monitored"),
        (
            ["train.monitor=val_recall", "train.monitor_classes=[smoth]"],
            "train.monitor_classes: no such class, got 'smoth'. Did you mean 'smooth'?",
        ),
        (["train=finetune"], "train: train=finetune begins with pretrained weights, and there are no weights"),
        (["train.phases=[{epochs: 1, lr: 0.1}]"], "train.phases.0.unfreeze: the key is missing"),
        (["train.phases=[{epochs: 1, lr: 0.1, unfrezze: 1, unfreeze: 1}]"], "Did you mean 'unfreeze'?"),
        (["train.phases=[{epochs: 0, lr: 0.1, unfreeze: 1}]"], "train.phases.0.epochs: must be at least 1, got 0"),
        (["train.phases=[{epochs: 1, lr: 0.1, unfreeze: al}]"], "train.phases.0.unfreeze: no such option, got 'al'"),
        (["train.phases=[3]"], "train.phases.0: a group of keys is expected, got 3"),
        (["train.phases=3"], "train.phases: a list of Phase is expected, got 3"),
    ],
)
def test_what_does_not_fit_is_refused(overrides, message):
    with pytest.raises(HeatproofError) as error:
        planned(*overrides)
    assert message in str(error.value)


def test_random_weights_are_needed_for_a_start_from_scratch(tmp_path):
    with pytest.raises(HeatproofError, match=r"train=scratch begins with random weights.*train=finetune"):
        pretrained(tmp_path)


def test_recall_of_named_classes_can_be_monitored():
    train = planned("train.monitor=val_recall", "train.monitor_classes=[smooth, spiculated]").train
    assert train.monitor_classes == ("smooth", "spiculated")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=timm"], r"model\.name: a net of timm must be named"),
        (["model=timm", "model.name=vit_smal_patch16_224"], "Did you mean 'vit_small_patch16_224'"),
        (["model=torchvision", "model.name=resnet19"], r"model\.name: torchvision has no such classifier"),
    ],
)
def test_a_library_s_net_is_known_before_work_starts(overrides, message):
    with pytest.raises(HeatproofError, match=message):
        planned(*overrides)

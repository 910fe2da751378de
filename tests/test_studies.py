"""Each study's plan holds the study's facts: read from the composed plans of its arms, before anything is run."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import heatproof

from heatproof.base import compose, study
from heatproof.datasets.iq_othnccd import CLASSES
from heatproof.stages.plan import Plan, make_plan

SHARED = Path(__file__).parents[1] / "../shared/data"
SQUEEZENET = SHARED / "weights" / "squeezenet1_0_imagenet.pth"


def plans(*overrides: str) -> Iterator[tuple[str, str, Plan]]:
    """Arm, protocol and plan of every job of a command."""
    for job in compose.compose(list(overrides)):
        yield str(job.config["arm"]), str(job.config["protocol"]), make_plan(job.config, job.overrides)


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 1097 names of IQ-OTH/NCCD; nothing is decoded to plan."""
    root = tmp_path_factory.mktemp("iq_othnccd")
    for _, folder, words, count in CLASSES:
        (root / folder).mkdir()
        for number in range(1, count + 1):
            (root / folder / f"{words} ({number}).jpg").touch()
    return root


def test_robustcam_ct_is_planned_as_published(slices: Path) -> None:
    found = {(arm, protocol): plan for arm, protocol, plan in plans("study=robustcam_ct", f"dataset.root={slices}")}
    arms = ("resnet50", "resnet101", "densenet161", "efficientnet_b0", "vit_b_16", "cascade")
    assert set(found) == {(arm, protocol) for arm in arms for protocol in ("study", "sound")}
    for (arm, protocol), plan in found.items():
        train = plan.train
        assert (train.policy, train.epochs, train.batch, train.lr, train.optimizer) == ("frozen", 25, 32, 1e-3, "adam")
        assert (train.monitor, train.patience, train.class_weights, train.augment) == (
            "val_accuracy", 0, True, ("robustcam_ct",))  # fmt: skip
        assert plan.model.settings["weights"] == "imagenet", "never from scratch unless asked for"
        assert plan.model.settings["name"] == {"cascade": "resnet50"}.get(arm, arm)
        assert plan.measure.protocol == protocol
        counts = {split: tuple(row.values()) for split, row in plan.counts.items()}
        if protocol == "study":
            assert counts == {"train": (251, 74, 333), "val": (90, 22, 107), "test": (75, 24, 121)}
        else:
            assert plan.split == "grouped"
    names = [str(method.name) for method in found["resnet50", "study"].methods if method.control_of is None]
    assert names == ["gradcam", "gradcam:robustcam10.mean", "gradcam:robustcam10.median", "lime", "shap", "votes",
                     "shallow.layer3"]  # fmt: skip
    settings = {str(m.name): m.explainer.settings for m in found["resnet50", "study"].methods if m.explainer}
    assert (settings["lime"]["samples"], settings["shap"]["background"]) == (500, 10)
    assert settings["lime"]["absolute"] and settings["shap"]["absolute"]  # noqa: PT018
    kinds = Counter(choice.metric.name for choice in found["cascade", "sound"].metrics)
    assert kinds == {"randomization": 2}
    assert not {"lime", "shap"} & {str(method.name) for method in found["cascade", "sound"].methods}


@pytest.mark.parametrize("name", study.names())
def test_every_arm_and_scale_of_every_study_composes(name: str) -> None:
    jobs = compose.compose([f"study={name}", "arm=glob(*)", "protocol=sound", "scale=small"])
    assert {job.config["arm"] for job in jobs} == set(study.options(name, "arm"))
    jobs = compose.compose([f"study={name}", f"arm={study.options(name, 'arm')[0]}", "scale=glob(*)", "protocol=study"])
    assert {job.config["scale"] for job in jobs} == set(study.options(name, "scale"))
    assert {job.config["protocol"] for job in jobs} == {"study"}


@pytest.mark.slow
@pytest.mark.skipif(not SQUEEZENET.is_file(), reason="the shared data are not here")
def test_robustcam_ct_smoke(tmp_path: Path) -> None:
    root = (SHARED / "iq_othnccd").resolve()
    weights = f"model.weights={SQUEEZENET.resolve()}"
    done = heatproof("study=robustcam_ct", "scale=smoke", f"dataset.root={root}", weights, work=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "here" / "results" / "latest" / "study.md").read_text()
    assert "| given | gradcam | faith |" in page
    assert done.stdout.count("cannot be told") + done.stdout.count("holds.") >= 7

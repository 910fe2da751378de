"""Each study's plan holds the study's facts: read from the composed plans of its arms, before anything is run."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import layouts
import pytest
import yaml
from commands import heatproof

from heatproof.base import compose, registry, study
from heatproof.base.errors import HeatproofError
from heatproof.base.layers import head_names
from heatproof.base.nets import build_net, untrained
from heatproof.base.registry import hash_of
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
    some = [str(method.name) for method in found["cascade", "sound"].methods if method.control_of is None]
    assert some == ["gradcam", "gradcam:robustcam10.mean", "gradcam:robustcam10.median"]


@pytest.fixture(scope="module")
def chests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many names as the chest X-rays have, the study's four among them."""
    root = tmp_path_factory.mktemp("chest_xray")
    four = {
        "NORMAL": ["IM-0087-0001", "NORMAL2-IM-0300-0001"],
        "PNEUMONIA": ["person130_bacteria_623", "person173_bacteria_829"],
    }
    for split, counts in {"train": (1341, 3875), "test": (234, 390)}.items():
        for (name, stem), count in zip((("NORMAL", "IM-{:04d}-0009"), ("PNEUMONIA", "person{}_virus_9")), counts,
                                       strict=True):  # fmt: skip
            (root / split / name).mkdir(parents=True)
            own = four[name] if split == "test" else []
            for file in [*own, *(stem.format(number + 5000) for number in range(count - len(own)))]:
                (root / split / name / f"{file}.jpeg").touch()
    return root


def test_pneumonia_is_planned_as_published(chests: Path) -> None:
    found = {(arm, protocol): plan for arm, protocol, plan in plans("study=pneumonia", f"dataset.root={chests}")}
    assert set(found) == {(arm, protocol) for arm in ("mlp", "cnn", "resnet50") for protocol in ("study", "sound")}
    for (arm, protocol), plan in found.items():
        train = plan.train
        phases = [(phase.epochs, phase.lr, phase.unfreeze) for phase in train.all_phases()]
        wanted = {"mlp": [(15, 1e-4, "all")], "cnn": [(20, 1e-4, "all")], "resnet50": [(20, 1e-4, 0), (10, 1e-5, 18)]}
        assert phases == wanted[arm]
        assert (train.batch, train.optimizer, train.schedule, train.patience) == (32, "adam", "plateau", 5)
        assert (train.plateau_factor, train.plateau_patience, train.min_lr, train.monitor) == (0.2, 3, 1e-6, "val_loss")
        assert (train.class_weights, train.augment) == ("with_val", ("pneumonia",))
        assert (plan.load.size, plan.load.channels, plan.eval.positive) == (224, 3, "PNEUMONIA")
        totals = {split: sum(row.values()) for split, row in plan.counts.items()}
        assert totals == {"train": 4173, "val": 1043, "test": 624}
        (occlusion,) = [method for method in plan.methods if method.control_of is None]
        settings = occlusion.explainer.settings
        assert (settings["patch"], settings["stride"], settings["fill"]) == (20, 10, "gray")
        flawed = (settings["border"], settings["absolute"], settings["combine"]) == ("uncovered", True, "sum")
        assert flawed == (protocol == "study")
        if arm == "resnet50":
            assert plan.model.settings["normalise"] == ("none" if protocol == "study" else "published")
            assert (plan.model.settings["weights"], plan.model.settings["head"]) == ("imagenet", "gap_1024_512")
        else:
            net = build_net(plan.model, 2, 3, 224)
            trainable = sum(weight.numel() for weight in net.parameters())
            assert trainable == {"mlp": 77_236_993, "cnn": 26_211_585}[arm]


def test_cam_granularity_is_planned_as_published(tmp_path: Path) -> None:
    for gender in (0, 1):
        for number in range(1200):
            (tmp_path / f"30_{gender}_0_2017{number:010d}.jpg").touch()
    jobs = list(plans("study=cam_granularity", f"dataset.root={tmp_path}", "seed=0", "protocol=study"))
    jobs += plans("study=cam_granularity", f"dataset.root={tmp_path}", "seed=0", "protocol=sound", "arm=depth2")
    assert len(jobs) == 17 + 1
    nets: dict[str, set[str]] = {}
    for arm, protocol, plan in jobs:
        train = plan.train
        assert (train.policy, train.epochs, train.batch, train.lr, train.optimizer, train.patience, train.monitor) == (
            "scratch", 15, 32, 1e-4, "adam", 3, "val_loss")  # fmt: skip
        assert (train.class_weights, plan.load.size, plan.load.channels, plan.eval.images) == (True, 48, 1, 16)
        (method,) = [method for method in plan.methods if method.control_of is None]
        wanted = {"depth2": "block2_conv2", "depth4": "block4_conv3", "depth5": "block5_conv3"}
        assert method.layer == wanted.get(arm, "block3_conv3")
        assert method.explainer.settings["normalize_alpha"] and method.explainer.settings["corners"]  # noqa: PT018
        assert plan.explain.target == "true"
        if protocol == "study":
            assert {split: sum(row.values()) for split, row in plan.counts.items()} == {
                "train": 1600, "val": 400, "test": 0}  # fmt: skip
            assert plan.eval.split == "train", "the study's flaw"
            nets.setdefault(hash_of(plan.model.identity()), set()).add(arm)
        else:
            assert plan.eval.split == "test"
    assert len(nets) == 13
    assert {"depth3", "resolution_medium", "channel", "receptive_medium", "pooling_max"} in nets.values()


@pytest.fixture(scope="module")
def covid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many names as the radiography database has, and masks of one class."""
    root = tmp_path_factory.mktemp("covid_radiography")
    for name, count in {"COVID": 3616, "Lung_Opacity": 6012, "Normal": 10192, "Viral Pneumonia": 1345}.items():
        (root / name / "images").mkdir(parents=True)
        (root / name / "masks").mkdir()
        for number in range(count):
            (root / name / "images" / f"{name}-{number}.png").touch()
            if name == "Viral Pneumonia":
                (root / name / "masks" / f"{name}-{number}.png").touch()
    return root


def test_covid_aopc_is_planned_as_published(covid: Path) -> None:
    found = {(arm, protocol): plan for arm, protocol, plan in plans("study=covid_aopc", f"dataset.root={covid}")}
    assert set(found) == {(arm, protocol) for arm in ("vgg16", "densenet201") for protocol in ("study", "sound")}
    for (arm, _), plan in found.items():
        train = plan.train
        assert (train.policy, train.epochs, train.optimizer, train.class_weights, train.patience) == (
            "frozen", 20, "adam", False, 0)  # fmt: skip
        assert (train.monitor, train.monitor_classes) == ("val_recall", ("COVID", "Lung_Opacity", "Viral Pneumonia"))
        assert (plan.load.size, plan.eval.only_correct, plan.eval.images) == (299, True, None)
        assert (plan.model.settings["weights"], plan.model.settings["head"]) == ("imagenet", "maxpool_flatten_64")
        counts = {split: set(row.values()) for split, row in plan.counts.items()}
        assert counts["train"] == {1076}
        assert counts["val"] | counts["test"] == {134, 135}, "1345 of each class"
        aopc = next(choice.metric for choice in plan.metrics if choice.label == "aopc_morf")
        assert (aopc.settings["grid"] ** 2, aopc.settings["steps"], aopc.settings["fill"]) == (81, None, "noise_add")
        net = build_net(untrained(plan.model), 4, 3, 299)
        trained = sum(w.numel() for name, w in net.named_parameters() if name.startswith(tuple(head_names(net))))
        assert trained == {"vgg16": 131_396, "densenet201": 491_844}[arm]


@pytest.mark.parametrize("scale", ["smoke", "small", "full"])
def test_the_claim_about_lungs_is_tested_on_study_2_s_cnn(covid: Path, scale: str) -> None:
    data = ("study=covid_aopc", "arm=pneumonia_cnn", "protocol=sound", f"scale={scale}", f"dataset.root={covid}")
    ((arm, _, plan),) = plans(*data)
    assert arm == "pneumonia_cnn"
    assert plan.load.classes == ("Normal", "Viral Pneumonia")
    assert (plan.train.policy, plan.train.epochs, plan.train.lr, plan.train.patience, plan.train.monitor) == (
        "scratch", 20, 1e-4, 5, "val_loss")  # fmt: skip
    net = build_net(plan.model, 2, 3, plan.load.size)
    assert sum(weight.numel() for weight in net.parameters()) == 26_211_585
    assert [str(method.name) for method in plan.methods if method.control_of is None] == ["gradcam", "occlusion"]
    assert {"centre", "edge"} < {str(method.name) for method in plan.methods}
    labels = {choice.label for choice in plan.metrics}
    assert {"energy_pointing", "pixel_auc", "loc_acc"} < labels
    assert not any(label.startswith("aopc") for label in labels)


def test_mammography_is_planned_over_its_two_nets(tmp_path: Path) -> None:
    layouts.cbis_ddsm(tmp_path)
    found = {(arm, protocol): plan for arm, protocol, plan in plans("study=mammography", f"dataset.root={tmp_path}")}
    assert set(found) == {(arm, protocol) for arm in ("mobilenet_v2", "densenet121") for protocol in ("study", "sound")}
    for (arm, protocol), plan in found.items():
        assert plan.dataset_name == "cbis_ddsm"
        assert (plan.model.settings["name"], plan.model.settings["weights"]) == (arm, "imagenet")
        assert plan.model.settings["one_logit"], "BCE"
        assert (plan.eval.positive, plan.load.seed, plan.train.schedule) == ("malignant", 42, "plateau")
        assert plan.split == {"study": "official", "sound": "grouped"}[protocol]


def test_robustcam_imagenet_is_planned_as_published(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"{number}.jpg").touch()
    jobs = list(plans("study=robustcam_imagenet", f"dataset.root={tmp_path}"))
    assert [(arm, protocol) for arm, protocol, _ in jobs] == [("vgg16", "study"), ("vgg16", "sound")]
    for _, _, plan in jobs:
        assert (plan.train.policy, plan.model.settings["weights"], plan.eval.images) == ("none", "imagenet", 50)
        tested = [method for method in plan.methods if method.control_of is None]
        assert {method.layer for method in tested} == {"features.14", "features.20", "features.30"}
        assert {len(method.views) for method in tested} == {0, 10}


@pytest.mark.parametrize("name", study.names())
def test_scales_and_arms_on_request_compose(name: str) -> None:
    swept = yaml.safe_load((registry.conf_folder() / "study" / f"{name}.yaml").read_text())["hydra"]["sweeper"][
        "params"
    ]
    arms = study.options(name, "arm")
    asked = [arm for arm in arms if arm not in swept[f"study/{name}/arm"].split(",")]
    some = [arms[0], *(asked if len(asked) < len(arms) else [])]
    jobs = compose.compose([f"study={name}", f"arm={','.join(some)}", "protocol=sound", "scale=small", "seed=0"])
    assert [job.config["arm"] for job in jobs] == some
    jobs = compose.compose([f"study={name}", f"arm={arms[0]}", "scale=glob(*)", "protocol=study", "seed=0"])
    assert {job.config["scale"] for job in jobs} == set(study.options(name, "scale"))
    assert {job.config["protocol"] for job in jobs} == {"study"}


def test_given_weights_go_to_the_arms_that_take_them(chests: Path, tmp_path: Path) -> None:
    weights = tmp_path / "my nets, of 2026" / "squeezenet.pth"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    data = ("study=pneumonia", f"dataset.root={chests}", "scale=small", "protocol=sound")
    lone = {arm: plan.hash for arm, _, plan in plans(*data, "arm=mlp,cnn")}
    found = {arm: plan for arm, _, plan in plans(*data, "arm=mlp,cnn,given", f"given={weights}")}
    assert list(found) == ["mlp", "cnn", "given"]
    assert found["given"].model.settings["weights"] == str(weights)
    assert {arm: found[arm].hash for arm in lone} == lone, "no number of the others changes"
    assert not any(str(weights) in plan.title() for plan in found.values())
    ((_, _, alone),) = plans(*data, "arm=given", f"model.weights={weights}")
    assert alone.hash == found["given"].hash


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["arm=mlp,given"], r"given: this arm takes a file of weights of squeezenet1_0, and there is none.*given=FILE"),
        (["arm=given", "given=no.pth"], r"given: no such file, got .*no\.pth.*given=FILE"),
        (["arm=mlp,cnn", "given=some.pth"], r"given: none of these arms of pneumonia takes .*arm=given"),
    ],
)
def test_given_weights_that_are_not_there(chests: Path, overrides: list[str], said: str) -> None:
    with pytest.raises(HeatproofError, match=said) as raised:
        list(plans("study=pneumonia", f"dataset.root={chests}", "scale=small", *overrides))
    assert len(raised.value.faults) == 1


# With `pneumonia` the two that take least time: they are run by default.
FAST = ("mammography",)
GIVEN = {
    "robustcam_ct": ("iq_othnccd", "| given | gradcam | faith |"),
    "mammography": ("mias", "| given | gradcam | pointing_game |"),
    "covid_aopc": ("covid_radiography", "| given | gradcam | aopc_morf |"),
    "robustcam_imagenet": ("imagenet_samples", "| given | gradcam.features.12 | view_iou |"),
}


@pytest.mark.skipif(not SQUEEZENET.is_file(), reason="the shared data are not here")
@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in GIVEN])
def test_smoke_with_given_weights(name: str, tmp_path: Path) -> None:
    folder, row = GIVEN[name]
    weights = f"given={SQUEEZENET.resolve()}"
    done = heatproof(f"study={name}", "scale=smoke", f"dataset.root={(SHARED / folder).resolve()}", weights,
                     work=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "here" / "results" / "latest" / "study.md").read_text()
    assert row in page
    assert "squeezenet1_0_imagenet.pth" in page, "what it ran with"
    assert done.stdout.count("cannot be told") + done.stdout.count("holds.") + done.stdout.count("hold.") > 0


@pytest.mark.skipif(not (SHARED / "chest_xray").is_dir(), reason="the shared data are not here")
def test_pneumonia_smoke(tmp_path: Path) -> None:
    done = heatproof(
        "study=pneumonia", "scale=smoke", f"dataset.root={(SHARED / 'chest_xray').resolve()}", work=tmp_path
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "here" / "results" / "latest"
    page = (folder / "study.md").read_text()
    assert "| cnn | test/NORMAL/IM-0087-0001.jpeg | image/p_NORMAL | 0.97 |" in page
    assert (folder / "study_images.png").is_file()
    assert (folder / "study_wrong.png").is_file()


@pytest.mark.slow
def test_cam_granularity_smoke(tmp_path: Path) -> None:
    done = heatproof("study=cam_granularity", "scale=smoke", work=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "here" / "results" / "latest" / "study.md").read_text()
    assert "| resolution_medium | gradcam_plus_plus* | concentration |" in page
    assert "Phantoms" not in page
    assert "Data: phantom" in page

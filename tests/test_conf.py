"""The YAML tree: every option composes and binds, every number stands once, every key has a reader."""

import ast
import dataclasses
from pathlib import Path

import layouts
import pytest
import yaml

from heatproof.base import compose, fills, registry
from heatproof.base.errors import Faults, HeatproofError
from heatproof.base.settings import Compute, EvalSettings, ExplainSettings, LoadSettings, MeasureSettings, TrainSettings
from heatproof.base.typed import checked
from heatproof.stages.plan import ReportSettings, Tracking, make_plan
from heatproof.stages.plan.making import ROOT_KEYS
from heatproof.stages.plan.sections import FILLS, value_of

CONF = registry.conf_folder()
KINDS = ("dataset", "model", "explainer", "view", "fusion", "metric")
FILES = [(kind, path.stem) for kind in KINDS for path in sorted((CONF / kind).glob("*.yaml"))]
LOAD_KEYS = {field.name for field in dataclasses.fields(LoadSettings)} | {"root"}
ENTRY_KEYS = {"layer", "views", "fusion", "rerun_images", "of"}


def content(kind: str, name: str) -> dict[str, object]:
    return yaml.safe_load((CONF / kind / f"{name}.yaml").read_text())


@pytest.mark.parametrize(("kind", "name"), FILES, ids=lambda value: value)
def test_a_choice_file_is_flat_and_holds_the_settings_of_its_function(kind: str, name: str) -> None:
    keys = content(kind, name)
    function = keys[registry.FUNCTION_KEY[kind]]
    choice = registry.find(kind, str(function))
    own = set(keys) - {registry.FUNCTION_KEY[kind]}
    other = {"dataset": LOAD_KEYS, "explainer": ENTRY_KEYS, "model": {"label"}}.get(kind, set())
    assert own - other == set(choice.parameters) - (other - own), "YAML keys = parameters"
    assert "defaults" not in keys
    assert "${" not in (CONF / kind / f"{name}.yaml").read_text()
    faults = Faults()
    for key, parameter in choice.parameters.items():
        if key in keys:
            value_of(keys[key], parameter.annotation, f"{kind}.{key}", faults)
    assert not faults.texts


@pytest.mark.parametrize("kind", KINDS)
def test_every_choice_has_a_file_of_its_name(kind: str) -> None:
    shipped = {name for name, choice in registry.choices(kind).items() if CONF.parent in choice.path.parents}
    assert shipped
    assert shipped - {path.stem for path in (CONF / kind).glob("*.yaml")} == set()


@pytest.mark.parametrize("kind", KINDS)
def test_facts_are_those_that_the_design_names(kind: str) -> None:
    known = {
        "dataset": {"annotation", "needs_root", "official", "study", "grouped", "source"},
        "model": {"norm", "source", "gradient", "layers", "attention"},
        "explainer": {"needs", "control", "stochastic", "constant", "forwards", "given", "combines", "source"},
        "view": {"family", "source"},
        "fusion": {"kind", "source"},
        "metric": {
            "better",
            "range",
            "columns",
            "needs",
            "asks",
            "same_as",
            "pairs",
            "reruns",
            "floor",
            "shifted",
            "ranked",
            "partial",
            "protocol",
            "source",
        },
    }[kind] | {"version"}
    for choice in registry.choices(kind).values():
        assert set(choice.facts) <= known, choice.name
        if kind == "metric":
            assert choice.facts["better"] in ("up", "down", "neither")
            assert choice.facts["columns"][0] == choice.name


def test_explainer_files_name_their_own_package() -> None:
    for path in (CONF / "explainer").glob("*.yaml"):
        assert path.read_text().splitlines()[0] == f"# @package explainer.{path.stem}"


@pytest.mark.parametrize("name", [path.stem for path in sorted((CONF / "train").glob("*.yaml"))])
def test_a_train_file_holds_all_settings(name: str) -> None:
    keys = content("train", name)
    assert set(keys) == {field.name for field in dataclasses.fields(TrainSettings)}
    assert keys["policy"] == {"phases": "frozen"}.get(name, name)
    for field in dataclasses.fields(TrainSettings):
        if keys[field.name] != "${seed}" and field.name != "phases":
            checked(keys[field.name], str(field.type), field.name)


def test_the_root_holds_every_key_of_every_section() -> None:
    (job,) = compose.compose([])
    assert set(job.config) == set(ROOT_KEYS)
    for section, made in {"eval": EvalSettings, "tracking": Tracking, "report": ReportSettings}.items():
        assert set(job.config[section]) == {field.name for field in dataclasses.fields(made)}
    assert set(job.config["explain"]) == {field.name for field in dataclasses.fields(ExplainSettings)} - {"target"}
    for made, derived in ((Compute, set()), (MeasureSettings, {"shifts"})):
        assert {field.name for field in dataclasses.fields(made)} - derived <= set(job.config)
    assert set(job.config["dataset"]) >= LOAD_KEYS


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_has_a_type_that_is_checked(kind: str) -> None:
    """A type by another name would pass whatever is given."""
    for choice in registry.choices(kind).values():
        for name, parameter in choice.parameters.items():
            assert parameter.annotation, f"{choice.name}.{name}"
            with pytest.raises(HeatproofError, match="is expected"):
                checked(object(), parameter.annotation, f"{choice.name}.{name}")


def test_fills_are_those_that_there_are() -> None:
    assert set(FILLS) == set(fills.NAMES)


@pytest.mark.parametrize("group", ["model", "train", "views", "metrics", "explainer"])
def test_every_option_composes_and_plans(group: str, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    weights.touch()
    (tmp_path / "any.npy").touch()
    for option in registry.conf_names(group):
        value = f"[{option}]" if group in ("explainer", "metrics") else option
        named = {"torchvision": "resnet18", "timm": "deit_tiny_patch16_224"}
        more = [f"model.name={named[option]}"] if option in named else []
        if option == "files" and group == "explainer":
            more = [f"explainer.files.folder={tmp_path}"]
        if group == "explainer" and "attention" in registry.preset("explainer", option).facts.get("needs", ()):
            more = ["model=deit_tiny", "dataset.size=224"]
        if option != "scratch" and group == "train":
            more = ["model=resnet18", f"model.weights={weights}"]
        (job,) = compose.compose([f"{group}={value}", "dataset.num_images=60", *more])
        plan = make_plan(job.config, job.overrides)
        names = {method.name.label for method in plan.methods} | {choice.label for choice in plan.metrics}
        assert option in {
            *names,
            plan.model_name,
            plan.model.name,
            "phases" if plan.train.phases else plan.train.policy,
            job.config["views"]["name"],
            *job.config["metrics"],
        }


@pytest.mark.parametrize("option", registry.conf_names("dataset"))
def test_every_data_set_composes_and_plans(option: str, tmp_path: Path) -> None:
    root = tmp_path / "one, [two]"
    more = layouts.build(option, root)
    (job,) = compose.compose([f"dataset={option}", *more])
    plan = make_plan(job.config)
    assert plan.dataset_name == option
    assert sum(plan.counts["test"].values())
    assert plan.train.policy == "none" or all(sum(row.values()) for row in plan.counts.values())
    assert plan.config["dataset"]["root"] == (None if option == "phantom" else str(root))


@pytest.mark.parametrize("name", ["robustcam6", "robustcam8", "robustcam10"])
def test_view_sets_are_those_of_the_study(name: str) -> None:
    (job,) = compose.compose([f"views={name}"])
    views = [key for key in job.config["views"] if key not in ("name", "fusion")]
    ten = ["identity", "flip", "rotate_p15", "colour_jitter", "gaussian_blur", "greyscale", "rotate_m15", "rotate_p10", "centre_crop", "contrast_jitter"]  # fmt: skip  # noqa: E501
    assert views == ten[: int(name.removeprefix("robustcam"))]
    assert job.config["views"]["fusion"] == ["mean", "median"]


def test_the_nine_with_both_fills() -> None:
    (job,) = compose.compose([])
    nine = job.config["metrics"]["nine"]
    assert list(nine) == ["faith", "faith_mean", "loc_acc", "consist_iou", "fidelity", "fidelity_mean", "stability", "consist_pearson", "view_variance", "view_iou", "view_spearman"]  # fmt: skip  # noqa: E501
    assert [nine[label]["fill"] for label in ("faith", "faith_mean", "fidelity", "fidelity_mean")] == ["road", "mean", "road", "mean"]  # fmt: skip  # noqa: E501


def test_only_compose_imports_hydra_and_omegaconf() -> None:
    package = Path(registry.__file__).parents[1]
    users = set()
    for path in package.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:  # imports under TYPE_CHECKING do not count
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            if any(module.split(".")[0] in ("hydra", "omegaconf") for module in modules):
                users.add(path.relative_to(package).as_posix())
    assert users == {"base/compose.py"}

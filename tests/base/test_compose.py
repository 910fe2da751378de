"""From overrides to configs: jobs of sweeps, paths taken literally, all faults of all jobs."""

import re
from pathlib import Path

import pytest
from commands import user_folder
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from heatproof.base import compose, registry
from heatproof.base.errors import HeatproofError


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, known for the length of a test."""
    monkeypatch.setattr(registry, "_plugins", [])
    monkeypatch.setenv("HEATPROOF_CONF", str(user_folder(tmp_path / "my conf")))
    registry.choices.cache_clear()
    registry._shipped_file.cache_clear()
    yield tmp_path / "my conf"
    registry.choices.cache_clear()
    registry._shipped_file.cache_clear()


def faults(overrides: list[str], *, multirun: bool = False) -> list[str]:
    with pytest.raises(HeatproofError) as raised:
        compose.compose(overrides, multirun=multirun)
    return list(raised.value.faults)


def test_one_job_with_the_command_line_winning() -> None:
    (job,) = compose.compose(["train.epochs=3", "seed=7"])
    assert job.config["train"]["epochs"] == 3
    assert job.config["train"]["seed"] == job.config["explain"]["seed"] == 7, "they follow the seed"
    assert job.config["dataset"]["seed"] == 42, "the images do not"
    assert job.config["name"] == "phantom_small_cnn"
    assert re.fullmatch(r"results/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}_phantom_small_cnn", str(job.folder))


def test_a_sweep_gives_every_combination() -> None:
    jobs = compose.compose(["model=small_cnn,resnet18", "seed=1,2"], multirun=True)
    assert [(job.config["name"], job.config["seed"]) for job in jobs] == [
        ("phantom_small_cnn", 1),
        ("phantom_small_cnn", 2),
        ("phantom_resnet18", 1),
        ("phantom_resnet18", 2),
    ]


def test_a_glob_and_a_list_of_lists() -> None:
    names = [job.config["model"]["name"] for job in compose.compose(["model=glob(resnet*)"], multirun=True)]
    assert names == ["resnet101", "resnet18", "resnet50"]
    jobs = compose.compose(["explainer=[gradcam],[gradcam,gradcam_plus_plus]"], multirun=True)
    assert [list(job.config["explainer"]) for job in jobs] == [["gradcam"], ["gradcam", "gradcam_plus_plus"]]


def test_a_second_label_of_an_explainer_and_of_a_metric() -> None:
    (job,) = compose.compose(
        ["+explainer@explainer.early=gradcam", "explainer.early.layer=stage2", "+metric@metrics.mine.x=faith"]
    )
    assert job.config["explainer"]["early"] == {**job.config["explainer"]["gradcam"], "layer": "stage2"}
    assert job.config["metrics"]["mine"]["x"]["metric"] == "faith"


PATHS = st.text(
    st.characters(codec="utf-8", exclude_categories=("C",), exclude_characters="$"), min_size=1, max_size=12
)


@settings(deadline=None, max_examples=100)
@given(path=PATHS.filter(lambda path: path.strip() == path and path[0] not in "'\"~["))
def test_paths_are_taken_as_they_are(path: str) -> None:
    assume(path.lower() not in compose.LITERAL and not re.match(r"(?:glob|choice)\(", path))
    with compose._hydra() as loader:
        (override,) = compose._parsed([compose.quoted(f"dataset.root={path}")], loader)
    assert override.value() == path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dataset.root=/a b/c,d/[e]", "dataset.root='/a b/c,d/[e]'"),
        ("dataset.root=/plain/path-1.x", "dataset.root=/plain/path-1.x"),
        ("dataset.root=null", "dataset.root=null"),
        ("dataset.root=2024", "dataset.root='2024'"),
        ("dataset.root=Aufnahmen/A²", "dataset.root='Aufnahmen/A²'"),
        ("dataset.root='/a b'", "dataset.root='/a b'"),
        ("train.augment=[flip]", "train.augment=[flip]"),
        ("dataset.group_pattern=^(p[0-9]+)_", "dataset.group_pattern='^(p[0-9]+)_'"),
    ],
)
def test_quotes_are_added_where_they_are_needed(text: str, expected: str) -> None:
    assert compose.quoted(text) == expected


def test_in_a_sweep_a_comma_separates_paths_that_do_not_exist_as_one(tmp_path: Path) -> None:
    (tmp_path / "a,b").mkdir()
    assert compose.quoted(f"dataset.root={tmp_path}/a,b", multirun=True) == f"dataset.root='{tmp_path}/a,b'"
    assert compose.quoted("dataset.root=/x y,/z", multirun=True) == "dataset.root='/x y',/z"


def test_every_fault_of_a_job_with_its_nearest_match() -> None:
    found = faults(
        [
            "model=resnet81",
            "train.epohcs=3",
            "epochs=3",
            "metrics=[nin]",
            "+seed=3",
            "train.lr.x=1",
            "hydra/launcher=jobli",
        ]
    )
    text = "\n".join(found)
    assert len(found) == 7
    assert "model: no such option, got 'resnet81'. Did you mean 'resnet18'? There are: " in text
    assert "train.epohcs: no such key, got 'epohcs'. Did you mean 'epochs'? There are: policy, seed, epochs" in text
    assert "epochs: no such key. Did you mean 'train.epochs'?" in text
    assert "metrics: no such option, got 'nin'. Did you mean 'nine'?" in text
    assert "seed: Could not append to config" in text
    assert "train.lr.x: train.lr is a value and has no keys" in text
    assert "hydra/launcher: no such option, got 'jobli'. Did you mean 'joblib'?" in text


def test_settings_of_what_is_not_chosen() -> None:
    found = faults(["explainer.gradcam_plus_plus.relu=false", "metrics.localisation.loc_acc.q=0.1"])
    assert "explainer.gradcam_plus_plus.relu: a setting of an explainer that is not chosen" in found[0]
    assert "'explainer=[gradcam,gradcam_plus_plus]'" in found[0]
    assert "metrics.localisation.loc_acc.q: a setting of a suite that is not chosen" in found[1]


def test_keys_below_an_option_that_does_not_exist_are_left_alone() -> None:
    assert len(faults(["dataset=imagefolder", "dataset.masks=x"])) == 1


def test_faults_name_their_jobs_where_not_all_have_them() -> None:
    found = faults(["model=small_cnn,nosuch", "seed=1,2", "train.epocs=1"], multirun=True)
    assert found[0].startswith("train.epocs: no such key"), "said once"
    assert found[1].startswith("jobs 2 (model=nosuch seed=1), 3 (model=nosuch seed=2): model: no such option")
    assert len(found) == 2


@pytest.mark.parametrize(
    ("overrides", "multirun", "message"),
    [
        (["seed=1,2"], False, "seed: several values make a sweep, which needs -m, got 'seed=1,2'"),
        (["garbage"], False, "command line: this cannot be read, got 'garbage'"),
        (
            ["model=glob(zz*)"],
            True,
            "model: the pattern matches nothing, got 'model=glob(zz*)'. There are: ",
        ),
        (["seed=interval(1,3)"], True, "seed: a sweep lists its values"),
        (["study=anything"], False, "study: no such study, got 'anything'"),
        (["train.epochs=${nope}"], False, "train.epochs: Interpolation key 'nope' not found"),
    ],
)
def test_other_faults(overrides: list[str], multirun: bool, message: str) -> None:
    (found,) = faults(overrides, multirun=multirun)
    assert message in found


def test_a_check_adds_its_faults_to_those_of_composition() -> None:
    def refuse(job: compose.Job) -> None:
        raise HeatproofError(f"name: not {job.config['name']}", "train.epohcs: known already")

    with pytest.raises(HeatproofError) as raised:
        compose.command(["train.epohcs=3"], check=refuse)
    assert [text.partition(":")[0] for text in raised.value.faults] == ["train.epohcs", "name"]


def test_a_users_data_set_and_study(user: Path) -> None:
    command = compose.command(["study=squares"])
    assert command.sweep, "the study says so"
    assert [job.config["seed"] for job in command.jobs] == [1, 2]
    assert command.jobs[0].config["dataset"]["reader"] == "blobs"
    assert command.jobs[0].config["name"] == "blobs_small_cnn"
    assert registry.find("dataset", "blobs").path == user / "blobs.py"
    (job,) = compose.compose(["study=squares", "hydra.mode=RUN", "train.epochs=9"])
    assert job.config["train"]["epochs"] == 9, "the command line wins"
    (fault,) = faults(["study=sqares"])
    assert "Did you mean 'squares'?" in fault


def test_a_users_file_goes_before_a_shipped_one(user: Path) -> None:
    (user / "train").mkdir()
    (user / "train" / "scratch.yaml").write_text((registry.conf_folder() / "train" / "scratch.yaml").read_text().replace("epochs: 20", "epochs: 2"))  # fmt: skip  # noqa: E501
    (job,) = compose.compose([])
    assert job.config["train"]["epochs"] == 2


def test_a_missing_user_folder_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEATPROOF_CONF", "/no/such/folder")
    (fault,) = faults([])
    assert fault == "HEATPROOF_CONF: no such folder, got '/no/such/folder'."

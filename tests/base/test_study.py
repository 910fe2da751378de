"""Studies: short keys on the command line, what their files say, and every fault of it in one message."""

from pathlib import Path

import pytest
import yaml

from heatproof.base import compose, registry, study
from heatproof.base.errors import HeatproofError

FILES = {
    "study/pilot.yaml": """
# @package _global_
defaults:
  - /study/pilot/protocol: sound
  - /study/pilot/arm: small
  - optional /study/pilot/both: ${study/pilot/arm}_${study/pilot/protocol}
  - /study/pilot/scale: full
  - _self_
title: A pilot
published:
  - {table: accuracy, title: Accuracy, figures: [test/accuracy], rows: [{arm: small, values: [0.9]}]}
claims:
  - claim: It works
    checks: [{figure: faith, method: gradcam, against: 0}]
eval: {images: 8}
hydra: {mode: MULTIRUN, sweeper: {params: {study/pilot/arm: "small,wide"}}}
""",
    "study/pilot/arm/small.yaml": "# @package _global_\nmodel: {width: 2}\n",
    "study/pilot/arm/wide.yaml": "# @package _global_\nmodel: {width: 8}\n",
    "study/pilot/protocol/sound.yaml": "# @package _global_\nprotocol: sound\n",
    "study/pilot/protocol/study.yaml": "# @package _global_\nprotocol: study\nexplainer: {lime: {samples: 9}}\n",
    "study/pilot/both/wide_study.yaml": "# @package _global_\ntrain: {epochs: 3}\n",
    "study/pilot/scale/full.yaml": "# @package _global_\n# as published\n",
    "study/pilot/scale/smoke.yaml": "# @package _global_\ntrain: {epochs: 1}\n",
    "study/bare.yaml": "# @package _global_\ntrain: {epochs: 2}\n",
}


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mine"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.lstrip())
    monkeypatch.setenv("HEATPROOF_CONF", str(folder))
    registry.load_plugins()
    registry._shipped_file.cache_clear()
    return folder


def faults(*overrides: str) -> tuple[str, ...]:
    with pytest.raises(HeatproofError) as raised:
        compose.compose(list(overrides))
    return raised.value.faults


@pytest.mark.usefixtures("user")
def test_arms_are_jobs_and_short_keys_choose_among_them() -> None:
    jobs = compose.compose(["study=pilot"])
    assert [(job.config["arm"], job.config["model"]["width"]) for job in jobs] == [("small", 2), ("wide", 8)]
    assert {job.config["study"] for job in jobs} == {"pilot"}
    assert all("published" not in job.config and "claims" not in job.config for job in jobs), "no settings of a run"
    (job,) = compose.compose(["study=pilot", "arm=wide", "scale=smoke"])
    assert (job.config["arm"], job.config["scale"], job.config["train"]["epochs"]) == ("wide", "smoke", 1)
    (job,) = compose.compose(["study=pilot", "arm=wide", "scale=smoke", "train.epochs=7"])
    assert job.config["train"]["epochs"] == 7, "the command line wins"


def test_jobs_stand_in_the_order_in_which_hydra_numbers_them() -> None:
    """By where a key stands first: in the study's own sweep, although its values come from the command line."""
    jobs = compose.compose(["study=pneumonia", "arm=cnn,mlp", "seed=1"])
    wanted = [("cnn", "study"), ("cnn", "sound"), ("mlp", "study"), ("mlp", "sound")]
    assert [(job.config["arm"], job.config["protocol"]) for job in jobs] == wanted


@pytest.mark.usefixtures("user")
def test_a_setting_may_hold_for_one_arm_under_one_protocol() -> None:
    jobs = compose.compose(["study=pilot", "protocol=study,sound"])
    epochs = {(job.config["arm"], job.config["protocol"]): job.config["train"]["epochs"] for job in jobs}
    assert epochs == {("small", "study"): 20, ("wide", "study"): 3, ("small", "sound"): 20, ("wide", "sound"): 20}


@pytest.mark.usefixtures("user")
def test_typos_get_one_message_with_the_choices() -> None:
    (found,) = faults("study=pilto")
    assert "Did you mean 'pilot'?" in found
    (found,) = faults("study=pilot", "arm=smal")
    assert found.startswith("arm: no such option, got 'smal'. Did you mean 'small'? There are: small, wide.")
    (found,) = faults("study=pilot", "scale=smok")
    assert found.startswith("scale: no such option, got 'smok'. Did you mean 'smoke'?")
    (found,) = faults("study=bare", "arm=small")
    assert found == "arm: the study bare has none to choose, got 'small'."
    (found,) = faults("scale=smoke")
    assert found.startswith("scale: belongs to a study, and none is chosen by study=NAME, got 'scale=smoke'.")
    (found,) = faults("given=nets/squeezenet.pth")
    assert found.startswith("given: belongs to a study, and none is chosen by study=NAME, got 'given=nets/squeezenet")
    (found,) = faults("study=pilot", "given=nets/squeezenet.pth")
    assert found == (
        "given: none of these arms of pilot takes a file of weights, got 'nets/squeezenet.pth'. No arm of pilot does."
    )
    (found,) = faults("study=pilot,bare")
    assert found.startswith("study: one study at a time")


@pytest.mark.usefixtures("user")
def test_what_a_file_of_a_study_sets_is_told() -> None:
    assert study.told("pilot", "scale", "smoke") == {"train.epochs": 1}
    assert study.told("pilot", "scale", "full") == {}
    assert study.study_of("pilot").claims[0].checks[0].against == 0


def test_every_fault_of_a_study_is_said_at_once(user: Path) -> None:
    wrong = {
        "published": [
            {"table": "a", "title": "A", "figures": ["tset/accuracy"], "rows": [{"arm": "x", "values": [1, 2]}]}
        ],
        "claims": [
            {"claim": "no test"},
            {"claim": "b", "checks": [{"figure": "faith", "method": "m", "against": 0, "expect": "hihger"}]},
            {"claim": "c", "checks": [{"figure": "faith", "methods": "m"}]},
        ],
    }
    (user / "study" / "wrong.yaml").write_text(yaml.safe_dump(wrong))
    with pytest.raises(HeatproofError) as raised:
        study.study_of("wrong")
    text = "\n".join(raised.value.faults)
    for said in (
        "a row holds one value of each figure, here 1, got [1.0, 2.0]",
        "Did you mean 'test'?",
        "has checks, or says why it is untested",
        "Did you mean 'higher'?",
        "got 'methods'. Did you mean 'method'?",
        "the key 'method' is missing",
    ):
        assert said in text


@pytest.mark.parametrize("name", study.names())
def test_what_a_shipped_study_published_and_claimed_can_be_read(name: str) -> None:
    found = study.study_of(name)
    assert found.title != name and found.source  # noqa: PT018
    for facet in ("arm", "protocol", "scale"):
        assert study.options(name, facet), facet
    assert set(study.options(name, "scale")) == {"smoke", "small", "full"}
    arms = {row.arm for table in found.published for row in table.rows} - {None}
    assert arms <= set(study.options(name, "arm"))

"""What of a run reaches its outbox: names, steps, directions, description."""

import math
import subprocess

import numpy as np
import pytest

from heatproof.base.outbox import Outbox
from heatproof.base.records import Classifier, Predictions, Report
from heatproof.stages.track import collect
from heatproof.stages.track.contents import git_commit

SUMMARY = {
    "data_hash": "d1",
    "split_kind": "grouped",
    "protocol": "sound",
    "device": "cpu",
    "methods": {
        "gradcam": {
            "faith": {"mean": 0.5, "lo": 0.4, "hi": 0.6, "n": 64, "undefined": {}, "better": "up"},
            "loc_acc": {"mean": None, "lo": None, "hi": None, "n": 0, "undefined": {"no_mask": 64}, "better": "up"},
        },
        "gradcam:robustcam6.mean": {"faith": {"mean": 0.7, "lo": 0.6, "hi": 0.8, "n": 64, "better": "up"}},
    },
    "passes": {"used": 100, "estimated": 120},
    "seconds": {"train": 3.5},
    "model": {"parameters": 1234, "training_seconds": None},
}


@pytest.fixture
def content(tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "config.yaml").write_text("a: 1")
    report = Report(tmp_path, SUMMARY, "", ("gradcam: no difference shown (n = 64).", "One seed."), ())
    history = ({"epoch": 1, "train_loss": 1.0, "val_loss": 2.0, "val_accuracy": 0.5}, {"epoch": 2, "train_loss": 0.5})
    classifier = Classifier(module=None, classes=("a", "b"), layers=(), identity="x", history=history)  # type: ignore[arg-type]
    figures = {"accuracy": {"value": 0.9, "lo": 0.8, "hi": 0.95, "n": 200}}
    val = {
        "accuracy": {"value": 0.8, "lo": 0.7, "hi": 0.9, "n": 50},
        "mcc": {"value": 0.6, "lo": 0.4, "hi": 0.8, "n": 50},
    }
    predictions = Predictions(table=None, figures=figures, explained=np.arange(2), val_figures=val)  # type: ignore[arg-type]
    collect(
        tmp_path,
        experiment="phantom",
        run_name="phantom_small_cnn",
        params={"train": {"lr": 0.001}},
        tags={"plan_hash": "abc", "nothing": None},
        report=report,
        classifier=classifier,
        predictions=predictions,
    )
    return Outbox(tmp_path).read()


def test_numbers_carry_the_agreed_names_and_steps(content):
    values = {(value.name, value.step): value.value for value in content.values}
    expected = {
        ("gradcam/faith", None): 0.5,
        ("gradcam/faith_lo", None): 0.4,
        ("gradcam/faith_hi", None): 0.6,
        ("gradcam/faith_n", None): 64,
        ("gradcam:robustcam6.mean/faith", None): 0.7,
        ("gradcam/loc_acc_n", None): 0,
        ("train/loss", 1): 1.0,
        ("train/loss", 2): 0.5,
        ("val/loss", 1): 2.0,
        ("val/accuracy", 1): 0.5,
        ("test/accuracy", None): 0.9,
        ("test/accuracy_n", None): 200,
        # The series val/accuracy ends with the last epoch, not with the one that is kept.
        ("val/kept_accuracy", None): 0.8,
        ("val/mcc", None): 0.6,
        ("val/mcc_lo", None): 0.4,
        ("model/parameters", None): 1234,
        ("passes/used", None): 100,
        ("seconds/train", None): 3.5,
    }
    assert expected.items() <= values.items()
    assert ("val/accuracy", None) not in values


def test_undefined_is_nan_and_not_zero(content):
    (value,) = [value.value for value in content.values if value.name == "gradcam/loc_acc"]
    assert math.isnan(value)


def test_description_tags_params_and_artifacts(content):
    assert content.params == {"train.lr": "0.001"}
    assert content.tags["mlflow.note.content"] == "gradcam: no difference shown (n = 64).\n\nOne seed."
    facts = {"plan_hash": "abc", "data_hash": "d1", "split_kind": "grouped", "protocol": "sound", "device": "cpu"}
    assert facts.items() <= content.tags.items()
    assert "nothing" not in content.tags
    assert [(path.name, place) for path, place in content.artifacts] == [("config.yaml", None), ("tables", "tables")]


def test_commit_of_a_folder(tmp_path):
    assert git_commit(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    assert len(git_commit(tmp_path)) == 40

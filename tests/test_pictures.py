"""One picture without a data set, explained by the net of an earlier run, in processes of their own."""

import json

import numpy as np
import pandas as pd
import pytest
from commands import SMALL, heatproof, user_folder
from PIL import Image

from heatproof.base.errors import HeatproofError
from heatproof.base.trained import expanded, trained_in


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A run of a small net, and a picture of another shape and colour than it was trained on."""
    work = tmp_path_factory.mktemp("pictures")
    user = user_folder(work / "user")
    done = heatproof(*SMALL, "stage=train", "name=first", work=work, user=user)
    assert done.returncode == 0, done.stderr
    (work / "here" / "pics" / "deep").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 31, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(work / "here" / "pics" / "a, b [1].png")
    Image.fromarray(pixels[::-1]).save(work / "here" / "pics" / "deep" / "c.png")
    return work


def explained(work, *arguments):
    done = heatproof("views=none", "name=shown", *arguments, work=work)
    return done, sorted((work / "here" / "results").glob("*_shown"))[-1]


def test_one_picture_gives_maps_overlays_and_a_panel(work):
    run = next((work / "here" / "results").glob("*_first"))
    done, folder = explained(
        work, "image=pics/a, b [1].png", "model.checkpoint=results/latest", "explainer=[gradcam]",
        "explainer.gradcam.layer=[stage1,stage2]", "report.alphas=[0.3,0.6]", "target=bright",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "a, b [1].png: " in done.stdout
    for layer in ("stage1", "stage2"):
        held = np.load(folder / "maps" / "a, b [1].png" / f"gradcam.{layer}.npy")
        assert held.shape == (16, 16)
        for alpha in ("0.3", "0.6"):
            with Image.open(folder / "overlays" / "a, b [1].png" / f"gradcam.{layer}_{alpha}.png") as overlay:
                assert overlay.size == (16, 16)
    assert {path.suffix for path in (folder / "figures").glob("a, b*")} == {".png", ".pdf"}
    table = pd.read_parquet(folder / "predictions.parquet")
    assert {"p_dark", "p_bright"} <= set(table)
    assert json.loads((folder / "classifier.json").read_text())["identity"] == trained_in(run).identity


def test_a_folder_of_pictures_and_a_view_set(work):
    run = next((work / "here" / "results").glob("*_first"))
    done, folder = explained(work, "image=pics", f"model.checkpoint={run}", "views=robustcam6")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (folder / "maps").iterdir()} == {"a, b [1].png", "deep__c.png"}
    names = {path.name for path in (folder / "overlays" / "deep__c.png").iterdir()}
    assert names == {"gradcam.png", "gradcam__robustcam6.mean.png", "gradcam__robustcam6.median.png"}


def test_what_does_not_fit_is_told_before_work(work):
    for arguments, told in (
        (("image=pics", "dataset=phantom"), "a picture takes the place of a data set"),
        (("image=pics", "metrics=[nine]"), "one picture is shown"),
        (
            ("image=pics/dep", "model.checkpoint=results/latest"),
            "images: no such file or folder, got 'pics/dep'. Did",
        ),
        (("image=pics", "model.checkpoint=pics"), "holds no classifier.json"),
        (("image=pics", "model.checkpoint=nowhere"), "no such folder"),
        (("image=pics",), "model.checkpoint=FOLDER"),
        (("model=mlp", "model.checkpoint=results/latest"), "model is given, too"),
        (("dataset=phantom", "model.checkpoint=results/latest"), "its net tells apart dark, bright"),
    ):
        done = heatproof(*arguments, "stage=plan", work=work)
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        assert told in done.stderr, (arguments, done.stderr)


def test_weights_that_are_gone_are_told(tmp_path):
    record = {"name": "n", "model": {}, "look": {}, "classes": ["a", "b"], "weights": "/nowhere/w.safetensors"}
    (tmp_path / "classifier.json").write_text(json.dumps({**record, "identity": "i", "train_mean": None}))
    with pytest.raises(HeatproofError, match="no longer at /nowhere"):
        trained_in(tmp_path)


def test_what_is_said_beside_a_picture_stays():
    found = expanded(["image=a.png", "eval.images=1", "controls=[centre]"])
    assert [text for text in found if text.startswith(("eval", "controls"))] == ["eval.images=1", "controls=[centre]"]
    assert expanded(["model=resnet18", "image=null"]) == ["model=resnet18", "image=null"]

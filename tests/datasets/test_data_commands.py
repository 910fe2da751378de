"""Commands on miniatures of every data set: a plan by its root alone, and runs in which the masks are what counts."""

import json

import layouts
import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from commands import heatproof
from PIL import Image, ImageDraw
from shelves import picture

from heatproof import cli
from heatproof.base.registry import conf_names

TINY = ["dataset.size=32", "dataset.channels=1", "model=small_cnn", "model.width=4", "model.stages=2", "train.epochs=1", "views=none", "metrics=[localisation]", "controls=[random]"]  # fmt: skip  # noqa: E501


@pytest.mark.parametrize("option", conf_names("dataset"))
def test_a_plan_of_every_data_set(option, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEATPROOF_STORE", str(tmp_path / "store"))
    more = layouts.build(option, tmp_path / "data, [1] ü")
    assert cli.main([f"dataset={option}", *more, "stage=plan"]) == 0
    shown = capsys.readouterr().out
    assert f"data set    {option}, " in shown
    assert not (tmp_path / "results").exists()


def test_a_run_on_circles_measures_localisation(tmp_path):
    """The lesion is the only bright disc, so the ideal map is known: the mask of the run is where it was painted."""
    root = tmp_path / "mias"
    root.mkdir()
    rng = np.random.default_rng(0)
    lines = ["2) The size of ALL the images is 1024 pixels x 1024 pixels"]
    for number in range(1, 41):
        x, y, radius = rng.integers(200, 824), rng.integers(200, 824), 120
        image = Image.fromarray(rng.integers(0, 60, (64, 64), dtype=np.uint8))
        if number % 2:
            lines.append(f"mdb{2 * number:03d} G CIRC {'MB'[number % 4 // 2]} {x} {y} {radius}")
            left, top, side = (x - radius) / 16, (1024 - y - radius) / 16, radius / 8
            ImageDraw.Draw(image).ellipse((left, top, left + side, top + side), fill=250)
        else:
            lines.append(f"mdb{2 * number:03d} G NORM")
        image.save(root / f"mdb{2 * number:03d}.pgm")
    (root / "Info.txt").write_text("\n".join(lines))
    done = heatproof("dataset=mias", f"dataset.root={root}", *TINY, work=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "here" / "results" / "latest"
    samples = pd.read_parquet(folder / "samples.parquet")
    assert samples["mask_area"].notna().sum() == 20
    assert samples["mask_area"].dropna().to_numpy() == pytest.approx(np.pi * 120**2 / 1024**2, rel=0.05)
    scores = pd.read_parquet(folder / "scores.parquet")
    local = scores[(scores["metric"] == "loc_acc") & (scores["column"] == "loc_acc") & (scores["method"] == "gradcam")]
    annotated = set(samples["image"][samples["annotation"].notna()])
    assert set(local["image"][local["status"] == "ok"]) == set(local["image"]) & annotated
    assert local["value"].notna().any()
    summary = json.loads((folder / "summary.json").read_text())
    assert any("20 of 40 images are annotated" in warning for warning in summary["warnings"])


@pytest.mark.slow
def test_a_run_on_images_without_labels(tmp_path):
    """The net's own classes are what is predicted, explained and shown."""
    layouts.images(tmp_path / "data")
    net = torchvision.models.squeezenet1_0(num_classes=7)
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    done = heatproof(
        "dataset=images", f"dataset.root={tmp_path / 'data'}", "dataset.size=64", "train=none", "model=squeezenet1_0",
        f"model.weights={tmp_path / 'weights.pth'}", "views=none", "metrics=[nine]", "controls=[random]",
        work=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "here" / "results" / "latest"
    predictions = pd.read_parquet(folder / "predictions.parquet")
    assert sum(name.startswith("p_") for name in predictions) == 7
    assert predictions["label"].isna().all()
    assert (folder / "report.html").is_file()


def test_unlabelled_images_are_looked_at_without_a_net_for_them(tmp_path, capsys, monkeypatch):
    """What is wrong with the data alone is told: nothing of methods, metrics or nets, on a set that no default fits."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEATPROOF_STORE", str(tmp_path / "store"))
    root = tmp_path / "data"
    layouts.images(root)
    (root / "broken.png").write_bytes(b"")
    overrides = ["dataset=images", f"dataset.root={root}", "dataset.size=64", "dataset.on_bad_image=skip", "stage=load"]
    assert cli.main(overrides) == 0
    assert "note: 1 of " in capsys.readouterr().out
    summary = json.loads((tmp_path / "results" / "latest" / "summary.json").read_text())
    assert summary["counts"]["train"] == {"unlabelled": 0}
    assert [text for text in summary["warnings"] if "broken.png" not in text and "left out" not in text] == []


def test_a_random_split_is_told_before_the_verdicts(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEATPROOF_STORE", str(tmp_path / "store"))
    overrides = ["dataset.num_images=60", "dataset.split=random", *TINY]
    assert cli.main(overrides) == 0
    results = tmp_path / "results" / "latest"
    summary = json.loads((results / "summary.json").read_text())
    assert len(summary["audit"]) == 1
    shown = capsys.readouterr().out
    assert shown.index("warning: split=random") < shown.index(summary["verdicts"][0])
    page = (results / "report.html").read_text()
    assert page.count("split=random: nothing keeps") == 1
    assert page.index("split=random: nothing keeps") < page.index("What the numbers allow to say")


def test_masks_of_another_aspect_stop_a_run_before_training(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEATPROOF_STORE", str(tmp_path / "store"))
    root = tmp_path / "data"
    layouts.covid_radiography(root)
    picture(root / "COVID" / "masks" / "COVID-3.png", (20, 11))
    picture(root / "Normal" / "masks" / "Normal-5.png", (11, 20))
    overrides = ["dataset=covid_radiography", f"dataset.root={root}", "dataset.cap=null", *TINY]
    assert cli.main(overrides) == 2
    shown = capsys.readouterr().err
    for name in ("COVID/images/COVID-3.png", "Normal/images/Normal-5.png"):
        assert f"image {name}: the annotation is" in shown
    assert "Traceback" not in shown

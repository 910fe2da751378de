"""The data report: every table and figure that there is data for, one page that stands alone, all text escaped."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from commands import heatproof
from PIL import Image

from heatproof.base.registry import bind
from heatproof.base.settings import LoadSettings
from heatproof.base.store import Store
from heatproof.datasets.phantom import phantom
from heatproof.stages.load import load
from heatproof.stages.report.data import data_report

SETTINGS = LoadSettings(42, "random", (0.6, 0.2, 0.2), None, None, 64, 1, None, 0.8, 8)
NASTY = "<b>&_$x$"
FACTS = {"name": "a run", "overrides": ["dataset=x"], "plan_hash": "p" * 8, "warnings": ["beware of <dogs>"], "config": "a: 1"}  # fmt: skip  # noqa: E501


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes, one with a name of markup; copies, sizes of the class's own, masks."""
    root = tmp_path_factory.mktemp("data") / "images"
    source = phantom(root=None, size=64, channels=1, seed=3, num_images=30)
    for number, row in enumerate(source.rows):
        pixels = source.read(row).reshape(64, 64)
        own = root / ("plain" if number < 15 else NASTY)
        own.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels if number < 15 else np.repeat(pixels, 2, 1)).save(own / f"{number}.png")
        if number < 8:
            Image.fromarray((pixels * 0.9).astype(np.uint8)).save(own / f"{number}_again.png")
    Image.fromarray(np.pad(np.full((20, 20), 255, np.uint8), 22)).save(root / "plain" / "0_mask.png")
    return root


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    samples = load(
        bind("dataset", "image_folder", {"root": str(folder)}), SETTINGS, Store(tmp_path_factory.mktemp("s"))
    )
    preview = {"plain": [np.zeros((64, 64, 1)), np.ones((64, 64, 1))]}
    return samples, data_report(
        tmp_path_factory.mktemp("report"), samples=samples, preview=preview, preview_caption="two", facts=FACTS
    )


def test_everything_is_written_and_listed(made):
    samples, report = made
    names = {path.relative_to(report.folder).as_posix() for path in report.files}
    assert all(path.stat().st_size for path in report.files)
    for name in ("counts", "sizes", "greys", "masks", "clues", "pairs", "curve"):
        assert {f"tables/data_{name}.{ending}" for ending in ("csv", "md", "tex")} <= names
    for name in ("counts", "samples", "sizes", "greys", "augmentation", "pairs", "curve"):
        assert {f"figures/data_{name}.{ending}" for ending in ("png", "pdf")} <= names
    assert {"data.html", "summary.json", "samples.parquet", "figures/captions.md"} <= names
    assert {path for path in report.folder.rglob("*") if path.is_file()} == set(report.files)
    stored = pd.read_parquet(report.folder / "samples.parquet")
    assert stored["split"].tolist() == samples.table["split"].tolist()


def test_numbers_are_those_of_the_table(made):
    samples, report = made
    sizes = pd.read_csv(report.folder / "tables" / "data_sizes.csv").set_index(["class", "side"])
    assert list(sizes) == ["images", "mean", "std", "min", "25%", "50%", "75%", "max"]
    assert sizes.loc[("plain", "width"), ["images", "mean", "max"]].tolist() == [23, 64, 64]
    assert sizes.loc[(NASTY, "width"), ["images", "mean", "max"]].tolist() == [15, 128, 128]
    assert sizes.loc[(NASTY, "height"), ["images", "mean", "max"]].tolist() == [15, 64, 64]
    greys = pd.read_csv(report.folder / "tables" / "data_greys.csv").set_index("class")
    own = samples.pixels[(samples.table["label_name"] == "plain").to_numpy()].reshape(23, -1)
    np.testing.assert_allclose(greys.loc["plain", "mean_median"], np.median(own.mean(1)))
    np.testing.assert_allclose(greys.loc["plain", "contrast_max"], own.std(1).max())
    summary = json.loads((report.folder / "summary.json").read_text())
    assert summary["data"]["pairs"] == 8
    assert summary["data"]["pairs_across_splits"] == samples.audit.tables["pairs"]["across"].sum()
    assert sum(sum(row.values()) for row in summary["counts"].values()) == summary["n_images"] == 38
    assert summary["data_hash"] == samples.data_hash


def test_the_page_stands_alone_and_escapes_all_text(made):
    _, report = made
    page = (report.folder / "data.html").read_text()
    assert not re.search(r"(?:src|href)=\"(?!data:image/png;base64,|data:,|#)", page)
    assert "<b>&_" not in page
    assert "&lt;b&gt;&amp;_$x$" in page
    assert "beware of &lt;dogs&gt;" in page
    assert page.index("beware of") < page.index(">Figures</h2>") < page.index(">Tables</h2>")
    assert len(re.findall("<figure>", page)) == 7
    table = (report.folder / "tables" / "data_counts.tex").read_text()
    assert "\\textless{}b\\textgreater{}\\&\\_\\$x\\$" in table


def test_the_terminal_is_told_counts_notes_and_warnings(made):
    samples, report = made
    assert report.table_text.startswith("stage=load: 38 images, split random; the next run goes on from here.")
    assert "near-duplicates: similarity by spectrum 0.8 or more" in report.table_text
    assert report.verdicts[0].startswith("warning: split=random")
    assert any("size tells the class" in line for line in report.verdicts)
    assert len(report.verdicts) == len(samples.audit.warnings)


def test_pairs_stand_with_the_worst_first_and_say_once_what_both_share(made):
    samples, report = made
    shown = (report.folder / "tables" / "data_pairs.md").read_text().splitlines()
    assert shown[0] == "| image_a | image_b | class | split | similarity | dHash bits | same file |"
    across = samples.audit.tables["pairs"]["across"].tolist()
    assert across == sorted(across, reverse=True)
    assert any(across)
    assert [" / " in row.split("|")[4] for row in shown[2:]] == across


def test_unlabelled_images_and_many_classes_are_drawn_too(tmp_path):
    source = phantom(root=None, size=32, channels=3, seed=1, num_images=30)
    for number, row in enumerate(source.rows):
        for path in (tmp_path / "flat" / f"{number}.png", tmp_path / "many" / f"class{number % 15}" / f"{number}.png"):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(source.read(row).reshape(32, 32, -1)[..., 0]).save(path)
    store = Store(tmp_path / "store")
    chosen = replace(SETTINGS, size=32, channels=3, split="auto", fractions=(0.5, 0.5, 0.0))
    for name, kind in (("flat", "images"), ("many", "image_folder")):
        samples = load(bind("dataset", kind, {"root": str(tmp_path / name)}), chosen, store)
        report = data_report(tmp_path / f"report {name}", samples=samples, facts={})
        captions = (report.folder / "figures" / "captions.md").read_text()
        assert ("3 more classes are in the tables" in captions) == (name == "many")
        assert not (report.folder / "figures" / "data_sizes.png").exists()  # all of one size


def test_the_command_leaves_a_report_and_tells_mlflow(folder, tmp_path):
    done = heatproof(
        "dataset=image_folder", f"dataset.root={folder}", "stage=load", "dataset.size=64", "dataset.split=random",
        work=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "warning: split=random" in done.stdout
    results = tmp_path / "here" / "results" / "latest"
    assert (results / "data.html").is_file()
    assert (results / "figures" / "data_augmentation.png").is_file()
    run = json.loads((results / "outbox" / "run.json").read_text())
    assert run["tags"]["split"] == run["tags"]["split_kind"] == "random"
    artifacts = (results / "outbox" / "artifacts.jsonl").read_text()
    assert all(f'"{name}"' in artifacts for name in ("data.html", "samples.parquet", "tables", "figures"))
    assert '"data/pairs", "value": "8.0"' in (results / "outbox" / "metrics.jsonl").read_text()

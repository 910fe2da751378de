"""Runs side by side: paired on the images that both have, from their folders alone."""

import json

import numpy as np
import pandas as pd
import pytest

from heatproof.base.errors import HeatproofError
from heatproof.base.merit import Judged, differences, figures
from heatproof.stages.report.compare import compare_runs, comparison_text, write_comparison

CLASSES = ("well", "ill")


def run(root, number, *, skill, n=80, model="a", images=None, classes=CLASSES, labels=True, seed=0):
    """What a run leaves that is read here."""
    rng = np.random.default_rng(number)
    truth = np.random.default_rng(99).integers(0, 2, n)
    p = np.clip(0.5 + skill * (truth - 0.5) + 0.3 * rng.normal(size=n), 0.01, 0.99)
    p = np.stack([1 - p, p], axis=1)
    names = images or [f"{i:03d}.png" for i in range(n)]
    table = pd.DataFrame({"image": names, "split": "test", "label": truth if labels else None})
    table = table.assign(predicted=p.argmax(1), group=None, **{f"p_{c}": p[:, i] for i, c in enumerate(classes)})
    table = pd.concat([table, table.assign(split="val", image="other")]).sample(frac=1, random_state=number)
    folder = root / str(number)
    folder.mkdir(parents=True)
    table.to_parquet(folder / "predictions.parquet", index=False)
    judged = Judged(truth, p, classes)
    summary = {
        "name": "phantom",
        "overrides": ["dataset=phantom", f"model={model}"],
        "seed": seed,
        "positive": classes[1],
        "classifier": figures(judged, seed=0) if labels else {},
        "model": {"parameters": 1000 * (number + 1), "training_seconds": 12.5},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder, judged


def test_differences_are_paired_with_the_first_run(tmp_path):
    (one, first), (two, second) = (run(tmp_path, i, skill=s, model=m) for i, s, m in ((0, 0.9, "a"), (1, 0.3, "b")))
    frame, drawing = compare_runs([one, two])
    wanted = differences(second, first, seed=0)
    found = frame[frame["run"] == "1"].set_index("figure")
    for name in ("accuracy", "roc_auc", "brier"):
        assert found.loc[name, "difference"] == pytest.approx(wanted[name]["value"])
        assert found.loc[name, "value"] == pytest.approx(figures(second, seed=0)[name]["value"])
        assert found.loc[name, "diff_lo"] <= found.loc[name, "difference"] <= found.loc[name, "diff_hi"]
    assert found.loc["accuracy", "diff_hi"] < 0
    assert (found["n_common"] == 80).all()
    assert found["parameters"].unique().tolist() == [2000]
    assert found["title"].unique().tolist() == ["model=b"]
    assert frame[frame["run"] == "0"]["difference"].isna().all()
    assert "(n = 80)" in drawing.caption


def test_folders_of_one_name_stay_apart(tmp_path):
    """Job 0 of a sweep, and job 0 of an earlier one that stands for another of its jobs."""
    (one, _), (two, _) = run(tmp_path / "a", 0, skill=0.9), run(tmp_path / "b", 0, skill=0.3, model="b")
    summary = json.loads((two / "summary.json").read_text())
    summary["overrides"].append("study/pilot/arm=wide")
    (two / "summary.json").write_text(json.dumps(summary))
    frame, _ = compare_runs([one, two])
    assert frame.groupby("run", sort=False)["title"].first().to_dict() == {"0": "model=a", "1": "model=b arm=wide"}
    assert len(comparison_text(frame)) == 2


def test_only_common_images_are_compared(tmp_path):
    names = [f"{i:03d}.png" for i in range(80)]
    one, _ = run(tmp_path, 0, skill=0.9)
    half, _ = run(tmp_path, 1, skill=0.3, images=names[:40] + [f"new {i}" for i in range(40)])
    none, _ = run(tmp_path, 2, skill=0.3, images=[f"far {i}" for i in range(80)])
    others, _ = run(tmp_path, 3, skill=0.3, classes=("cat", "dog"))
    frame = compare_runs([one, half, none, others])[0]
    common = frame[frame["figure"] == "accuracy"].set_index("run")
    assert common.loc["1", "n_common"] == 40
    assert np.isfinite(common.loc["1", "diff_lo"])
    assert common.loc[["2", "3"], ["difference", "n_common"]].isna().all(axis=None)
    assert common["value"].notna().all()


def test_files_of_a_comparison(tmp_path):
    folders = [run(tmp_path, i, skill=s, model=f"m_{i}")[0] for i, s in enumerate((0.9, 0.3, 0.8))]
    files, text = write_comparison(folders, tmp_path)
    assert {file.name for file in files} == {f"comparison.{e}" for e in ("csv", "md", "tex", "png", "pdf")}
    assert all(file.is_file() for file in files)
    assert str(tmp_path / "comparison.md") in text
    markdown = (tmp_path / "comparison.md").read_text()
    assert "| 1 model=m_1 |" in markdown
    assert "not adjusted for the number of runs" in markdown.replace("\n", " ")
    assert "model=m\\_1" in (tmp_path / "comparison.tex").read_text()


def test_one_classifier_is_not_compared_with_itself(tmp_path):
    one, _ = run(tmp_path / "x", 0, skill=0.9)
    same, _ = run(tmp_path / "y", 0, skill=0.9)
    files, text = write_comparison([one, same], tmp_path)
    assert files == []
    assert "one classifier" in text
    blind, _ = run(tmp_path / "z", 1, skill=0.9, labels=False)
    assert write_comparison([one, blind], tmp_path)[0] == []
    with pytest.raises(HeatproofError, match="two finished runs"):
        compare_runs([one, blind])

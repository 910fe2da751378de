"""`show=cell` makes any number of a run again from its image; `show=power` says what it takes to show a difference."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import environment, heatproof, user_folder
from PIL import Image

from heatproof import cli

RUN = (
    *("dataset=blobs", "dataset.num_images=60", "train.epochs=2", "eval.images=9", "model.width=4", "model.stages=2"),
    *("metrics=[nine,localisation]", "+metric@metrics.nine.deletion=deletion", "metrics.nine.deletion.steps=5"),
    *("+metric@metrics.nine.adcc=adcc", "+metric@metrics.nine.uncertainty=uncertainty"),
    *("+metric@metrics.nine.randomization=randomization", "metrics.nine.randomization.seeds=2"),
    *("+metric@metrics.nine.max_sensitivity=max_sensitivity", "controls=[random,shifted,blurred]", "name=cells"),
    *("views=none", "+view@views.flip=flip", "+view@views.rot=rotate_p15", "views.fusion=[mean]", "views.name=two"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run's results folder, and the folder whose store it used."""
    work = tmp_path_factory.mktemp("cells")
    done = heatproof(*RUN, work=work, user=user_folder(work / "conf"))
    assert done.returncode == 0, done.stderr
    return (work / "here" / "results" / "latest").resolve(), work


@pytest.fixture
def main(run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command in this process, beside the run: exit code, what it printed, what it complained of."""
    _, work = run
    monkeypatch.chdir(work / "here")
    for key, value in environment(work, work / "conf").items():
        monkeypatch.setenv(key, value)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(arguments)
        return (code, *capsys.readouterr())

    return call


FUSED, SINGLE = "gradcam:two.mean", "gradcam"
CELLS = [
    *((SINGLE, "faith"), (SINGLE, "faith_mean_excess"), (f"shifted-{SINGLE}", "faith"), (FUSED, "fidelity_prob")),
    *(
        (FUSED, "consist_iou"),
        (FUSED, "stability_excess"),
        (SINGLE, "consist_pearson_floor"),
        (SINGLE, "view_iou_shift"),
    ),
    *((SINGLE, "deletion"), (SINGLE, "adcc"), (FUSED, "uncertainty"), (FUSED, "box_iou"), (SINGLE, "box_iou_excess")),
    *((SINGLE, "randomization"), (SINGLE, "randomization_images"), (SINGLE, "max_sensitivity"), ("random", "faith")),
    *((f"blurred-{FUSED}", "faith"), (SINGLE, "loc_acc"), (SINGLE, "pixel_auc_excess")),
]


@pytest.mark.parametrize(("method", "metric"), CELLS)
def test_a_number_comes_out_again(method: str, metric: str, run, main) -> None:
    folder, _ = run
    table = pd.read_parquet(folder / "scores.parquet")
    mine = table[(table["method"] == method) & (table["column"] == metric)]
    row = mine[mine["status"] == "ok"].iloc[-1] if (mine["status"] == "ok").any() else mine.iloc[0]
    code, out, err = main("show=cell", f"run={folder}", f"image={row['image']}", f"method={method}", f"metric={metric}")
    assert code == 0, out + err
    assert (mine["status"] == "ok").any(), f"nothing is defined: {set(mine['status'])}"
    assert f"stored      {row['value']:.6g}" in out
    assert f"made again  {row['value']:.6g}"[:19] in out
    assert "differs" not in out
    (figure,) = [Path(line.removeprefix("figure: ")) for line in out.splitlines() if line.startswith("figure: ")]
    assert figure.parent == folder / "cells"
    assert np.asarray(Image.open(figure)).std() > 10


def test_an_undefined_number_is_undefined_again(run, main) -> None:
    folder, _ = run
    table = pd.read_parquet(folder / "scores.parquet")
    row = table[(table["method"] == SINGLE) & (table["column"] == "uncertainty")].iloc[0]
    code, out, _ = main("show=cell", f"run={folder}", f"image={row['image']}", f"method={SINGLE}", "metric=uncertainty")
    assert code == 0
    assert out.count("undefined:single_view") == 2


def test_a_number_that_was_tampered_with_is_told(run, main, tmp_path: Path) -> None:
    folder, _ = run
    other = tmp_path / "run"
    other.mkdir()
    for name in ("config.yaml", "summary.json", "records.json"):
        (other / name).write_bytes((folder / name).read_bytes())
    table = pd.read_parquet(folder / "scores.parquet")
    place = table.index[(table["method"] == SINGLE) & (table["column"] == "faith")][0]
    table.loc[place, "value"] += 0.001
    table.to_parquet(other / "scores.parquet")
    image = table.loc[place, "image"]
    code, out, _ = main("show=cell", f"run={other}", f"image={image}", f"method={SINGLE}", "metric=faith")
    assert code == 1
    assert "<- differs" in out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["image=nothing.png"], ["image: the run has no such image, got 'nothing.png'."]),
        (["method=gradcan"], ["method: the run has no such method, got 'gradcan'. Did you mean 'gradcam'?"]),
        (["metric=fait"], ["metric: the run has no such metric, got 'fait'. Did you mean 'faith'?"]),
        (["metric=fait", "method=x", "image=y"], ["image: ", "method: ", "metric: "]),
        (["run=results/nowhere"], ["run: no such results folder, got 'results/nowhere'."]),
        (["seed=3"], ["show=cell: no such key, got 'seed'. Did you mean 'method'?"[:34]]),
        (["metric="], ["metric: is missing; show=cell takes run=, image=, method=, metric=."]),
    ],
)
def test_what_the_run_has_not_is_told_before_work_starts(arguments: list[str], parts: list[str], run, main) -> None:
    folder, _ = run
    given = {"run": str(folder), "image": "0", "method": SINGLE, "metric": "faith"}
    given["image"] = str(pd.read_parquet(folder / "scores.parquet")["image"].iloc[0])
    given |= dict(text.split("=", 1) for text in arguments)
    code, out, err = main("show=cell", *(f"{key}={value}" for key, value in given.items()))
    assert (code, out) == (2, "")
    for part in parts:
        assert part in err


def test_power_names_every_difference_between_methods_under_test(run, main) -> None:
    folder, _ = run
    code, out, _ = main("show=power", f"run={folder}")
    assert code == 0
    assert f"{SINGLE} - {FUSED}" in out
    summary = json.loads((folder / "summary.json").read_text())
    known = [
        one
        for one in summary["comparisons"]
        if one["d_z"]
        and (one["method_b"] == FUSED or (one["metric"].endswith("_excess") and one["method_a"] != "random"))
    ]
    assert len(known) > 5
    for one in known:
        assert any(one["metric"] in line.split() and one["method_a"] in line for line in out.splitlines()), one
    assert f"0.05/{len(summary['comparisons'])}" in " ".join(out.split())
    code, _, err = main("show=power", f"run={folder}", "image=3")
    assert code == 2
    assert "show=power: no such key, got 'image'" in err

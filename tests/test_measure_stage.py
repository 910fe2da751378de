"""The measure stage: a long table that does not depend on batches or neighbours, stored cell by cell."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import stocked
import torch

from heatproof.base.passes import Engine
from heatproof.base.records import Maps
from heatproof.base.store import Store
from heatproof.stages import explain, measure
from heatproof.stages.measure.table import COLUMNS

SOME = ("faith", "loc_acc", "stability", "consist_pearson")


def measured(tmp_path, methods=None, metrics=SOME, n=12, batch=32, settings=stocked.MEASURE):
    samples, classifier, store = stocked.samples(n), stocked.classifier(), Store(tmp_path)
    maps = explain.explain(
        samples,
        classifier,
        stocked.predictions(samples),
        methods or stocked.methods("gradcam", "random"),
        stocked.EXPLAIN,
        protocol="sound",
        store=store,
        progress=False,
    )
    return measure.measure(
        samples,
        classifier,
        maps,
        stocked.metrics(*metrics),
        settings,
        stocked.EVALUATION,
        store=store,
        batch=batch,
        progress=False,
    )


def pivot(table):
    return table.pivot_table(index=["image", "method", "column"], values="value", dropna=False)["value"].sort_index()


def test_the_table_is_long_and_complete(tmp_path):
    table = measured(tmp_path).table
    assert list(table.columns) == COLUMNS
    assert not table.duplicated(["image", "method", "column", "identity"]).any()
    own = table[(table["column"] == "faith") & (table["control_of"].isna())]
    assert set(own["method"]) == {"gradcam", "gradcam:three.mean"}
    assert (table["value"].isna() == (table["status"] != "ok")).all()
    shifted = table[table["method"] == "shifted-gradcam"]
    assert set(shifted["column"]) == {"faith"}
    assert set(shifted["control_of"]) == {"gradcam"}


def test_excess_is_value_minus_control(tmp_path):
    scores = pivot(measured(tmp_path).table).unstack("column")
    own = scores.xs("gradcam:three.mean", level="method")
    shifted = scores.xs("shifted-gradcam:three.mean", level="method")
    np.testing.assert_allclose(own["faith_excess"], own["faith"] - shifted["faith"], atol=1e-12)
    np.testing.assert_allclose(own["stability_excess"], own["stability"] - own["stability_floor"], atol=1e-12)
    marked = own.dropna(subset="loc_acc")
    assert len(marked) == 6
    np.testing.assert_allclose(marked["loc_acc_excess"], marked["loc_acc"] - marked["loc_acc_chance"], atol=1e-12)


def test_images_without_a_mask_say_so(tmp_path):
    table = measured(tmp_path, metrics=["loc_acc"]).table
    odd = table[(table["column"] == "loc_acc") & (table["image"].str[-1].astype(int) % 2 == 1)]
    assert set(odd["status"]) == {"undefined:no_mask"}


def test_batch_size_does_not_matter(tmp_path):
    one, many = (pivot(measured(tmp_path / str(batch), batch=batch).table) for batch in (1, 32))
    np.testing.assert_allclose(one, many, atol=1e-5)


def test_numbers_do_not_depend_on_methods_and_metrics_beside_them(tmp_path):
    full = pivot(measured(tmp_path / "full").table)
    alone = pivot(measured(tmp_path / "alone", methods=stocked.methods("gradcam"), metrics=["stability"]).table)
    np.testing.assert_allclose(full.loc[alone.index], alone, atol=1e-5)


def test_a_second_call_runs_nothing(tmp_path, monkeypatch):
    first = measured(tmp_path)
    assert first.passes["new_cells"] > 0

    def never(self, tasks):
        raise AssertionError("everything is stored")

    monkeypatch.setattr(Engine, "run", never)
    second = measured(tmp_path)
    assert second.passes["new_cells"] == 0
    pd.testing.assert_frame_equal(first.table, second.table)


def test_one_metric_more_costs_its_own_passes(tmp_path):
    measured(tmp_path, metrics=["faith", "stability"])
    more = measured(tmp_path, metrics=["faith", "stability", "loc_acc"])
    assert more.passes["used"] == 0
    assert more.passes["maps"] == 0
    assert more.passes["new_cells"] == 4


def test_a_crash_costs_the_block_in_work_only(tmp_path, monkeypatch):
    reference = measured(tmp_path / "reference", n=70)
    real, starts = Engine.run, []

    def crashing(self, tasks):
        starts.append(self.block.ids[0])
        if len(starts) == 2:
            raise RuntimeError("power cut")
        return real(self, tasks)

    monkeypatch.setattr(Engine, "run", crashing)
    with pytest.raises(RuntimeError, match="power cut"):
        measured(tmp_path / "cut", n=70)
    again = measured(tmp_path / "cut", n=70)
    assert starts == ["image000", "image035", "image035"]
    np.testing.assert_allclose(pivot(again.table), pivot(reference.table), atol=0)
    assert again.passes["used"] == reference.passes["used"]


def test_rerun_images_are_one_seeded_subset():
    use = measure.rerun_subset(20, 8, seed=3)
    assert use.sum() == 8
    assert np.array_equal(use, measure.rerun_subset(20, 8, seed=3))
    assert measure.rerun_subset(20, None, seed=3).all()
    assert measure.rerun_subset(20, 40, seed=3).all()


def test_tensors_in_memory_give_what_the_stage_gives(tmp_path):
    from_store = measured(tmp_path, methods=stocked.methods("gradcam")[:1])
    samples, classifier = stocked.samples(), stocked.classifier()
    maps = explain.explain(
        samples,
        classifier,
        stocked.predictions(samples),
        stocked.methods("gradcam")[:1],
        stocked.EXPLAIN,
        protocol="sound",
        store=Store(tmp_path),
        progress=False,
    )
    in_memory = measure.measure_tensors(
        classifier,
        samples.images(np.arange(12)),
        maps,
        stocked.metrics(*SOME),
        stocked.MEASURE,
        masks=torch.from_numpy(samples.masks).bool(),
        table=samples.table[["image", "group", "label"]],
    )
    pd.testing.assert_series_equal(pivot(in_memory.table), pivot(from_store.table))


def test_the_worth_of_the_order_is_the_value_less_that_of_the_negative_map(tmp_path):
    samples, classifier, store = stocked.samples(), stocked.classifier(), Store(tmp_path)
    plain = stocked.methods("gradcam")[:1]
    maps = explain.explain(
        samples, classifier, stocked.predictions(samples), plain, stocked.EXPLAIN,
        protocol="sound", store=store, progress=False,
    )  # fmt: skip
    turned = dataclasses.replace(maps, files={"gradcam": -np.array(maps.array("gradcam"))})
    (metric,) = stocked.metrics("faith")
    images, settings = samples.images(np.arange(12)), dataclasses.replace(stocked.MEASURE, controls=())
    metric = dataclasses.replace(metric, qge=True)
    found = {
        sign: pivot(measure.measure_tensors(classifier, images, of, [metric], settings).table).unstack("column")
        for sign, of in ((1, maps), (-1, turned))
    }
    np.testing.assert_allclose(found[1]["faith_qge"], found[1]["faith"] - found[-1]["faith"], atol=1e-6)
    np.testing.assert_allclose(found[1]["faith_qge"], -found[-1]["faith_qge"], atol=1e-6)


def test_curves_survive_storing(tmp_path):
    """One row a point of each image that is defined; a second call reads the same ones."""
    first = measured(tmp_path, metrics=["deletion", "road_morf", "faith"], methods=stocked.methods("gradcam")[:1])
    again = measured(tmp_path, metrics=["deletion", "road_morf", "faith"], methods=stocked.methods("gradcam")[:1])
    assert again.passes["new_cells"] == 0
    pd.testing.assert_frame_equal(first.curves, again.curves)
    assert first.curves.groupby("metric")["x"].nunique().to_dict() == {"deletion": 101, "road_morf": 5}
    ends = first.curves[(first.curves["metric"] == "deletion") & (first.curves["image"] == "image000")]
    area = np.trapezoid(ends["y"], ends["x"])
    own = first.table[(first.table["column"] == "deletion") & (first.table["image"] == "image000")]
    assert area == pytest.approx(own[own["method"] == "gradcam"]["value"].iloc[0], abs=2e-3)


def test_methods_are_compared_pair_by_pair(tmp_path):
    chosen = [m for m in stocked.methods("gradcam", "saliency", "centre") if m.alter is None]
    scores = measured(tmp_path, methods=chosen, metrics=["agreement_pearson", "agreement_iou", "effective_area"])
    pairs, count = scores.pairs, len(chosen)
    assert list(pairs.columns) == ["image", "method_a", "method_b", "metric", "value"]
    assert len(pairs) == 12 * 2 * count * (count - 1) // 2
    assert not pairs.duplicated(["image", "method_a", "method_b", "metric"]).any()
    assert set(scores.table["metric"]) == {"effective_area"}
    assert pairs["value"].notna().mean() > 0.9
    assert (pairs[pairs["metric"] == "agreement_pearson"]["value"].dropna().abs() <= 1).all()


def test_a_map_without_order_agrees_with_nobody():
    samples = stocked.samples(3)
    chosen = stocked.methods("random", "centre")
    files = {"random": np.random.default_rng(0).random((3, 16, 16), np.float32), "centre": np.ones((3, 16, 16), "f4")}
    files["centre"][1] = np.linspace(0, 1, 256).reshape(16, 16)
    status = {"random": ("ok",) * 3, "centre": ("constant", "ok", "constant")}
    maps = Maps(np.arange(3), np.zeros(3, int), np.zeros(3, int), tuple(chosen), files, {}, status)
    (metric,) = stocked.metrics("agreement_iou")
    (area,) = stocked.metrics("effective_area")
    scores = measure.measure_tensors(
        stocked.classifier(), samples.images(np.arange(3)), maps, [metric, area], stocked.MEASURE
    )
    assert scores.pairs["value"].isna().tolist() == [True, False, True]

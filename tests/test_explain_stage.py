"""The explain stage stores maps by content and loses at most a block."""

import numpy as np
import pytest
import stocked
import torch

from heatproof.base import methods as maps_of
from heatproof.base import notes
from heatproof.base.errors import HeatproofError
from heatproof.base.names import MethodName
from heatproof.base.records import Method, Predictions
from heatproof.base.registry import bind, preset
from heatproof.base.settings import ExplainSettings
from heatproof.base.store import Store
from heatproof.stages import explain


@pytest.fixture
def counted(monkeypatch):
    calls = []
    real = maps_of.explain_batch

    def counting(classifier, images, targets, methods, **more):
        calls.append([str(method.name) for method in methods])
        return real(classifier, images, targets, methods, **more)

    monkeypatch.setattr(maps_of, "explain_batch", counting)
    return calls


def explained(tmp_path, methods, n=12, **more):
    samples = stocked.samples(n)
    return explain.explain(
        samples,
        stocked.classifier(),
        stocked.predictions(samples),
        methods,
        more.pop("settings", stocked.EXPLAIN),
        protocol="sound",
        store=Store(tmp_path),
        progress=False,
        **more,
    )


def test_a_second_call_runs_nothing_and_gives_the_same(tmp_path, counted):
    first = explained(tmp_path, stocked.methods("gradcam", "random"))
    assert counted
    counted.clear()
    second = explained(tmp_path, stocked.methods("gradcam", "random"))
    assert counted == []
    for name in first.files:
        assert np.array_equal(first.array(name), second.array(name))
        assert first.status[name] == second.status[name]
    assert set(first.sd_files) == {"gradcam:three.mean"}


def test_one_method_more_runs_that_method_alone(tmp_path, counted):
    explained(tmp_path, stocked.methods("gradcam"))
    counted.clear()
    explained(tmp_path, stocked.methods("gradcam", "edge"))
    assert counted == [["edge"]]


def test_batches_do_not_change_maps(tmp_path):
    small = ExplainSettings(seed=1, batch=1, target="predicted")
    one = explained(tmp_path / "one", stocked.methods("gradcam", "random"), settings=small)
    many = explained(tmp_path / "many", stocked.methods("gradcam", "random"))
    for name in one.files:
        np.testing.assert_allclose(one.array(name), many.array(name), atol=1e-5)


def test_a_crash_costs_the_block_in_work_only(tmp_path, monkeypatch):
    real = maps_of.explain_batch
    seen = []

    def crashing(classifier, images, targets, methods, *, ids, **more):
        if "image069" in ids:
            raise RuntimeError("power cut")
        return real(classifier, images, targets, methods, ids=ids, **more)

    def counting(classifier, images, targets, methods, *, ids, **more):
        seen.extend(ids)
        return real(classifier, images, targets, methods, ids=ids, **more)

    monkeypatch.setattr(maps_of, "explain_batch", crashing)
    with pytest.raises(RuntimeError, match="power cut"):
        explained(tmp_path, stocked.methods("gradcam"), n=70)
    monkeypatch.setattr(maps_of, "explain_batch", counting)
    explained(tmp_path, stocked.methods("gradcam"), n=70)
    assert len(seen) == 35
    assert "image000" not in seen


def test_blurred_controls_know_their_sd(tmp_path):
    maps = explained(tmp_path, stocked.methods("gradcam"))
    blurred = next(method for method in maps.methods if method.alter == "blurred")
    assert blurred.blur_px is not None
    assert blurred.blur_px >= 0
    assert str(blurred.name) in maps.files


@pytest.mark.parametrize(
    ("target", "expected"),
    [("true", [0, 1, 2] * 4), ("class2", [2] * 12)],
)
def test_targets(tmp_path, target, expected):
    settings = ExplainSettings(seed=1, batch=16, target=target)
    assert explained(tmp_path, stocked.methods("gradcam"), settings=settings).targets.tolist() == expected


def test_an_unknown_target_lists_the_classes(tmp_path):
    settings = ExplainSettings(seed=1, batch=16, target="clas2")
    with pytest.raises(HeatproofError, match=r"target.*'clas2'.*Did you mean 'class2'\?.*class0, class1, class2"):
        explained(tmp_path, stocked.methods("gradcam"), settings=settings)


def test_nothing_to_explain_is_an_error(tmp_path):
    samples = stocked.samples()
    nothing = Predictions(None, {}, np.array([], dtype=int))
    with pytest.raises(HeatproofError, match="no image is left to explain"):
        explain.explain(
            samples, stocked.classifier(), nothing, [], stocked.EXPLAIN, protocol="sound", store=Store(tmp_path)
        )


def test_short_memory_halves_the_batch_and_changes_no_map(tmp_path, monkeypatch):
    real = maps_of.explain_batch
    sizes = []

    def short(classifier, images, targets, methods, **more):
        sizes.append(len(images))
        if len(images) > 4:
            raise torch.OutOfMemoryError("too many images")
        return real(classifier, images, targets, methods, **more)

    plenty = explained(tmp_path / "plenty", stocked.methods("gradcam"))
    monkeypatch.setattr(maps_of, "explain_batch", short)
    scarce = explained(tmp_path / "scarce", stocked.methods("gradcam"))
    assert sizes == [12, 8, 4, 4, 4]
    for name in plenty.files:
        np.testing.assert_allclose(scarce.array(name), plenty.array(name), atol=1e-5)

    def never(*_, **__):
        raise torch.OutOfMemoryError("not even one")

    monkeypatch.setattr(maps_of, "explain_batch", never)
    with pytest.raises(torch.OutOfMemoryError, match="not even one"):
        explained(tmp_path / "none", stocked.methods("gradcam"))


def test_notes_of_draws_and_of_views_are_kept(tmp_path):
    for _ in range(2):  # made, and read back
        maps = explained(tmp_path, [rise(20), *stocked.methods("gradcam")])
        assert set(maps.notes["rise"]) == {"half_samples_rho"}
        assert maps.notes["rise"]["half_samples_rho"].shape == (12,)
        fused = maps.notes["gradcam:three.mean"]
        views = ("1_identity", "2_flip", "3_rotate")
        by_view = [f"{what}_{view}" for what in ("round_trip", "leave_one_out") for view in views]
        assert set(fused) == {"dose_1", "dose_2", "dose_3", *by_view, "coefficient_of_variation", "common_area"}
        np.testing.assert_allclose(fused["dose_3"], 1)
        assert (fused["dose_1"] <= fused["dose_3"] + 1e-9).all()
        np.testing.assert_allclose(fused["round_trip_2_flip"], 0, atol=1e-7)
        assert (fused["round_trip_3_rotate"] > 0).all()
    (line,) = notes.remarks(maps.notes)
    assert line.startswith("rise: maps from two halves of its samples have rank correlation ")
    assert line.endswith("n = 12: too few samples to trust single maps, raise `samples`")
    assert notes.summary(maps.notes)["gradcam:three.mean"]["dose_3"]["n"] == 12


def rise(samples):
    return Method(MethodName("rise"), bind("explainer", "rise", {"samples": samples}))


def test_a_map_is_kept_at_the_explainers_own_resolution(tmp_path):
    maps = explained(tmp_path, stocked.methods("gradcam", "edge"))
    assert set(maps.parts) == {"gradcam"}  # an edge map has the input's, a fusion none of its own
    raw = np.load(maps.parts["gradcam"]["raw"])
    assert raw.shape[1] < maps.array("gradcam").shape[1]
    enlarged = torch.nn.functional.interpolate(torch.from_numpy(raw)[:, None], size=(16, 16), mode="bilinear")
    np.testing.assert_allclose(enlarged[:, 0].numpy(), maps.array("gradcam"), atol=1e-6)


def test_the_views_of_a_fusion_are_kept_where_asked_for(tmp_path, counted):
    name = "gradcam:three.mean"
    maps = explained(tmp_path, stocked.methods("gradcam"), keep_views=True)
    views, seen, without = (np.load(maps.parts[name][kind]) for kind in ("views", "seen", "leave_one_out"))
    assert views.shape == seen.shape == without.shape == (12, 3, 16, 16)
    assert seen[:, 0].all()
    assert not seen[:, 2].all()  # the corners of a rotation
    fusion = preset("fusion", "mean")
    stack, valid = torch.from_numpy(views).transpose(0, 1), torch.from_numpy(seen).transpose(0, 1)
    np.testing.assert_allclose(fusion(stack, valid).numpy(), maps.array(name), atol=1e-6)
    np.testing.assert_allclose(fusion(stack[1:], valid[1:]).numpy(), without[:, 0], atol=1e-6)
    counted.clear()
    assert set(explained(tmp_path, stocked.methods("gradcam"), keep_views=True).parts[name]) == set(maps.parts[name])
    assert counted == []


def test_methods_whose_maps_are_one_are_reported_as_one(tmp_path):
    """Behind global average pooling and a linear layer Grad-CAM and HiResCAM are one function."""
    methods = stocked.methods("gradcam", "hirescam", "random")
    maps = explained(tmp_path, methods)
    names = [str(method.name) for method in maps.methods]
    assert names == ["gradcam", "gradcam:three.mean", "blurred-gradcam:three.mean", "random"]
    assert set(maps.files) == set(names)
    assert any("gradcam and hirescam give the same map on all 12 images" in remark for remark in maps.remarks)
    kept = explained(tmp_path, methods, keep_copies=True)
    assert [str(method.name) for method in kept.methods] == [str(method.name) for method in methods]
    assert kept.remarks == maps.remarks


@pytest.mark.parametrize("keep_copies", [False, True])
def test_votes_count_two_methods_that_are_one_only_once(tmp_path, counted, keep_copies):
    gradcam, hirescam, occlusion = (
        Method(MethodName(name), bind("explainer", name, settings))
        for name, settings in (("gradcam", {}), ("hirescam", {}), ("occlusion", {"patch": 4, "stride": 4}))
    )
    vote = Method(MethodName("votes"), bind("explainer", "votes"), of=(gradcam, hirescam, occlusion))
    shifted = Method(MethodName("shifted-votes"), vote.explainer, control_of="votes", alter="shifted", of=vote.of)
    maps = explained(tmp_path, [gradcam, hirescam, occlusion, vote, shifted], keep_copies=keep_copies)
    by_name = {str(method.name): method for method in maps.methods}
    assert by_name["votes"].of == by_name["shifted-votes"].of == (gradcam, occlusion)
    assert ("hirescam" in by_name) == keep_copies
    assert "votes counts methods that are one only once: it is made of gradcam, occlusion." in maps.remarks
    assert {0.0, 0.5, 1.0} >= set(np.unique(maps.array("votes")).tolist())
    alone = explained(
        tmp_path / "alone", [gradcam, occlusion, Method(vote.name, vote.explainer, of=(gradcam, occlusion))]
    )
    np.testing.assert_array_equal(maps.array("votes"), alone.array("votes"))
    counted.clear()
    explained(tmp_path, [gradcam, hirescam, occlusion, vote, shifted], keep_copies=keep_copies)
    assert counted == []

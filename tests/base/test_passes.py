"""The engine answers like a loop over single images, runs equal requests once, and keeps undefined values apart."""

import pytest
import tiny
import torch

from heatproof.base import fields, fills
from heatproof.base.forwards import Forwards
from heatproof.base.hooks import layers_of
from heatproof.base.names import MethodName
from heatproof.base.passes import Engine
from heatproof.base.records import Method, MetricChoice
from heatproof.base.registry import bind
from heatproof.base.reruns import PARTNERS
from heatproof.base.tasks import Block


def block(n=7, channels=1, size=16, masks=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(n, channels, size, size, generator=generator)
    module = tiny.Conv(channels)
    logits = module(images).double().detach()
    where = torch.zeros(n, size, size, dtype=torch.bool)
    where[:, 3:8, 4:9] = True
    masked = torch.full((n,), masks)
    ids = [f"image{i}" for i in range(n)]
    everything = torch.ones(n, dtype=torch.bool)
    return tiny.classifier(module, channels=channels), Block(
        images, ids, ids, logits.argmax(1), logits, where & masks, masked, everything
    )


def engine_for(classifier, the_block, **more):
    module = classifier.module
    engine = Engine(classifier, lambda images: module(images).detach(), seed=3, **more)
    engine.start(the_block)
    return engine


def drop(case, fill="mean"):
    region = case.maps > case.maps.flatten(1).median(1).values[:, None, None]
    without, kept = yield (case.without(region, fill), case.only(region, fill))
    hit, logit = yield (case.without(region, fill, "hit"), case.without(region, fill, "logit"))
    return {"drop": case.p - without, "kept": kept, "hit": hit, "logit": logit}


DROP = {"columns": ("drop", "kept", "hit", "logit"), "needs": ("order",)}


@torch.no_grad()
def one_by_one(classifier, the_block, maps, fill):
    """The slow twin: one image, one region, one forward pass at a time."""
    rows = []
    for i, image in enumerate(the_block.images):
        region = maps[i] > maps[i].flatten().median()
        seeds = torch.tensor([fields.image_seed(3, the_block.ids[i], f"fill:{fill}")])
        mean = torch.tensor(classifier.train_mean)
        target = the_block.targets[i]
        values = []
        for filled in (region, ~region):
            logits = classifier.module(fills.fill(fill, image[None], filled[None], seeds, mean=mean))[0].double()
            values.append((logits.softmax(0)[target], float(logits.argmax() == target), logits[target]))
        rows.append((the_block.p[i] - values[0][0], values[1][0], values[0][1], values[0][2]))
    return torch.tensor(rows, dtype=torch.float64).T


@pytest.mark.parametrize("fill", ["mean", "black", "noise", "road"])
@pytest.mark.parametrize("batch", [1, 3, 32])
def test_answers_are_those_of_single_images(fill, batch):
    classifier, the_block = block(channels=3)
    engine = engine_for(classifier, the_block, batch=batch)
    maps = torch.rand(7, 16, 16, generator=torch.Generator().manual_seed(1))
    case = engine.case(tiny.method(), maps)
    task = engine.task(case, tiny.metric(drop, settings={"fill": fill}, **DROP), ["ok"] * 7)
    (result,) = engine.run([task])
    expected = one_by_one(classifier, the_block, maps, fill)
    for name, column in zip(DROP["columns"], expected, strict=True):
        torch.testing.assert_close(result.columns[name], column, atol=1e-5, rtol=0)
    assert result.status == ["ok"] * 7


def test_equal_requests_of_methods_and_metrics_are_run_once():
    classifier, the_block = block()
    engine = engine_for(classifier, the_block)
    maps = torch.rand(7, 16, 16)
    tasks = [
        engine.task(engine.case(tiny.method(name=name), maps), tiny.metric(drop, label, **DROP), ["ok"] * 7)
        for name in ("a", "b")
        for label in ("one", "two")
    ]
    results = engine.run(tasks)
    assert engine.passes.used == 2 * 7  # removed and kept, once for each image
    assert engine.passes.requested == 4 * 4 * 7
    for result in results[1:]:
        for name in DROP["columns"]:
            assert torch.equal(result.columns[name], results[0].columns[name])


def test_metrics_of_the_same_images_share_their_tensors():
    """Each task with a copy of its own filled 20 GB on 64 images at 224 px."""
    classifier, the_block = block()
    engine = engine_for(classifier, the_block)
    maps = torch.rand(7, 16, 16)
    one, other = engine.case(tiny.method(), maps), engine.case(tiny.method(name="second"), maps + 1)
    metric = tiny.metric(drop, settings={"fill": "mean"}, **DROP)
    for status in (["ok"] * 7, ["ok"] * 6 + ["zero"]):
        first, again, next_method = [engine.task(case, metric, status).case for case in (one, one, other)]
        assert first.maps.data_ptr() == again.maps.data_ptr() != next_method.maps.data_ptr()
        assert first.images.data_ptr() == again.images.data_ptr() == next_method.images.data_ptr()
        first.undefine(torch.ones(len(first.maps), dtype=torch.bool), "mine")
        assert again.undefined == [], "what is undefined stays each metric's own"


def test_a_bad_image_is_undefined_with_its_reason_and_touches_no_other():
    classifier, the_block = block()
    maps = torch.rand(7, 16, 16)
    broken = maps.clone()
    broken[2] = torch.nan
    broken[4] = 1.0
    status = ["ok", "ok", "nonfinite", "ok", "constant", "ok", "ok"]
    results = []
    for these, states in ((maps, ["ok"] * 7), (broken, status)):
        engine = engine_for(classifier, the_block)
        task = engine.task(engine.case(tiny.method(), these), tiny.metric(drop, **DROP), states)
        results += engine.run([task])
    clean, hurt = results
    assert hurt.status == [s if s == "ok" else f"undefined:{s}" for s in status]
    good = torch.tensor([s == "ok" for s in status])
    assert torch.equal(hurt.columns["drop"][good], clean.columns["drop"][good])
    assert torch.isnan(hurt.columns["drop"][~good]).all()
    assert engine.passes.used == 2 * 5


def covered(case):
    return {"covered": (case.masks & (case.maps > 0.5)).flatten(1).sum(1).double()}


def test_a_metric_that_needs_masks_is_undefined_without():
    classifier, the_block = block(masks=False)
    engine = engine_for(classifier, the_block)
    task = engine.task(
        engine.case(tiny.method(), torch.rand(7, 16, 16)), tiny.metric(covered, needs=("mask",)), ["ok"] * 7
    )
    (result,) = engine.run([task])
    assert result.status == ["undefined:no_mask"] * 7
    assert torch.isnan(result.columns["covered"]).all()


def likeness(case, view=None):
    request = case.rerun(view=view) if view else case.rerun(noise=0, std=0.05)
    (again,) = yield (request,)
    gap = (again.maps - again.reference).abs() * again.valid
    case.undefine(gap.flatten(1).amax(1) > 100, "far")
    return {"likeness": -gap.flatten(1).amax(1).double()}


@pytest.mark.parametrize("view", ["rerun_shift", "rerun_rotate", "rerun_magnify"])
def test_an_equivariant_method_equals_its_reference_on_every_view(view):
    classifier, the_block = block(size=24)
    engine = engine_for(classifier, the_block, batch=3)
    maps = the_block.images.mean(1)
    choice = tiny.metric(likeness, reruns=("view",), settings={"view": view})
    (result,) = engine.run([engine.task(engine.case(tiny.method(), maps), choice, ["ok"] * 7)])
    assert result.columns["likeness"].min() > -1e-5


def test_noise_is_the_same_for_all_methods_and_batches():
    classifier, the_block = block()
    found = []
    for batch in (1, 32):
        engine = engine_for(classifier, the_block, batch=batch)
        choice = tiny.metric(likeness, reruns=("noise",))
        maps = the_block.images.mean(1)
        tasks = [engine.task(engine.case(tiny.method(name=name), maps), choice, ["ok"] * 7) for name in ("a", "b")]
        found += engine.run(tasks)
    expected = (
        -(
            0.05
            * fields.normal(
                torch.tensor([fields.image_seed(3, image, "noise0") for image in the_block.ids]), (1, 16, 16)
            )
        )
        .abs()
        .flatten(1)
        .amax(1)
        .double()
    )
    for result in found:
        torch.testing.assert_close(result.columns["likeness"], expected, atol=1e-6, rtol=0)


def test_the_floor_takes_reruns_from_other_images():
    def always_same(classifier, images, targets):
        return torch.linspace(0, 1, 256).view(1, 16, 16).expand(len(images), -1, -1).clone()

    classifier, the_block = block()
    choice = tiny.metric(likeness, reruns=("noise",), floor=True)
    for function, equal in ((always_same, True), (tiny.brightness, False)):
        engine = engine_for(classifier, the_block)
        maps = function(classifier, the_block.images, the_block.targets)
        case = engine.case(tiny.method(function), maps)
        own, floor = engine.run(
            [engine.task(case, choice, ["ok"] * 7), engine.task(case, choice, ["ok"] * 7, floor=True)]
        )
        assert torch.equal(own.columns["likeness"], floor.columns["likeness"]) is equal


def test_the_floor_needs_enough_images_of_other_groups():
    classifier, the_block = block(n=PARTNERS)
    engine = engine_for(classifier, the_block)
    choice = tiny.metric(likeness, reruns=("noise",), floor=True)
    case = engine.case(tiny.method(), the_block.images.mean(1))
    (floor,) = engine.run([engine.task(case, choice, ["ok"] * PARTNERS, floor=True)])
    assert floor.status == ["undefined:few_images"] * PARTNERS


def test_a_rerun_that_is_not_ok_makes_the_metric_undefined():
    def dies_on_noise(classifier, images, targets):
        maps = images.mean(1)
        maps[1] = 0.25
        return maps

    classifier, the_block = block()
    engine = engine_for(classifier, the_block)
    case = engine.case(tiny.method(dies_on_noise), the_block.images.mean(1))
    (result,) = engine.run([engine.task(case, tiny.metric(likeness, reruns=("noise",)), ["ok"] * 7)])
    assert result.status[1] == "undefined:rerun"
    assert result.status.count("ok") == 6


def test_out_of_memory_halves_the_batch_and_loses_nothing():
    classifier, the_block = block()
    sizes = []

    def small_device(images):
        sizes.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError("no room")
        return classifier.module(images).detach()

    maps = torch.rand(7, 16, 16)
    results = []
    for twin in (small_device, lambda images: classifier.module(images).detach()):
        engine = Engine(classifier, twin, seed=3, batch=8)
        engine.start(the_block)
        results += engine.run([engine.task(engine.case(tiny.method(), maps), tiny.metric(drop, **DROP), ["ok"] * 7)])
    assert sizes[:3] == [8, 4, 2]
    torch.testing.assert_close(results[0].columns["drop"], results[1].columns["drop"], atol=1e-6, rtol=0)


def test_absolute_sign_ranks_by_magnitude():
    classifier, the_block = block()
    engine = engine_for(classifier, the_block, sign="absolute")
    maps = torch.randn(7, 16, 16)
    assert torch.equal(engine.case(tiny.method(), maps).maps, maps.abs())


def partly(case):
    case.undefine(torch.arange(len(case.p)) < 2, "family", main_only=True)
    return {"partly": case.p, "partly_beside": case.p}


def test_further_columns_may_outlive_the_main_one():
    classifier, the_block = block()
    engine = engine_for(classifier, the_block)
    choice = tiny.metric(partly, columns=("partly", "partly_beside"))
    (result,) = engine.run([engine.task(engine.case(tiny.method(), torch.rand(7, 16, 16)), choice, ["ok"] * 7)])
    assert result.status == ["undefined:family"] * 2 + ["ok"] * 5
    assert result.columns["partly"].isnan().tolist() == [True] * 2 + [False] * 5
    assert not result.columns["partly_beside"].isnan().any()


def single_view(case):
    (again,) = yield (case.rerun(noise=0, std=0.05, single=True),)
    return {"single_view": (again.maps - again.reference).abs().flatten(1).amax(1).double()}


def test_the_single_view_of_a_fusion_is_rerun_against_its_own_map():
    classifier, the_block = block()
    engine = engine_for(classifier, the_block)
    fused = tiny.method(name="brightness:three.mean")
    # The fusion's own maps are far away: only the single view's base map is within the noise of its rerun.
    case = engine.case(fused, the_block.images.mean(1) + 50)
    (result,) = engine.run([engine.task(case, tiny.metric(single_view, reruns=("noise",)), ["ok"] * 7)])
    assert result.columns["single_view"].max() < 1


def test_the_study_protocol_judges_dead_reruns_itself():
    def dies_on_noise(classifier, images, targets):
        maps = images.mean(1)
        maps[1] = 0.25
        return maps

    classifier, the_block = block()
    engine = engine_for(classifier, the_block)
    case = engine.case(tiny.method(dies_on_noise), the_block.images.mean(1))
    plain = tiny.metric(likeness, reruns=("noise",))
    choice = MetricChoice("likeness", tiny.Fake(likeness, {**plain.metric.facts, "protocol": "study"}), "study")
    (result,) = engine.run([engine.task(case, choice, ["ok"] * 7)])
    assert result.status == ["ok"] * 7


def test_reruns_are_shared_by_the_metrics_that_ask_for_them_and_then_released():
    classifier, the_block = block()
    engine = engine_for(classifier, the_block)
    held = []
    inner = engine._run
    engine._run = lambda tasks: (inner(tasks), held.append((tasks[0].choice.label, len(engine.reruns.held))))[0]
    case = engine.case(tiny.method(), the_block.images.mean(1))
    view = {"view": "rerun_shift"}
    metrics = [
        tiny.metric(likeness, "noise_a", reruns=("noise",)),
        tiny.metric(likeness, "view_a", reruns=("view",), settings=view),
        tiny.metric(drop, "drop", **DROP),
        tiny.metric(likeness, "noise_b", reruns=("noise",)),
        tiny.metric(likeness, "view_b", reruns=("view",), settings=view),
    ]
    results = engine.run([engine.task(case, metric, ["ok"] * 7) for metric in metrics])
    assert held == [("drop", 0), ("noise_a", 1), ("noise_b", 1), ("view_a", 1), ("view_b", 1)]
    assert not engine.reruns.held
    assert engine.passes.maps == 2 * 7
    for a, b in ((0, 3), (1, 4)):
        assert torch.equal(results[a].columns["likeness"], results[b].columns["likeness"])
    assert set(results[2].columns) == set(DROP["columns"])


@pytest.mark.parametrize("explainer", ["gradcam", "brightness"])
def test_the_class_of_a_noisy_copy_costs_a_pass_only_where_no_gradient_was_asked_for(explainer):
    classifier, the_block = block()
    # This net names one class whatever it sees: of the first three images another one is known.
    the_block.logits[:3] = the_block.logits[:3].roll(1, 1)
    method = tiny.method() if explainer == "brightness" else Method(MethodName("gradcam"), bind("explainer", "gradcam"))
    found = []
    for noting in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not noting:
                patch.setattr(Forwards, "layers", lambda self, *given: layers_of(self.module, *given))
            engine = engine_for(classifier, the_block)
            maps = torch.rand(7, 16, 16, generator=torch.Generator().manual_seed(1))
            case = engine.case(method, maps)
            metric = MetricChoice("max_sensitivity", bind("metric", "max_sensitivity", {"noises": 3, "radius": 0.5}))
            (result,) = engine.run([engine.task(case, metric, ["ok"] * 7)])
            found.append((result.columns["max_sensitivity_changed"], engine.passes.used))
    assert found[0][1] == (0 if explainer == "gradcam" else 21)
    assert found[1][1] == 21
    torch.testing.assert_close(found[0][0], found[1][0])
    assert found[0][0].tolist() == [1, 1, 1, 0, 0, 0, 0]

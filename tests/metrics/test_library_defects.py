"""Faults that were found in libraries of the field, each as a case that our functions get right.

Where the library is installed its fault is shown beside, so that a repaired one is noticed here.
"""

import by_hand
import numpy as np
import pytest
import stocked
import tiny
import torch
from captum.attr import Occlusion
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

import heatproof as hp
from heatproof.base.errors import HeatproofError
from heatproof.base.fills import NAMES, fill
from heatproof.base.forwards import shared_forwards
from heatproof.base.hooks import shared_pass
from heatproof.base.methods import explain_batch
from heatproof.base.nets import normalise_inside
from heatproof.base.registry import bind, choices
from heatproof.explainers.occlusion import occlusion

N, SIZE = 5, 16
NET = tiny.Conv(3)
IMAGES = torch.rand(N, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
MAPS = torch.rand(N, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
MASKS = torch.zeros(N, SIZE, SIZE, dtype=torch.bool)
MASKS[:, 3:8, 4:9] = True
# States its normalisation, so that there is a mean to fill with.
NORMED = normalise_inside(tiny.Conv(3), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0))


def case(rows: slice = slice(None), maps: torch.Tensor = MAPS, masks: torch.Tensor = MASKS) -> by_hand.Case:
    ids = [f"image{i}" for i in range(N)][rows]
    return by_hand.case(NET, IMAGES[rows], maps[rows], masks[rows], ids=ids)


@pytest.mark.parametrize("name", ["road", "sufficiency", "comprehensiveness", "consist_iou", "infidelity"])
def test_colour_images_of_several_batches_are_all_measured(name):
    """Quantus: ROAD raises on RGB and returns the first mini-batch alone; Consistency and Sufficiency depend on it."""
    together = by_hand.run(name, case(), NET)[name]
    assert together.shape == (N,)
    assert together.isfinite().all()
    parts = [by_hand.run(name, case(slice(i, i + 2)), NET)[name] for i in range(0, N, 2)]
    torch.testing.assert_close(torch.cat(parts), together, atol=1e-5, rtol=1e-5)  # as the law has it


@pytest.mark.parametrize("name", sorted(n for n, c in choices("metric").items() if "mask" in c.facts.get("needs", ())))
def test_an_empty_annotation_is_no_hit(name):
    """Quantus: PointingGame counts an empty mask as a hit."""
    nothing = case(masks=torch.zeros_like(MASKS))
    known = by_hand.Annotated(MAPS, MASKS)
    assert by_hand.run(name, nothing, NET, known=known)[name].isnan().all()
    assert set(by_hand.reasons(nothing)) == {"empty_mask"}


def test_squares_of_infidelity_differ_and_do_not_add_up():
    """Quantus: Infidelity accumulates its perturbations and repeats identical samples."""
    regions = []
    by_hand.run(
        "infidelity",
        case(),
        NET,
        watch=lambda request: regions.extend(request.region(i, slice(None)) for i in range(getattr(request, "n", 0))),
    )
    sizes = torch.stack([region.flatten(1).sum(1) for region in regions])
    side = sizes.double().sqrt().round()
    assert torch.equal(side.long() ** 2, sizes), "each is one square, not the union of those before"
    assert len({region[0].numpy().tobytes() for region in regions}) > 0.9 * len(regions)


def test_a_dead_map_is_undefined_and_leaves_the_others_alone():
    """Quantus: one dead map becomes NaN, 0, 0.5 or a hit, by the metric."""
    names = [
        name
        for name, choice in choices("metric").items()
        if "order" in choice.facts.get("needs", ()) and not choice.facts.get("reruns") and not choice.facts.get("pairs")
        and not choice.facts.get("protocol") and "validation" not in choice.facts["needs"]
    ]  # fmt: skip
    assert len(names) > 25
    settings = {"seed": 0, "shifts": 0}
    suites = ["faithfulness", "localisation"]
    plain = hp.measure(NORMED, IMAGES, MAPS, metrics=suites, masks=MASKS, target=0, **settings).frame()
    for dead in (0.0, 0.7, torch.nan):
        maps = MAPS.clone()
        maps[2] = dead
        frame = hp.measure(NORMED, IMAGES, maps, metrics=suites, masks=MASKS, target=0, **settings).frame()
        main = frame[frame["metric"] == frame["column"]]
        hurt = main[(main["image"] == "2") & main["metric"].isin(names)]
        assert hurt["value"].isna().all()
        assert hurt["status"].str.startswith("undefined:").all()
        others, before = (f[(f["image"] != "2")]["value"].to_numpy() for f in (frame, plain))
        np.testing.assert_allclose(others, before, atol=1e-5)


def test_targets_that_are_too_few_are_refused():
    """pytorch-grad-cam: fewer targets than images give zero maps without a word."""
    theirs = GradCAM(NET, [NET.high])(IMAGES, [ClassifierOutputTarget(1)])
    assert np.ptp(theirs[0]) > 0
    assert not theirs[1:].any()
    with pytest.raises(HeatproofError, match="one number per image"):
        hp.explain(NET, IMAGES, "gradcam", layer="high", target=torch.tensor([1, 1]))
    ours = hp.explain(NET, IMAGES, "gradcam", layer="high", target=1, settings={"relu": False}).tensor()
    assert all(np.ptp(one) > 0 for one in ours.numpy())


def test_the_class_of_the_image_is_explained_in_every_view():
    """pytorch-grad-cam: aug_smooth picks the class anew in every view."""
    classifier = tiny.classifier(NET, channels=3)
    fused = stocked.methods("gradcam", views=("identity", "flip"))[1]
    ids, targets = [str(i) for i in range(N)], torch.tensor([0, 1, 2, 0, 1])
    found = explain_batch(classifier, IMAGES, targets, [fused], ids=ids, seed=0, keep_views=True)[str(fused.name)].views
    single = stocked.methods("gradcam")[0]
    flipped = explain_batch(classifier, IMAGES.flip(-1), targets, [single], ids=ids, seed=0)["gradcam"].maps.flip(-1)
    torch.testing.assert_close(found[1], flipped, atol=1e-6, rtol=1e-5)


def test_errors_inside_a_shared_pass_come_out():
    """pytorch-grad-cam: its context manager swallows an IndexError."""
    with GradCAM(NET, [NET.high]):
        raise IndexError("swallowed")
    with pytest.raises(IndexError), shared_pass(NET, IMAGES, torch.zeros(N, dtype=torch.int64), ["high"]):
        raise IndexError("told")
    with pytest.raises(IndexError), shared_forwards(NET):
        raise IndexError("told")


def test_a_sparse_map_loses_the_share_that_is_asked_for():
    """pytorch-grad-cam: ROAD by percentile removes everything at a nominal 50 % where most values are equal."""
    maps = torch.zeros(N, SIZE, SIZE)
    maps[:, 2, 2] = 1.0
    assert (maps[0] >= np.percentile(maps[0], 50)).all(), "what a percentile selects"
    seen = []
    by_hand.run("road_morf", case(maps=maps), NET, shares=[0.5], watch=lambda r: seen.append(r.region(0, slice(None))))
    assert seen[0].flatten(1).sum(1).tolist() == [SIZE * SIZE // 2] * N


@pytest.mark.parametrize("name", [name for name in NAMES if name != "road"])
def test_what_is_replaced_leaves_nothing_behind(name):
    """captum: NaN leaks through `x * (1 - m) + b * m`."""
    images, region = IMAGES.clone(), MASKS.clone()
    images[0, :, 4, 5] = torch.nan
    leaked = images * (1 - region[:, None].float()) + 0.5 * region[:, None].float()
    assert leaked[0].isnan().any()
    mean = torch.full((3,), 0.5)
    filled = fill(name, images, region, torch.arange(N), mean, mean)
    if name not in ("blur", "noise_add"):  # which are made of the pixels themselves
        assert filled.isfinite().all()
    assert filled[1:].isfinite().all()


def test_occlusion_fills_its_batches():
    """captum: Occlusion runs one perturbation a call unless it is told otherwise."""
    calls = {"captum": 0, "ours": 0}

    def counted(name: str) -> torch.nn.Module:
        net = tiny.Conv(3)
        net.register_forward_hook(lambda *_: calls.update({name: calls[name] + 1}))
        return net

    Occlusion(counted("captum")).attribute(IMAGES[:1], sliding_window_shapes=(3, 4, 4), strides=(3, 4, 4), target=0)
    settings = {**bind("explainer", "occlusion").settings, "patch": 4, "stride": 4}
    net = counted("ours")
    with shared_forwards(net, twin=lambda images: net(images).detach()):
        occlusion(net, IMAGES[:1], torch.zeros(1, dtype=torch.int64), **settings)
    assert calls["captum"] >= 16
    assert calls["ours"] <= 3

"""Maps of many methods in shared passes equal those of one method, one view, one image at a time."""

import pytest
import tiny
import torch

from heatproof.base import fields
from heatproof.base.altered import gaussian_blur
from heatproof.base.methods import MapPasses, explain_batch, noisy
from heatproof.base.names import MethodName
from heatproof.base.records import Method
from heatproof.base.registry import bind, hash_of, preset

VIEWS = ("identity", "flip", "rotate_p15", "colour_jitter", "gaussian_blur", "greyscale")


def methods(layer="high"):
    views = tuple(preset("view", name) for name in VIEWS)
    made = []
    for name in ("gradcam", "gradcam_plus_plus"):
        explainer = bind("explainer", name)
        made.append(Method(MethodName(name, layer), explainer, layer))
        for fusion in ("mean", "median"):
            full = MethodName(name, layer, "robustcam6", fusion)
            made.append(Method(full, explainer, layer, views, preset("fusion", fusion)))
    return made


def case(n=5, channels=3, size=20):
    images = torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(0))
    classifier = tiny.classifier(tiny.Conv(channels), channels=channels)
    return classifier, images, torch.arange(n) % 3, [f"image{i}" for i in range(n)]


def slow(classifier, image, target, image_id, method, seed):
    """One image, one view, one pass at a time."""
    if not method.views:
        raw = method.explainer(classifier, image, target, layer=method.layer)
        return torch.nn.functional.interpolate(raw[:, None], size=image.shape[-2:], mode="bilinear")[0, 0]
    aligned, valid = [], []
    for view in method.views:
        seeds = torch.tensor([fields.image_seed(seed, image_id, f"base:view:{hash_of(view.identity())}")])
        seen, unwarp = view(image, seeds)
        raw = method.explainer(classifier, seen, target, layer=method.layer)
        maps, inside = unwarp(
            torch.nn.functional.interpolate(raw[:, None], size=image.shape[-2:], mode="bilinear")[:, 0]
        )
        aligned.append(maps)
        valid.append(inside)
    return method.fusion(torch.stack(aligned), torch.stack(valid))[0]


def test_shared_passes_equal_the_slow_twin():
    classifier, images, targets, ids = case()
    wanted = methods()
    made = explain_batch(classifier, images, targets, wanted, ids=ids, seed=7)
    for method in wanted:
        for i in range(len(images)):
            one = slow(classifier, images[i : i + 1], targets[i : i + 1], ids[i], method, 7)
            torch.testing.assert_close(made[str(method.name)].maps[i], one, atol=1e-5, rtol=1e-5)


def test_a_method_does_not_depend_on_its_neighbours():
    classifier, images, targets, ids = case()
    wanted = methods()
    together = explain_batch(classifier, images, targets, wanted, ids=ids, seed=7)
    order = [3, 1, 4]
    for method in wanted:
        alone = explain_batch(classifier, images[order], targets[order], [method], ids=[ids[i] for i in order], seed=7)[
            str(method.name)
        ]
        torch.testing.assert_close(alone.maps, together[str(method.name)].maps[order], atol=1e-5, rtol=1e-5)


def test_each_distinct_view_is_run_once():
    classifier, images, targets, ids = case()
    passes = MapPasses()
    explain_batch(classifier, images, targets, methods(), ids=ids, seed=7, passes=passes)
    # The identity view takes the single view's maps, so six views of two explainers and two fusions are six passes.
    assert passes.images == 6 * len(images)


def test_stochastic_views_draw_anew_in_each_rerun():
    classifier, images, targets, ids = case()
    fused = [methods()[1]]
    roles = [
        explain_batch(classifier, images, targets, fused, ids=ids, seed=7, role=role) for role in ("base", "noise0")
    ]
    name = str(fused[0].name)
    assert not torch.allclose(roles[0][name].maps, roles[1][name].maps)


def test_fusions_carry_their_spread_and_single_views_none():
    classifier, images, targets, ids = case()
    single, mean, _ = methods()[:3]
    made = explain_batch(classifier, images, targets, [single, mean], ids=ids, seed=7)
    assert made[str(single.name)].sd is None
    assert (made[str(mean.name)].sd >= 0).all()
    assert made[str(mean.name)].sd.max() > 0


def test_a_blurred_control_is_its_blurred_single_view():
    classifier, images, targets, ids = case()
    single = methods()[0]
    blurred = Method(
        MethodName("blurred-gradcam", "high", "robustcam6", "mean"),
        single.explainer,
        "high",
        control_of="gradcam.high:robustcam6.mean",
        alter="blurred",
        blur_px=2.0,
    )
    made = explain_batch(classifier, images, targets, [single, blurred], ids=ids, seed=7)
    torch.testing.assert_close(made[str(blurred.name)].maps, gaussian_blur(made[str(single.name)].maps, 2.0))


def test_study_protocol_scales_at_low_resolution():
    classifier, images, targets, ids = case()
    single = methods()[0]
    maps = explain_batch(classifier, images, targets, [single], ids=ids, seed=7, protocol="study")[
        str(single.name)
    ].maps
    raw = single.explainer(classifier, images, targets, layer="high")
    low, high = raw.amin((1, 2), keepdim=True), raw.amax((1, 2), keepdim=True)
    expected = torch.nn.functional.interpolate(
        ((raw - low) / (high - low)).nan_to_num(0)[:, None], size=(20, 20), mode="bilinear"
    )
    torch.testing.assert_close(maps, expected[:, 0].clamp(0, 1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("std", [0.02, 0.2])
def test_noise_is_seeded_per_image_and_not_clipped(std):
    _, images, _, ids = case()
    together = noisy(images, ids, 1, 0, std)
    alone = noisy(images[2:3], ids[2:3], 1, 0, std)
    assert torch.equal(together[2:3], alone)
    assert not torch.equal(noisy(images, ids, 1, 1, std), together)
    assert abs((together - images).std().item() / std - 1) < 0.05
    if std == 0.2:
        assert together.min() < 0

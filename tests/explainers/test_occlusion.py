"""Occlusion against a loop over windows, closed forms on a linear net, and captum."""

import pytest
import tiny
import torch

from heatproof.explainers.occlusion import occlusion, windows

GRAY = {"fill": "gray", "border": "covered", "absolute": False, "combine": "mean", "score": "prob"}


def slow(net, image, target, *, patch, stride, value, absolute, combine, uncovered):
    """One window at a time, float64."""
    net, image = net.double(), image.double()
    _, height, width = image.shape
    ends = (height - patch, width - patch)
    starts = [list(range(0, end, stride)) if uncovered else sorted({*range(0, end + 1, stride), end}) for end in ends]
    total, count = torch.zeros(height, width, dtype=torch.float64), torch.zeros(height, width)
    p = net(image[None]).softmax(1)[0, target]
    for y in starts[0]:
        for x in starts[1]:
            covered = image.clone()
            covered[:, y : y + patch, x : x + patch] = value
            drop = p - net(covered[None]).softmax(1)[0, target]
            total[y : y + patch, x : x + patch] += drop.abs() if absolute else drop
            count[y : y + patch, x : x + patch] += 1
    return total / count.clamp_min(1) if combine == "mean" else total


@pytest.mark.parametrize("size", [(20, 20), (17, 23)])
@pytest.mark.parametrize(("absolute", "combine", "border"), [(False, "mean", "covered"), (True, "sum", "uncovered")])
def test_equal_to_a_loop_over_windows(size, absolute, combine, border):
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 2])
    settings = {**GRAY, "absolute": absolute, "combine": combine, "border": border}
    maps = occlusion(tiny.Conv(3), images, targets, patch=6, stride=4, **settings)
    for i in range(2):
        with torch.no_grad():
            wanted = slow(tiny.Conv(3), images[i], targets[i], patch=6, stride=4, value=0.5, absolute=absolute,
                          combine=combine, uncovered=border == "uncovered")  # fmt: skip
        torch.testing.assert_close(maps[i].double(), wanted, atol=2e-6, rtol=1e-4)


def test_one_pixel_on_black_is_input_times_gradient_of_a_linear_net():
    weights = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    images = torch.rand(3, 2, 5, 7, generator=torch.Generator().manual_seed(1))
    settings = {**GRAY, "fill": "black", "score": "logit"}
    maps = occlusion(tiny.Linear(weights), images, torch.tensor([0, 1, 0]), patch=1, stride=1, **settings)
    sign = torch.tensor([1.0, -1.0, 1.0])[:, None, None]
    torch.testing.assert_close(maps, sign * (images * weights).sum(1), atol=1e-5, rtol=1e-4)


def test_equal_to_captum_where_windows_do_not_overlap():
    from captum.attr import Occlusion

    images = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    targets, net = torch.tensor([1, 2]), tiny.Conv(3)
    maps = occlusion(net, images, targets, patch=6, stride=6, **{**GRAY, "score": "logit"})
    theirs = Occlusion(net).attribute(
        images, sliding_window_shapes=(3, 6, 6), strides=(3, 6, 6), baselines=0.5, target=targets
    )
    torch.testing.assert_close(maps, theirs[:, 0].detach(), atol=1e-5, rtol=1e-4)


def test_the_study_leaves_its_borders_uncovered():
    study = windows(224, 20, 10, "uncovered")
    assert study.any(0).nonzero().max() == 219
    assert len(study) == 21
    full = windows(224, 20, 10, "covered")
    assert full.any(0).all()
    assert full[-1].nonzero()[:, 0].tolist() == list(range(204, 224))
    assert len(windows(224, 24, 10, "covered")) == 21
    # A patch larger than the image covers all of it.
    assert windows(8, 20, 10, "covered").all()

"""Methods whose maps are one are found, others never."""

import numpy as np
import pytest
import torch
from torch import nn

from heatproof.base.equal_maps import TOLERANCE, equal_groups, in_words
from heatproof.explainers.gradcam import gradcam, gradcam_plus_plus, xgradcam
from heatproof.explainers.pixelwise_cams import elementwise, hirescam, layercam

RANDOM = np.random.default_rng(0)
ONE = RANDOM.normal(size=(70, 3, 4)).astype(np.float32)


@pytest.mark.parametrize("relu", [True, False])
def test_on_a_pool_plus_linear_head_three_cams_are_one(relu):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 5)
    ).eval()
    images, targets = torch.rand(6, 3, 16, 16), torch.tensor([0, 1, 2, 3, 4, 0])

    def maps(method, layer):
        settings = {} if method is elementwise else {"relu": relu}
        return method(net, images, targets, layer=layer, **settings).numpy()

    methods = (gradcam, gradcam_plus_plus, layercam, elementwise, hirescam, xgradcam)
    groups = equal_groups({method.__name__: maps(method, "2") for method in methods})
    assert ("gradcam", "hirescam", "xgradcam") in groups
    # Behind a ReLU a positive gradient times activation is a positive product.
    assert [group for group in groups if "gradcam" not in group] == [("layercam", "elementwise")]
    # Before the ReLU they are four again.
    early = equal_groups({method.__name__: maps(method, "0") for method in methods})
    assert not any("gradcam" in group for group in early)


def test_a_difference_in_one_pixel_of_the_last_image_is_seen():
    other = ONE.copy()
    other[-1, 0, 0] += 20 * TOLERANCE * np.abs(ONE[-1]).max()
    assert equal_groups({"a": ONE, "b": other}) == []
    other = ONE * (1 + TOLERANCE * 0.1 * RANDOM.uniform(-1, 1, ONE.shape).astype(np.float32))
    assert equal_groups({"a": ONE, "b": other, "c": -ONE, "d": ONE * 2}) == [("a", "b", "d")]


def test_maps_without_content_are_no_evidence():
    zero = np.zeros_like(ONE)
    assert equal_groups({"a": zero, "b": zero}) == []
    assert equal_groups({"a": ONE, "b": ONE[:, :2]}) == []
    broken = ONE.copy()
    broken[3, 0, 0] = np.nan
    assert equal_groups({"a": ONE, "b": broken}) == []
    assert equal_groups({"a": broken, "b": broken.copy()}) == [("a", "b")]


def test_in_words():
    assert in_words([("a", "b", "c")], 7) == (
        "a, b and c give the same map on all 7 images: on this net they are one method.",
    )

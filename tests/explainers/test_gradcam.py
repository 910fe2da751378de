"""Grad-CAM and Grad-CAM++: hand-computed, against pytorch-grad-cam and a slow twin of the formula."""

import numpy as np
import pytest
import torch
import torchvision
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from heatproof.base.hooks import activations_and_gradients, shared_pass
from heatproof.base.records import Classifier
from heatproof.explainers.gradcam import gradcam, gradcam_plus_plus


def chain(*, bias: bool, inplace: bool) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=bias),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1, bias=bias),
        nn.ReLU(inplace=inplace),
        nn.Flatten(),
        nn.Linear(8 * 16 * 16, 5),
    )


NETS = {
    "chain": (lambda: chain(bias=True, inplace=False), ("0", "2", "4")),
    "chain_pooled": (
        lambda: nn.Sequential(nn.Conv2d(3, 7, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(7, 5)),
        ("0", "1"),
    ),
    "chain_inplace": (lambda: chain(bias=False, inplace=True), ("3", "5")),
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=5), ("layer4", "layer2")),
    "squeezenet": (lambda: torchvision.models.squeezenet1_0(num_classes=5), ("features.12",)),
}
IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
LARGE = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
TARGETS = torch.tensor([4, 0, 2])


def library(method, net, layer, images, targets):
    """pytorch-grad-cam's map before it scales and enlarges: what its own object weighs and sums."""
    with method(model=net, target_layers=[net.get_submodule(layer)]) as cam:
        cam(input_tensor=images.clone(), targets=[ClassifierOutputTarget(int(t)) for t in targets])
        acts = cam.activations_and_grads.activations[0].numpy(force=True)
        grads = cam.activations_and_grads.gradients[0].numpy(force=True)
        raw = cam.get_cam_image(images, [net.get_submodule(layer)], targets, acts, grads, False)
    return np.maximum(raw, 0)


@pytest.mark.parametrize(("ours", "theirs"), [(gradcam, GradCAM), (gradcam_plus_plus, GradCAMPlusPlus)])
@pytest.mark.parametrize(("name", "layer"), [(n, layer) for n, (_, layers) in NETS.items() for layer in layers])
def test_equal_to_pytorch_grad_cam(ours, theirs, name, layer):
    torch.manual_seed(5)
    net = NETS[name][0]().eval()
    images, targets = (LARGE, TARGETS[:2]) if "net" in name else (IMAGES, TARGETS)
    maps = ours(net, images, targets, layer=layer).numpy()
    expected = library(theirs, net, layer, images, targets)
    assert expected.max() > 0
    np.testing.assert_allclose(maps / expected.max(), expected / expected.max(), atol=1e-4)


def two_channels() -> nn.Module:
    """Identity features; logit 0 = mean of channel 0 - half the mean of channel 1, logit 1 = sum of channel 1."""
    net = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(8, 2, bias=False))
    net[2].weight.data = torch.tensor([[0.25] * 4 + [-0.125] * 4, [0.0] * 4 + [1.0] * 4])
    return net


IMAGE = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[8.0, 0.0], [0.0, 4.0]]]])


def test_hand_computed_maps():
    net = two_channels()
    c0, c1 = torch.tensor([0]), torch.tensor([1])
    # Weights 1/4 and -1/8: [1, 2, 3, 4] / 4 - [8, 0, 0, 4] / 8.
    assert gradcam(net, IMAGE, c0, layer="0", relu=False)[0].tolist() == [[-0.75, 0.5], [0.75, 0.5]]
    assert gradcam(net, IMAGE, c0, layer="0", relu=True)[0].tolist() == [[0.0, 0.5], [0.75, 0.5]]
    assert gradcam(net, IMAGE, c1, layer="0")[0].tolist() == [[8, 0], [0, 4]]
    # Channel 1 alone: alpha = 1 / (2 + 12), weight 4 / 14.
    plus = gradcam_plus_plus(net, IMAGE, c1, layer="0", epsilon=0.0)
    torch.testing.assert_close(plus, IMAGE[:, 1] * 4 / 14)
    # Alphas that sum to 1: weight = gradient = 1.
    normalized = gradcam_plus_plus(net, IMAGE, c1, layer="0", epsilon=0.0, normalize_alpha=True)
    torch.testing.assert_close(normalized, IMAGE[:, 1])


@pytest.mark.parametrize("normalize_alpha", [False, True])
def test_plus_plus_equals_its_slow_twin(normalize_alpha):
    torch.manual_seed(2)
    net = chain(bias=True, inplace=False).eval()
    acts, grads = (t.double() for t in activations_and_gradients(net, IMAGES, TARGETS, "4"))
    expected = torch.zeros(3, 16, 16, dtype=torch.float64)
    for b in range(3):
        for k in range(8):
            a, g = acts[b, k], grads[b, k]
            alpha = torch.zeros(16, 16, dtype=torch.float64)
            for i in range(16):
                for j in range(16):
                    if g[i, j] != 0:
                        alpha[i, j] = g[i, j] ** 2 / (2 * g[i, j] ** 2 + a.sum() * g[i, j] ** 3)
            if normalize_alpha and alpha.sum() != 0:
                alpha /= alpha.sum()
            expected[b] += (alpha * g.clamp_min(0)).sum() * a
    found = gradcam_plus_plus(net, IMAGES, TARGETS, layer="4", normalize_alpha=normalize_alpha, epsilon=0.0, relu=False)
    torch.testing.assert_close(
        found.double() / expected.abs().max(), expected / expected.abs().max(), atol=1e-4, rtol=0
    )


def test_no_gradient_gives_a_zero_map():
    net = two_channels()
    net[2].weight.data[0] = 0
    for method in (gradcam, gradcam_plus_plus):
        for settings in ({}, {"epsilon": 0.0, "normalize_alpha": True} if method is gradcam_plus_plus else {}):
            maps = method(net, IMAGE, torch.tensor([0]), layer="0", **settings)
            assert maps.shape == (1, 2, 2)
            assert torch.equal(maps, torch.zeros(1, 2, 2))


def test_automatic_layer_and_the_shared_pass():
    torch.manual_seed(0)
    net = chain(bias=True, inplace=False).eval()
    classifier = Classifier(net, tuple("abcde"), ("2", "4"), "id")
    named = gradcam(classifier, IMAGES, TARGETS, layer="4")
    assert torch.equal(gradcam(classifier, IMAGES, TARGETS), named)
    with shared_pass(classifier, IMAGES, TARGETS, ["2", "4"]):
        torch.testing.assert_close(gradcam(classifier, IMAGES, TARGETS), named, atol=1e-7, rtol=1e-5)

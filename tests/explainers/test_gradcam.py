"""Gradient CAMs: hand-computed, against pytorch-grad-cam and slow twins of the formulas."""

import numpy as np
import pytest
import torch
import torchvision
from pytorch_grad_cam import (
    EigenCAM,
    EigenGradCAM,
    GradCAM,
    GradCAMElementWise,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    XGradCAM,
)
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from heatproof.base.hooks import activations_and_gradients, shared_pass
from heatproof.base.records import Classifier
from heatproof.explainers.eigencam import eigencam, eigengradcam
from heatproof.explainers.gradcam import gradcam, gradcam_plus_plus, xgradcam
from heatproof.explainers.pixelwise_cams import elementwise, hirescam, layercam


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


OURS = {
    gradcam: GradCAM,
    gradcam_plus_plus: GradCAMPlusPlus,
    xgradcam: XGradCAM,
    hirescam: HiResCAM,
    layercam: LayerCAM,
    elementwise: GradCAMElementWise,
    eigencam: EigenCAM,
    eigengradcam: EigenGradCAM,
}


def library(method, net, layer, images, targets):
    """pytorch-grad-cam's map before it cuts, scales and enlarges: what its own object weighs and sums."""
    with method(model=net, target_layers=[net.get_submodule(layer)]) as cam:
        cam(input_tensor=images.clone(), targets=[ClassifierOutputTarget(int(t)) for t in targets])
        acts = cam.activations_and_grads.activations[0].numpy(force=True)
        grads = cam.activations_and_grads.gradients[0].numpy(force=True) if cam.uses_gradients else None
        return cam.get_cam_image(images, [net.get_submodule(layer)], targets, acts, grads, False)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize(("name", "layer"), [(n, layer) for n, (_, layers) in NETS.items() for layer in layers])
def test_equal_to_pytorch_grad_cam(relu, name, layer):
    torch.manual_seed(5)
    net = NETS[name][0]().eval()
    images, targets = (LARGE, TARGETS[:2]) if "net" in name else (IMAGES, TARGETS)
    for ours, theirs in OURS.items():
        settings = {} if ours is elementwise else {"relu": relu}
        maps = ours(net, images, targets, layer=layer, **settings).numpy()
        expected = library(theirs, net, layer, images, targets)
        if ours in (eigencam, eigengradcam):
            # Its sign is the solver's: what is compared is the component.
            signed = ours(net, images, targets, layer=layer, relu=False).numpy()
            expected = expected * np.sign((expected * signed).sum((1, 2), keepdims=True))
        assert np.abs(expected).max() > 0
        scale = np.abs(expected).max()
        expected = np.maximum(expected, 0) if relu else expected
        np.testing.assert_allclose(maps / scale, expected / scale, atol=1e-4, err_msg=ours.__name__)


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


def test_plus_plus_enlarges_corner_to_corner_as_scipy_does():
    from scipy.ndimage import zoom

    torch.manual_seed(2)
    net = nn.Sequential(nn.MaxPool2d(2), chain(bias=True, inplace=False)).eval()
    images = IMAGES.repeat_interleave(2, 2).repeat_interleave(2, 3)
    small = gradcam_plus_plus(net, images, TARGETS, layer="1.4")
    found = gradcam_plus_plus(net, images, TARGETS, layer="1.4", corners=True)
    assert found.shape[1:] == images.shape[2:]
    factor = found.shape[-1] / small.shape[-1]
    assert factor > 1
    wanted = np.stack([zoom(one.double().numpy(), factor, order=1) for one in small])
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-4 * np.abs(wanted).max())


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


def test_hand_computed_maps_of_the_other_cams():
    net = two_channels()
    c0, c1 = torch.tensor([0]), torch.tensor([1])
    # The head's weights do not differ within a channel, so weighted and plain means of the gradient are one.
    for method in (xgradcam, hirescam):
        torch.testing.assert_close(
            method(net, IMAGE, c0, layer="0", relu=False)[0], torch.tensor([[-0.75, 0.5], [0.75, 0.5]])
        )
    # Positive gradients alone: channel 0 / 4; positive products alone: the same, as all activations are positive.
    assert layercam(net, IMAGE, c0, layer="0")[0].tolist() == [[0.25, 0.5], [0.75, 1.0]]
    assert elementwise(net, IMAGE, c0, layer="0")[0].tolist() == [[0.25, 0.5], [0.75, 1.0]]
    # A gradient that differs within the channel: activations 1..4, gradients 8, 0, 0, 4 / their activation's share.
    net[2].weight.data[0] = torch.tensor([8.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0])
    weight = (8 * 1 - 1 * 4) / 10
    torch.testing.assert_close(xgradcam(net, IMAGE, c0, layer="0", relu=False)[0], weight * IMAGE[0, 0])
    assert hirescam(net, IMAGE, c0, layer="0", relu=False)[0].tolist() == [[8, 0], [0, -4]]
    assert layercam(net, IMAGE, c0, layer="0")[0].tolist() == [[8, 0], [0, 0]]
    assert elementwise(net, IMAGE, c0, layer="0")[0].tolist() == [[8, 0], [0, 0]]
    # One channel varies along (3, 1, -1, -3), the other not: the component is the first channel, centred.
    image = IMAGE.clone()
    image[0, 1] = 5
    for classes in (c0, c1):
        found = eigencam(net, image, classes, layer="0", relu=False)
        torch.testing.assert_close(found[0], torch.tensor([[-1.5, -0.5], [0.5, 1.5]]))
    # Gradient times activation: (8, 0, 0, -4), centred by its mean 1; the sign goes with the sum.
    found = eigengradcam(net, image, c0, layer="0", relu=False)
    torch.testing.assert_close(found[0], torch.tensor([[7.0, -1.0], [-1.0, -5.0]]))


@pytest.mark.parametrize("size", [3, 9])
def test_eigen_maps_equal_the_singular_value_decomposition(size):
    """Fewer places than channels and the other way round, in float64."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 20, 1), nn.Flatten(), nn.Linear(20 * size * size, 2)).eval()
    images = torch.rand(2, 3, size, size)
    acts, grads = activations_and_gradients(net, images, TARGETS[1:2].repeat(2), "0")
    for method, channels in ((eigencam, acts), (eigengradcam, acts * grads)):
        found = method(net, images, TARGETS[1:2].repeat(2), layer="0", relu=False).double()
        for b in range(2):
            matrix = channels[b].flatten(1).T.double()
            matrix = matrix - matrix.mean(0)
            u, s, _ = torch.linalg.svd(matrix)
            expected = (u[:, 0] * s[0]).view(size, size)
            expected *= ((expected.flatten() * matrix.sum(1)).sum()).sign()
            torch.testing.assert_close(found[b], expected, atol=1e-5 * float(s[0]), rtol=0)


def test_no_gradient_gives_a_zero_map():
    net = two_channels()
    net[2].weight.data[0] = 0
    for method in OURS:
        if method is eigencam:
            continue  # knows no class
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

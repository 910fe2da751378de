"""CAMs that pytorch-grad-cam computes: equal to what it gives when called plainly, without its faults."""

import gc

import cv2
import numpy as np
import pytest
import torch
from pytorch_grad_cam import KPCA_CAM, FinerCAM, FullGrad
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget, FinerWeightedTarget
from torch import nn
from torch.nn import functional as F

from heatproof.base.errors import HeatproofError
from heatproof.explainers.gradcam import gradcam
from heatproof.explainers.pytorch_grad_cam import finercam, fullgrad, kpcacam

IMAGES = torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(1))
TARGETS = torch.tensor([4, 0, 2])


def chain() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * 36, 5),
        ).eval()


class Branches(nn.Module):
    """A short cut of other width that is defined last and run first, and operations in place."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(2)
            self.stem = nn.Conv2d(3, 4, 3, padding=1)
            self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
            self.cut = nn.Conv2d(4, 3, 1)
            self.head = nn.Linear(7, 5)

    def forward(self, x):
        x = F.relu(self.stem(x), inplace=True)
        short = self.cut(x)
        y = self.second(F.relu(self.first(x), inplace=True))
        return self.head(F.relu(torch.cat([y, short], 1), inplace=True).mean((2, 3)))


def scaled(maps):
    """As the library gives its maps: cut at 0 and scaled to [0, 1] one by one."""
    maps = maps.clamp_min(0).numpy()
    maps = maps - maps.min((1, 2), keepdims=True)
    return maps / (1e-7 + maps.max((1, 2), keepdims=True))


def test_kpcacam_equals_the_library():
    net = chain()
    with KPCA_CAM(net, [net[4]]) as cam:
        cam(IMAGES, [ClassifierOutputTarget(int(t)) for t in TARGETS])
        expected = cam.get_cam_image(
            IMAGES, net[4], None, cam.activations_and_grads.activations[0].numpy(), None, False
        )
    found = kpcacam(net, IMAGES, TARGETS, layer="4", relu=False).numpy()
    signs = np.sign((found * expected).sum((1, 2), keepdims=True))
    np.testing.assert_allclose(found, expected * signs, atol=1e-4 * np.abs(expected).max())


def test_kernel_pca_draws_from_a_state_of_its_own():
    """Above 200 places scikit-learn starts its solver at random."""
    images = torch.rand(1, 3, 40, 40)
    np.random.seed(3)
    state = np.random.get_state()[1].tolist()
    net = nn.Sequential(*list(chain())[:5], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()
    first = kpcacam(net, images, TARGETS[:1], layer="4")
    assert np.random.get_state()[1].tolist() == state
    np.random.seed(4)
    assert torch.equal(kpcacam(net, images, TARGETS[:1], layer="4"), first)


def test_finercam_equals_the_library():
    net = chain()
    with torch.no_grad():
        logits = net(IMAGES)
    targets = []
    for row, target in zip(logits, TARGETS.tolist(), strict=True):
        nearest = [k for k in (row - row[target]).abs().argsort().tolist() if k != target]
        targets.append(FinerWeightedTarget(target, nearest[:2], 0.7))
    with FinerCAM(net, [net[4]]) as cam:
        expected = cam(IMAGES.clone(), targets)
    found = finercam(net, IMAGES, TARGETS, layer="4", alpha=0.7, others=2)
    enlarged = np.stack([cv2.resize(cell_map, (12, 12)) for cell_map in scaled(found)])
    np.testing.assert_allclose(scaled(torch.from_numpy(enlarged)), expected, atol=1e-4)


def test_finercam_by_hand():
    """Two classes: the score is the difference of the logits, so the map is Grad-CAM of one less that of the other."""
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)).eval()
    zero, one = (gradcam(net, IMAGES, torch.full((3,), c), layer="1", relu=False) for c in (0, 1))
    found = finercam(net, IMAGES, torch.zeros(3, dtype=torch.int64), layer="1", relu=False, alpha=1.0)
    torch.testing.assert_close(found, zero - one, atol=1e-6, rtol=1e-4)


def test_fullgrad_equals_the_library_on_a_chain():
    net = chain()
    with FullGrad(net, []) as cam:
        expected = cam(IMAGES.clone(), [ClassifierOutputTarget(int(t)) for t in TARGETS])
    np.testing.assert_allclose(scaled(fullgrad(net, IMAGES, TARGETS)), expected, atol=1e-4)


def by_hand_fullgrad(net):
    """Each bias with the gradient of its own layer, image by image in float64."""

    def scale(image):
        image = image - image.min()
        return cv2.resize(np.float32(image / (1e-7 + image.max())), (12, 12))

    net.double()
    found = []
    for image, target in zip(IMAGES.double(), TARGETS.tolist(), strict=True):
        outputs = {}

        def keep(part, _inputs, output, outputs=outputs):
            outputs[part] = output
            return output.clone()

        handles = [part.register_forward_hook(keep) for part in net.modules() if isinstance(part, nn.Conv2d)]
        x = image[None].requires_grad_()
        logit = net(x)[0, target]
        for handle in handles:
            handle.remove()
        gradient, *rest = torch.autograd.grad(logit, [x, *outputs.values()])
        total = sum(scale(c) for c in (gradient * x)[0].detach().abs().numpy())
        for part, g in zip(outputs, rest, strict=True):
            total = total + sum(scale(c) for c in (part.bias[:, None, None] * g[0]).detach().abs().numpy())
        found.append(total)
    return np.stack(found)


def test_fullgrad_pairs_each_bias_with_its_own_gradient_in_a_net_with_branches():
    """The library takes gradients in the order in which layers run, biases in that in which they are defined."""
    expected = by_hand_fullgrad(Branches().eval())
    found = fullgrad(Branches().eval(), IMAGES, TARGETS).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())
    cam = FullGrad(Branches().eval(), [])
    with pytest.raises(ValueError, match="could not be broadcast"):
        cam(IMAGES.clone(), [ClassifierOutputTarget(int(t)) for t in TARGETS])


def test_a_net_without_biases_is_refused():
    net = nn.Sequential(nn.Conv2d(3, 2, 3, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 5))
    with pytest.raises(HeatproofError, match="fullgrad: this net has no bias of a convolution or batch norm"):
        fullgrad(net, IMAGES, TARGETS)


def test_an_index_error_of_the_net_is_not_swallowed():
    class Fails(nn.Module):
        """Raises what the library's `with` block swallows."""

        def __init__(self):
            super().__init__()
            self.net, self.left = chain(), 1

        def forward(self, images):
            self.left -= 1
            if self.left < 0:
                raise IndexError("out of range")
            return self.net(images)

    for method, settings in ((fullgrad, {}), (finercam, {"layer": "net.4"})):
        net = Fails()
        net.left = 0 if method is fullgrad else 1
        with pytest.raises(IndexError, match="out of range"):
            method(net, IMAGES, TARGETS, **settings)
    gc.collect()

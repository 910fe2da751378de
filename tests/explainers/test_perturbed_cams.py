"""Score-CAM and Ablation-CAM against pytorch-grad-cam and against one channel at a time."""

import numpy as np
import pytest
import tiny
import torch
from pytorch_grad_cam import AblationCAM, ScoreCAM
from pytorch_grad_cam.ablation_layer import AblationLayer
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from heatproof.base.forwards import shared_forwards
from heatproof.explainers.ablationcam import ablationcam
from heatproof.explainers.scorecam import scorecam

IMAGES = torch.rand(3, 3, 20, 18, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 2, 1])


class Dense(nn.Module):
    """A layer whose output is concatenated with what goes around it: its batch cannot be repeated alone."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.stem = nn.Conv2d(3, 4, 3, padding=1)
            self.grown = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU())
            self.head = nn.Linear(10, 3)

    def forward(self, images):
        x = self.stem(images).relu()
        return self.head(torch.cat([x, self.grown(x)], 1).mean((2, 3)) * 6) + 3


def positive(net):
    """Logits above 0, as the ratio of Ablation-CAM expects."""
    net.head.bias.data += 5
    return net


def theirs(method, net, layer, **more):
    with method(model=net, target_layers=[net.get_submodule(layer)], **more) as cam:
        cam.batch_size = 7
        targets = [ClassifierOutputTarget(int(t)) for t in TARGETS]
        cam.outputs = None
        grads = torch.zeros(1)
        acts = []
        handle = net.get_submodule(layer).register_forward_hook(lambda *found: acts.append(found[2].detach()))
        with torch.no_grad():
            net(IMAGES)
        handle.remove()
        weights = cam.get_cam_weights(IMAGES, net.get_submodule(layer), targets, acts[0].numpy(), grads)
        return np.einsum("bk,bkuv->buv", weights, acts[0].numpy())


def close(maps, wanted):
    wanted = torch.from_numpy(np.asarray(wanted, dtype=np.float32))
    scale = wanted.abs().amax((1, 2), keepdim=True)
    torch.testing.assert_close(maps / scale, wanted / scale, atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("net", "layer"), [(tiny.Conv(3), "high"), (tiny.Conv(3, seed=3), "low"), (Dense(), "grown")])
def test_scorecam_equals_pytorch_grad_cam(net, layer, capfd):
    wanted = theirs(ScoreCAM, net.eval(), layer)
    capfd.readouterr()
    close(scorecam(net, IMAGES, TARGETS, layer=layer, relu=False, align_corners=True), wanted)
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("net", "layer"), [(tiny.Conv(3), "high"), (tiny.Conv(3, seed=3), "low"), (Dense(), "grown")])
def test_ablationcam_equals_pytorch_grad_cam_behind_a_relu(net, layer):
    net = positive(net.eval())
    maps = ablationcam(net, IMAGES, TARGETS, layer=layer, relu=False, relative="magnitude")
    close(maps, theirs(AblationCAM, net, layer, ablation_layer=AblationLayer()))


@pytest.mark.parametrize("layer", ["low", "low.0", "low.1", "high"])
def test_ablationcam_equals_one_channel_at_a_time(layer):
    """Also at a layer whose output the twin has not got (`low.0`: batch norm folded into it)."""
    net = tiny.Conv(3)
    maps = ablationcam(net, IMAGES, TARGETS, layer=layer, relu=False, relative="logit")
    double, images = tiny.Conv(3).double(), IMAGES.double()
    acts = []
    handle = double.get_submodule(layer).register_forward_hook(lambda *found: acts.append(found[2].detach()))
    with torch.no_grad():
        y = double(images).gather(1, TARGETS[:, None])[:, 0]
        handle.remove()
        wanted = torch.zeros_like(acts[0][:, 0])
        for k in range(acts[0].shape[1]):

            def without(_part, _inputs, output, k=k):
                changed = output.clone()
                changed[:, k] = 0
                return changed

            handle = double.get_submodule(layer).register_forward_hook(without)
            wanted += ((y - double(images).gather(1, TARGETS[:, None])[:, 0]) / y)[:, None, None] * acts[0][:, k]
            handle.remove()
    close(maps, wanted)


def test_batches_of_any_size_give_the_same():
    net = tiny.Conv(3)
    for method, more in ((scorecam, {"align_corners": True}), (ablationcam, {"relative": "logit"})):
        with shared_forwards(net, batch=3):
            small = method(net, IMAGES, TARGETS, layer="high", relu=False, **more)
        torch.testing.assert_close(
            small, method(net, IMAGES, TARGETS, layer="high", relu=False, **more), atol=1e-5, rtol=1e-4
        )

"""Guided backpropagation by hand, against captum, and on nets that hide their ReLUs."""

import captum.attr
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from heatproof.base.errors import HeatproofError
from heatproof.explainers.guided_backprop import RELUS, guided_backprop
from heatproof.explainers.input_gradients import saliency

IMAGES = torch.rand(3, 2, 6, 6, generator=torch.Generator().manual_seed(0)) - 0.3
TARGETS = torch.tensor([2, 0, 1])


class Net(nn.Module):
    """Two convolutions; `relu` says how the activation is written."""

    def __init__(self, relu) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
            self.head = nn.Linear(4 * 36, 3)
        self.relu, self.again = (relu, relu) if not isinstance(relu, nn.Module) else (nn.ReLU(), nn.ReLU())

    def forward(self, images):
        x = self.relu(self.first(images))
        y = self.again(self.second(x))
        y = y + x
        return self.head(y.flatten(1))


class Units(nn.Module):
    """Pixels a, b; u = relu(a - b), v = relu(2 a), w = relu(3 v - 4 u); logits (w - u, -w)."""

    def forward(self, images):
        a, b = images.flatten(1).T
        u, v = F.relu(a - b), F.relu(2 * a)
        w = F.relu(3 * v - 4 * u)
        return torch.stack([w - u, -w], 1)


def test_three_units_by_hand():
    image = torch.tensor([[[[3.0, 1.0]]]])
    # dw = 1 passes; u gets -4 - 1 and is cut, v gets 3: gradient (2 * 3, 0). Plain: (6 - 5, 5).
    assert guided_backprop(Units(), image, torch.tensor([0]), channels="sum")[0].tolist() == [[6, 0]]
    assert saliency(Units(), image, torch.tensor([0]), channels="sum")[0].tolist() == [[1, 5]]
    # The second logit sends -1 into w, so nothing passes.
    assert guided_backprop(Units(), image, torch.tensor([1]), channels="sum")[0].tolist() == [[0, 0]]


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")
def test_equal_to_captum_on_modules():
    net = Net(nn.ReLU()).eval()
    theirs = captum.attr.GuidedBackprop(net).attribute(IMAGES.clone().requires_grad_(), TARGETS).detach()
    torch.testing.assert_close(guided_backprop(net, IMAGES, TARGETS, channels="sum"), theirs.sum(1))
    torch.testing.assert_close(guided_backprop(net, IMAGES, TARGETS), theirs.abs().amax(1))


WRITTEN = {
    "module in place": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "Tensor.relu": Tensor.relu,
    "Tensor.relu_": lambda x: x.relu_(),
}


@pytest.mark.parametrize("written", WRITTEN)
def test_a_relu_is_met_however_it_is_written(written):
    expected = guided_backprop(Net(nn.ReLU()).eval(), IMAGES, TARGETS)
    assert not torch.equal(expected, saliency(Net(nn.ReLU()).eval(), IMAGES, TARGETS))
    assert torch.equal(guided_backprop(Net(WRITTEN[written]).eval(), IMAGES, TARGETS), expected)


def test_a_net_without_relu_is_refused():
    with pytest.raises(HeatproofError, match=r"guided_backprop: this net runs no ReLU\. saliency is"):
        guided_backprop(Net(torch.tanh).eval(), IMAGES, TARGETS)
    assert torch.relu in RELUS

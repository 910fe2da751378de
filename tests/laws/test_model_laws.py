"""What holds for every model option by being there: it learns, and its automatic layer tells something of the image."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from heatproof.base.hooks import activations_and_gradients
from heatproof.base.layers import explanation_layers, head_names, spatial_layers
from heatproof.base.nets import build_net
from heatproof.base.registry import conf_folder, preset

OPTIONS = sorted(
    path.stem for path in (conf_folder() / "model").glob("*.yaml") if path.stem not in ("torchvision", "timm")
)
SIZE = 64
IMAGES = torch.rand(3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2])


@pytest.fixture(params=OPTIONS)
def net(request):
    torch.manual_seed(0)
    return build_net(preset("model", request.param), 3, 1, SIZE)


def test_a_model_learns_and_its_layers_reach_the_score(net):
    names = explanation_layers(net, IMAGES)
    if not preset_has_layers(net):
        assert names == ()
    else:
        found = spatial_layers(net, IMAGES)
        assert set(names) <= set(found)
        assert all(min(found[name].layout.rows, found[name].layout.cols) > 1 for name in names)
        # A shallow-to-deep ladder: grids never become finer.
        rows = [found[name].layout.rows for name in names]
        assert rows == sorted(rows, reverse=True)
        with torch.no_grad():
            # torchvision's vision transformers start from a head of zeros, SqueezeNet from one nearly so.
            for part in net.get_submodule(head_names(net)[0]).modules():
                if isinstance(part, (nn.Linear, nn.Conv2d)):
                    part.weight.normal_(0, 0.1)
        acts, grads = activations_and_gradients(net, IMAGES, LABELS, names[-1])
        assert acts.shape == grads.shape == (3, found[names[-1]].channels, rows[-1], found[names[-1]].layout.cols)
        for values in (acts, grads):
            assert values.isfinite().all()
            assert values.flatten(1).any(1).all()
    net.train()
    F.cross_entropy(net(IMAGES), LABELS).backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in net.parameters())
    assert all(weight.grad is not None for weight in net.get_submodule(head_names(net)[0]).parameters())


def preset_has_layers(net):
    return any(isinstance(part, nn.Conv2d) for part in net.modules())

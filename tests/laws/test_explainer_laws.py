"""What holds for every explainer by being registered: batch, order, shape, and a model left as it was."""

import pytest
import torch
from torch import nn

from heatproof.base.records import Classifier
from heatproof.base.registry import bind, choices

# Maps made elsewhere and maps made of others' maps are no explainers of a net: they have tests of their own.
NAMES = [n for n, c in choices("explainer").items() if not c.facts.get("given") and not c.facts.get("combines")]
IMAGES = torch.rand(5, 3, 24, 20, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 3, 1, 1, 2])
SEEDS = torch.tensor([7, -3, 2**61, 0, 12])


class Breakable(nn.Module):
    """A stem, a residual block with in-place activations, dropout and a head that can be told to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(2)
        self.block = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6))
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(6, 4)
        self.broken = False

    def forward(self, images):
        x = self.pool(self.stem(images))
        y = self.relu(self.block(x) + x)
        if self.broken:
            raise ArithmeticError("the net broke")
        return self.head(self.dropout(y.mean((2, 3)))) * 20


@pytest.fixture
def classifier():
    torch.manual_seed(4)
    net = Breakable()
    net.stem[1].running_mean.normal_()
    background = torch.rand(3, 3, 24, 20, generator=torch.Generator().manual_seed(1))
    return Classifier(net.eval(), tuple("abcd"), ("stem", "relu"), "laws", background=background)


# Few draws on small images, signed where there is the choice: a random net may leave a rectified map nothing.
SMALL = {"relu": False, "samples": 24, "segmentation": "grid", "segments": 9, "background": 3, "patch": 8, "stride": 5}


def explain(name, classifier, rows=slice(None), images=IMAGES):
    small = {key: value for key, value in SMALL.items() if key in choices("explainer")[name].parameters}
    explainer = bind("explainer", name, small)
    more = {"seeds": SEEDS[rows]} if "seeds" in explainer.choice.supplied else {}
    return explainer(classifier, images[rows], TARGETS[rows], **more)


def footprint(net):
    return {
        "modes": [part.training for part in net.modules()],
        "flags": [parameter.requires_grad for parameter in net.parameters()],
        "gradients": [parameter.grad for parameter in net.parameters()],
        "weights": {k: v.tolist() for k, v in net.state_dict().items()},
        "hooks": [
            len(hooks)
            for part in net.modules()
            for hooks in (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks)
        ],
        "random": torch.get_rng_state().tolist(),
        "images": IMAGES.tolist(),
    }


@pytest.mark.parametrize("name", NAMES)
def test_shape_and_finiteness(name, classifier):
    maps = explain(name, classifier)
    assert maps.ndim == 3
    assert len(maps) == 5
    assert maps.dtype == torch.float32
    assert not maps.requires_grad
    assert torch.isfinite(maps).all()
    assert (maps.amax((1, 2)) > maps.amin((1, 2))).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_equals_single_images_in_any_order(name, classifier):
    together = explain(name, classifier)
    scale = together.abs().max()
    for i in range(5):
        alone = explain(name, classifier, slice(i, i + 1))
        torch.testing.assert_close(alone[0] / scale, together[i] / scale, atol=1e-5, rtol=0)
    order = torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(explain(name, classifier, order) / scale, together[order] / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_bits(name, classifier):
    first = explain(name, classifier)
    torch.rand(3)
    assert torch.equal(explain(name, classifier), first)


@pytest.mark.parametrize("name", NAMES)
def test_maps_depend_on_what_the_facts_say(name, classifier):
    facts = choices("explainer")[name].facts
    maps = explain(name, classifier)
    with torch.no_grad():
        for parameter in classifier.module.parameters():
            parameter.mul_(-0.5).add_(0.1)
    assert torch.equal(explain(name, classifier), maps) == bool(facts.get("control"))
    if facts.get("constant"):
        assert torch.equal(maps[0], maps[1])
    assert ("seeds" in choices("explainer")[name].supplied) == bool(facts.get("stochastic"))


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_everything_is_as_before_afterwards(name, broken, classifier):
    net = classifier.module
    net.train()
    net.block.eval()
    net.head.weight.requires_grad_(False)
    net.broken = broken
    before = footprint(net)
    if broken and not choices("explainer")[name].facts.get("control"):
        with pytest.raises(ArithmeticError, match="the net broke"):
            explain(name, classifier)
    else:
        explain(name, classifier)
    assert footprint(net) == before


@pytest.mark.parametrize("name", [n for n in NAMES if "layer" in choices("explainer")[n].supplied])
@pytest.mark.parametrize("layer", ["stem", "stem.0", "block", "block.1", "relu"])
def test_every_layer_can_be_asked_for(name, layer, classifier):
    maps = bind("explainer", name)(classifier, IMAGES, TARGETS, layer=layer)
    assert tuple(maps.shape) == ((5, 24, 20) if layer.startswith("stem") else (5, 12, 10))
    assert maps.abs().max() > 0

"""Activations and gradients against plain autograd, on nets that break careless hooks; nothing is left behind."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from heatproof.base.errors import HeatproofError
from heatproof.base.hooks import activations_and_gradients, shared_pass, target_layer
from heatproof.base.records import Classifier


class InPlace(nn.Module):
    """A residual block whose operations overwrite what they are given."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 3)
        self.unused = nn.Conv2d(2, 2, 1)
        self.calls = {"first": 0, "second": 0}

    def forward(self, x):
        self.calls["first"] += 1
        skip = self.relu(self.norm(self.first(x)))
        out = self.second(skip)
        out += skip
        out = self.relu(out)
        return self.head(self.drop(out).mean((2, 3)))


class Tokens(nn.Module):
    """A class token and a 2 x 2 grid of tokens; the score reads the class token alone."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(2, 3, 4, stride=4)
        self.block = nn.Linear(3, 3)
        self.last = nn.Linear(3, 3)

    def forward(self, x):
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        tokens = self.block(torch.cat([tokens.mean(1, keepdim=True), tokens], 1))
        mixed = tokens + tokens.mean(1, keepdim=True) ** 2
        return self.last(mixed)[:, 0]


IMAGES = torch.rand(5, 2, 8, 8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 1, 2, 1, 0])


@pytest.fixture
def net():
    torch.manual_seed(3)
    net = InPlace()
    net.norm.running_mean.normal_()
    return net.eval()


def twin(net, layer):
    """The gradient image by image in float64, each layer written out."""
    net = InPlace().double().eval() if net is None else net
    p = {k: v.double() for k, v in net.state_dict().items()}
    acts, grads = [], []
    for x, c in zip(IMAGES.double(), TARGETS, strict=True):
        first = F.conv2d(x[None], p["first.weight"], p["first.bias"], padding=1)
        if layer == "first":
            first = first.detach().requires_grad_()
        norm = F.batch_norm(first, p["norm.running_mean"], p["norm.running_var"], p["norm.weight"], p["norm.bias"])
        if layer == "norm":
            norm = norm.detach().requires_grad_()
        skip = norm.relu()
        second = F.conv2d(skip, p["second.weight"], p["second.bias"], padding=1)
        if layer == "second":
            second = second.detach().requires_grad_()
        last = (second + skip).relu()
        if layer == "relu":
            last = last.detach().requires_grad_()
        logit = F.linear(last.mean((2, 3)), p["head.weight"], p["head.bias"])[0, c]
        leaf = {"first": first, "norm": norm, "second": second, "relu": last}[layer]
        acts.append(leaf.detach())
        grads.append(torch.autograd.grad(logit, leaf)[0])
    return torch.cat(acts).float(), torch.cat(grads).float()


@pytest.mark.parametrize("layer", ["first", "norm", "second", "relu"])
def test_equal_to_plain_autograd(net, layer):
    acts, grads = activations_and_gradients(net, IMAGES, TARGETS, layer)
    expected_acts, expected_grads = twin(net, layer)
    torch.testing.assert_close(acts, expected_acts, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(grads, expected_grads, atol=1e-6, rtol=1e-5)
    assert grads.abs().max() > 0


def test_one_shared_pass_serves_all_layers(net):
    layers = ("relu", "first", "second", "norm")
    alone = {layer: activations_and_gradients(net, IMAGES, TARGETS, layer) for layer in layers}
    net.calls["first"] = 0
    with shared_pass(net, IMAGES, TARGETS, layers):
        together = {layer: activations_and_gradients(net, IMAGES, TARGETS, layer) for layer in layers}
        assert net.calls["first"] == 1
        # Other tensors are another pass.
        other = activations_and_gradients(net, IMAGES[:2], TARGETS[:2], "second")
        assert net.calls["first"] == 2
    for layer in layers:
        for a, b in zip(together[layer], alone[layer], strict=True):
            torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(other[1], alone["second"][1][:2], atol=1e-7, rtol=1e-5)
    activations_and_gradients(net, IMAGES, TARGETS, "second")
    assert net.calls["first"] == 3


def test_a_layer_not_announced_is_run_once_more_and_kept(net):
    with shared_pass(net, IMAGES, TARGETS, ["second"]):
        for _ in range(2):
            activations_and_gradients(net, IMAGES, TARGETS, "norm")
    assert net.calls["first"] == 2


def test_no_layers_means_no_pass(net):
    with shared_pass(net, IMAGES, TARGETS, []):
        assert net.calls["first"] == 0


def test_nothing_below_the_layer_builds_a_graph(net):
    seen = []
    handle = net.first.register_forward_hook(lambda *a: seen.append(a[-1].requires_grad))
    activations_and_gradients(net, IMAGES, TARGETS, "second")
    handle.remove()
    assert seen == [False]


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_before_afterwards(net, fails):
    net.train()
    net.norm.eval()
    net.second.weight.requires_grad_(False)
    if fails:
        net.drop.forward = lambda x: x.no_such_thing
    modes = [part.training for part in net.modules()]
    flags = [parameter.requires_grad for parameter in net.parameters()]
    weights = {k: v.clone() for k, v in net.state_dict().items()}
    images, state = IMAGES.clone(), torch.get_rng_state()
    if fails:
        with pytest.raises(AttributeError):
            activations_and_gradients(net, IMAGES, TARGETS, "second")
    else:
        activations_and_gradients(net, IMAGES, TARGETS, "second")
    assert [part.training for part in net.modules()] == modes
    assert [parameter.requires_grad for parameter in net.parameters()] == flags
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(v, weights[k]) for k, v in net.state_dict().items())
    assert torch.equal(IMAGES, images)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(part._forward_hooks or part._backward_hooks for part in net.modules())


def test_a_failed_shared_pass_leaves_no_memory(net):
    with pytest.raises(KeyError), shared_pass(net, IMAGES, TARGETS, ["second"]):
        raise KeyError
    activations_and_gradients(net, IMAGES, TARGETS, "second")
    assert net.calls["first"] == 2


def test_works_under_inference_mode_and_no_grad(net):
    expected = activations_and_gradients(net, IMAGES, TARGETS, "second")[1]
    with torch.inference_mode():
        images = IMAGES * 1
        found = activations_and_gradients(net, images, TARGETS, "second")[1]
    assert torch.equal(found, expected)
    with torch.no_grad():
        assert torch.equal(activations_and_gradients(net, IMAGES, TARGETS, "second")[1], expected)


def test_tokens_are_laid_out_as_their_grid():
    torch.manual_seed(0)
    net = Tokens().eval()
    acts, grads = activations_and_gradients(net, IMAGES, TARGETS, "block")
    assert acts.shape == grads.shape == (5, 3, 2, 2)
    tokens = net.block(net.embed(IMAGES).flatten(2).transpose(1, 2))
    torch.testing.assert_close(acts[:, :, 1, 0], tokens[:, 2].detach())
    assert grads.abs().max() > 0


def test_a_layer_of_which_the_class_token_alone_is_read_is_refused():
    net = Tokens().eval()
    # The last block of a vision transformer: its grid tokens are never read.
    with pytest.raises(HeatproofError, match=r"reads its class token alone.*got 'last'\. Take block, the last layer"):
        activations_and_gradients(net, IMAGES, TARGETS, "last")
    with pytest.raises(HeatproofError, match="got 'last'"), shared_pass(net, IMAGES, TARGETS, ["block", "last"]):
        pass
    assert not any(part._forward_hooks for part in net.modules())


class Layouts(nn.Module):
    """A 2 x 3 grid of tokens behind `prefix` others, then the same values with channels last; the score reads all."""

    def __init__(self, prefix: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(2, 5, 4, stride=4)
        self.extra = nn.Parameter(torch.rand(1, prefix, 5))
        self.tokens = nn.Identity()
        self.last = nn.Identity()
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        cells = self.embed(x)
        tokens = self.tokens(torch.cat([self.extra.expand(len(x), -1, -1), cells.flatten(2).transpose(1, 2)], 1))
        grid = tokens[:, self.extra.shape[1] :].unflatten(1, cells.shape[-2:])
        return self.head(self.last(grid).mean((1, 2)) ** 2 + tokens.mean(1))


@pytest.mark.parametrize("prefix", [0, 1, 2, 3, 5])
def test_any_prefix_and_any_grid_gives_the_maps_of_the_patches(prefix):
    torch.manual_seed(0)
    net, images = Layouts(prefix).eval(), torch.rand(2, 2, 8, 12)
    cells, _ = activations_and_gradients(net, images, TARGETS[:2], "embed")
    for layer in ("tokens", "last"):
        acts, grads = activations_and_gradients(net, images, TARGETS[:2], layer)
        assert acts.shape == (2, 5, 2, 3)
        torch.testing.assert_close(acts, cells)
        assert grads.abs().min() > 0


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("secnd", r"no such module, got 'secnd'. Did you mean 'second'\? There are: first, norm"),
        ("", "no such module"),
        ("unused", "is never run by the model, got 'unused'"),
        ("head", r"its output \(5, 3\) has no spatial grid, got 'head'"),
    ],
)
def test_refused_layers(net, layer, message):
    with pytest.raises(HeatproofError, match=message):
        activations_and_gradients(net, IMAGES, TARGETS, layer)
    assert not any(part._forward_hooks for part in net.modules())


def test_automatic_layer_is_the_classifier_s_last(net):
    classifier = Classifier(net, ("a", "b", "c"), ("first", "second"), "id")
    assert target_layer(classifier, None) == "second"
    assert target_layer(classifier, "norm") == "norm"
    with pytest.raises(HeatproofError, match=r"names no layer of its own\. There are: first, norm"):
        target_layer(net, None)


def test_random_states_are_as_before_even_if_the_net_draws(net):
    net.drop.forward = lambda x: F.dropout(x, 0.5, training=True)
    state = torch.get_rng_state()
    activations_and_gradients(net, IMAGES, TARGETS, "second")
    assert torch.equal(torch.get_rng_state(), state)

"""Copies of a classifier with other weights: some re-drawn, or those of a training on permuted labels.

Conventions: the classifier itself is never touched; a module's new weights depend on (seed, name of the module) alone,
so that a block has the same ones in every state that re-draws it, and equal blocks have different ones.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.base.depth import WeightBlock, first_calls, weight_blocks
from heatproof.base.fields import image_seed
from heatproof.base.records import Classifier
from heatproof.base.registry import hash_of
from heatproof.base.settings import CALIBRATED

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# Spread of re-drawn weights that have no initialiser and were all equal.
RAW_SD = 0.02


@dataclass(frozen=True)
class Weights:
    """Which weights a net has in the stead of its own: `redrawn` names the modules whose own weights are re-drawn under
    `seed`; `permuted` stands for the net that was trained on permuted labels."""

    redrawn: tuple[str, ...] = ()
    seed: int = 0
    permuted: bool = False


class OtherWeights:
    """Makes classifiers of other weights; `passes` counts the images that batch norms were calibrated on.

    `images`: what they are calibrated on, training images where there are any; the first `CALIBRATED` are used.
    `permuted`: the classifier that was trained on permuted labels, where there is one.
    """

    def __init__(
        self,
        classifier: Classifier,
        images: Float[Tensor, "n c h w"],
        *,
        permuted: Classifier | None = None,
        batch: int = 64,
    ) -> None:
        self.classifier = classifier
        self.images = images[:CALIBRATED]
        self.permuted = permuted
        self.batch = batch
        self.passes = 0
        self._blocks: dict[str, tuple[WeightBlock, ...]] = {}
        # Buffers of batch norms by state: estimated once, whatever the number of blocks of images.
        self._buffers: dict[Weights, dict[str, Tensor]] = {}

    def blocks(self, grain: str) -> tuple[WeightBlock, ...]:
        """The net's blocks of weights, see `depth.weight_blocks`."""
        if grain not in self._blocks:
            example = self.images[:1].to(self.classifier.device)
            self._blocks[grain] = weight_blocks(self.classifier.module, example, grain)
        return self._blocks[grain]

    def classifier_with(self, weights: Weights) -> Classifier:
        """The classifier with those weights, on the same device and in evaluation mode.

        Statistics of batch norms that come after the first re-drawn module are estimated anew.
        """
        if weights.permuted:
            assert self.permuted is not None, "nobody trained on permuted labels"
            return self.permuted
        module = redrawn(self.classifier.module, weights.redrawn, weights.seed)
        if weights in self._buffers:
            module.load_state_dict(self._buffers[weights], strict=False)
        else:
            order = first_calls(module, self.images[:1].to(self.classifier.device))
            start = min((order[name] for name in weights.redrawn if name in order), default=0)
            norms = [name for name, part in module.named_modules() if _counts(part) and order.get(name, -1) >= start]
            self.passes += calibrate(module, norms, self.images, self.batch)
            self._buffers[weights] = _buffers_of(module, norms)
        identity = hash_of([self.classifier.identity, list(weights.redrawn), weights.seed])
        return replace(self.classifier, module=module, identity=identity)


# The last net with random weights of each net: batches of one rerun follow each other.
_random: WeakKeyDictionary[nn.Module, tuple[int, Classifier]] = WeakKeyDictionary()


def random_net(classifier: Classifier, images: Float[Tensor, "b c h w"], seed: int) -> tuple[Classifier, int]:
    """The classifier with all weights re-drawn under a seed, and how many images its batch norms were calibrated on:
    its background; without one they are as the layers begin. `images`: some of the right shape, which change nothing.
    """
    module = classifier.module
    if module in _random and _random[module][0] == seed:
        return _random[module][1], 0
    names = tuple(
        name for name, part in module.named_modules() if next(part.parameters(recurse=False), None) is not None
    )
    maker = OtherWeights(classifier, images[:1] if classifier.background is None else classifier.background)
    net = maker.classifier_with(Weights(names, seed))
    _random[module] = (seed, net)
    return net, maker.passes


def redrawn(module: nn.Module, names: Iterable[str], seed: int) -> nn.Module:
    """A copy in which the own weights of the named modules are drawn anew, by the initialiser that each module has.

    Weights without one (a class token, a positional embedding) are drawn from a normal distribution with the mean and
    the spread that they have, 0.02 where they are all equal. Drawn on the CPU, so that devices agree; random states are
    as before afterwards. Source: Adebayo et al. 2018.
    """
    device = next(module.parameters()).device
    copied = copy.deepcopy(module).cpu()
    parts = dict(copied.named_modules())
    state = torch.random.get_rng_state()
    try:
        with torch.no_grad():
            for name in names:
                torch.default_generator.manual_seed(image_seed(seed, name, "weights"))
                _redraw(parts[name])
    finally:
        torch.random.set_rng_state(state)
    return copied.to(device).eval()


def _redraw(part: nn.Module) -> None:
    own = list(part.parameters(recurse=False))
    before = [weight._version for weight in own]
    reset = getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)
    if callable(reset):
        reset()
    for weight, version in zip(own, before, strict=True):
        # An initialiser that passes over a weight leaves its version as it was.
        if weight._version == version:
            spread = float(weight.std()) if weight.numel() > 1 else 0.0
            weight.normal_(float(weight.mean()), spread if spread > 0 else RAW_SD)


def calibrate(module: nn.Module, norms: Iterable[str], images: Float[Tensor, "n c h w"], batch: int) -> int:
    """How many images were run to estimate the statistics of the named batch norms anew: means over all batches.

    Everything else stays in evaluation mode. Fewer than two images leave the statistics as they are.
    """
    parts = dict(module.named_modules())
    chosen = [parts[name] for name in norms]
    if not chosen or len(images) < 2:
        return 0
    device = next(module.parameters()).device
    momenta = [part.momentum for part in chosen]
    for part in chosen:
        part.reset_running_stats()
        part.momentum = None  # a plain mean over batches
        part.train()
    with torch.no_grad():
        # Parts of nearly equal size: a last batch of one image has no variance.
        for images_of_part in images.tensor_split(-(-len(images) // max(2, batch))):
            module(images_of_part.to(device))
    for part, momentum in zip(chosen, momenta, strict=True):
        part.momentum = momentum
        part.eval()
    return len(images)


def _counts(part: nn.Module) -> bool:
    return isinstance(part, NORMS) and part.running_mean is not None


def _buffers_of(module: nn.Module, norms: Iterable[str]) -> dict[str, Tensor]:
    parts = dict(module.named_modules())
    return {
        f"{name}.{key}" if name else key: buffer.clone()
        for name in norms
        for key, buffer in parts[name].named_buffers()
    }

"""Guided backpropagation: the gradient that flows through active ReLUs where it is positive."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.gradients import input_gradients, over_channels
from heatproof.base.records import Classifier
from heatproof.base.registry import choice

RELUS = frozenset({F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_})


@choice(needs=("gradient", "relu"), source="Springenberg 2015, arXiv 1412.6806, section 3.4")
def guided_backprop(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    channels: Literal["sum", "max_abs", "sum_abs", "norm"],
) -> Float[Tensor, "b h w"]:
    """The gradient of the target logit with the negative part cut off behind every ReLU.

    ReLUs are met where they are called, as modules or as functions, in place or not; other activations pass the
    gradient as it is. Raises HeatproofError for a net that runs no ReLU: there it would be the plain gradient. Nearly
    blind to the class (Adebayo 2018, arXiv 1810.03292).

    Source: Springenberg 2015, section 3.4.
    """
    with _Guided() as guided:
        gradients = input_gradients(classifier, images, targets)
    if not guided.met:
        raise HeatproofError(fault("guided_backprop", "this net runs no ReLU", hint="saliency is the plain gradient."))
    return over_channels(gradients, channels)


class _Guided(TorchFunctionMode):
    """Inside, the gradient that arrives at the output of a ReLU loses its negative part."""

    def __init__(self) -> None:
        super().__init__()
        self.met = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in RELUS:
            self.met += 1
            if output.requires_grad:
                output.register_hook(lambda gradient: gradient.clamp_min(0))
        return output

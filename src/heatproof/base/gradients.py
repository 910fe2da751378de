"""Gradients of target logits with respect to the image's pixels.

Conventions: as `hooks.py`: each image gets the gradient of its own target logit, and the model, its flags, modes, hooks
and the random states are as before afterwards, also after an error.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.forwards import forwards_of
from heatproof.base.hooks import module_of, quiet
from heatproof.base.records import Classifier

# Images of one pass where an explainer needs many points of an image: larger batches gain nothing on the CPU.
AT_ONCE = 32


def input_gradients(
    classifier: Classifier | nn.Module, images: Float[Tensor, "b c h w"], targets: Int64[Tensor, " b"]
) -> Float[Tensor, "b c h w"]:
    """The gradient of the target logit with respect to each pixel; zeros where the logit does not depend on it."""
    module = module_of(classifier)
    with torch.inference_mode(False), torch.enable_grad(), quiet(module):
        pixels = images.detach().clone().requires_grad_()
        # A copy goes in, so that a net whose first operation is in place does not meet a leaf.
        logits = module(pixels.clone())
        if not logits.requires_grad:
            return torch.zeros_like(pixels).detach()
        score = logits.gather(1, targets.clone()[:, None]).sum()
        (found,) = torch.autograd.grad(score, pixels, allow_unused=True)
    return torch.zeros_like(images) if found is None else found


def mean_of_points(
    classifier: Classifier | nn.Module,
    targets: Int64[Tensor, " b"],
    points: Sequence[int],
    point: Callable[[int], tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"] | None]],
) -> Float[Tensor, "b c h w"]:
    """Mean over points of an image of gradient times factor: `1/n sum_i factor_i * gradient(point_i)`.

    `point(i)` gives the images at point i and what their gradients are multiplied by (None = 1). Points of all images
    share passes of about `AT_ONCE` images, which are counted; where memory runs out they are halved.
    """
    total: Tensor | None = None
    together = max(1, AT_ONCE // len(targets))
    first = 0
    while first < len(points):
        chosen = [point(i) for i in points[first : first + together]]
        try:
            found = input_gradients(classifier, torch.cat([p for p, _ in chosen]), targets.repeat(len(chosen)))
        except torch.OutOfMemoryError:
            if together == 1:
                raise
            together //= 2
            continue
        for gradient, (_, factor) in zip(found.chunk(len(chosen)), chosen, strict=True):
            term = gradient if factor is None else gradient * factor
            total = term if total is None else total + term
        first += len(chosen)
        forwards_of(classifier).passes += len(found)
    assert total is not None, "at least one point"
    return total / len(points)


def over_channels(values: Float[Tensor, "b c h w"], how: str) -> Float[Tensor, "b h w"]:
    """One value a pixel from its colours: their sum, largest magnitude, sum of magnitudes or length."""
    if how == "sum":
        return values.sum(1)
    if how == "max_abs":
        return values.abs().amax(1)
    if how == "sum_abs":
        return values.abs().sum(1)
    if how == "norm":
        return values.square().sum(1).sqrt()
    raise HeatproofError(fault("channels", "no such rule", got=how, choices=("sum", "max_abs", "sum_abs", "norm")))

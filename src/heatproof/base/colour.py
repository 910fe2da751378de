"""Grey values of images and changes of their contrast, one definition for views, controls and training."""

import torch
from jaxtyping import Float
from torch import Tensor

# ITU-R BT.601 luma: how bright a colour looks.
LUMA = (0.299, 0.587, 0.114)


def grey(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
    """Luma of three channels; the plain mean of any other number."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    return (images * images.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)


def factors(draws: Float[Tensor, " b"], span: float) -> Float[Tensor, " b"]:
    """Draws in [0, 1) as factors in [max(0, 1 - span), 1 + span)."""
    low, high = max(0.0, 1 - span), 1 + span
    return low + (high - low) * draws


def brightened(images: Float[Tensor, "b c h w"], factor: Float[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    """Each image times its factor, clipped to [0, 1]."""
    return _blend(images, torch.zeros_like(images), factor)


def contrasted(images: Float[Tensor, "b c h w"], factor: Float[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    """Distances from each image's mean grey value times its factor, clipped to [0, 1]."""
    return _blend(images, grey(images).mean((1, 2, 3), keepdim=True), factor)


def saturated(images: Float[Tensor, "b c h w"], factor: Float[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    """Distances from each pixel's luma times the image's factor, clipped to [0, 1]; no change without colours."""
    return _blend(images, grey(images), factor) if images.shape[1] == 3 else images


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    weight = factor[:, None, None, None]
    return (weight * images + (1 - weight) * other).clamp(0, 1)

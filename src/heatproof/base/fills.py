"""Fills: what stands in the place of removed pixels.

Conventions: images float (b, c, h, w) in [0, 1]; `region` bool (b, h, w), True = replaced; one seed per image, made
from (seed, image id, fill), so that a fill's noise is one field per image, masked by the region, equal for all methods.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from heatproof.base import fields
from heatproof.base.altered import gaussian_blur
from heatproof.base.errors import HeatproofError, fault
from heatproof.base.road import impute

NAMES = ("mean", "black", "gray", "blur", "noise", "road", "normalized_zero", "noise_add", "noise_replace")
BLUR_SHARE = 0.1
ROAD_NOISE_SD = 0.01
ADDED_NOISE_SD = 0.1


def fill(
    name: str,
    images: Float[Tensor, "b c h w"],
    region: Bool[Tensor, "b h w"],
    seeds: Int64[Tensor, " b"],
    mean: Float[Tensor, " c"] | None,
    norm_mean: Float[Tensor, " c"] | None = None,
) -> Float[Tensor, "b c h w"]:
    """Images with the region replaced; pixels outside it are untouched to the bit.

    `mean`: train mean per channel, else the model's normalisation mean. `black`: 0. `gray`: 0.5. `blur`: Gaussian, sd
    10 % of the width, cut at 4 sd, border mirrored (dcba|abcd). `noise`: uniform in [0, 1) per pixel and channel.
    `road`: weighted mean of the neighbours, solved jointly, plus Gaussian noise of sd 0.01, not clipped (with every
    pixel removed: `mean` plus that noise). `normalized_zero`: what is zero after the model's normalisation.
    `noise_add`: Gaussian noise of sd 0.1 added, clipped to [0, 1] (the COVID study's); `noise_replace`: that noise
    alone in the stead of the pixels, clipped.
    Raises: HeatproofError for an unknown name, or where a mean is needed and there is none.
    Source: Rong et al. 2022 (road); metrics law, section 0.
    """
    return put(name, images, region, prepared(name, images, seeds, mean, norm_mean), mean, norm_mean)


def prepared(
    name: str,
    images: Float[Tensor, "b c h w"],
    seeds: Int64[Tensor, " b"],
    mean: Float[Tensor, " c"] | None,
    norm_mean: Float[Tensor, " c"] | None = None,
) -> Tensor:
    """What a fill has ready for images whatever the region: what it puts in the place of a pixel, and of `road` its
    noise. Broadcasts against (b, c, h, w); made once, it serves every region of an image."""
    if name not in NAMES:
        raise HeatproofError(fault("fill", "no such fill", got=name, choices=NAMES))
    shape = tuple(images.shape[1:])
    if name == "black":
        return images.new_zeros(1, 1, 1, 1)
    if name == "gray":
        return images.new_full((1, 1, 1, 1), 0.5)
    if name == "blur":
        return gaussian_blur(images.flatten(0, 1), BLUR_SHARE * images.shape[-1]).view(images.shape)
    if name == "noise":
        return fields.uniform(seeds, shape).to(images)
    if name == "road":
        return ROAD_NOISE_SD * fields.normal(seeds, shape).to(images)
    if name in ("noise_add", "noise_replace"):
        noise = ADDED_NOISE_SD * fields.normal(seeds, shape).to(images)
        return (images + noise if name == "noise_add" else noise).clamp(0, 1)
    return _per_channel(name, images, None if name == "normalized_zero" else mean, norm_mean)


def put(
    name: str,
    images: Float[Tensor, "b c h w"],
    region: Bool[Tensor, "b h w"],
    ready: Tensor,
    mean: Float[Tensor, " c"] | None,
    norm_mean: Float[Tensor, " c"] | None = None,
) -> Float[Tensor, "b c h w"]:
    """`fill` with what `prepared` gave for these images."""
    if name != "road":
        return torch.where(region[:, None], ready, images)
    smooth = impute(images, region)
    gone = region.flatten(1).all(1)
    if gone.any():
        smooth = torch.where(gone[:, None, None, None], _per_channel(name, images, mean, norm_mean), smooth)
    return torch.where(region[:, None], smooth + ready, images)


def _per_channel(name: str, images: Tensor, mean: Tensor | None, norm_mean: Tensor | None) -> Tensor:
    value = mean if mean is not None else norm_mean
    if value is None:
        what = (
            "the model does not normalise" if name == "normalized_zero" else "no training data, no normalisation mean"
        )
        raise HeatproofError(fault(f"fill {name}", f"a mean per channel is needed and there is none: {what}"))
    return value.to(images).expand(images.shape[1])[None, :, None, None]

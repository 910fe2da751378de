"""Maps from the gradient of the target logit with respect to the pixels, at input resolution.

Conventions: raw maps (b, h, w). `channels` says how the colours of a pixel become one value: `sum` keeps signs, so that
contributions still add up; `max_abs`, `sum_abs` and `norm` are not negative.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from heatproof.base.background import background as background_images
from heatproof.base.errors import HeatproofError, fault
from heatproof.base.fields import hash_keys, normal, uniform
from heatproof.base.gradients import input_gradients, mean_of_points, over_channels
from heatproof.base.notes import note_halves
from heatproof.base.records import Classifier
from heatproof.base.registry import choice


@choice(needs=("gradient",), source="Simonyan 2013, arXiv 1312.6034, section 3.1")
def saliency(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    channels: Literal["sum", "max_abs", "sum_abs", "norm"],
) -> Float[Tensor, "b h w"]:
    """The gradient of the target logit: how strongly it answers to each pixel.

    Source: Simonyan 2013, section 3.1: largest magnitude over the colours.
    """
    return over_channels(input_gradients(classifier, images, targets), channels)


@choice(needs=("gradient",), source="Shrikumar 2016, arXiv 1605.01713")
def input_x_gradient(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    channels: Literal["sum", "max_abs", "sum_abs", "norm"],
) -> Float[Tensor, "b h w"]:
    """Pixel times gradient: the first-order effect of painting the pixel black. Equal to integrated gradients on a
    linear net.

    Source: Shrikumar 2016.
    """
    return over_channels(images * input_gradients(classifier, images, targets), channels)


@choice(needs=("gradient",), forwards="steps", source="Sundararajan 2017, arXiv 1703.01365, Eq. 1")
def integrated_gradients(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    steps: int,
    baseline: float | Literal["mean"],
    channels: Literal["sum", "max_abs", "sum_abs", "norm"],
) -> Float[Tensor, "b h w"]:
    """`(x - x') * mean over the straight way from x' to x of the gradient`, midpoint rule with `steps` points.

    Complete: with `channels=sum` a map sums to logit(x) - logit(x'), up to the error of the rule. `baseline`: the
    image x' of one value in [0, 1] (0 = black), or "mean", the training images' mean colour. Raises HeatproofError
    where the mean is not known.

    Source: Sundararajan 2017, Eq. 1-3; they take the right end of each step instead of its middle.
    """
    start = _baseline(classifier, images, baseline)
    way = images - start

    def point(i: int) -> tuple[Tensor, None]:
        return start + (i + 0.5) / steps * way, None

    return over_channels(way * mean_of_points(classifier, targets, range(steps), point), channels)


@choice(needs=("gradient",), stochastic=True, forwards="samples", source="Smilkov 2017, arXiv 1706.03825, Eq. 2")
def smoothgrad(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    seeds: Int64[Tensor, " b"],
    samples: int,
    noise: float,
    channels: Literal["sum", "max_abs", "sum_abs", "norm"],
) -> Float[Tensor, "b h w"]:
    """The mean gradient over noisy copies of the image.

    `noise`: standard deviation as a share of the image's own range of values; copies are not clipped. Notes how well
    the maps from two halves of the copies agree.

    Source: Smilkov 2017, Eq. 2.
    """
    spread = noise * (images.amax((1, 2, 3)) - images.amin((1, 2, 3)))[:, None, None, None]
    keys = hash_keys(seeds.to(images.device), samples)

    def point(i: int) -> tuple[Tensor, None]:
        return images + spread * normal(keys[:, i], tuple(images.shape[1:])), None

    return _of_halves(classifier, targets, samples, point, channels)


@choice(needs=("gradient",), stochastic=True, forwards="samples", source="Erion 2021, arXiv 1906.10670, Eq. 3")
def gradient_shap(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    seeds: Int64[Tensor, " b"],
    samples: int,
    background: int,
    channels: Literal["sum", "max_abs", "sum_abs", "norm"],
) -> Float[Tensor, "b h w"]:
    """Expected gradients: integrated gradients over training images as baselines, one random point of each way.

    `mean over samples of (x - x') * gradient(x' + a (x - x'))`, x' one of `background` training images, a uniform in
    [0, 1). With `channels=sum` a map sums, up to its sampling error, to logit(x) less the mean logit of the baselines.
    Notes how well the maps from two halves of the samples agree. Raises HeatproofError without training images.

    Source: Erion 2021, Eq. 3; `GradientShap` of captum, `GradientExplainer` of shap.
    """
    pool = background_images(classifier, background, images)
    keys = hash_keys(seeds.to(images.device), samples)
    share = uniform(seeds.to(images.device), (samples,)).to(images)

    def point(i: int) -> tuple[Tensor, Tensor]:
        way = images - pool[keys[:, i] % len(pool)]
        return images - (1 - share[:, i, None, None, None]) * way, way

    return _of_halves(classifier, targets, samples, point, channels)


def _of_halves(
    classifier: Classifier | nn.Module,
    targets: Tensor,
    samples: int,
    point: Callable[[int], tuple[Tensor, Tensor | None]],
    channels: str,
) -> Tensor:
    """The map from all points, made of two halves whose agreement is noted."""
    if samples < 2:
        raise HeatproofError(fault("samples", "at least two are needed", got=samples))
    parts = [range(samples // 2), range(samples // 2, samples)]
    first, second = (mean_of_points(classifier, targets, part, point) for part in parts)
    note_halves(over_channels(first, channels), over_channels(second, channels))
    return over_channels((first * len(parts[0]) + second * len(parts[1])) / samples, channels)


def _baseline(classifier: Classifier | nn.Module, images: Tensor, baseline: float | str) -> Tensor:
    if not isinstance(baseline, str):
        return torch.full_like(images, baseline)
    mean = classifier.train_mean if isinstance(classifier, Classifier) else None
    if baseline != "mean" or mean is None:
        raise HeatproofError(fault("baseline", "a value or 'mean' of training images that are known", got=baseline))
    return images.new_tensor(mean)[None, :, None, None].expand_as(images)

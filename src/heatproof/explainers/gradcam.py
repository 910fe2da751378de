"""Class activation maps with one weight a channel, from gradients, at the layer's own resolution.

Conventions: `maps` (b, h, w) raw: no scaling, no enlarging. A map is identically zero where no gradient reaches the
layer; its status says so later.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from heatproof.base.hooks import activations_and_gradients, target_layer
from heatproof.base.records import Classifier
from heatproof.base.registry import choice


@choice(needs=("layer", "gradient"), source="Selvaraju 2017, arXiv 1610.02391, Eq. 1-2")
def gradcam(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    layer: str | None = None,
    relu: bool,
) -> Float[Tensor, "b u v"]:
    """Grad-CAM: the layer's channels weighted by the spatial means of the target logit's gradient, summed.

    `relu`: keep only evidence for the class, as in the paper; without it the map is signed.

    Source: Selvaraju 2017, Eq. 1-2.
    """
    acts, grads = activations_and_gradients(classifier, images, targets, target_layer(classifier, layer))
    return _combine(acts, grads.mean((2, 3)), relu)


@choice(needs=("layer", "gradient"), source="Chattopadhay 2018, arXiv 1710.11063, Eq. 9-19")
def gradcam_plus_plus(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    layer: str | None = None,
    relu: bool,
    normalize_alpha: bool,
    epsilon: float,
    corners: bool,
) -> Float[Tensor, "b u v"]:
    """Grad-CAM++: channel weights are sums of the positive gradients, each pixel weighted by its alpha.

    `alpha = g^2 / (2 g^2 + g^3 sum(A) + epsilon)`, 0 where g = 0: the closed form for the score exp(logit).
    `normalize_alpha`: alphas of a channel sum to 1, as the paper demands in words and tf-keras-vis does.
    `epsilon` keeps the denominator from 0; at 1e-6 pixels with |g| below 1e-3 weigh less than the paper's formula says
    (pytorch-grad-cam does so), 0 is the formula itself. Where activations have both signs (token layers) the two terms
    of the denominator may all but cancel, and the seventh digit of the net's numbers shows in the fifth of the map.
    `corners`: the map comes at the size of the image, enlarged linearly corner to corner, as tf-keras-vis does.

    Source: Chattopadhay 2018, Eq. 9-19.
    """
    acts, grads = activations_and_gradients(classifier, images, targets, target_layer(classifier, layer))
    squared = grads**2
    denominator = 2 * squared + squared * grads * acts.sum((2, 3), keepdim=True) + epsilon
    alpha = squared / torch.where(denominator == 0, torch.ones_like(denominator), denominator)
    if normalize_alpha:
        total = alpha.sum((2, 3), keepdim=True)
        alpha = alpha / torch.where(total == 0, torch.ones_like(total), total)
    maps = _combine(acts, (grads.clamp_min(0) * alpha).sum((2, 3)), relu)
    if not corners:
        return maps
    return F.interpolate(maps[:, None], size=images.shape[-2:], mode="bilinear", align_corners=True)[:, 0]


@choice(needs=("layer", "gradient"), source="Fu 2020, arXiv 2008.02312, Eq. 7-8")
def xgradcam(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    layer: str | None = None,
    relu: bool,
    epsilon: float,
) -> Float[Tensor, "b u v"]:
    """XGrad-CAM: the layer's channels weighted by gradients averaged with the activations as weights, summed.

    `weight_k = sum_ij g_kij A_kij / (sum_ij A_kij + epsilon)`; a silent channel adds nothing. Where activations have
    both signs their sum may be near 0 and the weight large: meant for layers behind a ReLU.

    Source: Fu 2020, Eq. 7-8.
    """
    acts, grads = activations_and_gradients(classifier, images, targets, target_layer(classifier, layer))
    total = acts.sum((2, 3)) + epsilon
    weights = (grads * acts).sum((2, 3)) / torch.where(total == 0, torch.ones_like(total), total)
    return _combine(acts, weights, relu)


def _combine(acts: Tensor, weights: Tensor, relu: bool) -> Tensor:
    maps = torch.einsum("bk,bkuv->buv", weights, acts)
    return maps.clamp_min(0) if relu else maps

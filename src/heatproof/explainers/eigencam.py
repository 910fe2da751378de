"""Class activation maps from the first principal component of a layer's channels.

Conventions: as `gradcam.py`. A component's sign is arbitrary in mathematics; here a map goes with the plain sum over
the channels, so bright means active. Where the channels of a place always sum to the same (behind a layer norm), its
large deviations are bright. (pytorch-grad-cam keeps the sign that its solver happens to return and cuts the rest off:
up to that sign the maps are equal.)
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from heatproof.base.hooks import activations_and_gradients, target_layer
from heatproof.base.records import Classifier
from heatproof.base.registry import choice

# A sum over the channels that varies by less than this share of what the channels do is only rounding.
LEVEL = 1e-3


# Its activations come from the pass that all explainers of a layer share, hence the gradient.
@choice(needs=("layer", "gradient"), source="Muhammad & Yeasin 2020, arXiv 2008.00299, Eq. 4")
def eigencam(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    layer: str | None = None,
    relu: bool,
) -> Float[Tensor, "b u v"]:
    """Eigen-CAM: the activations projected on their first principal component, whatever the class.

    Channels are centred first (the paper does not say so; pytorch-grad-cam does), so without `relu` a map's mean is 0.

    Source: Muhammad & Yeasin 2020, Eq. 4.
    """
    acts, _ = activations_and_gradients(classifier, images, targets, target_layer(classifier, layer))
    return _first_component(acts, relu)


@choice(needs=("layer", "gradient"), source="Gildenblat 2021, pytorch-grad-cam, EigenGradCAM")
def eigengradcam(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    layer: str | None = None,
    relu: bool,
) -> Float[Tensor, "b u v"]:
    """Eigen-Grad-CAM: gradient times activation projected on its first principal component, channels centred first.

    The sign goes with HiResCAM, the sum over the channels.

    Source: pytorch-grad-cam, `EigenGradCAM`.
    """
    acts, grads = activations_and_gradients(classifier, images, targets, target_layer(classifier, layer))
    return _first_component(grads * acts, relu)


def _first_component(channels: Float[Tensor, "b k u v"], relu: bool) -> Float[Tensor, "b u v"]:
    rows = channels.flatten(2).double()
    rows = rows - rows.mean(2, keepdim=True)
    # The smaller of the two Gram matrices has the component; squaring costs half the digits, hence float64.
    if rows.shape[1] <= rows.shape[2]:
        maps = torch.einsum("bk,bkn->bn", torch.linalg.eigh(rows @ rows.mT)[1][..., -1], rows)
    else:
        values, vectors = torch.linalg.eigh(rows.mT @ rows)
        maps = vectors[..., -1] * values[..., -1:].clamp_min(0).sqrt()
    maps = oriented(maps.unflatten(1, channels.shape[2:]), channels.double()).to(channels.dtype)
    return maps.clamp_min(0) if relu else maps


def oriented(maps: Float[Tensor, "b u v"], channels: Float[Tensor, "b k u v"]) -> Float[Tensor, "b u v"]:
    """The maps of components of these channels, each with the sign that the conventions name."""
    centred = channels - channels.mean((2, 3), keepdim=True)
    total = centred.sum(1)
    level = total.square().sum((1, 2)) <= LEVEL**2 * centred.square().sum((1, 2, 3))
    along = torch.where(level, (maps**3).sum((1, 2)), (maps * total).sum((1, 2)))
    return torch.where((along < 0)[:, None, None], -maps, maps)

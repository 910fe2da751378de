"""Maps that know nothing of the model: what every explainer must beat."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from heatproof.base.colour import grey
from heatproof.base.errors import HeatproofError, fault
from heatproof.base.fields import uniform
from heatproof.base.records import Classifier
from heatproof.base.registry import choice

SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))


@choice(control=True, stochastic=True, source="a map without information")
def random(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    seeds: Int64[Tensor, " b"],
    grid: int,
) -> Float[Tensor, "b grid grid"]:
    """Uniform noise in [0, 1) on a grid as coarse as a CAM's, drawn anew for each image and rerun."""
    return uniform(seeds.to(images.device), (grid, grid))


@choice(control=True, stochastic=True, source="a map without information")
def random_pixels(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    seeds: Int64[Tensor, " b"],
) -> Float[Tensor, "b h w"]:
    """Uniform noise in [0, 1), every pixel by itself, drawn anew for each image and rerun."""
    return uniform(seeds.to(images.device), tuple(images.shape[-2:]))


@choice(control=True, constant=True, needs=("prior",), source="mean annotation of the training images")
def prior(
    classifier: Classifier | nn.Module, images: Float[Tensor, "b c h w"], targets: Int64[Tensor, " b"]
) -> Float[Tensor, "b u v"]:
    """Share of the annotated training images whose annotation covers a pixel: where a finding lies, whatever the image.

    Raises: HeatproofError where no training image is annotated.
    """
    known = classifier.prior if isinstance(classifier, Classifier) else None
    if known is None:
        hint = "It takes a data set with masks or boxes in its split 'train'."
        raise HeatproofError(
            fault("prior", "the mean annotation of training images is needed, there is none", hint=hint)
        )
    return known.to(images).expand(len(images), *known.shape).clone()


@choice(control=True, constant=True, source="Bylinskii 2019, arXiv 1604.03605: the centre prior")
def centre(
    classifier: Classifier | nn.Module, images: Float[Tensor, "b c h w"], targets: Int64[Tensor, " b"], *, sd: float
) -> Float[Tensor, "b h w"]:
    """A Gaussian about the image's centre, 1 at its peak; `sd` as a fraction of the width."""
    b, _, h, w = images.shape
    y = torch.arange(h, device=images.device) - (h - 1) / 2
    x = torch.arange(w, device=images.device) - (w - 1) / 2
    squared = y[:, None] ** 2 + x[None] ** 2
    return torch.exp(-squared / (2 * (sd * w) ** 2)).expand(b, h, w).clone()


@choice(control=True, source="Adebayo 2018, arXiv 1810.03292: the edge detector as a control")
def edge(
    classifier: Classifier | nn.Module, images: Float[Tensor, "b c h w"], targets: Int64[Tensor, " b"]
) -> Float[Tensor, "b h w"]:
    """Sobel magnitude of the grey image, border repeated: edges, whatever the model sees."""
    kernel = images.new_tensor(SOBEL)
    both = F.conv2d(F.pad(grey(images), (1, 1, 1, 1), mode="replicate"), torch.stack([kernel, kernel.T])[:, None])
    return both.square().sum(1).sqrt()

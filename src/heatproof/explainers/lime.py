"""LIME: a weighted linear model of the target's probability over which superpixels are seen."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from heatproof.base.fields import hash_keys, uniform
from heatproof.base.forwards import forwards_of, scores
from heatproof.base.notes import note_halves
from heatproof.base.records import Classifier
from heatproof.base.registry import choice


@choice(stochastic=True, forwards="samples", source="Ribeiro 2016, arXiv 1602.04938; the lime package 0.2.0.1")
def lime(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    seeds: Int64[Tensor, " b"],
    samples: int,
    segmentation: Literal["slic", "felzenszwalb", "grid", "quickshift"],
    segments: int,
    hide: Literal["segment_mean", "black", "gray"],
    kernel_width: float,
    absolute: bool,
) -> Float[Tensor, "b h w"]:
    """The weight of each pixel's superpixel in the lime package's ridge regression of p_c on which ones are seen.

    `samples` images with each superpixel seen with probability 1/2, the first one whole, weighted by the cosine
    distance to it. Segmentation and sampling follow the image's seed; all images of the batch share full batches.
    `segments`: superpixels aimed at by `slic` and `grid`. `absolute`: magnitudes, as study 5 takes them.
    Notes the rank correlation of the maps from two halves of the samples.
    """
    keys = hash_keys(seeds, 1)[:, 0].tolist()
    labels = [segmented(image, segmentation, segments, key) for image, key in zip(images, keys, strict=True)]
    counts = [int(label.max()) + 1 for label in labels]
    place = torch.from_numpy(np.stack(labels)).to(images.device)
    hidden = _hidden(images, place, max(counts), hide)
    seen = uniform(seeds.to(images.device), (samples, max(counts))) < 0.5
    seen[:, 0] = True
    p = torch.empty(len(images) * samples, dtype=torch.float64, device=images.device)
    pair_targets = targets.repeat_interleave(samples)

    def perturbed(part: slice) -> Tensor:
        pair = torch.arange(part.start, part.stop, device=images.device)
        image = pair // samples
        shown = seen[image, pair % samples].gather(1, place[image].flatten(1)).view(-1, 1, *images.shape[-2:])
        return torch.where(shown, images[image], hidden[image])

    for part, logits in forwards_of(classifier).made(len(p), perturbed):
        p[part] = scores(logits, pair_targets[part], "prob")
    subsets = [np.arange(samples), *_halves(samples)]
    painted = torch.zeros(len(subsets), *place.shape, device=images.device)
    for i, (count, probs) in enumerate(zip(counts, p.view(len(images), samples).cpu().numpy(), strict=True)):
        data = seen[i, :, :count].cpu().numpy().astype(float)
        for number, rows in enumerate(subsets):
            weights = torch.from_numpy(fitted(data[rows], probs[rows], kernel_width)).to(images)
            painted[number, i] = (weights.abs() if absolute else weights)[place[i]]
    note_halves(painted[1], painted[2])
    return painted[0]


def fitted(data: np.ndarray, probs: np.ndarray, kernel_width: float) -> np.ndarray:
    """Coefficients of the lime package's local model; the first row is the image itself."""
    from lime.lime_base import LimeBase
    from sklearn.metrics import pairwise_distances

    def kernel(distance: np.ndarray) -> np.ndarray:
        return np.sqrt(np.exp(-(distance**2) / kernel_width**2))

    distances = pairwise_distances(data, data[:1], metric="cosine").ravel()
    # The seed keeps the package from drawing on the global random state; its ridge solver draws nothing.
    base = LimeBase(kernel, random_state=0)
    _, found, _, _ = base.explain_instance_with_data(
        data, probs[:, None], distances, 0, data.shape[1], feature_selection="none"
    )
    weights = np.zeros(data.shape[1])
    for feature, weight in found:
        weights[feature] = weight
    return weights


def segmented(image: Float[Tensor, "c h w"], how: str, segments: int, key: int) -> np.ndarray:
    """Superpixels as int64 (h, w), numbered from 0 without gaps; parameters of quickshift as in the lime package."""
    from skimage import segmentation as skimage

    height, width = image.shape[-2:]
    pixels = image.detach().cpu().clamp(0, 1).double().expand(3, -1, -1).permute(1, 2, 0).numpy()
    if how == "quickshift":
        found = skimage.quickshift(pixels, ratio=0.2, kernel_size=4, max_dist=200, rng=key % 2**31)
    elif how == "slic":
        found = skimage.slic(pixels, n_segments=segments, compactness=10, sigma=1, start_label=0)
    elif how == "felzenszwalb":
        found = skimage.felzenszwalb(pixels, scale=100, sigma=0.5, min_size=50)
    else:
        side = max(1, round(segments**0.5))
        found = (np.arange(height) * side // height)[:, None] * side + np.arange(width) * side // width
    numbered: np.ndarray = np.unique(found, return_inverse=True)[1].reshape(height, width).astype(np.int64)
    return numbered


def _hidden(images: Tensor, place: Tensor, most: int, hide: str) -> Tensor:
    """What stands in the place of an unseen superpixel."""
    if hide != "segment_mean":
        return torch.full_like(images, 0.0 if hide == "black" else 0.5)
    index = place.flatten(1)
    ones = torch.zeros(len(images), most, device=images.device).scatter_add_(1, index, torch.ones_like(index).float())
    wide = index[:, None].expand(-1, images.shape[1], -1)
    total = torch.zeros(*images.shape[:2], most, device=images.device).scatter_add_(2, wide, images.flatten(2))
    return (total / ones.clamp_min(1)[:, None]).gather(2, wide).view_as(images)


def _halves(samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Odd and even rows, each with the whole image first: distances are measured from it."""
    rest = np.arange(1, samples)
    return np.r_[0, rest[::2]], np.r_[0, rest[1::2]]

"""What training data say of any image: images that explainers compare with, and where annotations lie."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.fields import image_seed
from heatproof.base.records import Classifier, Samples

# As many as are kept; an explainer takes the first so many of them.
KEPT = 32


def background_of(samples: Samples) -> Float[Tensor, "k c h w"] | None:
    """At most `KEPT` training images in an order that depends on their ids alone; None without training images."""
    return training_images(samples, KEPT)


def training_images(samples: Samples, count: int) -> Float[Tensor, "k c h w"] | None:
    """At most `count` training images in an order that depends on their ids alone; None without training images."""
    rows = samples.rows("train")
    if not len(rows):
        return None
    ids = samples.table["image"].iloc[rows]
    order = sorted(range(len(rows)), key=lambda place: image_seed(0, str(ids.iloc[place]), "background"))
    return samples.images(rows[order[:count]])


def prior_of(samples: Samples) -> Float[Tensor, "h w"] | None:
    """Share of the annotated training images whose annotation covers a pixel; None where none is annotated."""
    if samples.masks is None:
        return None
    total, count = torch.zeros(samples.masks.shape[1:]), 0
    for row in samples.rows("train"):
        mask = torch.from_numpy(samples.masks[row] > 0)
        if mask.any():
            total += mask
            count += 1
    return total / count if count else None


def background(classifier: Classifier | nn.Module, count: int, images: Tensor) -> Float[Tensor, "k c h w"]:
    """The first `count` background images, on the device of `images`. Raises HeatproofError where there are none."""
    kept = classifier.background if isinstance(classifier, Classifier) else None
    if kept is None or not len(kept):
        hint = "It takes a data set with a split 'train', or a Classifier whose `background` holds some images."
        raise HeatproofError(
            fault("background", "this explainer compares with training images, there are none", hint=hint)
        )
    if count > len(kept):
        raise HeatproofError(fault("background", f"at most {len(kept)} training images are at hand", got=count))
    return kept[:count].to(images)

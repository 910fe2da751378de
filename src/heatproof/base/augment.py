"""Random changes of training images, drawn anew in each epoch and the same in every run.

Conventions: images (b, c, h, w) in [0, 1], on any device. Each draw depends on (seed, epoch, image, effect) alone. All
that moves pixels is one affine map per image and one bilinear resampling; what leaves the frame is gone, what enters
it is the mirrored image, its edge pixels or black.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from heatproof.base.colour import brightened, contrasted, factors, saturated
from heatproof.base.fields import image_seed, normal, uniform
from heatproof.base.recipes import Recipe, recipe

PADDING = {"mirror": "reflection", "edge": "border", "black": "zeros"}
RESAMPLING = ("rotate", "shift", "shear", "zoom", "crop")
Seeds = Callable[[str], Tensor]  # effect -> int64 (b,)


def augmented(
    images: Float[Tensor, "b c h w"], names: Sequence[str], seed: int, epoch: int, image_ids: Sequence[str]
) -> Float[Tensor, "b c h w"]:
    """The images changed by the recipe of `names` (see `recipe`), geometry first, clipped to [0, 1] by what changes
    values."""
    effects = recipe(names)

    def seeds(effect: str) -> Tensor:
        drawn = [image_seed(seed, image, f"{effect} epoch {epoch}") for image in image_ids]
        return torch.tensor(drawn, device=images.device)

    images = _moved(images, effects, seeds)
    for effect, change in (("brightness", brightened), ("contrast", contrasted), ("saturation", saturated)):
        if effect in effects:
            images = change(images, factors(uniform(seeds(effect), (1,))[:, 0], float(effects[effect])))
    if "noise" in effects:
        field = normal(seeds("noise"), tuple(images.shape[1:]))
        images = (images + float(effects["noise"]) * field).clamp(0, 1)
    return images


def _moved(images: Float[Tensor, "b c h w"], effects: Recipe, seeds: Seeds) -> Float[Tensor, "b c h w"]:
    flips = {
        axis: uniform(seeds(effect), (1,))[:, 0] < float(effects[effect])
        for effect, axis in (("flip", -1), ("vertical_flip", -2))
        if effect in effects
    }
    if not any(effect in effects for effect in RESAMPLING):
        for axis, chosen in flips.items():
            images = torch.where(chosen[:, None, None, None], images.flip(axis), images)
        return images
    height, width = images.shape[-2:]
    affine = affines(effects, seeds, height, width, len(images))
    for axis, chosen in flips.items():
        affine[:, :, 0 if axis == -1 else 1] *= torch.where(chosen, -1.0, 1.0)[:, None]
    # `affine` counts in pixels from the centre, `grid_sample` in half sides.
    half = affine.new_tensor([width / 2, height / 2])
    affine = affine / half[:, None]
    affine[:, :, :2] *= half
    grid = F.affine_grid(affine.float(), list(images.shape), align_corners=False)
    border = PADDING[str(effects.get("border", "mirror"))]
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=border, align_corners=False)


def affines(effects: Recipe, seeds: Seeds, height: int, width: int, num: int) -> Float[Tensor, "b 2 3"]:
    """Where each pixel of the changed image comes from: x, y in pixels from the centre, float64, without flips.

    Crop, rotation, shift, shear and zoom as matrices, multiplied in this order, as Keras does with the last four: the
    zoom acts on a position of the changed image first.
    """
    device = seeds("zoom").device
    total = torch.eye(3, dtype=torch.float64, device=device).repeat(num, 1, 1)

    def draws(effect: str, n: int) -> list[Tensor]:
        return list(uniform(seeds(effect), (n,)).double().T)

    def spread(draw: Tensor, most: float) -> Tensor:
        return (2 * draw - 1) * most

    def then(entries: dict[tuple[int, int], Tensor]) -> None:
        step = torch.eye(3, dtype=torch.float64, device=device).repeat(num, 1, 1)
        for (row, column), value in entries.items():
            step[:, row, column] = value
        total.copy_(total @ step)

    if "crop" in effects:
        part, right, down = draws("crop", 3)
        share = 1 - part * (1 - float(effects["crop"]))
        then(
            {
                (0, 0): share,
                (1, 1): share,
                (0, 2): spread(right, 0.5) * (1 - share) * width,
                (1, 2): spread(down, 0.5) * (1 - share) * height,
            }
        )
    if "rotate" in effects:
        angle = spread(draws("rotate", 1)[0], math.radians(float(effects["rotate"])))
        then({(0, 0): angle.cos(), (0, 1): -angle.sin(), (1, 0): angle.sin(), (1, 1): angle.cos()})
    if "shift" in effects:
        right, down = draws("shift", 2)
        most = float(effects["shift"])
        # Whole pixels: a shift alone blurs nothing.
        then({(0, 2): _whole(right, most * width), (1, 2): _whole(down, most * height)})
    if "shear" in effects:
        angle = spread(draws("shear", 1)[0], math.radians(float(effects["shear"])))
        then({(0, 1): -angle.sin(), (1, 1): angle.cos()})
    if "zoom" in effects:
        across, down = draws("zoom", 2)
        then({(0, 0): 1 + spread(across, float(effects["zoom"])), (1, 1): 1 + spread(down, float(effects["zoom"]))})
    return total[:, :2]


def _whole(draw: Tensor, most_px: float) -> Tensor:
    most = max(1, round(most_px)) if most_px > 0 else 0
    return (draw * (2 * most + 1)).floor() - most

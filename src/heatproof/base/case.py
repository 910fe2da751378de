"""What a metric sees (`Case`) and what it may ask for (requests).

A metric that must run the model yields a tuple of requests and gets the tuple of answers; the engine in `passes` merges
the requests of all metrics and methods, so a metric reads like its definition and knows nothing of batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from heatproof.base import fields

if TYPE_CHECKING:
    from heatproof.base.depth import WeightBlock
    from heatproof.base.randomise import Weights
    from heatproof.base.records import Method


# Images of a block that a figure shows.
PICTURED = 3


@dataclass(frozen=True, eq=False)
class Perturbed:
    """p_c of the image with `region` (True = pixels replaced) filled. Answer: float64 (b,).

    `read`: "p" (probability of the explained class), "rest" (1 - p, summed from the other classes), "hit" (1 where it
    is the first argmax, else 0), "logit".
    """

    region: Bool[Tensor, "b h w"]
    fill: str
    read: str = "p"


# Rows of a case: all of them (`slice(None)`) or some.
Rows = slice | Sequence[int]


@dataclass(frozen=True, eq=False)
class Regions:
    """p_c of n images, each with another region replaced. Answer: float64 (b, n).

    `region(i, rows)`: pixels replaced in image i = 0 .. n - 1 for some rows of the case, bool (r, h, w). Regions are
    made when they are needed: a hundred of them for 64 images at 224 px would fill 320 MB. `read` as in `Perturbed`.
    """

    n: int
    region: Callable[[int, Rows], Bool[Tensor, "r h w"]]
    fill: str
    read: str = "p"


@dataclass(frozen=True, eq=False)
class Weighted:
    """p_c of the image with every pixel multiplied by its weight in [0, 1]. Answer: float64 (b,)."""

    weights: Float[Tensor, "b h w"]
    read: str = "p"


@dataclass(frozen=True, eq=False)
class Rerun:
    """The whole method again: on noisy copy number `noise`, on the view of that preset, on the image multiplied by
    `weights` in [0, 1], by another `net`, for another `target` class; or not run again but taken from another image
    (`partner`). Answer: `RerunMaps`.

    `std`: of Gaussian noise, or with `uniform` the radius of a uniform one. `single`: the single-view explainer in the
    stead of a fusion; `normalized`: `std` in units of the normalised input. `target`: "other" = one of the other
    classes, drawn per image; "anew" = the class that the net predicts. `partner`: its number; a partner is an image of
    another group.
    """

    noise: int | None = None
    std: float = 0.0
    view: str | None = None
    single: bool = False
    normalized: bool = False
    uniform: bool = False
    weights: Float[Tensor, "b h w"] | None = None
    net: Weights | None = None
    target: str | None = None
    partner: int | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """Equal keys are one rerun of a method, where there are no weights."""
        return (self.noise, self.std, self.view, self.normalized, self.uniform, self.net, self.target, self.partner)


@dataclass(frozen=True, eq=False)
class RerunMaps:
    """`maps`: the rerun's map, warped back. `reference`: E(x) sent through the same warp and back. `valid`: pixels on
    which both say something. `ok`: images whose rerun map has status ok. `changed`: images of another predicted class
    than without the noise (uniform noise only)."""

    maps: Float[Tensor, "b h w"]
    reference: Float[Tensor, "b h w"]
    valid: Bool[Tensor, "b h w"]
    ok: Bool[Tensor, " b"]
    changed: Bool[Tensor, " b"]


@dataclass(frozen=True, eq=False)
class Validation:
    """The method's own maps of annotated validation images, which a threshold may be picked on. Answer: `Annotated`."""


@dataclass(frozen=True, eq=False)
class Annotated:
    """Maps of other images than those that are measured, of status ok, and their annotations."""

    maps: Float[Tensor, "m h w"]
    masks: Bool[Tensor, "m h w"]


Request = Perturbed | Regions | Weighted | Rerun | Validation


@dataclass(frozen=True, eq=False)
class Curve:
    """What a metric sums up, for the figures: y (b, n) over x (n,)."""

    x: Float[Tensor, " n"]
    y: Float[Tensor, "b n"]


@dataclass(eq=False)
class Case:
    """A block of b images under one method.

    `maps`: float32 (b, h, w), finite (a non-finite map is set to 0 and its image is undefined anyway), magnitudes where
    `sign=absolute`. `targets`: explained class. `p`: p_c(x) float64 (b,). `masks`: bool, all False where there is none.
    `valid`: pixels that take part. `view_maps`: aligned maps (v, b, h, w) of a fusion, study protocol only. `spread`:
    per-pixel standard deviation over the aligned views of a fusion, None for single views.
    """

    method: Method | None
    maps: Float[Tensor, "b h w"]
    images: Float[Tensor, "b c h w"]
    targets: Int64[Tensor, " b"]
    p: Float[Tensor, " b"]
    masks: Bool[Tensor, "b h w"]
    valid: Bool[Tensor, "b h w"]
    image_ids: Sequence[str]
    seed: int
    view_maps: Float[Tensor, "v b h w"] | None = None
    spread: Float[Tensor, "b h w"] | None = None
    undefined: list[tuple[Bool[Tensor, " b"], str, bool]] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    pictures: list[Float[Tensor, "n b h w"]] = field(default_factory=list)
    weight_blocks: Callable[[str], tuple[WeightBlock, ...]] | None = None

    def blocks(self, grain: str) -> tuple[WeightBlock, ...]:
        """The net's weights in blocks from the image to the head, "coarse" or "fine"."""
        assert self.weight_blocks is not None, "nobody said what the net is made of"
        return self.weight_blocks(grain)

    @property
    def name(self) -> str:
        """The method's name."""
        return "" if self.method is None else str(self.method.name)

    def seeds(self, role: str) -> Int64[Tensor, " b"]:
        """One seed per image for a random choice that is the same for all methods."""
        found = [fields.image_seed(self.seed, image, role) for image in self.image_ids]
        return torch.tensor(found, dtype=torch.int64, device=self.maps.device)

    def tie_seeds(self, role: str = "base") -> Int64[Tensor, " b"]:
        """Seeds of the tie-breaking permutation; regions that are compared with each other need different roles."""
        return self.seeds(f"ties:{role}")

    def without(self, region: Bool[Tensor, "b h w"], fill: str, read: str = "p") -> Perturbed:
        """Ask for the image with the region filled in."""
        return Perturbed(region, fill, read)

    def only(self, region: Bool[Tensor, "b h w"], fill: str, read: str = "p") -> Perturbed:
        """Ask for the image with all but the region filled in."""
        return Perturbed(~region, fill, read)

    def each(self, n: int, region: Callable[[int, Rows], Bool[Tensor, "r h w"]], fill: str, read: str = "p") -> Regions:
        """Ask for n images with another region filled in each; `region(i, rows)` makes those of image i."""
        return Regions(n, region, fill, read)

    def steps(
        self, order: Int[Tensor, "b h w"], n: int, fill: str, read: str = "p", *, backwards: bool = False
    ) -> Regions:
        """Ask for the n images of a path: image i = 0 .. n - 1 has the pixels of `order` <= i + 1 filled in, or,
        `backwards`, those beyond (so that pixels come back). Pixels of an order above n are never reached."""
        if backwards:
            return Regions(n, lambda i, rows: order[rows] > i + 1, fill, read)
        return Regions(n, lambda i, rows: order[rows] <= i + 1, fill, read)

    def weighted(self, weights: Float[Tensor, "b h w"], read: str = "p") -> Weighted:
        """Ask for the image multiplied by weights in [0, 1]."""
        return Weighted(weights, read)

    def rerun(
        self,
        *,
        noise: int | None = None,
        std: float = 0.0,
        view: str | None = None,
        single: bool = False,
        normalized: bool = False,
        uniform: bool = False,
        weights: Float[Tensor, "b h w"] | None = None,
        net: Weights | None = None,
        target: str | None = None,
        partner: int | None = None,
    ) -> Rerun:
        """Ask for the whole method on a changed image, by another net, or for another class; or for the map of another
        image."""
        return Rerun(noise, std, view, single, normalized, uniform, weights, net, target, partner)

    def validation(self) -> Validation:
        """Ask for the method's maps of annotated validation images."""
        return Validation()

    def curve(self, x: Float[Tensor, " n"], y: Float[Tensor, "b n"]) -> None:
        """Keep the curve that the metric's main column sums up."""
        self.curves.append(Curve(x, y))

    def picture(self, maps: Float[Tensor, "n b h w"]) -> None:
        """Keep the maps that the metric compares, of the first `PICTURED` images, for a figure."""
        self.pictures.append(maps)

    def undefine(self, where: Bool[Tensor, " b"], reason: str, *, main_only: bool = False) -> None:
        """Say that this metric is undefined for some images; the first reason of an image counts. `main_only`: its
        further columns still say something."""
        self.undefined.append((where, reason, main_only))

    def take(self, rows: Int64[Tensor, " r"], images: Float[Tensor, "r c h w"] | None = None) -> Case:
        """The same case for some of its images; `images`: theirs, where they have been taken before."""
        return Case(
            self.method,
            self.maps[rows],
            self.images[rows] if images is None else images,
            self.targets[rows],
            self.p[rows],
            self.masks[rows],
            self.valid[rows],
            [self.image_ids[i] for i in rows.tolist()],
            self.seed,
            None if self.view_maps is None else self.view_maps[:, rows],
            None if self.spread is None else self.spread[rows],
            weight_blocks=self.weight_blocks,
        )

"""What a metric sees (`Case`) and what it may ask for (requests).

A metric that must run the model yields a tuple of requests and gets the tuple of answers; the engine in `passes` merges
the requests of all metrics and methods, so a metric reads like its definition and knows nothing of batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from heatproof.base import fields

if TYPE_CHECKING:
    from heatproof.base.records import Method


@dataclass(frozen=True, eq=False)
class Perturbed:
    """p_c of the image with `region` (True = pixels replaced) filled. Answer: float64 (b,).

    `read`: "p" (probability of the explained class), "rest" (1 - p, summed from the other classes), "hit" (1 where it
    is the first argmax, else 0), "logit".
    """

    region: Bool[Tensor, "b h w"]
    fill: str
    read: str = "p"


@dataclass(frozen=True, eq=False)
class Steps:
    """p_c along a path of n images, each with more pixels replaced than the one before. Answer: float64 (b, n).

    `order`: the step, 1 to n, at which a pixel is replaced; more than n = never. Image i = 1 .. n has the pixels of
    order <= i filled in, or, `backwards`, those of order > i (so that pixels come back). `read` as in `Perturbed`.
    """

    order: Int64[Tensor, "b h w"]
    n: int
    fill: str
    read: str = "p"
    backwards: bool = False

    def region(self, step: int, place: int | None = None) -> Tensor:
        """Pixels replaced in image `step`, bool (b, h, w), or (h, w) of one row."""
        order = self.order if place is None else self.order[place]
        return order > step if self.backwards else order <= step


@dataclass(frozen=True, eq=False)
class Weighted:
    """p_c of the image with every pixel multiplied by its weight in [0, 1]. Answer: float64 (b,)."""

    weights: Float[Tensor, "b h w"]
    read: str = "p"


@dataclass(frozen=True, eq=False)
class Rerun:
    """The whole method again: on noisy copy number `noise`, on the view of that preset, or on the image `weighted` by
    its own norm map. Answer: `RerunMaps`.

    `std`: of Gaussian noise, or with `uniform` the radius of a uniform one. `single`: the single-view explainer in the
    stead of a fusion; `normalized`: `std` in units of the normalised input.
    """

    noise: int | None = None
    std: float = 0.0
    view: str | None = None
    single: bool = False
    normalized: bool = False
    uniform: bool = False
    weighted: bool = False

    @property
    def key(self) -> tuple[object, ...]:
        """Equal keys are one rerun of a method."""
        return (self.noise, self.std, self.view, self.normalized, self.uniform, self.weighted)


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


Request = Perturbed | Steps | Weighted | Rerun


@dataclass(frozen=True, eq=False)
class Curve:
    """What a metric integrates, for the figures: y (b, n) over x (n,)."""

    x: Float[Tensor, " n"]
    y: Float[Tensor, "b n"]


@dataclass(eq=False)
class Case:
    """A block of b images under one method.

    `maps`: float32 (b, h, w), finite (a non-finite map is set to 0 and its image is undefined anyway), magnitudes where
    `sign=absolute`. `targets`: explained class. `p`: p_c(x) float64 (b,). `masks`: bool, all False where there is none.
    `valid`: pixels that take part. `view_maps`: aligned maps (v, b, h, w) of a fusion, study protocol only.
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
    undefined: list[tuple[Bool[Tensor, " b"], str, bool]] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)

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

    def steps(
        self, order: Int64[Tensor, "b h w"], n: int, fill: str, read: str = "p", *, backwards: bool = False
    ) -> Steps:
        """Ask for the n images of a path that replaces pixels in an order (`backwards`: that brings them back)."""
        return Steps(order, n, fill, read, backwards)

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
        weighted: bool = False,
    ) -> Rerun:
        """Ask for the whole method on a noisy copy, on a view, or on the image weighted by its own norm map."""
        return Rerun(noise, std, view, single, normalized, uniform, weighted)

    def curve(self, x: Float[Tensor, " n"], y: Float[Tensor, "b n"]) -> None:
        """Keep the curve that the metric's main column sums up."""
        self.curves.append(Curve(x, y))

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
        )

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

    `read`: "p" (probability of the explained class), "hit" (1 where it is the first argmax, else 0), "logit".
    """

    region: Bool[Tensor, "b h w"]
    fill: str
    read: str = "p"


@dataclass(frozen=True, eq=False)
class Rerun:
    """The whole method again: on noisy copy number `noise`, or on the view of that preset. Answer: `RerunMaps`.

    `single`: the single-view explainer in the stead of a fusion; `normalized`: `std` in units of the normalised input.
    """

    noise: int | None = None
    std: float = 0.0
    view: str | None = None
    single: bool = False
    normalized: bool = False

    @property
    def key(self) -> tuple[object, ...]:
        """Equal keys are one rerun."""
        return (self.noise, self.std, self.view, self.normalized)


@dataclass(frozen=True, eq=False)
class RerunMaps:
    """`maps`: the rerun's map, warped back. `reference`: E(x) sent through the same warp and back. `valid`: pixels on
    which both say something. `ok`: images whose rerun map has status ok."""

    maps: Float[Tensor, "b h w"]
    reference: Float[Tensor, "b h w"]
    valid: Bool[Tensor, "b h w"]
    ok: Bool[Tensor, " b"]


Request = Perturbed | Rerun


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

    def tie_seeds(self, role: str = "base") -> Int64[Tensor, " b"]:
        """Seeds of the tie-breaking permutation; regions that are compared with each other need different roles."""
        seeds = [fields.image_seed(self.seed, image, f"ties:{role}") for image in self.image_ids]
        return torch.tensor(seeds, dtype=torch.int64, device=self.maps.device)

    def without(self, region: Bool[Tensor, "b h w"], fill: str, read: str = "p") -> Perturbed:
        """Ask for the image with the region filled in."""
        return Perturbed(region, fill, read)

    def only(self, region: Bool[Tensor, "b h w"], fill: str, read: str = "p") -> Perturbed:
        """Ask for the image with all but the region filled in."""
        return Perturbed(~region, fill, read)

    def rerun(
        self,
        *,
        noise: int | None = None,
        std: float = 0.0,
        view: str | None = None,
        single: bool = False,
        normalized: bool = False,
    ) -> Rerun:
        """Ask for the whole method on a noisy copy or on a view."""
        return Rerun(noise, std, view, single, normalized)

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

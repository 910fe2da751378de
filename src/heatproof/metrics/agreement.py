"""Agreement of two methods on one image: do they point at the same place?

Conventions: two cases of the same images, one a method; pixels valid in both count. Agreement is no merit: two methods
may be wrong together, and wide maps agree more than narrow ones. An image is undefined where one map has no order.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from heatproof.base.case import Case
from heatproof.base.correlations import pearson, spearman
from heatproof.base.regions import iou, top_region
from heatproof.base.registry import choice
from heatproof.base.ssim import ssim

Columns = dict[str, Float[Tensor, " b"]]


@choice(
    better="neither",
    range=(-1, 1),
    columns=("agreement_spearman",),
    needs=("order",),
    pairs=True,
    version=1,
    source="Spearman 1904",
)
def agreement_spearman(case: Case, other: Case) -> Columns:
    """Rank correlation of two methods' maps, mid-ranks; -1 to 1. Source: Spearman 1904."""
    return {"agreement_spearman": spearman(case.maps, other.maps, case.valid & other.valid)}


@choice(
    better="neither",
    range=(-1, 1),
    columns=("agreement_pearson",),
    needs=("order",),
    pairs=True,
    version=1,
    source="Pearson 1895",
)
def agreement_pearson(case: Case, other: Case) -> Columns:
    """Linear correlation of two methods' maps; -1 to 1. Source: Pearson 1895."""
    return {"agreement_pearson": pearson(case.maps, other.maps, case.valid & other.valid)}


@choice(
    better="neither",
    range=(0, 1),
    columns=("agreement_iou",),
    needs=("order",),
    pairs=True,
    version=1,
    source="Jaccard 1912",
)
def agreement_iou(case: Case, other: Case, *, q: float) -> Columns:
    """Overlap of the top q of two methods' maps; 0 to 1, q / (2 - q) for maps that have nothing to do with each other.

    Ties are broken by a permutation of each method's own: a common one would let disjoint sparse maps overlap.
    Source: Jaccard 1912.
    """
    valid = case.valid & other.valid
    tops = [top_region(one.maps, q, one.tie_seeds(f"method:{one.name}"), valid) for one in (case, other)]
    return {"agreement_iou": iou(*tops)}


@choice(
    better="neither",
    range=(-1, 1),
    columns=("agreement_ssim",),
    needs=("order",),
    pairs=True,
    version=1,
    source="Wang 2004",
)
def agreement_ssim(case: Case, other: Case) -> Columns:
    """Structural similarity of two methods' maps, each scaled to [0, 1], windows of 11 x 11 with sd 1.5; -1 to 1.

    Undefined on images smaller than a window. Source: Wang 2004.
    """
    return {"agreement_ssim": ssim(case.maps, other.maps, case.valid & other.valid)}

"""What the engine works on: a block of images, a metric on one method's maps of it, what comes out; and how the net is
run meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jaxtyping import Bool, Float, Int64
from torch import Tensor

from heatproof.base.case import Case, Curve
from heatproof.base.randomise import OtherWeights
from heatproof.base.records import Classifier, MetricChoice

if TYPE_CHECKING:
    from heatproof.base.validation import ValidationMaps


@dataclass
class Passes:
    """Counts, in images: `used` = perturbed images run, `requested` = asked for before equal ones were merged,
    `maps` = images run to make maps in reruns, `again` = images run for maps that had been made before."""

    used: int = 0
    requested: int = 0
    maps: int = 0
    again: int = 0


@dataclass(frozen=True, eq=False)
class Seen:
    """Images that were run for metrics: the `rows` of the block that they are made of, what was done to them (`what`),
    and what came out, logits or the maps of methods by their names."""

    what: str
    rows: Int64[Tensor, " m"]
    images: Float[Tensor, "m c h w"]
    logits: Float[Tensor, "m k"] | None = None
    maps: Mapping[str, Float[Tensor, "m h w"]] = field(default_factory=dict)


@dataclass(eq=False)
class Running:
    """The net and how it is run: `twin` for passes without gradient, at most `batch` images at once. `others` makes
    nets of other weights, `validation` maps of annotated validation images. `on_pass` hears how many images were run,
    `passes` counts them, `watch` sees them."""

    classifier: Classifier
    twin: Callable[[Tensor], Tensor]
    seed: int
    sign: str
    protocol: str
    batch: int
    on_pass: Callable[[int], None]
    others: OtherWeights | None = None
    validation: ValidationMaps | None = None
    watch: Callable[[Seen], None] | None = None
    passes: Passes = field(default_factory=Passes)

    def perturbed(self, n: int) -> None:
        """Count images that were run perturbed."""
        self.passes.used += n
        self.on_pass(n)

    def mapped(self, n: int) -> None:
        """Count images that were run to make maps."""
        self.passes.maps += n
        self.on_pass(n)


@dataclass(frozen=True, eq=False)
class Block:
    """The images of one block and what holds for all methods.

    `masked`: images that have an annotation. `rerun`: images on which methods are rerun. `groups`: what counts as the
    same patient in the floor (the image itself where unknown). `logits` float64 (b, k) on the unperturbed image.
    """

    images: Float[Tensor, "b c h w"]
    ids: Sequence[str]
    groups: Sequence[str]
    targets: Int64[Tensor, " b"]
    logits: Float[Tensor, "b k"]
    masks: Bool[Tensor, "b h w"]
    masked: Bool[Tensor, " b"]
    rerun: Bool[Tensor, " b"]

    @property
    def p(self) -> Float[Tensor, " b"]:
        """p_c(x)."""
        return self.logits.softmax(1).gather(1, self.targets[:, None])[:, 0]


@dataclass(frozen=True, eq=False)
class Result:
    """Columns of one metric for the block, float64 (b,), and the status of the main one: NaN where it is not ok. The
    `curve` that it sums up, and a `picture` of the maps that it compares, of the first images at low resolution."""

    columns: Mapping[str, Float[Tensor, " b"]]
    status: Sequence[str]
    curve: Curve | None = None
    picture: Float[Tensor, "n k u v"] | None = None


@dataclass(eq=False)
class Task:
    """One metric on one method's maps; `rows` are the images it is run for, `status` says why not for the others."""

    case: Case
    choice: MetricChoice
    rows: Int64[Tensor, " r"]
    status: list[str]
    floor: bool = False
    reruns_seen: int = 0
    bad_reruns: list[Bool[Tensor, " r"]] = field(default_factory=list)

"""Sanity: does the map depend on what the net has learnt?

Conventions: a map of the trained net is compared with the same method's map of another net (weights re-drawn, or
trained on permuted labels) or for another class; the image and, but for `random_logit`, the class stay. High likeness
is bad, yet low likeness proves nothing: a random map has the lowest. So nothing here is ranked; a method passes where
its likeness is not above what unrelated maps have anyway (the floors), and that is read beside faithfulness.
`similarity`: "spearman", "pearson" or "ssim" (of the maps scaled to [0, 1]). A rerun without a map (a net with random
weights often has none after the final ReLU) leaves the means, and a column says how many did.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.base.case import PICTURED, Case, Rerun, RerunMaps
from heatproof.base.correlations import pearson, spearman
from heatproof.base.depth import WeightBlock
from heatproof.base.randomise import Weights
from heatproof.base.registry import choice
from heatproof.base.ssim import ssim

Stream = Generator[tuple[Rerun, ...], tuple[RerunMaps, ...], dict[str, Float[Tensor, " b"]]]
SIMILARITIES = {"spearman": spearman, "pearson": pearson, "ssim": ssim}
# Other images that a map is compared with: as many as an image has partners.
PARTNERS = 5


@choice(
    better="down",
    range=(-1, 1),
    columns=("randomization", "randomization_networks", "randomization_images", "randomization_dead"),
    needs=("order",),
    reruns=("weights",),
    partial=True,
    ranked=False,
    version=1,
    source="Adebayo 2018; Arun 2021",
)
def randomization(case: Case, *, order: str, blocks: str, seeds: int, similarity: str) -> Stream:
    """Likeness of the map and the map of the net with all weights re-drawn: mean over S draws of the last state.

    -1 to 1, down. `order`: blocks are re-drawn one after the other from the head ("top_down") or from the image
    ("bottom_up"), or each alone ("independent", whose value is the mean over the blocks). `blocks`: "coarse" (stages)
    or "fine". The curve goes over the states, from the trained net (likeness 1) on. `_networks`: likeness of the maps
    of two nets with all weights re-drawn, mean over pairs of draws. `_images`: of the maps of this and five other
    images by the trained net. `_dead`: share of reruns without a map. Undefined (`rerun`) where all draws of the last
    state have none.
    Source: Adebayo et al. 2018; the floors Arun et al. 2021, who take 50 random pairs: here each image has its own
    five, so that the difference is paired.
    """
    parts = case.blocks(blocks)
    whole = tuple(name for part in parts for name in part.all)
    others = yield tuple(case.rerun(partner=n) for n in range(PARTNERS))
    states = cascade(parts, order)
    seen: dict[tuple[str, ...], _State] = {}
    networks: list[Float[Tensor, " b"]] = []
    # In this way the orders ask for the states that they share in the same turn, so that each is made once.
    for state in states[::-1] if order == "bottom_up" else states:
        wanted = [one for one in dict.fromkeys((state, whole)) if one not in seen]
        answers = yield tuple(case.rerun(net=Weights(one, seed)) for one in wanted for seed in range(seeds))
        for place, one in enumerate(wanted):
            reruns = answers[place * seeds : (place + 1) * seeds]
            seen[one] = _State.of(reruns, similarity)
            if one == whole:
                networks = [
                    SIMILARITIES[similarity](a.maps, b.maps, a.valid & b.valid) for a, b in combinations(reruns, 2)
                ]
    path = _shown(case, [seen[state] for state in states])
    value = path.nanmean(1) if order == "independent" else path[:, -1]
    case.undefine(value.isnan(), "rerun", main_only=True)
    return {
        "randomization": value,
        "randomization_networks": _mean(networks, case),
        "randomization_images": _likeness(others, similarity),
        "randomization_dead": torch.stack([state.dead for state in seen.values()]).mean(0),
    }


@choice(
    better="down",
    range=(-1, 1),
    columns=("randomization_study", "randomization_study_dead"),
    needs=("order",),
    reruns=("weights",),
    partial=True,
    ranked=False,
    protocol="study",
    version=1,
    source="Panboonyuen 2026 (RobustCAM), after Adebayo 2018",
)
def randomization_study(case: Case, *, blocks: str, seeds: int) -> Stream:
    """Spearman of the map and the map of the net with all blocks re-drawn, as study 5 does it.

    -1 to 1, down. From the head down; the stem (conv1 and bn1 of a ResNet) stays trained, and every net explains the
    class that it predicts itself.
    Source: Panboonyuen 2026 (RobustCAM), after Adebayo et al. 2018.
    """
    parts = case.blocks(blocks)
    states = cascade([WeightBlock(part.name, part.modules) for part in parts], "top_down")
    seen = []
    for state in states:
        reruns = yield tuple(case.rerun(net=Weights(state, seed), target="anew") for seed in range(seeds))
        seen.append(_State.of(reruns, "spearman"))
    path = _shown(case, seen)
    case.undefine(path[:, -1].isnan(), "rerun", main_only=True)
    dead = torch.stack([state.dead for state in seen]).mean(0)
    return {"randomization_study": path[:, -1], "randomization_study_dead": dead}


@choice(
    better="down",
    range=(-1, 1),
    columns=("data_randomization", "data_randomization_images"),
    needs=("order",),
    reruns=("labels",),
    partial=True,
    ranked=False,
    version=1,
    source="Adebayo 2018",
)
def data_randomization(case: Case, *, similarity: str) -> Stream:
    """Likeness of the map and the map of a net that was trained on permuted labels, for the same class.

    -1 to 1, down. Undefined where nobody trained (`no_training`) or that net gives no map (`rerun`). `_images`:
    likeness of the maps of this and five other images by the trained net.
    Source: Adebayo et al. 2018, section 3.3.
    """
    (other, *images) = yield (
        case.rerun(net=Weights(permuted=True)), *(case.rerun(partner=n) for n in range(PARTNERS)),
    )  # fmt: skip
    value = _likeness([other], similarity)
    case.undefine(value.isnan(), "rerun", main_only=True)
    return {"data_randomization": value, "data_randomization_images": _likeness(images, similarity)}


@choice(
    better="down",
    range=(-1, 1),
    columns=("random_logit",),
    needs=("order",),
    reruns=("class",),
    partial=True,
    ranked=False,
    version=1,
    source="Sixt 2020",
)
def random_logit(case: Case, *, similarity: str) -> Stream:
    """Likeness of the map and the map for another class, drawn per image among the others.

    -1 to 1, down. A map that shows no matter which class scores 1. Undefined (`rerun`) where the other class has none.
    Source: Sixt et al. 2020, section 5.
    """
    (other,) = yield (case.rerun(target="other"),)
    value = _likeness([other], similarity)
    case.undefine(value.isnan(), "rerun", main_only=True)
    return {"random_logit": value}


def cascade(parts: Sequence[WeightBlock], order: str) -> list[tuple[str, ...]]:
    """The modules re-drawn in each state after the trained one; the states of "independent" go from the head on.

    >>> parts = [WeightBlock("conv", ("conv",)), WeightBlock("fc", ("fc",))]
    >>> cascade(parts, "top_down"), cascade(parts, "bottom_up"), cascade(parts, "independent")
    ([('fc',), ('conv', 'fc')], [('conv',), ('conv', 'fc')], [('fc',), ('conv',)])
    """
    n = len(parts)
    places = {
        "top_down": [range(n - k, n) for k in range(1, n + 1)],
        "bottom_up": [range(k) for k in range(1, n + 1)],
        "independent": [range(k, k + 1) for k in range(n - 1, -1, -1)],
    }[order]
    return [tuple(name for place in state for name in parts[place].all) for state in places]


@dataclass(frozen=True, eq=False)
class _State:
    """What is kept of the reruns of one state: mean likeness to the map, share of dead reruns, the first maps."""

    likeness: Float[Tensor, " b"]
    dead: Float[Tensor, " b"]
    first: Float[Tensor, "k h w"]

    @classmethod
    def of(cls, reruns: Sequence[RerunMaps], similarity: str) -> _State:
        dead = torch.stack([~rerun.ok for rerun in reruns]).double().mean(0)
        return cls(_likeness(reruns, similarity), dead, reruns[0].maps[:PICTURED].clone())


def _shown(case: Case, states: Sequence[_State]) -> Float[Tensor, "b n"]:
    """The likeness in each state after the trained one; curve and picture are kept with the case."""
    path = torch.stack([state.likeness for state in states], 1)
    case.curve(torch.arange(len(states) + 1.0), torch.cat([torch.ones_like(path[:, :1]), path], 1))
    case.picture(torch.stack([case.maps[:PICTURED], *(state.first for state in states)]))
    return path


def _likeness(reruns: Sequence[RerunMaps], similarity: str) -> Float[Tensor, " b"]:
    """Mean likeness over the reruns that have a map; NaN where none has."""
    found = [SIMILARITIES[similarity](rerun.reference, rerun.maps, rerun.valid) for rerun in reruns]
    return torch.stack(
        [one.masked_fill(~rerun.ok, torch.nan) for one, rerun in zip(found, reruns, strict=True)]
    ).nanmean(0)


def _mean(found: Sequence[Float[Tensor, " b"]], case: Case) -> Float[Tensor, " b"]:
    return torch.stack(list(found)).nanmean(0) if found else torch.full_like(case.p, torch.nan)

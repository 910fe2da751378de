"""A metric run without the engine: requests answered one by one, straight from their definition."""

import copy
import inspect
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from heatproof.base import fields
from heatproof.base.case import Annotated, Case, Perturbed, Regions, Request, Rerun, RerunMaps, Validation, Weighted
from heatproof.base.depth import weight_blocks
from heatproof.base.fills import fill
from heatproof.base.registry import bind


def case(
    module: nn.Module,
    images: Tensor,
    maps: Tensor,
    masks: Tensor | None = None,
    valid: Tensor | None = None,
    view_maps: Tensor | None = None,
    ids: Sequence[str] | None = None,
    spread: Tensor | None = None,
) -> Case:
    """A block whose explained class is the predicted one."""
    probs = module(images).detach().double().softmax(1)
    p, targets = probs.max(1)
    return Case(
        None,
        maps,
        images,
        targets,
        p,
        torch.zeros_like(maps, dtype=torch.bool) if masks is None else masks,
        torch.ones_like(maps, dtype=torch.bool) if valid is None else valid,
        ids or [f"image{i}" for i in range(len(images))],
        seed=0,
        view_maps=view_maps,
        spread=spread,
        weight_blocks=lambda grain: weight_blocks(module, images, grain),
    )


def perturbed(module: nn.Module, block: Case, request: Perturbed) -> Tensor:
    seeds = torch.tensor([fields.image_seed(block.seed, name, f"fill:{request.fill}") for name in block.image_ids])
    mean = torch.full((block.images.shape[1],), 0.5)
    return reading(module(fill(request.fill, block.images, request.region, seeds, mean, mean)), block, request.read)


def reading(logits: Tensor, block: Case, read: str) -> Tensor:
    logits = logits.detach().double()
    own = logits.gather(1, block.targets[:, None])[:, 0]
    p = logits.softmax(1).gather(1, block.targets[:, None])[:, 0]
    rest = logits.softmax(1).scatter(1, block.targets[:, None], 0).sum(1)
    return {"p": p, "rest": rest, "logit": own, "hit": (logits.argmax(1) == block.targets).double()}[read]


def rerun_maps(maps: Tensor, reference: Tensor, valid: Tensor | None = None) -> RerunMaps:
    everywhere = torch.ones_like(maps, dtype=torch.bool)
    ok = everywhere.flatten(1).any(1)
    return RerunMaps(maps, reference, everywhere if valid is None else valid, ok, ~ok)


def run(
    name: str,
    block: Case,
    module: nn.Module | None = None,
    rerun: Callable[[Rerun], RerunMaps] | None = None,
    watch: Callable[[Request], None] = lambda request: None,
    known: Annotated | None = None,
    **settings: object,
) -> dict[str, Tensor]:
    """Columns of a metric; `rerun` answers reruns (the same maps again by default), `known` are validation maps."""
    again = rerun or (lambda request: rerun_maps(block.maps, block.maps))

    def answer(request: Request) -> object:
        watch(request)
        if isinstance(request, Rerun):
            return again(request)
        if isinstance(request, Validation):
            return known
        assert module is not None
        if isinstance(request, Regions):
            pixels = [request.region(i, slice(None)) for i in range(request.n)]
            return torch.stack(
                [perturbed(module, block, Perturbed(region, request.fill, request.read)) for region in pixels], 1
            )
        if isinstance(request, Weighted):
            return reading(module(block.images * request.weights[:, None]), block, request.read)
        return perturbed(module, block, request)

    outcome = bind("metric", name, settings)(block)
    if not inspect.isgenerator(outcome):
        return outcome
    try:
        asked = next(outcome)
        while True:
            asked = outcome.send(tuple(answer(request) for request in asked))
    except StopIteration as end:
        return end.value


def reasons(block: Case) -> list[str]:
    """Why each image is undefined, "ok" where it is not."""
    found = ["ok"] * len(block.maps)
    for where, reason, _ in block.undefined:
        for i in torch.nonzero(where)[:, 0].tolist():
            found[i] = reason if found[i] == "ok" else found[i]
    return found


def oracle(*metrics: str) -> Callable[[Callable], Callable]:
    """Mark a test that compares these metrics with an independent answer: a closed form, brute force or a library."""

    def mark(test: Callable) -> Callable:
        return test

    return mark


def probability(module: nn.Module, image: Tensor, target: int) -> float:
    """p of a class of one image, everything in float64: what brute force is made of."""
    with torch.no_grad():
        return float(copy.deepcopy(module).double()(image[None].double())[0].softmax(0)[target])

"""What a metric costs, by its facts and as the engine counts it."""

import by_hand
import pytest
import tiny
import torch

from heatproof.base.asked import in_words, perturbed, reruns
from heatproof.base.case import Perturbed, Regions, Rerun, Weighted
from heatproof.base.registry import bind, choices

METRICS = {name: choice for name, choice in choices("metric").items() if not choice.facts.get("pairs")}


def costs(name: str) -> tuple[int, int]:
    """Distinct perturbed images and reruns that a metric asks for on one image, its shipped settings."""
    module = tiny.Conv()
    case = by_hand.case(module, torch.rand(1, 1, 32, 32), torch.rand(1, 32, 32))
    images: set[bytes] = set()
    again = 0

    def rerun(request: Rerun) -> object:
        nonlocal again
        again += 1
        return by_hand.rerun_maps(torch.rand(1, 32, 32), case.maps)

    def count(request: object) -> None:
        if isinstance(request, Regions):
            images.update(request.region(i, slice(None)).numpy().tobytes() for i in range(request.n))
        elif isinstance(request, Perturbed):
            images.add(request.region.numpy().tobytes())
        elif isinstance(request, Weighted):
            images.add(request.weights.numpy().tobytes())

    by_hand.run(name, case, module, rerun, watch=count)
    return len(images - {torch.zeros(1, 32, 32, dtype=torch.bool).numpy().tobytes()}), again


@pytest.mark.parametrize("name", [name for name, choice in METRICS.items() if choice.facts.get("asks")])
def test_facts_say_what_a_metric_asks_for(name):
    bound = bind("metric", name)
    images, again = costs(name)
    assert sum(one.count for one in perturbed(bound.facts, bound.settings)) == pytest.approx(images, abs=1)
    assert reruns(bound.facts, bound.settings) == again


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gini", "no pass"),
        ("faith", "1 perturbed image"),
        ("idsds", "16 perturbed images (the same for all methods)"),
        ("stability", "the method again 5 times"),
        ("adcc", "1 perturbed image; the method again 1 time"),
    ],
)
def test_costs_in_words(name, words):
    bound = bind("metric", name)
    assert in_words(bound.facts, bound.settings) == words

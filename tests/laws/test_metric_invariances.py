"""What must not matter to a metric, as properties over drawn maps: scale and offset, the order in which pixels lie,
which image is broken beside it; and that a map and its negative are two sides of one order."""

import by_hand
import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from heatproof.base.passes import Engine
from heatproof.base.records import MetricChoice
from heatproof.base.registry import bind, choices
from heatproof.base.tasks import Block
from heatproof.base.values import status_of

SIZE = 8
NET = tiny.Conv()
IMAGES = torch.rand(2, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
MASKS = torch.zeros(2, SIZE, SIZE, dtype=torch.bool)
MASKS[0, 2:5, 1:6] = MASKS[1, 5:7, 5:8] = True
# Whole numbers: a scaled copy has the same ties, and no rounding.
MAPS = arrays(np.float32, (2, SIZE, SIZE), elements=st.integers(-6, 6).map(float)).filter(
    lambda maps: all(one.max() > one.min() for one in maps)
)
ORDERED = (
    *("faith", "fidelity", "comprehensiveness", "sufficiency", "aopc_morf", "abpc", "deletion", "insertion", "road"),
    *("loc_acc", "pointing_game", "hit_rate", "relevance_rank", "mask_iou", "iou_best", "pixel_auc", "pixel_ap"),
    *("lesion_hit", "idsds", "faithfulness_correlation", "average_drop", "average_increase", "average_gain"),
    "smoothness",
)
SMALL = {"grid": 2, "steps": 4, "subsets": 5, "size": 2, "shares": [0.2, 0.5]}
QUICK = settings(max_examples=12, deadline=None, derandomize=True)


def run(name: str, maps: torch.Tensor, masks: torch.Tensor = MASKS) -> dict[str, torch.Tensor]:
    known = {key: value for key, value in SMALL.items() if key in choices("metric")[name].parameters}
    return by_hand.run(name, by_hand.case(NET, IMAGES, maps, masks), NET, **known)


def alike(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], name: str) -> None:
    torch.testing.assert_close(a[name], b[name], atol=1e-5, rtol=1e-5, equal_nan=True)


@pytest.mark.parametrize("name", ORDERED)
@QUICK
@given(maps=MAPS, scale=st.sampled_from([0.25, 2.0, 64.0]), offset=st.sampled_from([-8.0, 0.0, 16.0]))
def test_scale_and_offset_of_a_map_do_not_matter(name, maps, scale, offset):
    a = torch.from_numpy(maps)
    # Sums over cells of unequal size see an offset; cells here are equal, and so are subsets.
    alike(run(name, a), run(name, a * scale + offset), name)


@pytest.mark.parametrize(
    "name", ["energy_pointing", "concentration", "gini", "entropy", "effective_area", "infidelity"]
)
@QUICK
@given(maps=MAPS, scale=st.sampled_from([0.25, 2.0, 64.0]))
def test_scale_does_not_matter_to_metrics_of_mass(name, maps, scale):
    alike(run(name, torch.from_numpy(maps)), run(name, torch.from_numpy(maps) * scale), name)


@pytest.mark.parametrize("name", ["gini", "entropy", "effective_area", "concentration", "pixel_auc", "pixel_ap", "energy_pointing"])  # fmt: skip  # noqa: E501
@QUICK
@given(maps=MAPS, seed=st.integers(0, 99))
def test_where_pixels_lie_does_not_matter_to_metrics_of_values(name, maps, seed):
    order = torch.randperm(SIZE * SIZE, generator=torch.Generator().manual_seed(seed))

    def moved(a: torch.Tensor) -> torch.Tensor:
        return a.flatten(1)[:, order].view(a.shape)

    a = torch.from_numpy(maps)
    alike(run(name, a), run(name, moved(a), moved(MASKS)), name)


@QUICK
@given(maps=MAPS)
def test_a_map_and_its_negative_are_two_sides_of_one_order(maps):
    a = torch.from_numpy(maps)
    up, down = run("aopc_morf", a)["aopc_morf"], run("aopc_lerf", -a)["aopc_lerf"]
    torch.testing.assert_close(up, down, atol=1e-9, rtol=0)
    torch.testing.assert_close(run("abpc", a)["abpc"], -run("abpc", -a)["abpc"], atol=1e-9, rtol=0)
    ones = run("pixel_auc", a)["pixel_auc"] + run("pixel_auc", -a)["pixel_auc"]
    torch.testing.assert_close(ones, torch.ones_like(ones), atol=1e-9, rtol=0)


ENGINE = sorted(
    name
    for name, choice in choices("metric").items()
    if not choice.facts.get("pairs") and not choice.facts.get("protocol")
    and not set(choice.facts.get("reruns", ())) & {"weights", "labels"}
    and not set(choice.facts.get("needs", ())) & {"spread", "validation"}
)  # fmt: skip


def measured(name: str, maps: torch.Tensor) -> tuple[dict[str, torch.Tensor], list[str]]:
    """A metric of seven images through the engine."""
    images = torch.rand(7, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    logits = NET(images).detach().double()
    masks, everything = torch.zeros(7, SIZE, SIZE, dtype=torch.bool), torch.ones(7, dtype=torch.bool)
    masks[:, 2:5, 1:6] = True
    ids = [f"image{i}" for i in range(7)]
    engine = Engine(tiny.classifier(NET), lambda some: NET(some).detach(), seed=0, batch=4)
    engine.start(Block(images, ids, ids, logits.argmax(1), logits, masks, everything, everything))
    known = {key: value for key, value in SMALL.items() if key in choices("metric")[name].parameters}
    choice = MetricChoice(name, bind("metric", name, known))
    (result,) = engine.run([engine.task(engine.case(tiny.method(), maps), choice, status_of(maps))])
    return dict(result.columns), list(result.status)


@pytest.mark.parametrize("name", ENGINE)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_no_number_in_one_image_touches_no_other(name, value):
    maps = torch.rand(7, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    broken = maps.clone()
    broken[2, 3, 3] = value
    before, _ = measured(name, maps)
    after, status = measured(name, broken)
    assert status[2] == "undefined:nonfinite"
    others = [0, 1, 3, 4, 5, 6]
    for column, values in before.items():
        assert after[column][2].isnan()
        torch.testing.assert_close(after[column][others], values[others], atol=1e-5, rtol=1e-5, equal_nan=True)

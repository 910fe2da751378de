"""What holds for every metric by being in the registry: facts, YAML, range, and no image touching another."""

import ast
from pathlib import Path

import by_hand
import pytest
import tiny
import torch
import yaml

from heatproof.base.case import Annotated, Rerun, RerunMaps
from heatproof.base.fields import image_seed, uniform
from heatproof.base.registry import choices, conf_folder

ALL = choices("metric")
METRICS = sorted(name for name in ALL if not ALL[name].facts.get("pairs"))
SOUND = [name for name in METRICS if not name.endswith("_study")]
# Metrics that look at the size of values: all others look at their order, and a monotone rescaling changes nothing.
SIZED = {
    *("stability", "consist_pearson", "max_sensitivity", "avg_sensitivity", "equivariance"),
    *("aopc_morf", "aopc_lerf", "abpc", "idsds", "faithfulness_correlation", "infidelity"),
    *("average_drop", "average_increase", "average_gain", "adcc", "energy_pointing"),
    *("concentration", "gini", "entropy", "effective_area", "smoothness", "box_iou", "uncertainty"),
}
RANKED = [name for name in SOUND if name not in SIZED]
FLOORED = ("consist_iou", "stability", "consist_pearson", "view_variance", "view_iou", "view_spearman")
MODULE = tiny.Conv(channels=2)
SIZE, N = 16, 6


def drawn(ids: list[str], role: str) -> torch.Tensor:
    """Smooth maps that depend on the image and the role alone."""
    seeds = torch.tensor([image_seed(1, name, role) for name in ids])
    coarse = uniform(seeds, (1, 5, 5)) - 0.3
    return torch.nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear")[:, 0]


def block(ids: list[str], *, monotone: bool = False, fused: bool = False) -> by_hand.Case:
    maps = drawn(ids, "base")
    seeds = torch.tensor([image_seed(1, name, "image") for name in ids])
    # Colours of their own, so that the net does not call all images alike.
    images = uniform(seeds, (2, SIZE, SIZE)) * uniform(seeds + 1, (2, 1, 1))
    masks = drawn(ids, "mask") > 0.4
    views = torch.stack([drawn(ids, f"view{v}") for v in range(3)]) if fused else None
    spread = drawn(ids, "spread").abs()
    return by_hand.case(
        MODULE, images, rescaled(maps) if monotone else maps, masks, view_maps=views, ids=ids, spread=spread
    )


def rescaled(maps: torch.Tensor) -> torch.Tensor:
    return (maps.double() * 3).exp()


def run(name: str, case: by_hand.Case, *, monotone: bool = False) -> dict[str, torch.Tensor]:
    def rerun(request: Rerun) -> RerunMaps:
        ids = list(case.image_ids)
        other = f"{request.net}{request.target}{request.partner}"
        maps = drawn(ids, f"{request.noise}{request.view}{request.weights is not None}{other}")
        valid = drawn(ids, f"valid{request.view}") > -0.2
        return by_hand.rerun_maps(rescaled(maps) if monotone else maps, case.maps, valid)

    others = [f"other{i}" for i in range(3)]
    return by_hand.run(name, case, MODULE, rerun, known=Annotated(drawn(others, "base"), drawn(others, "mask") > 0.4))


IDS = [f"image{i}" for i in range(N)]


def fused_for(name: str) -> bool:
    return name.startswith("view_") and name.endswith("_study")


@pytest.mark.parametrize("name", ALL)
def test_facts_and_yaml(name):
    choice = choices("metric")[name]
    assert choice.facts["better"] in ("up", "down", "neither")
    low, high = choice.facts["range"]
    assert low < high
    assert choice.facts["columns"][0] == name
    assert all(column.startswith(name) for column in choice.facts["columns"])
    assert set(choice.facts.get("needs", ())) <= {"mask", "order", "spread", "validation"}
    assert set(choice.facts.get("reruns", ())) <= {"noise", "view", "weighted", "weights", "labels", "class"}
    assert choice.facts["source"]
    assert "Source:" in choice.doc
    assert bool(choice.facts.get("floor")) == (name in FLOORED)
    content = yaml.safe_load((conf_folder() / "metric" / f"{name}.yaml").read_text())
    assert content.pop("metric") == name
    assert list(content) == list(choice.parameters)


@pytest.mark.parametrize("name", METRICS)
def test_columns_are_float64_per_image_and_in_range(name):
    case = block(IDS, fused=fused_for(name))
    found = run(name, case)
    facts = choices("metric")[name].facts
    assert set(found) == set(facts["columns"])
    assert all(column.dtype == torch.float64 and column.shape == (N,) for column in found.values())
    low, high = facts["range"]
    defined = torch.tensor([reason == "ok" for reason in by_hand.reasons(case)])
    assert defined.sum() >= N - 1
    main = found[name]
    assert ((main[defined] >= low - 1e-9) & (main[defined] <= high + 1e-9)).all()
    assert torch.equal(main.isnan(), ~defined)
    for column, values in found.items():
        if column.endswith(("_area", "_tied", "_chance", "_ceiling", "_precision")):
            assert ((values[defined] >= 0) & (values[defined] <= 1)).all()
    assert any(len(set(values[defined].tolist())) > 1 for values in found.values())


@pytest.mark.parametrize("name", METRICS)
def test_a_batch_equals_single_images_in_any_order(name):
    found = run(name, block(IDS, fused=fused_for(name)))
    turned = run(name, block(IDS[::-1], fused=fused_for(name)))
    for column, values in found.items():
        torch.testing.assert_close(turned[column].flip(0), values, atol=1e-5, rtol=0, equal_nan=True)
    for i in (0, N - 1):
        alone = run(name, block(IDS[i : i + 1], fused=fused_for(name)))
        for column, values in found.items():
            torch.testing.assert_close(alone[column][0], values[i], atol=1e-5, rtol=0, equal_nan=True)


@pytest.mark.parametrize("name", RANKED)
def test_a_monotone_rescaling_changes_nothing(name):
    plain, scaled = run(name, block(IDS)), run(name, block(IDS, monotone=True), monotone=True)
    assert plain[name].tolist() == pytest.approx(scaled[name].tolist(), abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("name", METRICS)
def test_nothing_of_the_case_is_changed(name):
    case = block(IDS, fused=fused_for(name))
    before = [tensor.clone() for tensor in (case.maps, case.images, case.masks, case.p, case.valid)]
    state = torch.get_rng_state()
    run(name, case)
    for old, new in zip(before, (case.maps, case.images, case.masks, case.p, case.valid), strict=True):
        assert torch.equal(old, new)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", FLOORED)
def test_a_map_that_is_the_same_for_every_image_has_excess_0(name):
    """Its floor, made from other images' reruns, is made from the same maps."""
    case = block(IDS)
    same = case.maps[:1].expand(N, SIZE, SIZE).contiguous()
    case = by_hand.case(MODULE, case.images, same, ids=IDS)
    again = drawn(["any"], "rerun").expand(N, SIZE, SIZE).contiguous()

    def own(request: Rerun) -> RerunMaps:
        return by_hand.rerun_maps(again, same)

    def partners(request: Rerun) -> RerunMaps:
        return by_hand.rerun_maps(again.roll(1 + (request.noise or 0), 0), same)

    value, floor = by_hand.run(name, case, rerun=own)[name], by_hand.run(name, case, rerun=partners)[name]
    assert torch.equal(value, floor)


# Nothing to stand beside: what a map would score that knows nothing is 0 by definition or not defined.
ALONE = {
    # The law gives the stability family a floor; a sensitivity is a distance, read beside the controls' own.
    *("max_sensitivity", "avg_sensitivity", "equivariance"),
    # Of the sorted values alone: a shifted copy has the same.
    *("concentration", "gini", "entropy", "effective_area"),
    # And the same smoothness, but for a seam.
    "smoothness",
    # Of the fusion's views, not of where its map is high.
    "uncertainty",
    # Maps of two random nets and of other images stand in columns of their own: passing means not to be above them.
    *("randomization", "data_randomization", "random_logit"),
}


@pytest.mark.parametrize("name", SOUND)
def test_each_metric_has_its_excess_a_floor_or_a_chance_level(name):
    facts = choices("metric")[name].facts
    beside = bool(facts.get("shifted")) + bool(facts.get("floor")) + (f"{name}_chance" in facts["columns"])
    assert beside == (name not in ALONE)


def oracles() -> set[str]:
    """Metrics named by `by_hand.oracle` above a test, from the source of the tests."""
    found = set()
    for path in (Path(__file__).parents[1] / "metrics").glob("test_*.py"):
        tree = ast.parse(path.read_text())
        lists = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for test in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
            for mark in test.decorator_list:
                if test.name.startswith("test_") and isinstance(mark, ast.Call) and _called(mark) == "oracle":
                    for name in mark.args:
                        starred = isinstance(name, ast.Starred)
                        value = ast.literal_eval(lists[name.value.id] if starred else name)
                        found |= set(value) if starred else {value}
    return found


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def test_each_metric_has_an_independent_oracle():
    assert oracles() == set(ALL)

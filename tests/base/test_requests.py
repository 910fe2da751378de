"""What metrics ask the engine for beside one region: many regions, weights, uniform noise. Each answer is that of a
loop over single images, each distinct image is run once, and what changes nothing costs nothing."""

import pytest
import tiny
import torch

from heatproof.base import fields, fills, methods
from heatproof.base.passes import Engine
from heatproof.base.registry import bind, choices
from heatproof.base.tasks import Block

N, SIZE = 6, 12
SHIPPED = ("road", "black", "mean", "blur", "noise", "noise_add")
# Kept small, so that a loop over single images is affordable.
SMALL = {
    "grid": 3,
    "steps": 5,
    "subsets": 6,
    "squares": 6,
    "shares": [0.2, 0.5],
    "size": 2,
}


def block(seed: int = 0) -> tuple:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(N, 1, SIZE, SIZE, generator=generator)
    module = tiny.Conv()
    logits = module(images).double().detach()
    masks = torch.zeros(N, SIZE, SIZE, dtype=torch.bool)
    ids = [f"image{i}" for i in range(N)]
    everything = torch.ones(N, dtype=torch.bool)
    return tiny.classifier(module), Block(images, ids, ids, logits.argmax(1), logits, masks, ~everything, everything)


class Counting:
    """The net, and every image that it saw."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module
        self.seen: list[torch.Tensor] = []

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.seen += list(images.detach().clone())
        return self.module(images).detach()


def engine_for(classifier, the_block, **more) -> tuple[Engine, Counting]:
    twin = Counting(classifier.module)
    engine = Engine(classifier, twin, seed=3, **more)
    engine.start(the_block)
    return engine, twin


def asks(function, label="ask", **facts):
    return tiny.metric(function, label, columns=facts.pop("columns"), needs=(), **facts)


def filled(classifier, the_block, row, region, fill):
    seeds = torch.tensor([fields.image_seed(3, the_block.ids[row], f"fill:{fill}")])
    return fills.fill(fill, the_block.images[row][None], region[None], seeds, torch.tensor(classifier.train_mean))


def p_of(classifier, the_block, row, image):
    return classifier.module(image).detach().double()[0].softmax(0)[the_block.targets[row]]


ORDER = (torch.arange(N)[:, None, None] + torch.arange(SIZE * SIZE).view(SIZE, SIZE)) % 7


def path(case, fill="mean", backwards=False):
    (p,) = yield (case.steps(ORDER[: len(case.p)] + 1, 7, fill, backwards=backwards),)
    return {"path": p[:, 0], **{f"path_{i}": p[:, i] for i in range(1, 7)}}


PATH = ("path", *(f"path_{i}" for i in range(1, 7)))


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("fill", SHIPPED)
def test_a_path_is_a_loop_over_its_images(fill, backwards):
    for batch in (1, 5, 64):
        classifier, the_block = block()
        engine, _ = engine_for(classifier, the_block, batch=batch)
        choice = asks(path, columns=PATH, settings={"fill": fill, "backwards": backwards})
        (result,) = engine.run([engine.task(engine.case(tiny.method(), the_block.images[:, 0]), choice, ["ok"] * N)])
        for row in range(N):
            for i, column in enumerate(PATH):
                region = (ORDER[row] + 1 <= i + 1) != backwards
                expected = p_of(classifier, the_block, row, filled(classifier, the_block, row, region, fill))
                assert float(result.columns[column][row]) == pytest.approx(float(expected), abs=1e-5)


def one_cell(case):
    (p,) = yield (case.each(4, lambda i, rows: (ORDER[: len(case.p)] == i)[rows], "black", "logit"),)
    return {"one_cell": p.sum(1), "one_cell_first": p[:, 0]}


def weighing(case):
    p, logit, rest = yield tuple(case.weighted(case.maps, read) for read in ("p", "logit", "rest"))
    return {"weighing": p, "weighing_logit": logit, "weighing_rest": rest}


def test_regions_and_weights_are_a_loop_over_single_images():
    classifier, the_block = block()
    engine, twin = engine_for(classifier, the_block, batch=4)
    weights = torch.rand(N, SIZE, SIZE)
    case = engine.case(tiny.method(), weights)
    choices_of = [
        asks(one_cell, "one", columns=("one_cell", "one_cell_first")),
        asks(weighing, "two", columns=("weighing", "weighing_logit", "weighing_rest")),
    ]
    status = ["ok", "zero", "nonfinite", "ok", "ok", "ok"]  # one image less: rows of the case are not the block's
    cells, weighed = engine.run([engine.task(case, choice, status) for choice in choices_of])
    for row in (0, 1, 3, 5):
        place = row if row < 2 else row - 1  # the case knows its own rows
        target = the_block.targets[row]
        logits = [
            classifier.module(filled(classifier, the_block, row, ORDER[place] == i, "black"))[0, target].double()
            for i in range(4)
        ]
        assert float(cells.columns["one_cell"][row]) == pytest.approx(float(sum(logits).detach()), abs=1e-5)
        one = classifier.module(the_block.images[row][None] * weights[row])[0].detach().double()
        assert float(weighed.columns["weighing_logit"][row]) == pytest.approx(float(one[target]), abs=1e-5)
        assert float(weighed.columns["weighing"][row]) == pytest.approx(float(one.softmax(0)[target]), abs=1e-6)
        rest = float(weighed.columns["weighing_rest"][row] + weighed.columns["weighing"][row])
        assert rest == pytest.approx(1, abs=1e-9)
    assert weighed.status[2] == "undefined:nonfinite"
    assert len(twin.seen) == engine.passes.used == 5 * 4 + 5


def nothing(case):
    nowhere = torch.zeros_like(case.valid)
    one, path = yield (case.without(nowhere, "black"), case.steps(torch.full(case.maps.shape, 9), 4, "road"))
    return {"nothing": (one[:, None] - path).abs().sum(1) + (one - case.p).abs()}


def test_an_empty_region_costs_no_pass():
    classifier, the_block = block()
    engine, twin = engine_for(classifier, the_block)
    case = engine.case(tiny.method(), the_block.images[:, 0])
    (result,) = engine.run([engine.task(case, asks(nothing, columns=("nothing",)), ["ok"] * N)])
    assert result.columns["nothing"].tolist() == [0] * N
    assert engine.passes.used == len(twin.seen) == 0


PERTURBING = sorted(
    name
    for name, choice in choices("metric").items()
    if choice.facts.get("asks") and not choice.facts.get("protocol") and not choice.facts.get("reruns")
)


def tasks_of(engine, names, methods_of):
    """Every metric under two fills and on two methods of the same maps, one of them shifted."""
    made = []
    for name in names:
        parameters = choices("metric")[name].parameters
        settings = {key: value for key, value in SMALL.items() if key in parameters}
        for fill in ("mean", "black") if "fill" in parameters else (None,):
            chosen = bind("metric", name, {**settings, **({"fill": fill} if fill else {})})
            choice = tiny.MetricChoice(f"{name}_{fill}", chosen)
            made += [engine.task(case, choice, ["ok"] * N) for case in methods_of]
    return made


def cases_of(engine, the_block):
    maps = the_block.images[:, 0] + torch.rand(N, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    one, again = (engine.case(tiny.method(name=name), maps.clone()) for name in ("one", "again"))
    moved = engine.case(tiny.method(name="moved"), maps.roll(3, 1))
    return one, again, moved


def test_all_perturbation_metrics_together_run_each_distinct_image_once():
    classifier, the_block = block()
    engine, twin = engine_for(classifier, the_block, batch=16)
    engine.run(tasks_of(engine, PERTURBING, cases_of(engine, the_block)))
    distinct = {image.numpy().tobytes() for image in twin.seen}
    distinct -= {image.numpy().tobytes() for image in the_block.images}
    assert engine.passes.used == len(twin.seen)
    # Equal images may come from different regions: black on black, one pixel of the mean. They are few.
    assert len(distinct) <= len(twin.seen) <= 1.05 * len(distinct)
    assert engine.passes.requested > 1.5 * engine.passes.used


def test_answers_do_not_depend_on_the_metrics_and_methods_beside_or_on_the_batch():
    classifier, the_block = block()
    engine, _ = engine_for(classifier, the_block, batch=16)
    together = engine.run(tasks_of(engine, PERTURBING, cases_of(engine, the_block)))
    alone = []
    for name in PERTURBING:
        engine, _ = engine_for(classifier, the_block, batch=7)
        alone += engine.run(tasks_of(engine, [name], cases_of(engine, the_block)))
    for a, b in zip(together, alone, strict=True):
        assert a.status == b.status
        for column, values in a.columns.items():
            torch.testing.assert_close(values, b.columns[column], atol=1e-5, rtol=1e-5, equal_nan=True)


def jittery(case):
    (again,) = yield (case.rerun(noise=2, std=0.3, uniform=True),)
    gap = (again.maps - again.reference).flatten(1)
    return {"jittery": gap.abs().amax(1).double(), "jittery_changed": again.changed.double()}


def test_uniform_noise_stays_in_its_radius_and_tells_changed_predictions():
    classifier, the_block = block()
    found = []
    for batch in (2, 64):
        engine, _ = engine_for(classifier, the_block, batch=batch)
        case = engine.case(tiny.method(), the_block.images.mean(1))
        choice = asks(jittery, columns=("jittery", "jittery_changed"), reruns=("noise",))
        (result,) = engine.run([engine.task(case, choice, ["ok"] * N)])
        found.append(result)
    noisy = methods.jittered(the_block.images, the_block.ids, 3, 2, 0.3)
    expected = (noisy - the_block.images).flatten(1).abs().amax(1).double()
    changed = classifier.module(noisy).argmax(1) != the_block.logits.argmax(1)
    for result in found:
        torch.testing.assert_close(result.columns["jittery"], expected, atol=1e-6, rtol=0)
        assert (result.columns["jittery"] <= 0.3 + 1e-6).all()
        assert result.columns["jittery_changed"].tolist() == changed.double().tolist()
    assert found[0].columns["jittery"].min() > 0.25


def again_weighted(case):
    (again,) = yield (case.rerun(weights=case.maps / case.maps.amax((1, 2), keepdim=True)),)
    return {
        "again_weighted": again.maps.sum((1, 2)).double(),
        "again_weighted_own": again.reference.sum((1, 2)).double(),
    }


def test_methods_are_rerun_on_the_image_weighted_by_each_maps_own_weights():
    classifier, the_block = block()
    engine, _ = engine_for(classifier, the_block, batch=4)
    maps = torch.rand(N, SIZE, SIZE) + 0.1
    own = engine.case(tiny.method(), maps)
    moved = engine.case(tiny.method(alter="shifted", control_of="brightness"), maps.roll(5, 2))
    choice = asks(again_weighted, columns=("again_weighted", "again_weighted_own"), reruns=("weighted",))
    status = ["ok", "zero", "nonfinite", "ok", "ok", "ok"]
    results = engine.run([engine.task(case, choice, status) for case in (own, moved, own)])
    for result, weights in zip(results, (maps, maps.roll(5, 2), maps), strict=True):
        expected = (the_block.images[:, 0] * weights / weights.amax((1, 2), keepdim=True)).sum((1, 2)).double()
        for row in (0, 1, 3, 4, 5):
            assert float(result.columns["again_weighted"][row]) == pytest.approx(float(expected[row]), rel=1e-5)
            assert float(result.columns["again_weighted_own"][row]) == pytest.approx(float(maps[row].sum()), rel=1e-5)
        assert result.columns["again_weighted"][2].isnan()
    assert engine.passes.maps == 2 * 5  # equal weights of a method are one rerun


def test_what_a_fill_needs_of_an_image_is_made_once_for_all_its_regions(monkeypatch):
    made = []
    prepared = fills.prepared
    monkeypatch.setattr(fills, "prepared", lambda name, *more: made.append(name) or prepared(name, *more))
    classifier, the_block = block()
    engine, _ = engine_for(classifier, the_block, batch=4)
    case = engine.case(tiny.method(), the_block.images[:, 0])
    choices_of = [
        asks(path, fill, columns=PATH, settings={"fill": fill, "backwards": backwards})
        for fill in ("blur", "road")
        for backwards in (False, True)
    ]
    engine.run([engine.task(case, choice, ["ok"] * N) for choice in choices_of])
    assert sorted(made) == ["blur", "road"]

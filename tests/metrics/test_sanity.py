"""Sanity through the engine: brute force over states and draws, floors, what passes and what fails."""

import by_hand
import numpy as np
import pytest
import tiny
import torch
from scipy.stats import spearmanr

from heatproof.base.depth import weight_blocks
from heatproof.base.passes import Engine
from heatproof.base.randomise import OtherWeights, calibrate, redrawn
from heatproof.base.records import MetricChoice
from heatproof.base.registry import bind
from heatproof.base.reruns import PARTNERS
from heatproof.base.tasks import Block

SIZE, N, SEED = 16, 7, 3


def setting(n=N, channels=1):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(n, channels, SIZE, SIZE, generator=generator)
    training = torch.rand(30, channels, SIZE, SIZE, generator=generator)
    classifier = tiny.classifier(tiny.Conv(channels), channels=channels)
    logits = classifier.module(images).double().detach()
    none = torch.zeros(n, SIZE, SIZE, dtype=torch.bool)
    ids = [f"image{i}" for i in range(n)]
    block = Block(images, ids, ids, logits.argmax(1), logits, none, torch.zeros(n) > 0, torch.ones(n) > 0)
    return classifier, block, training


def gradient(classifier, images, targets):
    """The gradient of the logit: it has a map for any weights."""
    with torch.inference_mode(False), torch.enable_grad():
        images = images.clone().requires_grad_()
        score = classifier.module(images).gather(1, targets.clone()[:, None]).sum()
        return torch.autograd.grad(score, images)[0].abs().sum(1)


def positive(classifier, images, targets):
    """A map that some nets do not have."""
    made = gradient(classifier, images, targets)
    dead = classifier.module(images)[:, 0] > 0
    return torch.where(dead[:, None, None], torch.zeros_like(made), made)


def metric(name, label=None, **settings):
    return MetricChoice(label or name, bind("metric", name, settings))


def measured(choices, explainers=(gradient,), permuted=None, batch=4):
    classifier, block, training = setting()
    others = OtherWeights(classifier, training, permuted=permuted, batch=8)
    engine = Engine(
        classifier, lambda images: classifier.module(images).detach(), seed=SEED, batch=batch, others=others
    )
    engine.start(block)
    tasks = []
    for explainer in explainers:
        method = tiny.method(explainer, explainer.__name__)
        case = engine.case(method, explainer(classifier, block.images, block.targets).detach())
        tasks += [engine.task(case, choice, ["ok"] * N) for choice in choices]
    return engine.run(tasks), engine, classifier, block, training


def by_brute_force(classifier, block, training, names, draw, explainer=gradient):
    """Maps of the net with some modules re-drawn, image by image."""
    net = redrawn(classifier.module, names, draw)
    order = ["low.0", "low.1", "high.0", "high.1", "head"]
    first = min(order.index(name) for name in names)
    calibrate(net, [name for name in ("low.1", "high.1") if order.index(name) >= first], training, 8)
    other = tiny.classifier(net)
    return torch.cat([explainer(other, block.images[i : i + 1], block.targets[i : i + 1]) for i in range(N)]).detach()


def rho(a, b):
    return np.array([spearmanr(x.flatten(), y.flatten()).statistic for x, y in zip(a, b, strict=True)])


LOW, HIGH, HEAD = ("low.0", "low.1"), ("high.0", "high.1"), ("head",)
STATES = {
    "top_down": [HEAD, HIGH + HEAD, LOW + HIGH + HEAD],
    "bottom_up": [LOW, LOW + HIGH, LOW + HIGH + HEAD],
    "independent": [HEAD, HIGH, LOW],
}


@by_hand.oracle("randomization")
@pytest.mark.parametrize("order", list(STATES))
def test_randomization_is_a_loop_over_states_draws_and_images(order):
    (result,), _, classifier, block, training = measured([metric("randomization", order=order, seeds=2)])
    own = gradient(classifier, block.images, block.targets)
    path = [np.ones(N)]
    for names in STATES[order]:
        draws = [rho(own, by_brute_force(classifier, block, training, names, draw)) for draw in (0, 1)]
        path.append(np.mean(draws, axis=0))
    assert result.curve.x.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(result.curve.y.numpy(), np.stack(path, 1), atol=1e-4)
    value = np.mean(path[1:], axis=0) if order == "independent" else path[-1]
    np.testing.assert_allclose(result.columns["randomization"].numpy(), value, atol=1e-4)
    both = [by_brute_force(classifier, block, training, LOW + HIGH + HEAD, draw) for draw in (0, 1)]
    np.testing.assert_allclose(result.columns["randomization_networks"].numpy(), rho(*both), atol=1e-4)
    assert result.columns["randomization_dead"].tolist() == [0] * N


def test_other_images_are_a_floor_made_of_the_trained_nets_own_maps():
    (result,), engine, classifier, block, _ = measured([metric("randomization", seeds=1)])
    own = gradient(classifier, block.images, block.targets)
    wanted = np.mean([rho(own, own[engine.reruns.partners[n]]) for n in range(PARTNERS)], axis=0)
    np.testing.assert_allclose(result.columns["randomization_images"].numpy(), wanted, atol=1e-6)
    assert result.columns["randomization_networks"].isnan().all()  # one draw makes no pair


def test_likeness_of_other_kinds_costs_no_pass_and_orders_share_their_states():
    one, engine_of_one, *_ = measured([metric("randomization")])
    choices = [
        metric("randomization"),
        metric("randomization", "ssim", similarity="ssim"),
        metric("randomization", "pearson", similarity="pearson"),
    ]
    three, engine_of_three, *_ = measured(choices)
    assert engine_of_three.passes == engine_of_one.passes
    torch.testing.assert_close(three[0].columns, one[0].columns, equal_nan=True)
    assert not torch.allclose(three[1].columns["randomization"], three[2].columns["randomization"])
    orders = [metric("randomization", order, order=order, seeds=2) for order in STATES]
    _, engine, *_ = measured(orders)
    distinct = {state for states in STATES.values() for state in states}
    calibrated = sum(30 for state in distinct if state != HEAD)
    assert engine.passes.maps == 2 * (N * len(distinct) + calibrated)


def test_states_are_forgotten_once_they_are_answered():
    _, engine, *_ = measured([metric("randomization")])
    assert not engine.reruns.held


def edges(classifier, images, targets):
    """A map that looks at the image alone."""
    return torch.nn.functional.max_pool2d(images.mean(1), 3, 1, 1) - images.mean(1)


def test_a_map_of_the_image_alone_stays_and_one_of_the_weights_goes():
    choices = [metric("randomization"), metric("random_logit")]
    results, *_ = measured(choices, (edges, gradient))
    assert results[0].columns["randomization"].tolist() == pytest.approx([1] * N)
    assert results[1].columns["random_logit"].tolist() == pytest.approx([1] * N)
    assert (results[2].columns["randomization"] < 0.7).all()


def test_reruns_without_a_map_leave_the_mean_and_are_counted():
    (result,), _, classifier, block, training = measured([metric("randomization", seeds=4)], (positive,))
    own = positive(classifier, block.images, block.targets)
    dead, values = [], []
    for state, names in enumerate(STATES["top_down"]):
        for draw in range(4):
            maps = by_brute_force(classifier, block, training, names, draw, positive)
            alive = maps.flatten(1).any(1).numpy()
            dead.append(~alive)
            if state == 2:
                values.append(
                    np.where(
                        alive,
                        [
                            spearmanr(a.flatten(), b.flatten()).statistic if ok else np.nan
                            for a, b, ok in zip(own, maps, alive, strict=True)
                        ],
                        np.nan,
                    )
                )
    assert 0 < np.mean(dead) < 1
    np.testing.assert_allclose(result.columns["randomization_dead"].numpy(), np.mean(dead, axis=0))
    for i in range(N):
        column = np.array([value[i] for value in values])
        if own[i].any() and not np.isnan(column).all():
            assert result.columns["randomization"][i].item() == pytest.approx(np.nanmean(column), abs=1e-4)


@by_hand.oracle("random_logit")
def test_random_logit_explains_another_class():
    (result,), _, classifier, block, _ = measured([metric("random_logit")])
    own = gradient(classifier, block.images, block.targets)
    value = result.columns["random_logit"].numpy()
    others = [rho(own, gradient(classifier, block.images, (block.targets + step) % 3)) for step in (1, 2)]
    taken = [np.isclose(value, other, atol=1e-4) for other in others]
    assert (taken[0] | taken[1]).all()
    assert taken[0].any()
    assert taken[1].any()


@by_hand.oracle("data_randomization")
def test_data_randomization_compares_with_the_net_of_permuted_labels():
    permuted = tiny.classifier(tiny.Conv(seed=9))
    (result,), _, classifier, block, _ = measured([metric("data_randomization")], permuted=permuted)
    wanted = rho(*(gradient(net, block.images, block.targets) for net in (classifier, permuted)))
    np.testing.assert_allclose(result.columns["data_randomization"].numpy(), wanted, atol=1e-4)


@by_hand.oracle("randomization_study")
def test_the_study_leaves_the_stem_and_explains_the_new_class():
    classifier, block, training = setting()
    states = [part.modules for part in weight_blocks(classifier.module, block.images, "coarse")]
    (result,), *_ = measured([metric("randomization_study", seeds=1)])
    own = gradient(classifier, block.images, block.targets)
    # Without the norms that only join a layer: what the study calls the block itself.
    names = tuple(name for modules in states for name in modules)
    net = redrawn(classifier.module, names, 0)
    calibrate(net, ["low.1", "high.1"], training, 8)
    maps = gradient(tiny.classifier(net), block.images, net(block.images).argmax(1))
    np.testing.assert_allclose(result.columns["randomization_study"].numpy(), rho(own, maps), atol=1e-4)


def test_undefined_where_there_is_no_other_net():
    results, *_ = measured([metric("data_randomization")])
    assert results[0].status == ["undefined:no_training"] * N
    classifier, block, _ = setting()
    engine = Engine(classifier, lambda images: classifier.module(images).detach(), seed=SEED)
    engine.start(block)
    case = engine.case(tiny.method(gradient), torch.rand(N, SIZE, SIZE))
    (result,) = engine.run([engine.task(case, metric("randomization"), ["ok"] * N)])
    assert result.status == ["undefined:no_other_net"] * N


def test_the_first_maps_are_kept_for_a_figure():
    (result,), _, classifier, block, training = measured([metric("randomization", seeds=1)])
    assert result.picture.shape == (4, 3, SIZE, SIZE)
    torch.testing.assert_close(result.picture[0], gradient(classifier, block.images, block.targets)[:3])
    last = by_brute_force(classifier, block, training, LOW + HIGH + HEAD, 0)[:3]
    torch.testing.assert_close(result.picture[-1], last, atol=1e-5, rtol=1e-3)

"""How many images must pass the network, and a rough guess of the time: for the plan's text and progress bars."""

from __future__ import annotations

import os
from collections.abc import Sequence

from heatproof.base import asked, registry
from heatproof.base.asked import Asked
from heatproof.base.records import Method, MetricChoice
from heatproof.base.registry import Bound
from heatproof.base.settings import CALIBRATED, VALIDATED, Compute, LoadSettings, MeasureSettings, TrainSettings

# CPU milliseconds of a forward pass at 224 px on one thread, by the option's name; others as a ResNet-50 (see the log).
MS_AT_224 = {
    "cnn": 19.0,
    "deit_tiny": 28.0,
    "densenet121": 58.0,
    "densenet161": 144.0,
    "densenet201": 87.0,
    "efficientnet_b0": 15.0,
    "mlp": 3.8,
    "mobilenet_v2": 11.0,
    "resnet101": 130.0,
    "resnet18": 19.0,
    "resnet50": 72.0,
    "small_cnn": 8.4,
    "squeezenet1_0": 14.0,
    "swin_t": 124.0,
    "vgg16": 148.0,
    "vgg_channel": 121.0,
    "vgg_depth2": 79.0,
    "vgg_depth3": 121.0,
    "vgg_depth4": 146.0,
    "vgg_depth5": 169.0,
    "vgg_family": 121.0,
    "vgg_pooling_average": 122.0,
    "vgg_pooling_flatten": 141.0,
    "vgg_pooling_global_average": 120.0,
    "vgg_pooling_global_max": 117.0,
    "vgg_pooling_max": 121.0,
    "vgg_receptive_large": 133.0,
    "vgg_receptive_medium": 121.0,
    "vgg_receptive_small": 69.0,
    "vgg_resolution_high": 386.0,
    "vgg_resolution_low": 120.0,
    "vgg_resolution_medium": 121.0,
    "vgg_spatial": 75.0,
    "vit_b_16": 348.0,
}
BACKWARD = 2.0  # a backward pass beside a forward one
GPU_SPEEDUP = 50.0
# Blocks of weights of a net that is yet to be built: a ResNet-50's.
WEIGHT_BLOCKS = {"coarse": 5, "fine": 17}
# Kinds of reruns that are one rerun, whatever the settings.
ONCE = ("class", "labels")


def passes_of(
    methods: Sequence[Method],
    metrics: Sequence[MetricChoice],
    images: int,
    measure: MeasureSettings,
    size: int,
    validation: int = 0,
) -> tuple[int, int]:
    """Images that pass for maps (reruns included), and for perturbations by metrics and explainers, estimated.

    Reruns and views are shared by the methods of a run; perturbed images differ by method, region and fill.
    `validation`: images of the validation split.
    """
    views = {registry.hash_of(view.identity()) for method in methods for view in method.views} or {""}
    reruns = max((int(m.metric.settings.get("noises", 0)) for m in metrics), default=0)
    reruns += max((len(m.metric.settings.get("views", ())) for m in metrics), default=0)
    model_free = [method for method in methods if method.control_of == "all"]
    tested = [method for method in methods if method.control_of is None]
    altered = [method for method in methods if method.alter in ("blurred", "other_class", "random_weights")]
    every = {request for metric in metrics for request in _requests(metric.metric)}
    moved = {request for m in metrics if m.metric.facts.get("shifted") for request in _requests(m.metric)}
    negative = {request for metric in metrics if metric.qge for request in _requests(metric.metric)}
    copies = measure.shifts if "shifted" in measure.controls and measure.protocol == "sound" else 0
    rows = len(tested) + len(altered) + len(model_free)
    perturbed = rows * sum(one.count for group in (every, negative) for one, _ in group if not one.shared)
    perturbed += sum(one.count for one, _ in moved if not one.shared) * len(tested) * copies
    perturbed += sum(one.count for one, _ in every if one.shared)
    own = sum(_own_forwards(methods, size).values())
    redrawn = _redrawn_nets(metrics)
    reruns += redrawn + len({kind for m in metrics for kind in m.metric.facts.get("reruns", ()) if kind in ONCE})
    # Maps for another class and by another net are passes of their own.
    classes = 1 + len({method.alter for method in methods} & {"other_class", "random_weights"})
    maps = images * len(views) * (1 + reruns) * classes + CALIBRATED * redrawn
    asked = any("validation" in m.metric.facts.get("needs", ()) for m in metrics)
    validation = min(VALIDATED, validation) if asked else 0
    maps += validation * len(views) * classes
    return maps, images * (perturbed + own * (1 + reruns)) + validation * own


def _redrawn_nets(metrics: Sequence[MetricChoice]) -> int:
    """Nets with re-drawn weights: states that several orders share are made once."""
    found = set()
    for metric in metrics:
        if "weights" in metric.metric.facts.get("reruns", ()):
            settings = metric.metric.settings
            n, order = WEIGHT_BLOCKS[str(settings["blocks"])], settings.get("order", "top_down")
            ends = {
                "top_down": [(n - k, n) for k in range(1, n + 1)],
                "bottom_up": [(0, k) for k in range(1, n + 1)],
                "independent": [(0, n), *((k, k + 1) for k in range(n))],
            }[str(order)]
            found |= {(settings["blocks"], seed, *state) for seed in range(int(settings["seeds"])) for state in ends}
    return len(found)


def _own_forwards(methods: Sequence[Method], size: int) -> dict[str, int]:
    """Forwards an image of each explainer that runs the net itself, on each of its views once."""
    found = {}
    for method in methods:
        for part in method.of or (method,):
            explainer = part.explainer
            if explainer is None or method.alter is not None or not explainer.facts.get("forwards"):
                continue
            for view in part.views or (None,):
                key = registry.hash_of([explainer.identity(), part.layer, view.identity() if view else None])
                found[key] = asked.forwards_of(explainer, size)
    return found


def seconds_of(
    maps: int, perturbed: int, trained: int, model: str, load: LoadSettings, train: TrainSettings, compute: Compute
) -> float:
    """A rough guess of the time for this machine: right within a factor of three or so."""
    one = MS_AT_224.get(model, MS_AT_224["resnet50"]) / 1000 * (load.size / 224) ** 2
    one *= max(1 / 8, 1 / (os.cpu_count() or 2)) / (GPU_SPEEDUP if compute.device.startswith("cuda") else 1.0)
    return (trained * _passes_an_image(train) + (1 + BACKWARD) * maps + perturbed) * one


def _passes_an_image(train: TrainSettings) -> float:
    """How many forward passes a training image costs at most; a backward pass counts as `BACKWARD` of them."""
    if train.policy == "none":
        return 0.0
    changed = bool(train.augment or train.delete_cells)
    return sum(
        phase.epochs * (1 + BACKWARD) if phase.unfreeze != 0 else phase.epochs if changed else 1.0
        for phase in train.all_phases()
    )


def _requests(metric: Bound) -> set[tuple[Asked, str]]:
    """What a metric asks for, each beside its parameters: equal ones are run once."""
    parameters = registry.hash_of(sorted((key, str(value)) for key, value in metric.settings.items()))
    return {(one, parameters) for one in asked.perturbed(metric.facts, metric.settings)}

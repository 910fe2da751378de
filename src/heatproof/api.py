"""The Python functions: explain and measure any torch classifier from a notebook.

Conventions: `model` is any `nn.Module` in eval mode that takes float images (N, C, H, W) in [0, 1] (put normalisation
inside) and gives logits (N, K), or (N, 1) for a sigmoid output. Nothing here writes files but `run`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from heatproof.base import compose, registry, values
from heatproof.base.errors import Faults, HeatproofError, fault
from heatproof.base.methods import explain_batch, parts_of
from heatproof.base.names import MethodName
from heatproof.base.nets import TwoLogits, as_classifier, build_net
from heatproof.base.records import Classifier, MapBatch, Maps, Method, MetricChoice, Report, Scores
from heatproof.base.registry import Bound
from heatproof.base.settings import MeasureSettings

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int64

Explaining = Callable[[Tensor, Tensor], Tensor]


def list_datasets() -> list[registry.Choice]:
    """Data sets: records with `.name`, `.doc`, `.parameters`, `.facts`."""
    return list(registry.choices("dataset").values())


def list_models() -> list[registry.Choice]:
    """Builders of networks; `conf/model` holds more presets of the builder `torchvision`."""
    return list(registry.choices("model").values())


def list_explainers() -> list[registry.Choice]:
    """Explainers and controls."""
    return list(registry.choices("explainer").values())


def list_views() -> list[registry.Choice]:
    """Single views; sets of them are the options of `views`."""
    return list(registry.choices("view").values())


def list_metrics() -> list[registry.Choice]:
    """Metrics with range, direction, needs and source in `.facts`."""
    return list(registry.choices("metric").values())


def run(overrides: list[str]) -> Report:
    """One run as the command line would do it, e.g. `run(["model=resnet18", "explainer=[gradcam]"])`.

    Raises HeatproofError for a sweep (several values of a key, or a study that is one): use the command line for those.
    """
    from heatproof.cli import run_once

    return run_once(overrides)


def load_model(run_or_name: str | Path, weights: str | Path | None = None) -> nn.Module:
    """A classifier in eval mode: the one that a results folder was made with, or a model option by name.

    A name is an option of `model` (`resnet18`, `vgg16`, ...) with its ImageNet head, and `weights` is null (random),
    "imagenet" or a file. A folder is one that a run has written; its trained weights come from the store.
    """
    folder = Path(run_or_name)
    if folder.is_dir():
        return _trained(folder)
    name = str(run_or_name)
    builder = registry.preset("model", name)
    settings = dict(builder.settings)
    if weights is not None:
        if "weights" not in settings:
            raise HeatproofError(fault(f"model {name}", "takes no weights", got=str(weights)))
        settings["weights"] = str(weights)
    return build_net(registry.bind("model", builder.name, settings), 1000, 3, 224)


def _trained(folder: Path) -> nn.Module:
    from heatproof.base.store import Store
    from heatproof.stages import load, train
    from heatproof.stages.plan import make_plan

    config = folder / "config.yaml"
    if not config.is_file():
        raise HeatproofError(fault("load_model", "a results folder holds config.yaml", got=str(folder)))
    plan = make_plan(registry.yaml.safe_load(config.read_text()))
    store = Store()
    samples = load.load(plan.dataset, plan.load, store)
    return train.train(samples, plan.model, plan.train, plan.compute, store).module


def explain(
    model: nn.Module,
    images: Float[Tensor, "n c h w"],
    explainer: str | Explaining = "gradcam",
    views: str = "none",
    target: str | int | Int64[Tensor, " n"] = "predicted",
    layer: str | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    fusion: str = "mean",
    seed: int = 0,
    batch: int = 32,
    keep_views: bool = False,
) -> Maps:
    """Maps (n, h, w), signed, unscaled, at input resolution: `.tensor()` gives them.

    `explainer`: a name or a callable (images, targets) -> maps. `views`: an option of `views` ("none" = single view),
    fused by `fusion`. `target`: "predicted", a class number for all, or one number per image. `layer`: a module's name,
    None = the last one with spatial extent. `settings`: of the explainer. `.parts` holds the map at the explainer's own
    resolution ("raw") and, with `keep_views`, the aligned maps of the views (n, v, h, w) and where they are valid.
    """
    images = _checked_images(images)
    classifier = _classifier(model, images)
    predicted = _predicted(classifier, images, batch)
    targets = _targets(predicted, target, len(classifier.classes))
    wrapped = isinstance(classifier.module, TwoLogits) and not isinstance(model, TwoLogits)
    if wrapped and layer in dict(model.named_modules()):
        layer = f"net.{layer}"
    method = _method(explainer, views, layer, settings or {}, fusion)
    made: dict[str, list[MapBatch]] = {}
    ids = [str(i) for i in range(len(images))]
    for rows in torch.arange(len(images)).split(batch):
        batch_maps = explain_batch(
            classifier,
            images[rows].to(classifier.device),
            targets[rows].to(classifier.device),
            [method],
            ids=[ids[row] for row in rows.tolist()],
            seed=seed,
            keep_views=keep_views,
        )
        for name, part in batch_maps.items():
            made.setdefault(name, []).append(part)
    name = str(method.name)
    maps = torch.cat([part.maps.cpu() for part in made[name]])
    spreads = [part.sd.cpu() for part in made[name] if part.sd is not None]
    found = _maps(maps, method, targets, predicted, torch.cat(spreads) if spreads else None)
    parts = [parts_of(method, part) for part in made[name]]
    joined = {kind: torch.cat([part[kind].cpu() for part in parts]).numpy() for kind in parts[0]}
    return dataclasses.replace(found, parts={name: joined} if joined else {})


def measure(
    model: nn.Module,
    images: Float[Tensor, "n c h w"],
    maps: Maps | Float[Tensor, "n h w"],
    metrics: str | Sequence[str] = "nine",
    masks: Bool[Tensor, "n h w"] | None = None,
    protocol: str = "sound",
    method: str | Explaining | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    target: str | int | Int64[Tensor, " n"] = "predicted",
    groups: Sequence[str] | None = None,
    sign: str = "signed",
    shifts: int = 4,
    seed: int = 0,
    batch: int = 32,
) -> Scores:
    """Scores of the maps: `.frame()` is the long table, one row per (image, metric, column).

    `metrics`: options of `metrics`. `settings`: metric label -> settings. Maps from `explain` know how to be made
    again; for a plain tensor, metrics that rerun the method are `undefined:no_method` unless `method` (an explainer's
    name or a callable) is given. A plain tensor is taken to explain `target`. Without `masks`, localisation is
    `undefined:no_mask`. Without training data the `mean` fill needs a model that states its normalisation.
    """
    from heatproof.stages.measure import measure_tensors

    images = _checked_images(images)
    classifier = _classifier(model, images)
    if not isinstance(maps, Maps):
        if tuple(maps.shape) != (len(images), *images.shape[-2:]):
            expected = (len(images), *images.shape[-2:])
            raise HeatproofError(
                fault("maps", f"one map per image at its resolution, {expected}", got=tuple(maps.shape))
            )
        predicted = _predicted(classifier, images, batch)
        targets = _targets(predicted, target, len(classifier.classes))
        by = _method(method, "none", None, {}, "mean") if method is not None else Method(MethodName("maps"), None)
        maps = _maps(maps.detach().float().cpu(), by, targets, predicted, None)
    if masks is not None and tuple(masks.shape) != (len(images), *images.shape[-2:]):
        raise HeatproofError(fault("masks", "one mask per image at its resolution", got=tuple(masks.shape)))
    chosen = _metrics(metrics, protocol, settings or {})
    table = _table(len(images), groups)
    return measure_tensors(
        classifier,
        images,
        maps,
        chosen,
        MeasureSettings(seed=seed, sign=sign, protocol=protocol, controls=("shifted",), shifts=shifts),
        masks=masks,
        table=table,
        batch=batch,
    )


# ---- from plain things to records ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Given:
    """A user's callable (images, targets) -> maps in the place of a bound explainer."""

    function: Explaining
    facts: Mapping[str, Any] = field(default_factory=lambda: {"holds_net": True})
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def choice(self) -> SimpleNamespace:
        return SimpleNamespace(supplied=())

    def identity(self) -> dict[str, Any]:
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        return {"kind": "callable", "name": name, "id": id(self.function)}

    def __call__(self, classifier: Classifier, images: Tensor, targets: Tensor) -> Tensor:
        maps = self.function(images, targets)
        if maps.ndim != 3 or len(maps) != len(images):
            raise HeatproofError(fault("explainer", "gives maps (n, h, w)", got=tuple(maps.shape)))
        return maps


def _checked_images(images: Tensor) -> Tensor:
    if images.ndim != 4 or not images.is_floating_point():
        raise HeatproofError(
            fault("images", "float (n, c, h, w) in [0, 1]", got=f"{images.dtype} {tuple(images.shape)}")
        )
    if not len(images) or images.min() < 0 or images.max() > 1:
        low, high = (images.min().item(), images.max().item()) if len(images) else (None, None)
        hint = "Scale to [0, 1] and put normalisation into the model (heatproof.base.nets.normalise_inside)."
        raise HeatproofError(fault("images", "float (n, c, h, w) in [0, 1]", got=f"{low} .. {high}", hint=hint))
    return images.detach().float()


def _classifier(model: nn.Module, images: Tensor) -> Classifier:
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    return as_classifier(model, images[:2].to(device))


def _predicted(classifier: Classifier, images: Tensor, batch: int) -> Int64[Tensor, " n"]:
    with torch.inference_mode():
        return torch.cat(
            [classifier.module(part.to(classifier.device)).argmax(1).cpu() for part in images.split(batch)]
        )


def _targets(predicted: Tensor, target: str | int | Tensor, num_classes: int) -> Int64[Tensor, " n"]:
    if isinstance(target, str):
        if target != "predicted":
            raise HeatproofError(
                fault(
                    "target", "'predicted', a class number, or one number per image", got=target, choices=["predicted"]
                )
            )
        return predicted
    given = torch.as_tensor(target, dtype=torch.int64)
    if given.ndim > 1 or (given.ndim and len(given) != len(predicted)):
        wrong = f"a class number, or one number per image ({len(predicted)} of them)"
        raise HeatproofError(fault("target", wrong, got=tuple(given.shape)))
    targets = given.expand(len(predicted)).clone()
    if ((targets < 0) | (targets >= num_classes)).any():
        raise HeatproofError(fault("target", f"class numbers are 0 .. {num_classes - 1}", got=targets.tolist()[:5]))
    return targets


def _method(
    explainer: str | Explaining, views: str, layer: str | None, settings: Mapping[str, Any], fusion: str
) -> Method:
    bound: Any = _bound("explainer", explainer, settings) if isinstance(explainer, str) else _Given(explainer)
    label = explainer if isinstance(explainer, str) else "given"
    if views == "none":
        return Method(MethodName(label, layer), bound, layer)
    plan = _planned([f"views={views}"])
    seen = next(method.views for method in plan.methods if method.views)
    return Method(MethodName(label, layer, views, fusion), bound, layer, seen, registry.preset("fusion", fusion))


def _bound(kind: str, name: str, settings: Mapping[str, Any]) -> Bound:
    """The choice with settings that the command line would take, too."""
    from heatproof.stages.plan.sections import settings_of, unknown_keys

    choice, faults = registry.find(kind, name), Faults()
    unknown_keys(choice, settings, name, faults)
    checked = settings_of(choice, settings, name, faults)
    faults.raise_any()
    return registry.bind(kind, name, checked)


def _planned(overrides: list[str]) -> Any:
    from heatproof.stages.plan import make_plan

    (job,) = compose.compose(overrides)
    return make_plan(job.config)


def _metrics(
    metrics: str | Sequence[str], protocol: str, settings: Mapping[str, Mapping[str, Any]]
) -> tuple[MetricChoice, ...]:
    suites = [metrics] if isinstance(metrics, str) else list(metrics)
    plan = _planned([f"metrics=[{','.join(suites)}]", f"protocol={protocol}", "views=none"])
    chosen: dict[str, MetricChoice] = {choice.label: choice for choice in plan.metrics}
    for label, more in settings.items():
        if label not in chosen:
            raise HeatproofError(fault("settings", "no such metric in the chosen suites", got=label, choices=chosen))
        metric = chosen[label].metric
        bound = _bound("metric", metric.name, {**metric.settings, **more})
        chosen[label] = MetricChoice(label, bound, protocol)
    return tuple(chosen.values())


def _maps(maps: Tensor, method: Method, targets: Tensor, predicted: Tensor, sd: Tensor | None) -> Maps:
    import numpy as np

    name = str(method.name)
    return Maps(
        np.arange(len(maps)),
        targets.numpy(),
        predicted.numpy(),
        (method,),
        {name: maps.numpy()},
        {name: sd.numpy()} if sd is not None else {},
        {name: tuple(values.status_of(maps))},
    )


def _table(n: int, groups: Sequence[str] | None) -> Any:
    import pandas as pd

    return pd.DataFrame({"image": [str(i) for i in range(n)], "group": groups, "label": None})

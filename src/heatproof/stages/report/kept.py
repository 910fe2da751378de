"""`records.json`: what a report needs of a run beside its tables, so that it can be made again without a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from heatproof.base.names import parse
from heatproof.base.records import Classifier, Method, MetricChoice, Predictions, Scores
from heatproof.base.registry import Bound, Choice

NAME = "records.json"


def kept(classifier: Classifier, predictions: Predictions, scores: Scores, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The records in plain types. Choices are kept with their facts: those of today may differ, or be gone."""
    return {
        "classifier": {
            "classes": list(classifier.classes),
            "layers": list(classifier.layers),
            "identity": classifier.identity,
            "channels": classifier.channels,
            "history": [dict(epoch) for epoch in classifier.history],
            "best_epoch": classifier.best_epoch,
            "trained": classifier.trained,
        },
        "predictions": {
            "figures": {name: dict(found) for name, found in predictions.figures.items()},
            "val_figures": {name: dict(found) for name, found in predictions.val_figures.items()},
            "positive": predictions.positive,
            "seconds": predictions.seconds,
        },
        "methods": [_method(method) for method in scores.methods],
        "metrics": [
            {"label": choice.label, "metric": _bound(choice.metric), "protocol": choice.protocol, "qge": choice.qge}
            for choice in scores.metrics
        ],
        "config": facts.get("config"),
    }


def classifier_of(found: Mapping[str, Any]) -> Classifier:
    """The classifier without its net: names, identity, history."""
    return Classifier(
        None,  # type: ignore[arg-type]
        tuple(found["classes"]),
        tuple(found["layers"]),
        found["identity"],
        found["channels"],
        history=tuple(found["history"]),
        best_epoch=found["best_epoch"],
        trained=found["trained"],
    )


def methods_of(found: list[Mapping[str, Any]]) -> tuple[Method, ...]:
    """The methods, whose explainers can say what they are but may not run."""
    return tuple(map(_as_method, found))


def metrics_of(found: list[Mapping[str, Any]]) -> tuple[MetricChoice, ...]:
    """The metrics, which can say what they are but may not run."""
    return tuple(
        MetricChoice(one["label"], _as_bound(one["metric"]), one["protocol"], bool(one.get("qge"))) for one in found
    )


def _method(method: Method) -> dict[str, Any]:
    return {
        "name": str(method.name),
        "explainer": _bound(method.explainer),
        "layer": method.layer,
        "views": [_bound(view) for view in method.views],
        "fusion": _bound(method.fusion),
        "control_of": method.control_of,
        "alter": method.alter,
        "blur_px": method.blur_px,
        "of": [_method(part) for part in method.of],
        "content": method.content,
    }


def _as_method(found: Mapping[str, Any]) -> Method:
    return Method(
        parse(found["name"]),
        _as_bound(found["explainer"]) if found["explainer"] else None,
        found["layer"],
        tuple(map(_as_bound, found["views"])),
        _as_bound(found["fusion"]) if found["fusion"] else None,
        found["control_of"],
        found["alter"],
        found["blur_px"],
        methods_of(found["of"]),
        found["content"],
    )


def _bound(bound: Bound | None) -> dict[str, Any] | None:
    if bound is None:
        return None
    choice = bound.choice
    return {
        **{"kind": choice.kind, "name": choice.name, "doc": choice.doc, "facts": dict(choice.facts)},
        "settings": {key: value if _plain(value) else str(value) for key, value in bound.settings.items()},
    }


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, list, tuple, dict))


def _as_bound(found: Mapping[str, Any]) -> Bound:
    empty: MappingProxyType[str, Any] = MappingProxyType({})
    facts = MappingProxyType(found["facts"])
    choice = Choice(found["kind"], found["name"], "", Path(), 0, found["doc"], empty, (), facts)
    return Bound(choice, MappingProxyType(found["settings"]))

"""`summary.json`: everything a machine wants to know of a run, in plain types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from heatproof.base.records import Classifier, Predictions, Samples, Scores
from heatproof.stages.report.findings import Findings


def summarise(
    findings: Findings,
    *,
    samples: Samples,
    classifier: Classifier,
    predictions: Predictions,
    scores: Scores,
    facts: Mapping[str, Any],
    verdicts: Sequence[str],
    protocol: str,
    notes: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
) -> dict[str, Any]:
    """The summary of a run. NaN reads null: undefined, never 0."""
    methods: dict[str, dict[str, Any]] = {str(method.name): {} for method in findings.methods}
    for (method, column), cell in findings.cells.items():
        found = cell.interval
        methods[method][column] = {
            "mean": found.mean,
            "lo": found.lo,
            "hi": found.hi,
            "n": found.n,
            "undefined": dict(cell.undefined),
            "better": next(c.better for c in findings.columns if c.name == column),
            **({"remark": cell.remark} if cell.remark else {}),
        }
    comparisons = [
        {
            "method_a": pair.method_a,
            "method_b": pair.method_b,
            "metric": pair.metric,
            "difference": pair.comparison.difference,
            "lo": pair.comparison.lo,
            "hi": pair.comparison.hi,
            "p": pair.comparison.p,
            "p_holm": pair.p_holm,
            "d_z": pair.comparison.d_z,
            "n": pair.comparison.n,
            "units": pair.comparison.units,
        }
        for pair in findings.pairs
    ]
    made = {
        **_base(samples, classifier, predictions, facts),
        "protocol": protocol,
        "seed": findings.seed,
        "n_images": len(findings.images),
        "tested": [str(method.name) for method in findings.tested],
        "main": [column.name for column in findings.of("main")],
        "ranges": {c.name: list(c.choice.metric.facts.get("range", (None, None))) for c in findings.of("main")},
        "methods": methods,
        "comparisons": comparisons,
        "verdicts": list(verdicts),
        "flags": {method: dict(counts) for method, counts in scores.flags.items()},
        "notes": notes or {},
        "passes": dict(facts.get("passes") or scores.passes),
    }
    plain: dict[str, Any] = _plain(made)
    return plain


def summarise_classifier(
    samples: Samples, classifier: Classifier, predictions: Predictions, facts: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """The summary of a run that stops after its predictions: that of a run without methods."""
    none: dict[str, Any] = {"tested": [], "main": [], "methods": {}, "verdicts": []}
    made = {"stage": "predict", **_base(samples, classifier, predictions, facts), **none}
    plain: dict[str, Any] = _plain({**made, "seed": seed, "n_images": len(predictions.table)})
    return plain


def _base(
    samples: Samples, classifier: Classifier, predictions: Predictions, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """What is said of the run, its data and its classifier, whatever was measured."""
    return {
        "name": facts.get("name"),
        "overrides": list(facts.get("overrides") or ()),
        "plan_hash": facts.get("plan_hash"),
        "whole_hash": facts.get("whole_hash"),
        "seedless_hash": facts.get("seedless_hash"),
        "shard": facts.get("shard"),
        "data_hash": samples.data_hash,
        "net": classifier.identity,
        "split_kind": samples.split_kind,
        "device": facts.get("device"),
        "versions": dict(facts.get("versions") or {}),
        "classifier": {name: dict(found) for name, found in predictions.figures.items()},
        "classifier_val": {name: dict(found) for name, found in predictions.val_figures.items()},
        "positive": predictions.positive,
        "model": facts.get("model") or model_facts(samples, classifier, predictions),
        "seconds": dict(facts.get("seconds") or {}),
        "audit": list(samples.audit.warnings) if samples.audit else [],
        "warnings": list(facts.get("warnings") or ()),
    }


def model_facts(samples: Samples, classifier: Classifier, predictions: Predictions) -> dict[str, float | None]:
    """Size and speed of the classifier: parameters (all, and those that training changed, where known), seconds and
    epochs of its training (also where it came from the store), training and prediction in images per second."""
    weights = list(classifier.module.parameters()) if classifier.module is not None else []
    seconds = sum(float(epoch.get("seconds", 0)) for epoch in classifier.history)
    trained = len(samples.rows("train")) * len(classifier.history)
    return {
        "parameters": sum(weight.numel() for weight in weights) or None,
        "parameters_trained": classifier.trained,
        "training_epochs": len(classifier.history),
        "training_seconds": round(seconds, 2) if classifier.history else None,
        "training_images_per_second": round(trained / seconds, 1) if seconds > 0 and trained else None,
        "prediction_images_per_second": (
            round(len(predictions.table) / predictions.seconds, 1) if predictions.seconds else None
        ),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)

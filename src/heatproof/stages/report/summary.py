"""`summary.json`: everything a machine wants to know of a run, in plain types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from heatproof.base.records import Predictions, Samples, Scores
from heatproof.stages.report.findings import Findings


def summarise(
    findings: Findings,
    *,
    samples: Samples,
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
        }
        for pair in findings.pairs
    ]
    passes = {**scores.passes, **(facts.get("passes") or {})}
    made = {
        "name": facts.get("name"),
        "overrides": list(facts.get("overrides") or ()),
        "plan_hash": facts.get("plan_hash"),
        "data_hash": samples.data_hash,
        "split_kind": samples.split_kind,
        "protocol": protocol,
        "seed": findings.seed,
        "device": facts.get("device"),
        "n_images": len(findings.images),
        "classifier": {name: dict(found) for name, found in predictions.figures.items()},
        "methods": methods,
        "comparisons": comparisons,
        "verdicts": list(verdicts),
        "flags": {method: dict(counts) for method, counts in scores.flags.items()},
        "notes": notes or {},
        "passes": passes,
        "seconds": dict(facts.get("seconds") or {}),
        "warnings": list(facts.get("warnings") or ()),
    }
    plain: dict[str, Any] = _plain(made)
    return plain


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

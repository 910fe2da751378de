"""The metrics of a plan: entries of its suites, bound, with one label per identity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heatproof.base import registry
from heatproof.base.errors import Faults
from heatproof.base.names import PART
from heatproof.base.records import MetricChoice
from heatproof.base.registry import Bound
from heatproof.stages.plan.sections import settings_of, unknown_keys


def metrics_of(
    config: Mapping[str, Any], used_families: set[str], annotation: str | None, faults: Faults, warnings: list[str]
) -> tuple[MetricChoice, ...]:
    """Metrics in the order of the suites; equal identities merge under the first label.

    `used_families`: families of views in the run's fusions. A metric counts none of them, in any row, so that all rows
    of a table see the same perturbations.
    """
    protocol = str(config.get("protocol"))
    found: dict[str, MetricChoice] = {}
    seen: dict[str, str] = {}
    places: dict[str, str] = {}
    for suite, entries in (config.get("metrics") or {}).items():
        if not isinstance(entries, Mapping):
            faults.add(f"metrics.{suite}", "a suite of metrics is expected", got=entries)
            continue
        bound = {}
        for label, entry in entries.items():
            where = f"metrics.{suite}.{label}"
            with faults.gathered():
                bound[label] = _metric(label, entry, where, protocol, used_families, faults, warnings)
        everything = "all" in (config.get("metrics") or {})
        _check_masks(suite, bound, annotation, str(config["dataset"].get("reader")), faults, warnings, everything)
        for label, metric in bound.items():
            where = f"metrics.{suite}.{label}"
            wanted = entries[label].get("qge") if isinstance(entries[label], Mapping) else None
            _check_qge(wanted, metric, where, faults)
            choice = MetricChoice(label, metric, protocol, qge=bool(wanted))
            key = registry.hash_of([metric.identity(), protocol, choice.qge])
            if not PART.fullmatch(label):
                faults.add(where, "a label holds only letters, digits, '_', '-'", got=label)
            elif key in seen:
                continue
            elif label in found:
                faults.add(where, f"another metric has this label: {places[label]}", hint="Choose another label.")
            else:
                seen[key], found[label], places[label] = label, choice, where
    warnings += _narrowed(found)
    if not found and not faults.texts:
        faults.add("metrics", "at least one metric is needed", choices=registry.conf_names("metrics"))
    return tuple(found.values())


def _metric(
    label: str,
    entry: Any,
    where: str,
    protocol: str,
    used_families: set[str],
    faults: Faults,
    warnings: list[str],
) -> Bound:
    content = entry if isinstance(entry, Mapping) else {}
    choice = registry.find("metric", str(content.get("metric", label)))
    unknown_keys(choice, content, where, faults, other=("metric", "qge"))
    settings = settings_of(choice, content, where, faults)
    twin = f"{choice.name}_study"
    if protocol == "study" and twin in registry.choices("metric"):
        shipped = registry.bind("metric", choice.name).settings
        changed = [key for key, value in settings.items() if value != shipped[key] and not _is_second_fill(label, key)]
        warnings += [
            f"protocol=study fixes how {choice.name} is computed: {where}.{key} has no effect." for key in changed
        ]
        return registry.bind("metric", twin)
    bound = registry.bind("metric", choice.name, settings)
    if "families" in choice.parameters:
        counted = [family for family in bound.settings["families"] if family not in used_families]
        bound = registry.bind("metric", choice.name, {**bound.settings, "families": counted})
    return bound


def _check_qge(wanted: Any, metric: Bound, where: str, faults: Faults) -> None:
    """The quasi-gradient excess is for metrics of the map's order alone, for a rerun makes no negative map."""
    if wanted not in (None, True, False):
        faults.add(f"{where}.qge", "true or false is expected", got=wanted)
    elif wanted and (
        not {"order"} <= set(metric.facts.get("needs", ())) <= {"order", "mask"} or metric.facts.get("reruns")
    ):
        faults.add(f"{where}.qge", f"{metric.name} does not look at the order of one map", got=wanted)


def _narrowed(found: Mapping[str, MetricChoice]) -> list[str]:
    """One warning for all metrics that leave out the same families of views."""
    labels: dict[tuple[str, str], list[str]] = {}
    for label, choice in found.items():
        counted = choice.metric.settings.get("families")
        if counted is not None:
            all_of_them = registry.bind("metric", choice.metric.name).settings["families"]
            left_out = [family for family in all_of_them if family not in counted]
            if left_out:
                labels.setdefault((", ".join(left_out), ", ".join(counted)), []).append(label)
    return [
        f"{', '.join(names)}: {left_out} not counted, for the fusions use such views; "
        + (f"counted: {counted}." if counted else "nothing is left to count: undefined.")
        for (left_out, counted), names in labels.items()
    ]


def _is_second_fill(label: str, key: str) -> bool:
    """Whether the suite itself says this: `faith_mean` is `faith` under another fill."""
    return key == "fill" and label.endswith("_mean")


def _check_masks(
    suite: str,
    bound: Mapping[str, Bound],
    annotation: str | None,
    reader: str,
    faults: Faults,
    warnings: list[str],
    everything: bool,
) -> None:
    """A suite that nobody can measure on these data is refused, but for one that came with all the others."""
    wanting = [label for label, metric in bound.items() if "mask" in metric.facts.get("needs", ())]
    if not wanting or annotation is not None:
        return
    if len(wanting) == len(bound) and not everything:
        faults.add(f"metrics.{suite}", f"every metric of it needs masks, and the data set {reader} has none")
    else:
        warnings.append(f"{', '.join(wanting)}: undefined, the data set {reader} has no masks.")

"""The plan as text: what `stage=plan` prints."""

from __future__ import annotations

from heatproof.base.records import Method
from heatproof.base.shards import shard_of
from heatproof.stages.plan.record import Plan


def plan_text(plan: Plan) -> str:
    """What will be done: choices, images per split and class, methods, metrics, passes, time, warnings."""
    tested = [method for method in plan.methods if method.control_of is None]
    others = [method for method in plan.methods if method.control_of == "all"]
    lines = [
        f"plan {plan.hash}  {plan.name}",
        "",
        f"data set    {plan.dataset_name}, {plan.load.channels} x {plan.load.size} x {plan.load.size} px, "
        f"split {plan.split}" + (", here before near-duplicates are kept together" if plan.regrouped else ""),
        *(f"            {line}" for line in _counts(plan)),
        f"model       {plan.model_name}, train={plan.train.policy}"
        + (
            ""
            if plan.train.policy == "none"
            else f", up to {sum(phase.epochs for phase in plan.train.all_phases())} epochs"
        ),
        f"explained   {_explained(plan)} images of {plan.eval.split}, target {plan.explain.target}",
        *_listed("methods", [str(method.name) for method in tested]),
        *_listed("controls", [*(str(method.name) for method in others), *_altered(plan.methods)]),
        *_listed("metrics", [choice.label for choice in plan.metrics]),
        f"protocol    {plan.measure.protocol}, seed {plan.seed}, device {plan.compute.device}",
        "",
        f"about {plan.passes:,} passes after training, about {_time(plan.seconds)} in all (rough; stored results are "
        "used again)",
        *(f"note: {text}" for text in plan.warnings),
    ]
    return "\n".join(lines)


def _counts(plan: Plan) -> list[str]:
    classes = list(dict.fromkeys(name for row in plan.counts.values() for name in row))
    widths = [max(len(name), 6) for name in classes]
    head = " " * 7 + "  ".join(name.rjust(width) for name, width in zip(classes, widths, strict=True))
    rows = [
        split.ljust(7)
        + "  ".join(str(row.get(name, 0)).rjust(width) for name, width in zip(classes, widths, strict=True))
        + f"   = {sum(row.values())}"
        for split, row in plan.counts.items()
    ]
    return [head, *rows]


def _explained(plan: Plan) -> int:
    there = sum(plan.counts[plan.eval.split].values())
    wanted = min(there, plan.eval.images or there)
    return len(shard_of(wanted, plan.eval.shard, plan.eval.shards))


def _altered(methods: tuple[Method, ...]) -> list[str]:
    return [
        f"{sum(method.alter == alter for method in methods)} {alter} copies"
        for alter in ("shifted", "blurred")
        if any(method.alter == alter for method in methods)
    ]


def _listed(title: str, names: list[str]) -> list[str]:
    """The names after their title, wrapped."""
    lines, line = [], ""
    for name in names or ["none"]:
        if line and len(line) + len(name) > 96:
            lines.append(line)
            line = ""
        line += f", {name}" if line else name
    lines.append(line)
    return [f"{title if i == 0 else '':<12}{text}" for i, text in enumerate(lines)]


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

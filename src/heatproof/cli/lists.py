"""Before work starts: every job is planned, or a list is shown."""

from __future__ import annotations

import yaml

from heatproof.base import catalogue
from heatproof.base.compose import Job
from heatproof.base.errors import HeatproofError, fault
from heatproof.stages.plan import Plan, make_plan

SHOWN = (*catalogue.KINDS, "layers", "store", "config")
# Lists of an earlier run, and the keys that they take beside `show`.
OF_A_RUN = {"cell": ("run", "image", "method", "metric"), "power": ("run",)}


def checked(job: Job) -> Plan | None:
    """The plan of a job; None where the command asks for a list that needs none."""
    show = job.config.get("show")
    if show is not None and show not in SHOWN:
        raise HeatproofError(fault("show", "no such list", got=show, choices=(*SHOWN, *OF_A_RUN)))
    return None if show is not None and show != "layers" else make_plan(job.config, job.overrides)


def shown(job: Job, plan: Plan | None) -> str:
    show = job.config["show"]
    if show == "config":
        return yaml.safe_dump({**job.config, "show": None}, sort_keys=False, allow_unicode=True).rstrip()
    if show == "store":
        return _store_text()
    if show == "layers":
        assert plan is not None
        return _layers_text(plan)
    return catalogue.choices_text(show)


def _layers_text(plan: Plan) -> str:
    import torch

    from heatproof.base.layers import explanation_layers, spatial_layers
    from heatproof.base.nets import build_net, untrained

    size, channels = plan.load.size, plan.load.channels
    classes = next(iter(plan.counts.values()), {})
    module = build_net(untrained(plan.model), max(2, len(classes)), channels, size)
    example = torch.rand(1, channels, size, size)
    names, found = explanation_layers(module, example), spatial_layers(module, example)
    head = (
        f"layers of {plan.model_name} on {channels} x {size} x {size} px, shallow to deep, as channels x rows x columns"
    )
    if not names:
        return f"{head}: none, no layer of this net has places in the image"
    width = max(map(len, names))
    lines = []
    for name in names:
        layer = found[name]
        prefix = layer.layout.prefix
        tokens = f", {prefix} token{'s' if prefix > 1 else ''} beside them" if prefix else ""
        automatic = "   <- automatic" if name == names[-1] else ""
        lines.append(
            f"  {name:<{width}}  {layer.channels} x {layer.layout.rows} x {layer.layout.cols}{tokens}{automatic}"
        )
    note = "explainer.gradcam.layer=NAME takes one of them, or a module inside one; null takes the automatic one."
    return "\n".join([f"{head}:", *lines, note])


def _store_text() -> str:
    from heatproof.base.store import Store

    store = Store()
    entries = store.entries()
    total = sum(entry.num_bytes for entry in entries)
    lines = [f"{entry.num_bytes / 1e6:10.1f} MB  {entry.kind:<12} {entry.key}  {entry.what}" for entry in entries]
    return "\n".join([*lines, f"{total / 1e6:10.1f} MB  in {len(entries)} entries of {store.root}"])

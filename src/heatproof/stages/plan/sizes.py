"""Regions and windows against the images that they lie in: what cannot fit is told before work starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from heatproof.base.errors import Faults
from heatproof.base.records import Method, MetricChoice
from heatproof.base.registry import Bound

# Pixels a side of the window of structural similarity (base/ssim).
SSIM_WINDOW = 11


def check_sizes(methods: Sequence[Method], metrics: Sequence[MetricChoice], size: int, faults: Faults) -> None:
    """Note grids of more cells than an image of `size` px has pixels a side, patches that do not fit, and numbers of
    one choice that contradict each other."""
    for choice in metrics:
        for key, wrong, got in _of_metric(choice.metric, size):
            faults.add(f"metric {choice.label}.{key}", wrong, got=got)
    seen = set()
    for part in (part for method in methods for part in (method, *method.of)):
        explainer = part.explainer
        if explainer is None or explainer.name in seen or "patch" not in explainer.settings:
            continue
        seen.add(explainer.name)
        if int(explainer.settings["patch"]) > size:
            faults.add(f"explainer {explainer.name}.patch", f"larger than the images, which have {size} px a side",
                       got=explainer.settings["patch"])  # fmt: skip


def _of_metric(metric: Bound, size: int) -> Iterator[tuple[str, str, object]]:
    """What is wrong: the key, why, its value."""
    settings = metric.settings
    grid = settings.get("grid")
    if grid is not None and grid > size:
        yield "grid", f"more cells than the {size} pixels of a side", grid
    if grid is not None and "size" in settings and settings["size"] > grid**2:
        yield "size", f"a subset of more cells than the {grid} x {grid} that there are", settings["size"]
    if "smallest" in settings and settings["smallest"] > settings["largest"]:
        yield "smallest", f"above `largest`, which is {settings['largest']:g}", settings["smallest"]
    if grid is not None and settings.get("steps") and settings["steps"] > grid**2:
        yield "steps", f"more than the {grid} x {grid} cells that there are", settings["steps"]
    if grid is None and settings.get("steps") and settings["steps"] > size**2:
        yield "steps", f"more than the {size} x {size} pixels that there are", settings["steps"]
    if size < SSIM_WINDOW and (metric.name == "agreement_ssim" or settings.get("similarity") == "ssim"):
        wanted = f"structural similarity needs images of at least {SSIM_WINDOW} px"
        yield "similarity", wanted, settings.get("similarity", "ssim")

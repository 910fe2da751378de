"""Pictures without a data set: their maps as arrays, each map over its picture, and a panel of all methods."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from heatproof.base.records import Classifier, Maps, Predictions, Report, Samples
from heatproof.stages.report.drawing import STYLE, Drawing, drawn
from heatproof.stages.report.map_figures import SCALED, Run, map_and_overlays, outlined, spread_column, tiles
from heatproof.stages.report.shown import HEAT, unit


def pictures(
    folder: Path,
    *,
    samples: Samples,
    classifier: Classifier,
    predictions: Predictions,
    maps: Maps,
    facts: Mapping[str, Any],
    alphas: Sequence[float],
) -> Report:
    """What a run leaves of pictures, and what the terminal prints of them.

    For each picture `p` (its name with `/` as `__`): `maps/p/<method>.npy`, float32 as the explainer gave it, at the
    size that the net sees; `overlays/p/<method>.png`, the map over the picture, once per alpha; `figures/p.{png,pdf}`,
    one line per method: picture, map, overlay, spread over the views. And predictions.parquet, summary.json.
    """
    run = Run(samples, classifier, predictions, maps)
    files = [folder / "predictions.parquet"]
    predictions.table.to_parquet(files[0], index=False)
    with matplotlib.rc_context(fname=STYLE):
        made = drawn(folder / "figures", (_panel(run, case, alphas) for case in range(len(maps.rows))))
    files += [file for _, _, saved in made for file in saved]
    for case in range(len(maps.rows)):
        for method in run.tested:
            files += _files(folder, run, case, str(method.name), alphas)
    summary: dict[str, Any] = {
        "name": facts.get("name"),
        "overrides": list(facts.get("overrides") or ()),
        "plan_hash": facts.get("plan_hash"),
        "data_hash": samples.data_hash,
        "device": facts.get("device"),
        "n_images": len(maps.rows),
        "flags": {
            name: {state: found.count(state) for state in sorted(set(found))} for name, found in maps.status.items()
        },
        "passes": dict(facts.get("passes") or {}),
        "seconds": dict(facts.get("seconds") or {}),
        "warnings": list(facts.get("warnings") or ()),
    }
    files.append(folder / "summary.json")
    files[-1].write_text(json.dumps(summary, indent=1, ensure_ascii=False), encoding="utf-8")
    warned = tuple(f"warning: {line}" for line in summary["warnings"])
    return Report(folder, summary, _text(run), warned, tuple(files))


def _name(run: Run, case: int) -> str:
    return str(run.samples.table["image"].iloc[int(run.maps.rows[case])])


def _panel(run: Run, case: int, alphas: Sequence[float]) -> Drawing:
    """One line for each method."""
    lines = []
    for method in run.tested:
        spread = [spread_column(run, method)] if str(method.name) in run.maps.sd_files else []
        lines.append((case, [*map_and_overlays(run, method, alphas), *spread]))
    caption = f"Picture {_name(run, case)}: each method's map, and the map over it. {SCALED}{outlined(run)}"
    return Drawing(_name(run, case).replace("/", "__"), tiles(run, lines, titled=True), caption)


def _files(folder: Path, run: Run, case: int, method: str, alphas: Sequence[float]) -> list[Path]:
    name = _name(run, case).replace("/", "__")
    # `:` is not legal in every file system.
    stem = method.replace(":", "__")
    found = np.asarray(run.maps.array(method)[case])
    files = [folder / "maps" / name / f"{stem}.npy"]
    files[0].parent.mkdir(parents=True, exist_ok=True)
    np.save(files[0], found)
    pixels = np.asarray(run.samples.pixels[int(run.maps.rows[case])], np.float64)
    pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    colours = matplotlib.colormaps[HEAT](np.nan_to_num(unit(found.astype(np.float64))))[..., :3] * 255
    for alpha in alphas:
        ending = f"_{alpha:g}" if len(alphas) > 1 else ""
        files.append(folder / "overlays" / name / f"{stem}{ending}.png")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(((1 - alpha) * pixels + alpha * colours).round().astype(np.uint8)).save(files[-1])
    return files


def _text(run: Run) -> str:
    """A line for each picture: what the net says of it, what is explained, and maps that are not ok."""
    lines = []
    for case, row in enumerate(run.maps.rows.tolist()):
        found = run.predictions.table.loc[row]
        target = run.classifier.classes[int(run.maps.targets[case])]
        predicted = run.classifier.classes[int(found["predicted"])]
        said = f"{predicted} {float(found[f'p_{predicted}']):.2f}"
        explained = "" if target == predicted else f", explained: {target} {float(found[f'p_{target}']):.2f}"
        bad = [f"{name} is {run.maps.status[name][case]}" for m in run.tested
               if run.maps.status[name := str(m.name)][case] != "ok"]  # fmt: skip
        lines.append(f"{run.samples.table['image'].iloc[row]}: {said}{explained}{'; '.join(['', *bad])}")
    return "\n".join(lines)

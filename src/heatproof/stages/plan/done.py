"""What makes a finished run the one that a plan asks for: the plan, the files it reads, the code and where it goes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from heatproof.base import registry, sources
from heatproof.stages.plan.record import Plan

DONE = "done.json"
# Stages that leave results; the others leave what is in the store, which is asked again each time.
COMPLETE = (None, "report")


def done_hash(plan: Plan) -> str:
    """Hash of everything that a finished run must share to stand for this plan.

    Beside the plan's own hash: size and time of change of every file that it reads (images, masks, tables, weights,
    given maps), the arm of its study (two arms may be one net), the code of heatproof, of plug-ins and of the user, the
    version of torch, the device, whether maps are kept, and the run's name and experiment in MLflow.
    """
    return registry.hash_of(
        {
            "plan": plan.hash,
            "files": _digest(_states(plan)),
            "code": code_hash(),
            "torch": version("torch"),
            "device": [plan.compute.device, plan.compute.deterministic],
            "maps": [plan.report.maps, plan.report.views, plan.report.alphas],
            "arm": plan.config.get("arm") if plan.study else None,
            "tracking": [plan.tracking.experiment, plan.tracking.run_name],
        }
    )


def code_hash() -> str:
    """Hash of the content of every file of code; where the package lies does not matter."""
    return _digest(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in registry.source_files())


def find_done(wanted: str, results: Iterable[Path]) -> Path | None:
    """The results folder of a finished run with that `done_hash`, or None.

    Looked for in the folders `results`, in those of their sweeps and of sweeps kept under `multirun`.
    """
    for folder in dict.fromkeys(path.absolute() for path in results):
        for pattern in (f"*/{DONE}", f"*/*/{DONE}", f"multirun/*/*/{DONE}"):
            for path in sorted(folder.glob(pattern)):
                if _read(path).get("done") == wanted and (path.parent / "summary.json").is_file():
                    return path.parent.resolve()
    return None


def note_done(folder: Path, wanted: str, **more: Any) -> None:
    """Note in a results folder that its run has finished, and what it had to say."""
    temporary = folder / f".{DONE}.{os.getpid()}"
    temporary.write_text(json.dumps({"done": wanted, **more}, ensure_ascii=False), encoding="utf-8")
    temporary.replace(folder / DONE)


def note_reused(folder: Path, other: Path) -> None:
    """Note in the folder of a job that an earlier run stands for it."""
    (folder / DONE).write_text(json.dumps({"reused": os.path.relpath(other, folder)}), encoding="utf-8")


def said(folder: Path) -> str:
    """What the terminal showed of a finished run."""
    return str(_read(folder / DONE).get("text", ""))


def stands_for(folder: Path) -> Path:
    """The results folder that holds the results of a job: its own, or that of the run that stands for it."""
    other = _read(folder / DONE).get("reused")
    return (folder / other).resolve() if other else folder


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _states(plan: Plan) -> Iterator[str]:
    source = sources.source_of(plan.dataset, plan.load)
    for row in source.rows:
        shapes = source.mask_shapes(row) if source.mask_shapes else None
        yield f"{row.image} {row.label} {row.group} {row.split} {shapes}"
        paths = [row.path, *(source.mask_paths(row) if source.mask_paths else ())]
        yield from (_state(Path(path)) for path in paths if path is not None)
    bounds = [plan.model, *(part.explainer for m in plan.methods for part in (m, *m.of) if part.explainer)]
    for value in (plan.load.split, *(value for bound in bounds for value in bound.settings.values())):
        path = Path(value).expanduser() if isinstance(value, str) and 0 < len(value) < 1000 else None
        if path is not None and path.exists():
            yield from map(_state, sorted(path.rglob("*")) if path.is_dir() else [path])


def _state(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError:
        return f"{path.name} missing"
    return f"{path.name} {stat.st_size} {stat.st_mtime_ns}"


def _digest(texts: Iterable[str]) -> str:
    found = hashlib.sha256()
    for text in texts:
        found.update(f"{text}\n".encode())
    return found.hexdigest()[:16]

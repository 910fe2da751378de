"""What decides the numbers of a plan, and hashes of it: the whole, without its shard, without its seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heatproof.base import registry
from heatproof.base.recipes import recipe
from heatproof.base.records import Method, MetricChoice
from heatproof.base.registry import Bound
from heatproof.base.settings import Compute, EvalSettings, ExplainSettings, LoadSettings, MeasureSettings, TrainSettings


@dataclass(frozen=True)
class Decisive:
    """All that decides a number; files enter by name and size, not by place."""

    dataset: Bound
    load: LoadSettings
    model: Bound
    train: TrainSettings
    methods: Sequence[Method]
    metrics: Sequence[MetricChoice]
    explain: ExplainSettings
    eval: EvalSettings
    measure: MeasureSettings
    compute: Compute
    net: str | None = None  # identity of an earlier run's, which is taken as it is

    def hash(self) -> str:
        """The plan's hash."""
        return registry.hash_of(
            {
                "dataset": {**self.dataset.identity(), "settings": _placeless(self.dataset)},
                "load": dataclasses.asdict(self.load),
                "model": {**self.model.identity(), "settings": _placeless(self.model)},
                "train": {**dataclasses.asdict(self.train), "augment": recipe(self.train.augment), "checkpoint": None},
                "methods": [[str(method.name), method.identity()] for method in self.methods],
                "metrics": [[c.label, c.metric.identity(), *(["qge"] if c.qge else [])] for c in self.metrics],
                "explain": {"seed": self.explain.seed, "target": self.explain.target},
                "eval": dataclasses.asdict(self.eval),
                "measure": dataclasses.asdict(self.measure),
                "compute": {"precision": self.compute.precision},
                **({"net": self.net} if self.net else {}),
            }
        )

    def whole(self) -> Decisive:
        """The same run on all images: what its shards have in common."""
        return dataclasses.replace(self, eval=dataclasses.replace(self.eval, shard=0, shards=1))

    def seedless(self) -> Decisive:
        """The same run with all seeds 0: what repetitions have in common; which images there are is none of it."""
        return dataclasses.replace(
            self,
            train=dataclasses.replace(self.train, seed=0),
            explain=dataclasses.replace(self.explain, seed=0),
            measure=dataclasses.replace(self.measure, seed=0),
        )


def _placeless(bound: Bound) -> dict[str, Any]:
    result = {}
    for key, value in bound.settings.items():
        if key == "root":
            continue
        path = Path(value).expanduser() if isinstance(value, str) and len(value) < 1000 else None
        result[key] = [path.name, path.stat().st_size] if path is not None and path.is_file() else value
    return dict(sorted(result.items()))

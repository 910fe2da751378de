"""Two methods on one image: every pair of methods under the metrics that compare them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import torch

from heatproof.base.blocks import blocks_of
from heatproof.base.case import Case
from heatproof.base.records import Maps, Method, MetricChoice
from heatproof.base.settings import MeasureSettings

COLUMNS = ["image", "method_a", "method_b", "metric", "value"]


def compares(choice: MetricChoice) -> bool:
    """Whether a metric compares two methods."""
    return bool(choice.metric.facts.get("pairs"))


def pairs_of(
    table: pd.DataFrame, maps: Maps, metrics: Sequence[MetricChoice], settings: MeasureSettings
) -> pd.DataFrame:
    """One row per image, pair of methods and metric that compares; NaN where one of the two maps has no order.

    Altered copies of a method are left out: what they agree with is known.
    """
    methods = [method for method in maps.methods if method.alter is None]
    chosen = [choice for choice in metrics if compares(choice)]
    frames = [pd.DataFrame(columns=COLUMNS).astype({"value": float})]
    for rows in blocks_of(len(table)) if chosen else ():
        ids = [str(image) for image in table["image"].iloc[rows]]
        cases = [_case(method, maps, rows, ids, settings) for method in methods]
        for a, b in combinations(cases, 2):
            lost = [maps.status[a.name][row] != "ok" or maps.status[b.name][row] != "ok" for row in rows]
            for choice in chosen:
                value = choice.metric(a, b)[choice.metric.facts["columns"][0]].numpy()
                value = np.where(lost, np.nan, value)
                frames.append(pd.DataFrame(dict(zip(COLUMNS, (ids, a.name, b.name, choice.label, value), strict=True))))
    return pd.concat([frame for frame in frames if len(frame)] or frames, ignore_index=True)


def _case(method: Method, maps: Maps, rows: np.ndarray, ids: Sequence[str], settings: MeasureSettings) -> Case:
    found = torch.from_numpy(np.array(maps.array(str(method.name))[rows]))
    found = torch.where(torch.isfinite(found), found, 0.0)
    found = found.abs() if settings.sign == "absolute" else found
    everywhere = torch.ones_like(found, dtype=torch.bool)
    nothing = torch.full((len(rows),), torch.nan, dtype=torch.float64)
    targets = torch.from_numpy(np.asarray(maps.targets)[rows])
    return Case(method, found, found[:, None], targets, nothing, ~everywhere, everywhere, ids, settings.seed)

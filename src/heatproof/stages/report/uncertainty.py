"""Whether a fusion's uncertainty announces errors (`uncertainty_error_auc`): ROC area of the image's uncertainty for a
wrong prediction, and for a missed annotation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from heatproof.base.merit import area_of
from heatproof.base.records import Scores
from heatproof.stages.report.findings import Findings

COLUMNS = ("method", "metric", "error", "uncertainty_error_auc", "lo", "hi", "errors", "n")
WRONG, MISSED = "wrong prediction", "missed annotation"


def error_frame(findings: Findings, scores: Scores) -> pd.DataFrame:
    """One row per fusion and kind of error: the area with its 95 % interval over images (or groups), how many images
    have the error, and how many are known. Undefined (NaN) where all or none have it."""
    images = scores.table.drop_duplicates("image").set_index("image").loc[list(findings.images)]
    label = images["label"].to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.where(np.isnan(label), np.nan, label != images["predicted"].to_numpy(dtype=np.float64))
    rows = []
    for column in findings.of("main"):
        if column.choice.metric.name != "uncertainty":
            continue
        missed = findings.values[f"{column.name}_missed"]
        for number, method in enumerate(findings.methods):
            spread = findings.values[column.name][number]
            for kind, error in ((WRONG, wrong), (MISSED, missed[number])):
                known = np.isfinite(spread) & np.isfinite(error)
                if not known.any():
                    continue
                happened = error[known] > 0
                groups = None if findings.groups is None else [findings.groups[i] for i in np.flatnonzero(known)]
                found = area_of(happened, spread[known], groups, seed=findings.seed)
                rows.append((str(method.name), column.name, kind, *found, int(happened.sum()), int(known.sum())))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def lines(findings: Findings, scores: Scores) -> Iterator[str]:
    """One line for each fusion: what its uncertainty says of errors, and where there are none to be said of."""
    frame = error_frame(findings, scores)
    for method, part in frame.groupby("method", sort=False):
        yield f"{method}: {'; '.join(_said(row) for row in part.to_dict('records'))}."


def _said(row: dict[str, object]) -> str:
    kind, errors, n = row["error"], row["errors"], row["n"]
    area, lo, hi = (float(str(row[name])) for name in ("uncertainty_error_auc", "lo", "hi"))
    if not np.isfinite(area):
        return f"its uncertainty says nothing of a {kind}: {errors} of {n} images have one"
    word = "is higher" if lo > 0.5 else "is lower" if hi < 0.5 else "is not shown to differ"
    return f"its uncertainty {word} with a {kind} (AUC {area:.2f} [{lo:.2f}, {hi:.2f}], {errors} of {n} images)"

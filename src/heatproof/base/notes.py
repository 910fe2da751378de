"""What an explainer has to say of its maps beside the maps: one number per image under a name.

Conventions: a note is recorded with `note` while the explainer runs; whoever called the explainer inside `collected`
gets it, otherwise it is lost. `SAMPLING` is the sampling error of a map that is estimated from random draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from heatproof.base.correlations import spearman

# Spearman's rho of the maps from one half of the draws and from the other: near 1 = enough draws.
SAMPLING = "half_samples_rho"

# Below this mean, a report says that the draws are too few.
ENOUGH = 0.9

_collected: ContextVar[dict[str, Tensor] | None] = ContextVar("collected_notes", default=None)


@contextmanager
def collected() -> Iterator[dict[str, Tensor]]:
    """The notes made inside, name -> float64 (b,)."""
    found: dict[str, Tensor] = {}
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


def note(name: str, values: Float[Tensor, " b"]) -> None:
    """Record one number per image of the batch in work."""
    found = _collected.get()
    if found is not None:
        found[name] = values.detach().double()


def note_halves(first: Float[Tensor, "b h w"], second: Float[Tensor, "b h w"]) -> None:
    """Record how well the maps of two halves of the draws agree; NaN where one of them is constant."""
    if _collected.get() is not None:
        note(SAMPLING, spearman(first, second))


def summary(notes: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, dict[str, float]]]:
    """Mean, lowest value and number of defined values of every note, by method and name."""
    return {
        method: {
            name: {"mean": float(values[there].mean()), "lowest": float(values[there].min()), "n": int(there.sum())}
            for name, values in said.items()
            if (there := np.isfinite(values)).any()
        }
        for method, said in notes.items()
        if said
    }


def remarks(notes: Mapping[str, Mapping[str, np.ndarray]]) -> list[str]:
    """A line for each method whose maps are estimated from draws: how well two halves of them agree."""
    lines = []
    for method, said in summary(notes).items():
        if SAMPLING in said:
            found = said[SAMPLING]
            verdict = "" if found["mean"] >= ENOUGH else ": too few samples to trust single maps, raise `samples`"
            lines.append(
                f"{method}: maps from two halves of its samples have rank correlation {found['mean']:.2f} on average, "
                f"{found['lowest']:.2f} at least, n = {found['n']}{verdict}"
            )
    return lines

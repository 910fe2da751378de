"""One checkpoint per epoch: tensors and plain types in a single safetensors file, replaced as a whole.

The record of the training (history, phase, hyperparameters of the optimiser) is JSON in the file's header, so that
tensors and record can never be of different epochs. No random state is kept: batches, augmentation and dropout are
seeded by the epoch's number.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

NAME = "checkpoint.safetensors"


@dataclass(frozen=True)
class Saved:
    """A checkpoint: the weights after an epoch, those of the best one, the optimiser's state, the record."""

    weights: Mapping[str, Tensor]
    best: dict[str, Tensor]
    optimizer: dict[str, Any]
    record: dict[str, Any]


def write(
    folder: Path,
    weights: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    best: Mapping[str, Tensor],
    record: Mapping[str, Any],
) -> None:
    """The state after an epoch in `folder`, in place of the one before; a kill leaves one of the two, whole."""
    packed = optimizer.state_dict()
    tensors = {f"net.{name}": value for name, value in weights.items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for index, entries in packed["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in entries.items() if isinstance(v, Tensor)}
    header = json.dumps({"record": record, "groups": packed["param_groups"]})
    save_state(folder / NAME, tensors, {"state": header})


def read(folder: Path) -> Saved | None:
    """The checkpoint in `folder`, or None.

    A file that cannot be read is moved aside (`.broken`), and the training begins anew.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator of its own)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        path.replace(path.with_suffix(".broken"))
        return None
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _part(tensors, "optimizer.").items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    return Saved(
        _part(tensors, "net."),
        _part(tensors, "best."),
        {"state": state, "param_groups": header["groups"]},
        header["record"],
    )


def save_state(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Tensors in a safetensors file: written beside it, flushed to disk, then renamed."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, partial, metadata)
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.replace(path)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

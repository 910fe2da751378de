"""Samples that a small net learns in a second: a bright bar whose height in the image is the class."""

from typing import Any

import numpy as np
import pandas as pd

from heatproof.base.records import Samples
from heatproof.base.registry import Bound, bind
from heatproof.base.settings import Compute, EvalSettings, TrainSettings

CPU = Compute("cpu", "fp32", False)


def samples(
    n: int = 60, size: int = 16, classes: int = 3, channels: int = 1, seed: int = 0, labels: bool = True
) -> Samples:
    rng = np.random.default_rng(seed)
    label = np.arange(n) % classes
    pixels = rng.integers(0, 90, (n, size, size, channels)).astype(np.uint8)
    for i, c in enumerate(label):
        pixels[i, 4 * c + 1 : 4 * c + 4, 4:12] += 120
    split = np.array(["train"] * (n * 6 // 10) + ["val"] * (n * 2 // 10) + ["test"] * n)[:n]
    names = tuple(f"c{i}" for i in range(classes))
    table = pd.DataFrame(
        {
            "image": [f"image{i:04d}" for i in range(n)],
            "path": None,
            "label": label if labels else pd.array([None] * n, dtype="Int64"),
            "label_name": [names[c] for c in label] if labels else None,
            "group": None,
            "split": split,
            "width": size,
            "height": size,
            "file_hash": "",
            "annotation": None,
        }
    )
    key = f"toy {n} {size} {classes} {channels} {seed} {labels}"
    return Samples(table, pixels, None, names if labels else (), key, "random", (0.3,) * channels)


def net(**settings: Any) -> Bound:
    return bind("model", "small_cnn", {"width": 4, "stages": 3, **settings})


def training(**settings: Any) -> TrainSettings:
    defaults: dict[str, Any] = {
        "policy": "scratch",
        "seed": 0,
        "epochs": 3,
        "batch": 8,
        "lr": 0.01,
        "unfreeze": 0 if settings.get("policy") in ("frozen", "none") else "all",
        "phases": (),
        "optimizer": "adam",
        "weight_decay": 0.0,
        "schedule": "constant",
        "warmup_epochs": 0,
        "plateau_factor": 0.2,
        "plateau_patience": 3,
        "min_lr": 1e-6,
        "clip_norm": None,
        "class_weights": not settings.get("balanced_sampling", False),
        "balanced_sampling": False,
        "label_smoothing": 0.0,
        "patience": 0,
        "monitor": "val_loss",
        "monitor_classes": (),
        "augment": (),
        "delete_cells": 0,
        "delete_grid": 4,
        "compile": False,
        "checkpoint": True,
    }
    return TrainSettings(**{**defaults, **settings})


def evaluation(**settings: Any) -> EvalSettings:
    defaults: dict[str, Any] = {
        "split": "test",
        "images": None,
        "only_correct": False,
        "rerun_images": None,
        "shard": 0,
        "shards": 1,
    }
    return EvalSettings(**{**defaults, **settings})

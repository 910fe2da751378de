"""Commands in processes of their own, and a user's folder of configs with a data set and a study."""

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

# A data set of squares on noise that a user wrote: its own folder, no package.
BLOBS = '''
import numpy as np
from heatproof.base.records import Row, Source
from heatproof.base.registry import choice


@choice(kind="dataset", annotation="mask", needs_root=False, official=False, study=False, grouped=False, source="user")
def blobs(*, root: str | None, size: int, channels: int, seed: int, num_images: int, broken: bool) -> Source:
    """Bright and dark squares on noise."""
    def read(row):
        if broken:
            raise RuntimeError("the disk is gone")
        image = np.random.default_rng(int(row.image)).integers(0, 90, (size, size)).astype(np.uint8)
        image[4:12, 4:12] += np.uint8(100 * row.label)
        return image

    def read_mask(row):
        return np.pad(np.ones((8, 8), bool), ((4, size - 12), (4, size - 12)))

    rows = tuple(Row(str(i), None, i % 2, annotation="mask") for i in range(num_images))
    return Source(rows, ("dark", "bright"), read, read_mask, {"blobs": 1, "n": num_images, "size": size, "b": broken})
'''
BLOBS_YAML = """
reader: blobs
size: 16
channels: 1
num_images: 30
broken: false
"""
STUDY_YAML = """
# @package _global_
defaults:
  - override /dataset: blobs
  - override /views: none
  - override /metrics: [localisation]
  - _self_

train:
  epochs: 1
eval:
  images: 4
model:
  width: 2
  stages: 2
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      seed: 1,2
"""
# Keys that make a run on the squares small.
SMALL = ("dataset=blobs", "views=none", "metrics=[localisation]", "train.epochs=1", "eval.images=4", "model.width=2", "model.stages=2")  # fmt: skip  # noqa: E501


def user_folder(folder: Path) -> Path:
    """A folder for HEATPROOF_CONF with the data set `blobs` and the study `squares`."""
    for name, text in {"blobs.py": BLOBS, "dataset/blobs.yaml": BLOBS_YAML, "study/squares.yaml": STUDY_YAML}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip())
    return folder


def class_folders(folder: Path, *names: str, images: int = 10) -> Path:
    """Folders of small grey images, one per class."""
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for index in range(images):
            Image.new("L", (8, 8), (number * 40 + index) % 256).save(folder / name / f"{index}.png")
    return folder


def environment(work: Path, user: Path | None = None) -> dict[str, str]:
    """The environment of a command: its own store, one thread, nothing of the caller's."""
    kept = {key: value for key, value in os.environ.items() if key not in ("HEATPROOF_CONF", "MLFLOW_TRACKING_URI")}
    more = {"HEATPROOF_STORE": str(work / "store"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return {**kept, **more, **({"HEATPROOF_CONF": str(user)} if user else {})}


def heatproof(*arguments: str, work: Path, user: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What the command prints and its exit code, in the folder `work/here`."""
    here = work / "here"
    here.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "heatproof", *arguments],
        cwd=here,
        env=environment(work, user),
        capture_output=True,
        text=True,
        timeout=300,
    )

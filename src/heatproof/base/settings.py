"""Settings of the stages: what `plan` fills from the config and a notebook can fill by hand.

Defaults stand in `conf/` alone; every field here has its key there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LoadSettings:
    """`dataset.*` keys that every data set shares.

    `split`: "official", "grouped" (stratified, groups kept together, near-duplicates where groups are unknown), "auto"
    (official where the data have one, else grouped), "random" (must be asked for), "study", or the path of a
    samples.parquet. `fractions`: train, val, test. `n`: seeded class-stratified subsample, None = all. `cap`: at most
    so many images per class, "smallest" = the smallest class. `size`: side in pixels after resizing. `channels`: 1 or
    3. `classes`: which and in which order, None = all. `near_similarity`, `near_distance`: from which cosine of their
    spectra on, and up to which number of differing bits of their dHashes, two images are near-duplicates (see
    base/duplicates); None for both = nobody looks.
    """

    seed: int
    split: str
    fractions: tuple[float, float, float]
    n: int | None
    cap: int | str | None
    size: int
    channels: int
    classes: tuple[str, ...] | None
    near_similarity: float | None = None
    near_distance: int | None = None

    @property
    def near(self) -> bool:
        """Whether near-duplicates are looked for."""
        return self.near_similarity is not None or self.near_distance is not None


@dataclass(frozen=True)
class TrainSettings:
    """`train.*`: how a net is trained; `policy` = "scratch", "frozen", "finetune" or "none"."""

    policy: str
    seed: int
    epochs: int
    batch: int
    lr: float
    weight_decay: float
    optimizer: str
    class_weights: bool
    patience: int
    monitor: str
    augment: tuple[str, ...]
    clip_norm: float | None
    checkpoint: bool


@dataclass(frozen=True)
class ExplainSettings:
    """`explain.*` and the root keys that decide a map."""

    seed: int
    batch: int
    target: str


@dataclass(frozen=True)
class EvalSettings:
    """`eval.*`: which images are explained and measured. `images`: how many, class-stratified; None = all. `positive`:
    the positive one of two classes, None = the last."""

    split: str
    images: int | None
    only_correct: bool
    rerun_images: int | None
    shard: int
    shards: int
    positive: str | None = None


@dataclass(frozen=True)
class MeasureSettings:
    """Root keys that decide a number: `seed`, `sign` (signed or absolute ranking), `protocol`, `controls`."""

    seed: int
    sign: str
    protocol: str
    controls: tuple[str, ...]
    shifts: int = 4


@dataclass(frozen=True)
class Compute:
    """Where and how passes run: `device` ("auto", "cpu", "cuda", "cuda:1"), `precision` ("fp32", "bf16"),
    `deterministic` (bit-equal CPU runs)."""

    device: str
    precision: str
    deterministic: bool

"""Settings of the stages: what `plan` fills from the config and a notebook can fill by hand.

Defaults stand in `conf/` alone; every field here has its key there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Training images that the batch norms of nets with re-drawn weights are calibrated on.
CALIBRATED = 256
# Annotated validation images that a metric's threshold is picked on.
VALIDATED = 64


@dataclass(frozen=True)
class LoadSettings:
    """`dataset.*` keys that every data set shares.

    `split`: "official", "grouped" (stratified, groups kept together, near-duplicates where groups are unknown), "auto"
    (official where the data have one, else grouped), "random" (must be asked for), "study", or the path of a
    samples.parquet. `fractions`: train, val, test. `n`: seeded class-stratified subsample, None = all. `cap`: at most
    so many images per class, "smallest" = the smallest class. `size`: side in pixels after resizing. `channels`: 1 or
    3. `classes`: which and in which order, None = all. `near_similarity`, `near_distance`: from which cosine of their
    spectra on, and up to which number of differing bits of their dHashes, two images are near-duplicates (see
    base/duplicates); None for both = nobody looks. `resize`: "squash" changes the aspect ratio, "fit" pads with black,
    "crop" keeps the central square; masks follow. `on_bad_image`: "error" refuses files that cannot be read, "skip"
    leaves them out.
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
    resize: str = "squash"
    on_bad_image: str = "error"

    @property
    def near(self) -> bool:
        """Whether near-duplicates are looked for."""
        return self.near_similarity is not None or self.near_distance is not None


@dataclass(frozen=True)
class Phase:
    """A part of a training: at most so many epochs, at this learning rate, on these layers.

    `unfreeze`: the last n layers of the backbone that are trained beside the head (a layer is a module with weights of
    its own), or "all".
    """

    epochs: int
    lr: float
    unfreeze: int | str


@dataclass(frozen=True)
class TrainSettings:
    """`train.*`: how a net is trained.

    `policy`: "scratch" (random weights), "finetune" (all weights, from pretrained ones), "frozen" (the head and the
    last `unfreeze` layers of a pretrained net), "none". `phases`: what follows once the first phase (`epochs`, `lr`,
    `unfreeze`) has ended, each from the best weights so far, with a new optimiser.

    `schedule`: "constant", "plateau" (times `plateau_factor` after `plateau_patience` epochs without a better
    `monitor`) or "cosine", both down to `min_lr`; over the first `warmup_epochs` of a phase the rate rises from 0.
    `class_weights`: n / (K n_c) in the loss, counted in the training images, or in those to validate, too ("with_val");
    `balanced_sampling`: every class equally often in an epoch; not both.
    `patience`: epochs of a phase without a better `monitor` before it ends, 0 = never. `monitor`: val_loss,
    val_accuracy, val_macro_precision, val_macro_recall, val_macro_f1, or val_recall, the mean recall of the
    `monitor_classes`. `delete_cells`: in each training image 0 to so many cells of a grid of `delete_grid` x
    `delete_grid` go black. `compile`: torch.compile, on CUDA.
    """

    policy: str
    seed: int
    epochs: int
    batch: int
    lr: float
    unfreeze: int | str
    phases: tuple[Phase, ...]
    optimizer: str
    weight_decay: float
    schedule: str
    warmup_epochs: int
    plateau_factor: float
    plateau_patience: int
    min_lr: float
    clip_norm: float | None
    class_weights: bool | Literal["with_val"]
    balanced_sampling: bool
    label_smoothing: float
    patience: int
    monitor: str
    monitor_classes: tuple[str, ...]
    augment: tuple[str, ...]
    delete_cells: int
    delete_grid: int
    compile: bool
    checkpoint: bool

    def all_phases(self) -> tuple[Phase, ...]:
        """The first phase and those that follow it."""
        unfreeze = self.unfreeze if self.policy == "frozen" else "all"
        return (Phase(self.epochs, self.lr, unfreeze), *self.phases)


@dataclass(frozen=True)
class ExplainSettings:
    """`explain.*` and the root keys that decide a map. `batch`: images at once; None = as the device likes it."""

    seed: int
    batch: int | None
    target: str


@dataclass(frozen=True)
class EvalSettings:
    """`eval.*`: which images are explained and measured. `images`: how many, class-stratified; None = all. `also`: more
    of the split that are so in any case, by id or by file name without ending. `positive`: the positive one of two
    classes, None = the last."""

    split: str
    images: int | None
    only_correct: bool
    rerun_images: int | None
    shard: int
    shards: int
    positive: str | None = None
    also: tuple[str, ...] = ()


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

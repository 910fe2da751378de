"""What the stages hand to each other: small frozen records, one per arrow of the flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from jaxtyping import Float
    from torch import Tensor, nn

    from heatproof.base.duplicates import Pairs
    from heatproof.base.names import MethodName
    from heatproof.base.registry import Bound

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a data set, before anything is decoded.

    `image`: stable text id (path relative to the root with `/`, or an index for generated data). `label`: index into
    the classes, or None for a data set without labels. `group`: what must not straddle splits (patient), or None.
    `split`: the official one, or None. `study_split`: the split of the study that used this data, or None.
    `annotation`: "mask", "box" or None.
    """

    image: str
    path: str | None
    label: int | None
    group: str | None = None
    split: str | None = None
    study_split: str | None = None
    annotation: str | None = None


@dataclass(frozen=True)
class Source:
    """What a data set function returns: its rows and how to read one. Made without decoding, torch or pandas.

    `read(row)`: uint8 (H, W) or (H, W, 3) as stored, any size. `read_mask(row)`: bool (H, W) at any size of the image's
    aspect, or None where the row has no annotation. `identity`: what decides the content of generated data (settings,
    version), or None for files (then their bytes are hashed). `mask_paths(row)`: the files that `read_mask` reads, and
    `mask_shapes(row)`: the numbers that it draws (boxes, circles); both are hashed with the image.
    `reading`: what else than these decides what `read` gives, such as a setting of the data set; an image of the same
    bytes is otherwise decoded once. `remarks`: one line per image or folder left out, with the reason.
    """

    rows: tuple[Row, ...]
    classes: tuple[str, ...]
    read: Callable[[Row], np.ndarray]
    read_mask: Callable[[Row], np.ndarray | None] | None = None
    identity: Mapping[str, Any] | None = None
    mask_paths: Callable[[Row], tuple[str, ...]] | None = None
    mask_shapes: Callable[[Row], Any] | None = None
    reading: Mapping[str, Any] | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Samples:
    """The frozen sample table and pixel access (`load`).

    `table`: one row per image, columns of `samples.parquet` (image, path, label, label_name, group, split, width,
    height, file_hash, annotation), index 0..N-1 = row of `pixels`. `pixels`: uint8 (N, H, W, C), memory-mapped,
    read-only. `masks`: uint8 0/1 (N, H, W), memory-mapped, or None; rows without annotation are all 0.
    `data_hash`: of content and split. `train_mean`: mean of the training pixels per channel in [0, 1], or None.
    `near`: pairs of images that look alike, far beyond the thresholds in use, or None where nobody looked. `remarks`:
    the warnings of the `audit` first.
    """

    table: pd.DataFrame
    pixels: np.ndarray
    masks: np.ndarray | None
    classes: tuple[str, ...]
    data_hash: str
    split_kind: str
    train_mean: tuple[float, ...] | None
    remarks: tuple[str, ...] = ()
    near: Pairs | None = None
    audit: Audit | None = None

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of a split, in table order."""
        import numpy as np

        return np.flatnonzero((self.table["split"] == split).to_numpy())

    def images(self, rows: np.ndarray, device: torch.device | None = None) -> Float[torch.Tensor, "n c h w"]:
        """Pixels of some rows as float32 in [0, 1], on a device; they go there as bytes."""
        import numpy as np
        import torch

        pixels = torch.from_numpy(np.ascontiguousarray(self.pixels[rows])).to(device)
        return pixels.permute(0, 3, 1, 2).float().div_(255)


@dataclass(frozen=True)
class Audit:
    """What may be wrong with samples. `warnings`: what puts results in doubt. `notes`: what was looked at and what that
    does not exclude. `tables`: counts, pairs, curve, clues, and masks where there are any."""

    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    tables: Mapping[str, pd.DataFrame]

    @property
    def lines(self) -> tuple[str, ...]:
        """The warnings as the terminal and MLflow say them."""
        return tuple(f"warning: {text}" for text in self.warnings)


@dataclass(frozen=True)
class Classifier:
    """A net ready to be explained (`train`).

    `module`: nn.Module in eval mode on its device, taking float (N, C, H, W) in [0, 1] (normalisation inside) and
    giving logits (N, K), K >= 2 (a one-logit net is wrapped: (-z/2, +z/2)). `layers`: names of modules worth
    explaining, shallow to deep; the last one is the automatic choice. `identity`: content hash of the weights and what
    made them. `history`: one mapping per epoch (epoch, train_loss, val_loss, val_accuracy, seconds, lr).
    `background`: some training images in [0, 1] for explainers that compare with them, on the CPU, or None.
    `prior`: mean annotation of the training images, on the CPU, or None. `trained`: how many weights the last phase of
    the training changed, None where that is not known. `weights`: the file
    that holds them all, None where they were given by `model.weights`.
    """

    module: nn.Module
    classes: tuple[str, ...]
    layers: tuple[str, ...]
    identity: str
    channels: int = 3
    train_mean: tuple[float, ...] | None = None
    norm_mean: tuple[float, ...] | None = None
    norm_std: tuple[float, ...] | None = None
    history: tuple[Mapping[str, float], ...] = ()
    best_epoch: int | None = None
    trained: int | None = None
    remarks: tuple[str, ...] = ()
    background: Float[Tensor, "k c h w"] | None = None
    prior: Float[Tensor, "h w"] | None = None
    weights: Path | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.module.parameters()).device


@dataclass(frozen=True)
class Predictions:
    """`predict`: one row per image of the evaluated splits, and figures of the classifier on the test split.

    `table`: columns of `predictions.parquet` (image, split, label, predicted, correct, outcome, group, p_<class>).
    `figures`: name -> {"value", "lo", "hi", "n"} (see `base/merit.figures`) on "test"; `val_figures`: on "val", which
    early stopping has seen. `explained`: row numbers of `Samples.table` to explain, in a fixed order that depends on
    `dataset.seed` alone. `positive`: the positive one of two classes, None where there are more. `seconds`: that the
    net took for the table, images read and moved included.
    """

    table: pd.DataFrame
    figures: Mapping[str, Mapping[str, float]]
    explained: np.ndarray
    val_figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    positive: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Method:
    """How a map is made: explainer, layer, views, fusion. Its name is unique in a run.

    `explainer` is None for maps that came from elsewhere and cannot be made again. `of`: the methods whose maps the
    explainer combines (votes), else empty. `content`: hash of the files that given maps come from, once they are found.

    `views` is empty for the single view. `control_of`: None for a method under test, "all" for a map that needs no
    model (random, centre, edge), or the name of the method whose maps it alters. `alter`: None, "shifted", "blurred",
    "other_class" (the map of the most probable class but the explained one) or "random_weights" (the map by a net whose
    weights are drawn at random).
    `blur_px`: sd of the blur of a "blurred" control, found once its method's maps are there.
    """

    name: MethodName
    explainer: Bound | None
    layer: str | None = None
    views: tuple[Bound, ...] = ()
    fusion: Bound | None = None
    control_of: str | None = None
    alter: str | None = None
    blur_px: float | None = None
    of: tuple[Method, ...] = ()
    content: str | None = None

    @property
    def remade(self) -> bool:
        """Whether its maps can be made on other images."""
        given = self.explainer is None or bool(self.explainer.facts.get("given"))
        return not given and all(part.remade for part in self.of)

    @property
    def takes_any_net(self) -> bool:
        """Whether its maps can be made of another net: not where the explainer is a function that holds one."""
        held = self.explainer is not None and self.explainer.facts.get("holds_net")
        return self.remade and not held and all(part.takes_any_net for part in self.of)

    def identity(self) -> dict[str, Any]:
        """What decides the maps, in plain types."""
        return {
            "explainer": self.explainer.identity() if self.explainer else None,
            "layer": self.layer,
            "views": [view.identity() for view in self.views],
            "fusion": self.fusion.identity() if self.fusion else None,
            "alter": self.alter,
            "control_of": self.control_of if self.alter else None,
            **({"of": [part.identity() for part in self.of]} if self.of else {}),
            **({"content": self.content} if self.content else {}),
        }


@dataclass(frozen=True)
class MapBatch:
    """Maps of one method for B images: `maps` float32 (B, H, W), signed, unscaled, at input resolution; `valid` bool
    (B, H, W); `sd` per-pixel standard deviation over the aligned views (B, H, W), or None; `views` the aligned maps
    (V, B, H, W) and `seen` where each is valid, where they were asked for; `raw` the explainer's map at its own
    resolution (B, h, w), None for fusions and where it is that of the input; `notes` what the explainer says of its
    maps, name -> float64 (B,), the mean over the views of a fusion."""

    maps: Float[Tensor, "b h w"]
    valid: Tensor
    sd: Tensor | None = None
    views: Tensor | None = None
    notes: Mapping[str, Tensor] = field(default_factory=dict)
    raw: Tensor | None = None
    seen: Tensor | None = None


@dataclass(frozen=True)
class Maps:
    """`explain`: maps of every method for the explained images, block by block on disk.

    `rows`: row numbers in `Samples.table`. `targets`: explained class per image. `predicted`: the
    classifier's class on the unperturbed image. `files`: method name -> .npy of
    float32 (N, H, W), or the array itself. `sd_files`: the same for the per-pixel standard deviation of fused methods.
    `status`: method name -> status per image (ok, nonfinite, zero, constant, failed). `notes`: method name -> name ->
    float64 (N,), what explainers say of their maps (`base/notes.py`). `passes`: images that the network was run on to
    make them: "maps", and "again" where some were run a second time. `remarks`: methods whose maps are one. `parts`:
    method name -> what its map was made from: "raw", the explainer's own resolution (N, h, w); and, where views were
    kept, "views", the aligned maps (N, V, H, W), "seen", bool, where each is valid, and "leave_one_out", the fusion
    without each view.
    """

    rows: np.ndarray
    targets: np.ndarray
    predicted: np.ndarray
    methods: tuple[Method, ...]
    files: Mapping[str, Path | np.ndarray]
    sd_files: Mapping[str, Path | np.ndarray]
    status: Mapping[str, tuple[str, ...]]
    notes: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    passes: Mapping[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    parts: Mapping[str, Mapping[str, Path | np.ndarray]] = field(default_factory=dict)

    def array(self, name: str) -> np.ndarray:
        """Maps of one method, float32 (N, H, W), memory-mapped."""
        return _opened(self.files[name])

    def spread(self, name: str) -> np.ndarray | None:
        """Standard deviation over a fusion's views, float32 (N, H, W), memory-mapped; None for a single view."""
        return _opened(self.sd_files[name]) if name in self.sd_files else None

    def tensor(self, name: str | None = None) -> Tensor:
        """Maps of one method (the first one by default) as a tensor (N, H, W)."""
        import numpy as np
        import torch

        return torch.from_numpy(np.array(self.array(name or str(self.methods[0].name))))


def _opened(held: Path | np.ndarray) -> np.ndarray:
    import numpy as np

    return held if isinstance(held, np.ndarray) else np.load(held, mmap_mode="r")


@dataclass(frozen=True)
class MetricChoice:
    """A metric with its settings and the label of its column group; two identities never share a label. `qge`: the
    column `<label>_qge` says what the order of the map is worth, `m(a) - m(-a)`."""

    label: str
    metric: Bound
    protocol: str = "sound"
    qge: bool = False

    @property
    def identity(self) -> str:
        """key + parameters + protocol + fill, as text for the column `identity`."""
        from heatproof.base.registry import hash_of

        settings = ",".join(f"{k}={v}" for k, v in sorted(self.metric.settings.items()))
        text = f"{self.metric.name}({settings}):{self.protocol}:v{self.metric.choice.version}"
        return f"{text}#{hash_of([self.metric.identity(), self.protocol])[:8]}"


@dataclass(frozen=True)
class Scores:
    """`measure`: the long table of `scores.parquet`, one row per (image, method, metric, column), with curves and
    pairs, the floor and excess columns, and the passes that it took. `pictures`: (method, metric) -> float32 (n, k, u,
    v), the n maps that a metric compares, of the first k explained images at low resolution."""

    table: pd.DataFrame
    curves: pd.DataFrame
    pairs: pd.DataFrame
    methods: tuple[Method, ...]
    metrics: tuple[MetricChoice, ...]
    passes: Mapping[str, int]
    flags: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    pictures: Mapping[tuple[str, str], np.ndarray] = field(default_factory=dict)

    def frame(self) -> pd.DataFrame:
        """The long table."""
        return self.table


@dataclass(frozen=True)
class Report:
    """`report`: what was written and what it says."""

    folder: Path
    summary: Mapping[str, Any]
    table_text: str
    verdicts: tuple[str, ...]
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Ended:
    """A job of a sweep: its number, the overrides that not all jobs have, how it ended, where its results are (None
    where there are none), the first line of its error and its log, and whether an earlier run stands for it."""

    number: int
    title: str
    status: str
    results: Path | None = None
    error: str = ""
    log: Path | None = None
    earlier: bool = False

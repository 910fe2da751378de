"""Occlusion: how much the target's score drops while a window is covered."""

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from heatproof.base import fills
from heatproof.base.forwards import forwards_of, scores
from heatproof.base.records import Classifier
from heatproof.base.registry import choice


@choice(forwards="windows", source="Zeiler & Fergus 2014, arXiv 1311.2901, section 4.2")
def occlusion(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    patch: int,
    stride: int,
    fill: Literal["gray", "black", "mean", "blur", "normalized_zero"],
    border: Literal["covered", "uncovered"],
    absolute: bool,
    combine: Literal["mean", "sum"],
    score: Literal["prob", "logit"],
) -> Float[Tensor, "b h w"]:
    """Drop of the target's score under a window of `patch` pixels that moves by `stride`, over the windows of a pixel.

    `border`: "covered" = a last window lies flush with the right and the bottom border; "uncovered" = windows start at
    0, stride, ... below size - patch, as in study 2, so that the pixels beyond are 0. `absolute`: the magnitude of each
    drop. `combine`: the mean over the windows that cover a pixel, or their sum (which grows with their number). `fill`:
    one content for all windows, so none that is drawn anew for each.
    """
    b, _, height, width = images.shape
    rows = windows(height, patch, stride, border).to(images.device)
    columns = windows(width, patch, stride, border).to(images.device)
    content = _content(classifier, images, fill)
    ny, nx = len(rows), len(columns)
    forwards = forwards_of(classifier)

    def covered(part: slice) -> Tensor:
        place = torch.arange(part.start, part.stop, device=images.device)
        image, window = place // (ny * nx), place % (ny * nx)
        region = rows[window // nx][:, :, None] & columns[window % nx][:, None]
        return torch.where(region[:, None], content[image], images[image])

    before = scores(forwards.logits(images), targets, score)
    after = torch.empty(b * ny * nx, dtype=torch.float64, device=images.device)
    pair_targets = targets.repeat_interleave(ny * nx)
    for part, logits in forwards.made(len(after), covered):
        after[part] = scores(logits, pair_targets[part], score)
    drop = before[:, None, None] - after.view(b, ny, nx)
    if absolute:
        drop = drop.abs()
    total = torch.einsum("bij,ih,jw->bhw", drop, rows.double(), columns.double())
    if combine == "mean":
        total = total / (rows.sum(0)[:, None] * columns.sum(0)[None]).clamp_min(1)
    return total.float()


def windows(size: int, patch: int, stride: int, border: str) -> Tensor:
    """Which pixels of a side each window covers, bool (windows, size)."""
    starts = list(range(0, max(size - patch, 0) + (border == "covered"), stride)) or [0]
    if border == "covered" and starts[-1] + patch < size:
        starts.append(size - patch)
    pixels = torch.arange(size)
    first = torch.tensor(starts)[:, None]
    return (pixels >= first) & (pixels < first + patch)


def _content(classifier: Classifier | nn.Module, images: Tensor, fill: str) -> Tensor:
    known = classifier if isinstance(classifier, Classifier) else None
    everywhere = torch.ones(len(images), *images.shape[-2:], dtype=torch.bool, device=images.device)
    unused = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    means = [
        None if known is None or values is None else torch.tensor(values, device=images.device)
        for values in ((known.train_mean, known.norm_mean) if known else (None, None))
    ]
    return fills.fill(fill, images, everywhere, unused, means[0], means[1])

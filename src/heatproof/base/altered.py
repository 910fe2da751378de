"""Maps altered as controls: shifted copies and blurred ones whose smoothness matches a fusion's.

ROAR and ROAD reward blur (arXiv 2304.13836) and fusing blurs, so a fusion must beat its single view blurred alike.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from heatproof.base import fields
from heatproof.base.smooth import along


def shift_offsets(seeds: Int64[Tensor, " b"], height: int, width: int) -> Int64[Tensor, "b 2"]:
    """Offsets (rows, columns) of circular shifts, uniform over all positions but the map's own."""
    draw = (fields.uniform(seeds, (1,)).double()[:, 0] * (height * width - 1)).long().clamp_max(height * width - 2) + 1
    return torch.stack([draw // width, draw % width], 1)


def shift(maps: Float[Tensor, "b h w"], offsets: Int64[Tensor, "b 2"]) -> Float[Tensor, "b h w"]:
    """Each map moved circularly by its own offset: same values, same smoothness, wrong place."""
    b, h, w = maps.shape
    rows = (torch.arange(h, device=maps.device)[None] - offsets[:, :1]) % h
    columns = (torch.arange(w, device=maps.device)[None] - offsets[:, 1:]) % w
    batch = torch.arange(b, device=maps.device)[:, None, None]
    return maps[batch, rows[:, :, None], columns[:, None, :]]


def gaussian_blur(maps: Float[Tensor, "b h w"], sd: float) -> Float[Tensor, "b h w"]:
    """Maps blurred with a Gaussian of `sd` pixels, cut at 4 sd, border mirrored (dcba|abcd)."""
    if sd <= 0:
        return maps
    radius = min(math.ceil(4 * sd), maps.shape[-2] - 1, maps.shape[-1] - 1)
    grid = torch.arange(-radius, radius + 1, dtype=torch.float64, device=maps.device)
    kernel = torch.exp(-(grid**2) / (2 * sd * sd))
    window = (kernel / kernel.sum()).to(maps.dtype).tolist()
    x = maps
    for dim in (-2, -1):
        index = torch.arange(-radius, x.shape[dim] + radius, device=maps.device)
        n = x.shape[dim]
        index = torch.where(index < 0, -index - 1, index)
        index = torch.where(index >= n, 2 * n - 1 - index, index)
        x = along(x.index_select(dim, index), window, dim)
    return x


def correlation_length(maps: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"] | None = None) -> Float[Tensor, " b"]:
    """Distance in pixels at which a map's autocorrelation (mean over directions) falls below 1/e, at most half the
    shorter side; NaN where the map is constant.

    Autocorrelation without wrap-around, each lag divided by its number of pairs of valid pixels (None: all are), lags
    without a pair left out; linear between whole pixels.
    """
    b, h, w = maps.shape
    weights = torch.ones(1, h, w, dtype=torch.float64, device=maps.device) if valid is None else valid.double()
    values = maps.double()
    mean = (values * weights).sum((1, 2), keepdim=True) / weights.sum((1, 2), keepdim=True)
    size = (2 * h, 2 * w)
    pairs = _autocorrelation(weights, size).round()
    auto = _autocorrelation((values - mean) * weights, size) / pairs.clamp_min(1)
    dy = torch.fft.fftfreq(2 * h, 1 / (2 * h), device=maps.device)[:, None]
    dx = torch.fft.fftfreq(2 * w, 1 / (2 * w), device=maps.device)[None]
    ring = torch.sqrt(dy**2 + dx**2).round().long()
    last = min(h, w) // 2
    inside = ring <= last
    profile, counts = (
        torch.zeros(len(lags), last + 1, dtype=torch.float64, device=maps.device).index_add_(1, ring[inside], lags)
        for lags in (auto[:, inside], (pairs > 0)[:, inside].double())
    )
    profile = profile / counts.clamp_min(1)
    profile = profile / profile[:, :1]
    below = profile < 1 / math.e
    first = torch.where(below.any(1), below.double().argmax(1), torch.full((b,), last, device=maps.device))
    before = (first - 1).clamp_min(0)
    p0 = profile.gather(1, before[:, None])[:, 0]
    p1 = profile.gather(1, first[:, None])[:, 0]
    step = ((p0 - 1 / math.e) / (p0 - p1)).clamp(0, 1)
    length = torch.where(below.any(1), before + step, first.double())
    return torch.where(profile[:, 0].isnan(), torch.nan, length)


def _autocorrelation(maps: Float[Tensor, "b h w"], size: tuple[int, int]) -> Float[Tensor, "b u v"]:
    """Sums of products at every lag, none of them around the border."""
    return torch.fft.irfft2(torch.fft.rfft2(maps, s=size).abs() ** 2, s=size)


def matched_blur_px(single: Float[Tensor, "b h w"], fused: Float[Tensor, "b h w"]) -> float:
    """The sd in 0, 0.5 .. W/8 pixels that brings the mean correlation length of the blurred single view nearest to the
    fusion's; 0 where the fusion is not smoother. Length grows with sd, so the grid is searched by halving."""
    usable = torch.isfinite(single).all(-1).all(-1) & torch.isfinite(fused).all(-1).all(-1)
    usable &= (single.amax((1, 2)) > single.amin((1, 2))) & (fused.amax((1, 2)) > fused.amin((1, 2)))
    if not usable.any():
        return 0.0
    single, fused = single[usable], fused[usable]
    wanted = correlation_length(fused).mean().item()

    def length(step: int) -> float:
        return correlation_length(gaussian_blur(single, step / 2)).mean().item()

    low, high = 0, single.shape[-1] // 4
    if length(0) >= wanted:
        return 0.0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if length(middle) < wanted else (low, middle)
    nearest = min((low, high), key=lambda step: abs(length(step) - wanted))
    return nearest / 2

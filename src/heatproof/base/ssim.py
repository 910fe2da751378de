"""Structural similarity of maps, batched, in float64."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from heatproof.base.smooth import along
from heatproof.base.values import is_constant, norm

# Wang 2004: windows of 11 x 11 with Gaussian weights of sd 1.5, and the two constants that keep quotients finite.
WINDOW, SD = 11, 1.5
STABLE = (0.01**2, 0.03**2)


def ssim(
    a: Float[Tensor, "b h w"], b: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"] | None = None
) -> Float[Tensor, " b"]:
    """Mean structural similarity of the two maps, each scaled to [0, 1], -1 to 1; 1 for maps that differ by scale.

    Mean over windows of `(2 m_a m_b + c1)(2 s_ab + c2) / ((m_a^2 + m_b^2 + c1)(s_a^2 + s_b^2 + c2))`. A window counts
    where it lies inside the image and all its pixels are valid. NaN where a map is constant or no window counts.
    Source: Wang et al. 2004, with the range 1.
    """
    if min(a.shape[-2:]) < WINDOW:
        return torch.full((len(a),), torch.nan, dtype=torch.float64, device=a.device)
    x, y = norm(a).double(), norm(b).double()
    smooth = _smoothed(torch.stack([x, y, x * x, y * y, x * y], 1))
    mean_x, mean_y = smooth[:, 0], smooth[:, 1]
    var_x, var_y = smooth[:, 2] - mean_x**2, smooth[:, 3] - mean_y**2
    both = smooth[:, 4] - mean_x * mean_y
    c1, c2 = STABLE
    found = (2 * mean_x * mean_y + c1) * (2 * both + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    if valid is None:
        mean = found.mean((1, 2))
    else:
        lost = F.max_pool2d((~valid).float()[:, None], WINDOW, stride=1)[:, 0] > 0
        mean = found.masked_fill(lost, 0).sum((1, 2)) / (~lost).sum((1, 2))
    return mean.masked_fill(is_constant(a, valid) | is_constant(b, valid), torch.nan)


def _smoothed(planes: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k u v"]:
    """Gaussian means over the windows that lie inside."""
    distance = torch.arange(WINDOW, dtype=planes.dtype, device=planes.device) - WINDOW // 2
    weights = torch.exp(-(distance**2) / (2 * SD**2))
    window = (weights / weights.sum()).tolist()
    return along(along(planes, window, -2), window, -1)

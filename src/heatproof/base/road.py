"""ROAD's imputation: each removed pixel is the weighted mean of its 8 neighbours, all solved jointly.

The system. With w = 1/6 for direct and 1/12 for diagonal neighbours inside the image and s_i the sum of pixel i's weights
(1 but at the border), a removed pixel obeys s_i u_i = sum_j w_ij u_j. Multiplied by s_i like this, the matrix is a graph
Laplacian with the kept pixels as boundary values: symmetric, positive definite as soon as one pixel is kept, and every
solution lies between the lowest and the highest kept value.

The solver. Conjugate gradients, preconditioned with one multigrid V-cycle: bilinear interpolation (restricted to removed
pixels), Galerkin coarse operators (nine-point stencils, made by one strided convolution a level), damped Jacobi
smoothing (this stencil damps all high frequencies to 1/3 a sweep), a dense inverse on the coarsest grid. The residual is
refreshed in float64 between float32 rounds; each image stops by itself. Any mask and size, no loop over images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

DIRECT, DIAGONAL = 1 / 6, 1 / 12
# The V-cycle of the residual estimates the error; 2e-6 of the pixel range leaves room below the law's 1e-5.
TOLERANCE = 2e-6
DAMPING = 0.9
COARSEST = 9
ROUNDS, STEPS = 6, 12


def impute(images: Float[Tensor, "b c h w"], region: Bool[Tensor, "b h w"]) -> Float[Tensor, "b c h w"]:
    """Images whose removed pixels (region) are the weighted means of their neighbours, within 1e-5 of the pixel range.

    Weights: direct neighbours 1/6, diagonal ones 1/12, renormalised at the border. No noise is added. With every pixel
    removed there is nothing to solve: the image's own mean per channel.
    Source: Rong et al. 2022, section 4.3 (noisy linear imputation).
    """
    if images.shape[1] > 1 and bool((images == images[:, :1]).all()):
        return impute(images[:, :1], region).expand_as(images)
    out = images.clone()
    gone = region.flatten(1).all(1)
    out[gone] = images[gone].mean((2, 3), keepdim=True).expand_as(images[gone])
    todo = torch.nonzero(region.flatten(1).any(1) & ~gone)[:, 0]
    # Few images at a time keep the working set in the processor's cache; a GPU takes all that fit its memory.
    for rows in todo.split(_images_at_once(images)):
        out[rows] = _solve(images[rows], region[rows])
    return out


def _images_at_once(images: Tensor) -> int:
    floats = images[0].numel()
    return max(1, (2**28 if images.is_cuda else 2**19) // floats)


def neighbour_sum(u: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Weighted sum of the 8 neighbours, 0 outside the image: ([1 2 1] x [1 2 1] - 4) / 12, two passes of additions."""
    padded = F.pad(u, (1, 1, 1, 1))
    rows = padded[..., :-2, :] + padded[..., 2:, :]
    rows.add_(padded[..., 1:-1, :], alpha=2)
    both = rows[..., :-2] + rows[..., 2:]
    return both.add_(rows[..., 1:-1], alpha=2).sub_(u, alpha=4).mul_(1 / 12)


def weight_sum(height: int, width: int, like: Tensor) -> Float[Tensor, "1 1 h w"]:
    """s_i: the sum of a pixel's neighbour weights, 1 inside, less at the border."""
    return neighbour_sum(torch.ones(1, 1, height, width, dtype=like.dtype, device=like.device))


def _solve(images: Float[Tensor, "b c h w"], region: Bool[Tensor, "b h w"]) -> Float[Tensor, "b c h w"]:
    """Rounds of conjugate gradients in float32 on the float64 residual; at least one pixel is kept in each image."""
    mask = region[:, None]
    exact = images.double()
    kept = exact.masked_fill(mask, 0).sum((2, 3), keepdim=True) / (~mask).sum((2, 3), keepdim=True)
    u = torch.where(mask, kept, exact)
    sums = weight_sum(*images.shape[-2:], like=u)
    low = exact.masked_fill(mask, torch.inf).amin((2, 3), keepdim=True)
    high = exact.masked_fill(mask, -torch.inf).amax((2, 3), keepdim=True)
    tolerance = (TOLERANCE * (high - low)).float().clamp_min(torch.finfo(torch.float32).tiny)
    levels = _levels(mask.float())
    for _ in range(ROUNDS):
        residual = (neighbour_sum(u) - sums * u).masked_fill_(~mask, 0).float()
        correction, finished = _conjugate_gradients(levels, residual, tolerance)
        u += correction
        if finished:
            break
    return u.to(images.dtype)


def _conjugate_gradients(
    levels: tuple[_Level, ...], residual: Float[Tensor, "b c h w"], tolerance: Float[Tensor, "b c 1 1"]
) -> tuple[Float[Tensor, "b c h w"], bool]:
    """A correction of u, and whether the first estimate of its error was below the tolerance everywhere."""
    r = residual
    z = _cycle(levels, 0, r)
    done = z.abs().amax((2, 3), keepdim=True) <= tolerance
    if bool(done.all()):
        return z, True
    x = torch.zeros_like(r)
    p = z
    rz = (r * z).sum((2, 3), keepdim=True)
    for _ in range(STEPS):
        ap = levels[0].apply(p)
        step = torch.where(done, 0.0, rz / (p * ap).sum((2, 3), keepdim=True).clamp_min(1e-38))
        x = torch.addcmul(x, step, p)
        r = torch.addcmul(r, -step, ap)
        z = _cycle(levels, 0, r)
        done = done | (z.abs().amax((2, 3), keepdim=True) <= tolerance)
        if bool(done.all()):
            break
        before, rz = rz, (r * z).sum((2, 3), keepdim=True)
        p = torch.addcmul(z, rz / before.clamp_min(1e-38), p)
    return x, False


# ---- multigrid -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Level:
    """One grid: `stencil` (9, b, 1, h, w), coefficients towards the 9 neighbours in row order, for coarse grids (the
    finest applies its constant weights under `mask`); `smooth` = damping / diagonal, 0 on unused points; `inverse`
    (b, n, n) on the coarsest grid."""

    smooth: Float[Tensor, "b 1 h w"]
    mask: Float[Tensor, "b 1 h w"] | None = None
    sums: Float[Tensor, "1 1 h w"] | None = None
    stencil: Float[Tensor, "9 b 1 h w"] | None = None
    inverse: Float[Tensor, "b n n"] | None = None

    def apply(self, u: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The matrix times u; on the finest grid u is 0 on kept pixels."""
        if self.stencil is None:
            assert self.mask is not None and self.sums is not None
            return (self.sums * u).sub_(neighbour_sum(u)).mul_(self.mask)
        h, w = u.shape[-2:]
        padded = F.pad(u, (1, 1, 1, 1))
        out = self.stencil[4] * u
        for k, (dy, dx) in enumerate(_OFFSETS):
            if k != 4:
                out.addcmul_(self.stencil[k], padded[..., 1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w])
        return out


_OFFSETS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


def _levels(mask: Float[Tensor, "b 1 h w"]) -> tuple[_Level, ...]:
    """All grids of the removed pixels, finest first."""
    h, w = mask.shape[-2:]
    sums = weight_sum(h, w, like=mask)
    levels = [_Level(_inverse(mask * sums), mask, sums)]
    around = F.pad(mask, (1, 1, 1, 1))
    stencil = torch.cat(
        [
            mask * sums
            if dy == dx == 0
            else -(DIAGONAL if dy and dx else DIRECT) * mask * around[..., 1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w]
            for dy, dx in _OFFSETS
        ],
        1,
    )
    while max(stencil.shape[-2:]) > COARSEST:
        stencil = _coarsened(stencil)
        last = max(stencil.shape[-2:]) <= COARSEST
        levels.append(
            _Level(
                _inverse(stencil[:, 4:5]),
                stencil=stencil.permute(1, 0, 2, 3)[:, :, None].contiguous(),
                inverse=_dense_inverse(stencil) if last else None,
            )
        )
    if len(levels) == 1:
        levels.append(_Level(levels[0].smooth, inverse=_dense_inverse(stencil)))
    return tuple(levels)


def _inverse(diagonal: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    return torch.where(diagonal > 0, DAMPING / diagonal.clamp_min(1e-30), torch.zeros_like(diagonal))


def _hat(x: int) -> float:
    return max(0.0, 1 - abs(x) / 2)


def _galerkin_kernel() -> Float[Tensor, "9 9 3 3"]:
    """Weights [D, d, p] of the coarse coefficient towards neighbour D: sum over fine points p and their neighbours d of
    hat(p) a_d(p) hat(p + d - 2 D)."""
    kernel = torch.zeros(9, 9, 3, 3)
    for i, (cy, cx) in enumerate(_OFFSETS):
        for j, (dy, dx) in enumerate(_OFFSETS):
            for py, px in _OFFSETS:
                to = _hat(py + dy - 2 * cy) * _hat(px + dx - 2 * cx)
                kernel[i, j, py + 1, px + 1] = _hat(py) * _hat(px) * to
    return kernel


def _coarsened(stencil: Float[Tensor, "b 9 h w"]) -> Float[Tensor, "b 9 hc wc"]:
    """Galerkin coarse stencil on every second point; an even side gets a point outside, so that weights sum to 1."""
    h, w = stencil.shape[-2:]
    padded = F.pad(stencil, (1, 2 - w % 2, 1, 2 - h % 2))
    return F.conv2d(padded, _galerkin_kernel().to(stencil), stride=2)


def _dense_inverse(stencil: Float[Tensor, "b 9 h w"]) -> Float[Tensor, "b n n"]:
    b, _, h, w = stencil.shape
    n = h * w
    matrix = torch.zeros(b, n, h + 2, w + 2, dtype=torch.float64, device=stencil.device)
    rows = torch.arange(n, device=stencil.device)
    for k, (dy, dx) in enumerate(_OFFSETS):
        matrix[:, rows, 1 + rows // w + dy, 1 + rows % w + dx] = stencil[:, k].flatten(1).double()
    matrix = matrix[:, :, 1:-1, 1:-1].reshape(b, n, n)
    used = torch.diagonal(matrix, dim1=1, dim2=2) > 0
    matrix += torch.diag_embed((~used).double())
    return torch.linalg.inv(matrix).float() * (used[:, :, None] & used[:, None, :])


def _cycle(levels: tuple[_Level, ...], number: int, r: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """One symmetric V-cycle for the error of residual r, one damped Jacobi sweep before and after."""
    level = levels[number]
    if level.inverse is not None:
        return (level.inverse @ r.flatten(2).mT).mT.reshape(r.shape)
    x = level.smooth * r
    coarse = _cycle(levels, number + 1, _restrict(r - level.apply(x)))
    x += _prolong(coarse, *r.shape[-2:])
    if level.mask is not None:
        x *= level.mask
    return x.addcmul_(level.smooth, r - level.apply(x))


def _restrict(fine: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c hc wc"]:
    """Transpose of `_prolong`."""
    h, w = fine.shape[-2:]
    padded = F.pad(fine, (1, 2 - w % 2, 1, 2 - h % 2))
    rows = (padded[..., 0:-1:2, :] + padded[..., 2::2, :]).mul_(0.5).add_(padded[..., 1:-1:2, :])
    return (rows[..., 0:-1:2] + rows[..., 2::2]).mul_(0.5).add_(rows[..., 1:-1:2])


def _prolong(coarse: Float[Tensor, "b c hc wc"], height: int, width: int) -> Float[Tensor, "b c h w"]:
    """Bilinear interpolation between coarse points, which lie on every second fine point."""
    b, c, hc, wc = coarse.shape
    fine = coarse.new_empty(b, c, 2 * hc - 1, 2 * wc - 1)
    fine[..., ::2, ::2] = coarse
    fine[..., ::2, 1::2] = (coarse[..., 1:] + coarse[..., :-1]).mul_(0.5)
    fine[..., 1::2, :] = (fine[..., :-1:2, :] + fine[..., 2::2, :]).mul_(0.5)
    return fine[..., :height, :width]

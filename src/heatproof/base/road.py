"""ROAD's imputation: each removed pixel is the weighted mean of its 8 neighbours, all solved jointly.

The system. With w = 1/6 for direct and 1/12 for diagonal neighbours inside the image and s_i the sum of pixel i's
weights (1 but at the border), a removed pixel obeys s_i u_i = sum_j w_ij u_j. Left multiplied by s_i, the matrix is a
graph Laplacian with the kept pixels as boundary values: symmetric, positive definite as soon as one pixel is kept, and
every solution lies between the lowest and the highest kept value.

The solver. Conjugate gradients, preconditioned with one multigrid V-cycle: bilinear interpolation (restricted to
removed pixels), Galerkin coarse operators (nine-point stencils, made by one strided convolution a level), damped Jacobi
smoothing (this stencil damps all high frequencies to 1/3 a sweep), a dense inverse on the coarsest grid. Regions that
have kept pixels near everywhere need no grids but the first. The residual is refreshed in float64 between float32
rounds; each image stops by itself; only the part of an image that a region touches is solved.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

# The weights 1/6 and 1/12 in twelfths: whole numbers round without bias, which float32 sums over a large hole need.
DIRECT, DIAGONAL = 2, 1
# The V-cycle of the residual estimates the error; 4e-6 of the pixel range leaves room below the law's 1e-5.
TOLERANCE = 4e-6
DAMPING = 0.9
COARSEST = 9
MEANINGLESS = 1e-4
ROUNDS, STEPS = 8, 40
# Where kept pixels are near everywhere, the diagonal alone preconditions well; it estimates errors a few times too low.
SHALLOW_PX = 2
SHALLOW_TOLERANCE = 0.1
EPSILON = torch.finfo(torch.float32).eps / 2


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
    some = region.flatten(1).any(1) & ~gone
    shallow = _is_shallow(region)
    for easy in (True, False):
        todo = torch.nonzero(some & (shallow == easy))[:, 0]
        # An empty tensor splits into one empty part.
        for rows in todo.split(_images_at_once(images)) if len(todo) else ():
            top, bottom, left, right = _around(region[rows].any(0))
            crop = images[rows, :, top:bottom, left:right]
            out[rows, :, top:bottom, left:right] = _solve(crop, region[rows, top:bottom, left:right], shallow=easy)
    return out


def _images_at_once(images: Float[Tensor, "b c h w"]) -> int:
    """Few images at a time on a CPU: a working set in its cache, a small crop. A GPU takes what fits its memory."""
    return max(1, (2**28 if images.is_cuda else 2**17) // images[0].numel())


def _around(region: Bool[Tensor, "h w"]) -> tuple[int, int, int, int]:
    """Rows and columns (top, bottom, left, right) of a region and the pixels around it: all that it depends on."""
    ends = []
    for side, count in ((region.any(1), region.shape[0]), (region.any(0), region.shape[1])):
        places = torch.nonzero(side)[:, 0]
        ends += [max(0, int(places[0]) - 1), min(count, int(places[-1]) + 2)]
    return ends[0], ends[1], ends[2], ends[3]


def _is_shallow(region: Bool[Tensor, "b h w"]) -> Bool[Tensor, " b"]:
    """Whether every removed pixel has a kept one within SHALLOW_PX pixels: two erosions leave nothing."""
    inside = region[:, None].float()
    full = _box(torch.ones_like(inside[:1]))
    for _ in range(SHALLOW_PX):
        inside = (_box(inside) == full).float()
    return ~inside.flatten(1).any(1)


def _box(u: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """[1 2 1] x [1 2 1] around each pixel, 0 outside: the neighbour sum plus 4 u, by six additions of slices."""
    rows = u * 2
    rows[..., 1:, :].add_(u[..., :-1, :])
    rows[..., :-1, :].add_(u[..., 1:, :])
    both = rows * 2
    both[..., 1:].add_(rows[..., :-1])
    both[..., :-1].add_(rows[..., 1:])
    return both


def _centre(like: Tensor, height: int, width: int) -> Float[Tensor, "1 1 h w"]:
    """The coefficient of u that goes with `_box`: the sum of a pixel's neighbour weights (12 inside) plus 4."""
    return _box(torch.ones(1, 1, height, width, dtype=like.dtype, device=like.device))


def _solve(
    images: Float[Tensor, "b c h w"], region: Bool[Tensor, "b h w"], *, shallow: bool
) -> Float[Tensor, "b c h w"]:
    """Rounds of conjugate gradients in float32 on the float64 residual; at least one pixel is kept in each image."""
    mask = region[:, None]
    exact = images.double()
    kept = exact.masked_fill(mask, 0).sum((2, 3), keepdim=True) / (~mask).sum((2, 3), keepdim=True)
    u = torch.where(mask, kept, exact)
    centre = _centre(u, *images.shape[-2:])
    low = exact.masked_fill(mask, torch.inf).amin((2, 3), keepdim=True)
    high = exact.masked_fill(mask, -torch.inf).amax((2, 3), keepdim=True)
    # Below the last bit of a float32 pixel there is nothing left to solve.
    least = EPSILON * torch.maximum(low.abs(), high.abs()) + torch.finfo(torch.float32).tiny
    tolerance = torch.maximum(TOLERANCE * (high - low), least).float()
    if shallow:
        tolerance *= SHALLOW_TOLERANCE
        levels: tuple[_Level, ...] = (_finest(mask.float()),)
    else:
        levels = _levels(mask.float())
    for _ in range(ROUNDS):
        residual = _box(u).addcmul_(centre, u, value=-1).masked_fill_(~mask, 0).float()
        correction, finished = _conjugate_gradients(levels, residual, tolerance)
        u += correction
        if finished:
            return u.to(images.dtype)
    raise AssertionError("the imputation did not converge: is every pixel finite?")


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
    zero = r.new_zeros(())
    p = z
    rz = (r * z).sum((2, 3), keepdim=True)
    for _ in range(STEPS):
        down = levels[0].residual(zero, p)
        step = torch.where(done, 0.0, rz / (p * down).sum((2, 3), keepdim=True).neg_().clamp_min(1e-38))
        x = torch.addcmul(x, step, p)
        r = torch.addcmul(r, step, down)
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
    """One grid. The finest has the constant weights: `mask` of removed pixels and `centre`, the coefficient of `_box`.
    Coarse ones have a `stencil` (9, b, 1, h, w), coefficients towards the 9 neighbours in row order. `smooth`: damping
    over the diagonal, 0 on unused points. `inverse` (b, n, n): on the coarsest grid."""

    smooth: Float[Tensor, "b 1 h w"]
    mask: Float[Tensor, "b 1 h w"] | None = None
    centre: Float[Tensor, "1 1 h w"] | None = None
    stencil: Float[Tensor, "9 b 1 h w"] | None = None
    inverse: Float[Tensor, "b n n"] | None = None

    def residual(self, r: Float[Tensor, "b c h w"], u: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """r - A u. On the finest grid u must be 0 on kept pixels, and the result means nothing there."""
        if self.stencil is None:
            assert self.centre is not None
            return _box(u).addcmul_(self.centre, u, value=-1).add_(r)
        out = r.clone()
        for coefficient, (dy, dx) in zip(self.stencil, _OFFSETS, strict=True):
            here = _overlap(dy, dx)
            out[here].addcmul_(coefficient[here], u[_overlap(-dy, -dx)], value=-1)
        return out


_OFFSETS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
_CUT = {-1: slice(1, None), 0: slice(None), 1: slice(None, -1)}


def _overlap(dy: int, dx: int) -> tuple[Any, ...]:
    """The points that have a neighbour at this offset."""
    return ..., _CUT[dy], _CUT[dx]


def _levels(mask: Float[Tensor, "b 1 h w"]) -> tuple[_Level, ...]:
    """All grids of the removed pixels, finest first."""
    h, w = mask.shape[-2:]
    finest = _finest(mask)
    assert finest.centre is not None
    diagonal = mask * (finest.centre - 4)
    around = F.pad(mask, (1, 1, 1, 1))
    stencil = torch.cat(
        [
            diagonal
            if dy == dx == 0
            else -(DIAGONAL if dy and dx else DIRECT) * mask * around[..., 1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w]
            for dy, dx in _OFFSETS
        ],
        1,
    )
    if max(h, w) <= COARSEST:
        return (replace(finest, inverse=_dense_inverse(stencil)),)
    levels = [finest]
    while max(stencil.shape[-2:]) > COARSEST:
        stencil = _coarsened(stencil)
        last = max(stencil.shape[-2:]) <= COARSEST
        levels.append(
            _Level(
                _smoother(stencil),
                stencil=stencil.permute(1, 0, 2, 3)[:, :, None].contiguous(),
                inverse=_dense_inverse(stencil) if last else None,
            )
        )
    return tuple(levels)


def _finest(mask: Float[Tensor, "b 1 h w"]) -> _Level:
    centre = _centre(mask, *mask.shape[-2:])
    return _Level(_inverse(mask * (centre - 4)), mask, centre)


def _inverse(diagonal: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    return torch.where(diagonal > 0, DAMPING / diagonal.clamp_min(1e-30), torch.zeros_like(diagonal))


def _smoother(stencil: Float[Tensor, "b 9 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Damped Jacobi that converges on any grid: DAMPING over the diagonal, or twice that over the sum of magnitudes of
    the row where this is less (they are equal where the row sums to 0, as on the finest grid). A sweep that diverges
    somewhere would make the cycle indefinite, and conjugate gradients need a definite one."""
    return torch.minimum(_inverse(stencil[:, 4:5]), _inverse(stencil.abs().sum(1, keepdim=True) / 2))


def _hat(x: int) -> float:
    return max(0.0, 1 - abs(x) / 2)


@functools.cache
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
    diagonal = torch.diagonal(matrix, dim1=1, dim2=2)
    unit = torch.where(diagonal > 0, diagonal.clamp_min(1e-300).rsqrt(), 0.0)
    # Few removed pixels may carry more coarse points than there are pixels. Such a grid is singular, and inverting a
    # direction that means nothing would blow rounding up until the cycle is no preconditioner; so it is left out.
    values, vectors = torch.linalg.eigh(unit[:, :, None] * matrix * unit[:, None, :])
    kept = torch.where(values > MEANINGLESS, 1 / values.clamp_min(MEANINGLESS), 0.0)
    scaled = unit[:, :, None] * vectors
    return ((scaled * kept[:, None, :]) @ scaled.mT).float()


def _cycle(levels: tuple[_Level, ...], number: int, r: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """One symmetric V-cycle for the error of residual r, one damped Jacobi sweep before and after; on a single grid
    without an inverse one sweep."""
    level = levels[number]
    if level.inverse is not None:
        return (level.inverse @ r.flatten(2).mT).mT.reshape(r.shape)
    x = level.smooth * r
    if number == len(levels) - 1:
        return x
    rest = level.residual(r, x)
    if level.mask is None:
        x += _prolong(_cycle(levels, number + 1, _restrict(rest)), *r.shape[-2:])
    else:
        x.addcmul_(_prolong(_cycle(levels, number + 1, _restrict(rest.mul_(level.mask))), *r.shape[-2:]), level.mask)
    return x.addcmul_(level.smooth, level.residual(r, x))


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

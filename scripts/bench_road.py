"""ROAD's imputation beside plain conjugate gradients and a sparse direct solver, one region at a time and in batches.

    python scripts/bench_road.py [--size 224] [--images 8] [--repeats 5] [--threads 1] [--device cpu]

Prints, per kind of region, the median milliseconds an image (three channels), the ratios in the same run, and the
largest difference to the direct solver.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import spsolve
from torch import Tensor
from torch.nn import functional as F

from heatproof.base.road import _box, _centre, impute

NEIGHBOURS = [(dy, dx, 1 / 12 if dy and dx else 1 / 6) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]


def direct(image: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The linear system assembled with arrays and solved by SuperLU, all channels at once."""
    h, w = region.shape
    out = image.astype(np.float64)
    ys, xs = np.nonzero(region)
    number = np.full((h, w), -1)
    number[ys, xs] = np.arange(len(ys))
    total, right = np.zeros(len(ys)), np.zeros((len(ys), len(image)))
    rows, columns, weights = [], [], []
    for dy, dx, weight in NEIGHBOURS:
        inside = np.flatnonzero((ys + dy >= 0) & (ys + dy < h) & (xs + dx >= 0) & (xs + dx < w))
        total[inside] += weight
        to = number[ys[inside] + dy, xs[inside] + dx]
        rows.append(inside[to >= 0])
        columns.append(to[to >= 0])
        weights.append(np.full((to >= 0).sum(), -weight))
        kept = inside[to < 0]
        right[kept] += weight * out[:, ys[kept] + dy, xs[kept] + dx].T
    diagonal = np.arange(len(ys))
    entries = (
        np.concatenate([*weights, total]),
        (np.concatenate([*rows, diagonal]), np.concatenate([*columns, diagonal])),
    )
    out[:, ys, xs] = spsolve(sparse.csc_matrix(entries, (len(ys), len(ys))), right).reshape(len(ys), -1).T
    return out


def plain_cg(images: Tensor, region: Tensor, tolerance: float = 1e-6) -> tuple[Tensor, int]:
    """Conjugate gradients without a preconditioner, on the same operator in float32: image and iterations."""
    mask = region[:, None].float()
    centre = _centre(mask, *mask.shape[-2:])
    x = images * (1 - mask)
    r = mask * _box(x)
    p, u, rr = r, torch.zeros_like(r), (r * r).sum((2, 3), keepdim=True)
    stop = tolerance**2 * rr
    iterations = 0
    while bool((rr > stop).any()):
        ap = mask * (centre * p - _box(p))
        step = rr / (p * ap).sum((2, 3), keepdim=True).clamp_min(1e-30)
        u, r = u + step * p, r - step * ap
        before, rr = rr, (r * r).sum((2, 3), keepdim=True)
        p = r + rr / before * p
        iterations += 1
    return x + u, iterations


def milliseconds(run: Callable[[], object], repeats: int, images: int) -> float:
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:]) / images * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    n, size = given.images, given.size
    coarse = F.interpolate(torch.rand(n, 3, 7, 7), size=(size, size), mode="bicubic").clamp(0, 1)
    images = (0.8 * coarse + 0.2 * torch.rand(n, 3, size, size)).to(given.device)
    maps = {
        "smooth map": F.interpolate(torch.rand(n, 1, 7, 7), size=(size, size), mode="bilinear")[:, 0],
        "scattered": torch.rand(n, size, size),
    }
    print(
        f"{size} x {size}, {n} images, {torch.get_num_threads()} threads, {given.device}, "
        f"ms an image, median of {given.repeats}"
    )
    print(
        "| region | removed | heatproof | plain CG (iterations) | spsolve | CG / ours | spsolve / ours | difference |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, values in maps.items():
        flat = values.flatten(1)
        for share in (0.2, 0.8):
            top = flat.topk(round(share * size * size), 1).indices
            region = torch.zeros_like(flat, dtype=torch.bool).scatter_(1, top, True).view(values.shape).to(given.device)
            ours = milliseconds(lambda region=region: impute(images, region), given.repeats, n)
            cg = milliseconds(lambda region=region: plain_cg(images[:1], region[:1]), 1, 1)
            iterations = plain_cg(images[:1], region[:1])[1]
            image, place = images[0].cpu().numpy(), region[0].cpu().numpy()
            exact = milliseconds(lambda image=image, place=place: direct(image, place), 1, 1)
            difference = np.abs(impute(images, region)[0].cpu().numpy() - direct(image, place)).max()
            print(
                f"| {name} | {share:.0%} | {ours:.1f} | {cg:.0f} ({iterations}) | {exact:.0f} "
                f"| {cg / ours:.1f} | {exact / ours:.1f} | {difference:.0e} |"
            )


if __name__ == "__main__":
    main()

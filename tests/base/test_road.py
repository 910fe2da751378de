import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse.linalg import spsolve
from torch.nn import functional as F

from heatproof.base import road
from heatproof.base.road import impute

NEIGHBOURS = [(dy, dx, 1 / 12 if dy and dx else 1 / 6) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]


def slow_impute(image: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The paper's linear system, row by row, by a sparse direct solver in float64."""
    h, w = region.shape
    out = image.astype(np.float64).copy()
    places = [tuple(place) for place in np.argwhere(region)]
    number = {place: i for i, place in enumerate(places)}
    matrix = sparse.lil_matrix((len(places), len(places)))
    right = np.zeros((len(places), len(image)))
    for i, (y, x) in enumerate(places):
        inside = [(y + dy, x + dx, v) for dy, dx, v in NEIGHBOURS if 0 <= y + dy < h and 0 <= x + dx < w]
        total = sum(v for _, _, v in inside)
        matrix[i, i] = 1
        for ny, nx, v in inside:
            if (ny, nx) in number:
                matrix[i, number[ny, nx]] = -v / total
            else:
                right[i] += v / total * out[:, ny, nx]
    solved = spsolve(matrix.tocsc(), right).reshape(len(places), -1)
    for i, (y, x) in enumerate(places):
        out[:, y, x] = solved[i]
    return out


def blobs(n: int, h: int, w: int, seed: int) -> torch.Tensor:
    coarse = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(h, w), mode="bilinear")[:, 0]


def pictures(n: int, c: int, h: int, w: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, c, h, w, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("h", "w"), [(48, 48), (37, 50), (9, 9), (5, 31)])
@pytest.mark.parametrize("share", [0.2, 0.8])
def test_equal_to_the_sparse_direct_solver(h, w, share):
    images = pictures(2, 3, h, w)
    smooth, scattered = blobs(1, h, w, 1), pictures(1, 1, h, w, 2)[0]
    for maps in (smooth, scattered):
        region = (maps > maps.quantile(1 - share)).expand(2, h, w)
        found = impute(images, region)
        for i in range(2):
            assert np.abs(found[i].numpy() - slow_impute(images[i].numpy(), region[i].numpy())).max() < 1e-5
        assert torch.equal(found[~region[:, None].expand_as(found)], images[~region[:, None].expand_as(found)])


@pytest.mark.parametrize("kept", [[(0, 0)], [(0, 0), (63, 40)], [(31, 31)]])
def test_the_hardest_holes(kept):
    """All but one or two pixels removed: the constant, and the slowest field there is."""
    images = pictures(1, 1, 64, 64)
    region = torch.ones(1, 64, 64, dtype=torch.bool)
    for place in kept:
        region[0][place] = False
    found = impute(images, region)
    assert np.abs(found[0].numpy() - slow_impute(images[0].numpy(), region[0].numpy())).max() < 1e-5
    assert found.min() >= min(images[0, 0][place] for place in kept) - 1e-5


@settings(deadline=None, max_examples=15)
@given(st.integers(4, 40), st.integers(4, 40), st.floats(0.05, 0.95), st.integers(0, 2**31))
def test_a_linear_ramp_is_reproduced_for_any_interior_set(h, w, share, seed):
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    ramp = ((2 * y - 3 * x) / (5.0 * max(h, w)) + 0.5)[None, None].float()
    region = torch.rand(1, h, w, generator=generator) < share
    region[:, 0] = region[:, -1] = region[:, :, 0] = region[:, :, -1] = False
    torch.testing.assert_close(impute(ramp, region), ramp, atol=1e-5, rtol=0)


def test_hand_solved():
    """One removed pixel in the middle: direct neighbours 1/6, diagonal 1/12; in a corner 2/5, 2/5, 1/5."""
    image = torch.tensor([[[[1.0, 2, 3], [4, 0, 6], [7, 8, 9]]]])
    middle = torch.zeros(1, 3, 3, dtype=torch.bool)
    middle[0, 1, 1] = True
    assert impute(image, middle)[0, 0, 1, 1].item() == pytest.approx((2 + 4 + 6 + 8) / 6 + (1 + 3 + 7 + 9) / 12)
    corner = torch.zeros(1, 3, 3, dtype=torch.bool)
    corner[0, 0, 0] = True
    assert impute(image, corner)[0, 0, 0, 0].item() == pytest.approx((2 * 2 + 2 * 4 + 0) / 5, abs=1e-5)


def test_batch_equals_singles_and_grey_equals_colour():
    images = pictures(5, 3, 40, 40)
    region = blobs(5, 40, 40, 3)
    region = region > region.flatten(1).quantile(0.5, 1)[:, None, None]
    region[2] = False
    region[3] = True
    found = impute(images, region)
    for i in range(5):
        torch.testing.assert_close(impute(images[i : i + 1], region[i : i + 1])[0], found[i], atol=1e-5, rtol=0)
    assert torch.equal(found[2], images[2])
    torch.testing.assert_close(found[3, :, 0, 0], images[3].mean((1, 2)))
    grey = images[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(impute(grey, region), impute(images[:, :1], region).expand_as(grey))


def test_scale_and_offset_of_the_pixels_do_not_matter():
    images = pictures(1, 1, 32, 32)
    region = blobs(1, 32, 32, 5) > 0.4
    torch.testing.assert_close(
        impute(images * 1000 + 50, region), impute(images, region) * 1000 + 50, atol=1e-2, rtol=0
    )
    flat = torch.full((1, 1, 32, 32), 0.25)
    torch.testing.assert_close(impute(flat, region), flat, atol=1e-6, rtol=0)


@pytest.mark.parametrize("seed", range(6))
def test_the_preconditioner_is_definite(seed):
    # A smoother that diverges on a coarse grid made the cycle indefinite and the search end in NaN (blocky regions of
    # sparse maps at 224 px did that); definite means r . cycle(r) > 0 for whatever residual.
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(8, 1, 9, 9, generator=generator).sub(0.6).relu()
    mask = (torch.nn.functional.interpolate(coarse, size=(96, 96), mode="bilinear") > 0.02).float()
    levels = road._levels(mask)
    for level in levels[1:-1]:
        assert level.stencil is not None
        rows = level.stencil.abs().sum(0)
        assert (level.smooth * rows < 2).all()
    r = torch.randn(8, 1, 96, 96, generator=generator) * mask
    for _ in range(4):
        z = road._cycle(levels, 0, r)
        assert ((r * z).sum((1, 2, 3)) > 0).all()
        # The search looks along what the cycle damps least.
        r = (r - levels[0].residual(torch.zeros(()), -z)) * mask

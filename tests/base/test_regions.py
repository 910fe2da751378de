import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heatproof.base import fields
from heatproof.base.regions import area, inclusive_region, iou, tied_share, top_region


def seeds(n: int, role: str = "base") -> torch.Tensor:
    return torch.tensor([fields.image_seed(0, f"image{i}", role) for i in range(n)])


def slow_region(a: np.ndarray, q: float, ties: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Section 0 of the metrics law, pixel by pixel in float64."""
    places = np.flatnonzero(valid)
    values = a.reshape(-1)[places].astype(np.float64)
    width = values.max() - values.min()
    steps = np.round((values - values.min()) / (width or 1.0) * 2**20)
    k = max(1, round(q * len(places)))
    order = sorted(range(len(places)), key=lambda i: (-steps[i], -ties[places[i]]))
    region = np.zeros(a.size, dtype=bool)
    region[places[order[:k]]] = True
    return region.reshape(a.shape)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 7),
    st.integers(1, 7),
    st.floats(0.01, 0.99),
    st.integers(1, 6),
    st.integers(0, 2**31),
    st.booleans(),
)
def test_top_region_equals_its_slow_twin(h, w, q, levels, seed, masked):
    rng = np.random.default_rng(seed)
    maps = torch.from_numpy(rng.integers(-levels, levels, (3, h, w)).astype(np.float32) * 0.37)
    valid = torch.from_numpy(rng.random((3, h, w)) < 0.7) if masked else torch.ones(3, h, w, dtype=torch.bool)
    valid[:, 0, 0] = True
    tie_seeds = seeds(3, str(seed))
    region = top_region(maps, q, tie_seeds, valid if masked else None)
    ties = (fields.hash_keys(tie_seeds, h * w) & (2**40 - 1)).numpy()
    for i in range(3):
        assert (region[i].numpy() == slow_region(maps[i].numpy(), q, ties[i], valid[i].numpy())).all()
        alone = top_region(maps[i : i + 1], q, tie_seeds[i : i + 1], valid[i : i + 1] if masked else None)
        assert torch.equal(alone[0], region[i])


def test_an_image_without_valid_pixels_has_an_empty_region():
    valid = torch.ones(2, 3, 3, dtype=torch.bool)
    valid[0] = False
    region = top_region(torch.rand(2, 3, 3), 0.2, seeds(2), valid)
    assert region.flatten(1).sum(1).tolist() == [0, 2]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.floats(0.01, 100), st.floats(-50, 50))
def test_rank_alone_decides(seed, factor, offset):
    """Invariant to affine rescaling; to monotone ones where no two values lie within 2^-20 of the range."""
    order = np.random.default_rng(seed).permutation(64).reshape(1, 8, 8)
    maps = torch.from_numpy(order).double()
    region = top_region(maps, 0.2, seeds(1))
    assert torch.equal(region, top_region(maps * factor + offset, 0.2, seeds(1)))
    assert torch.equal(region, top_region(maps**3, 0.2, seeds(1)))
    assert torch.equal(region, maps >= 64 - 13)


def test_rounding_noise_of_a_batch_picks_no_pixel():
    maps = torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(1)).mul(64).floor().mul(2.0**-6)
    noisy = maps + (torch.rand(maps.shape, generator=torch.Generator().manual_seed(2)) - 0.5) * 2e-7
    noisy[maps == maps.amax((1, 2), keepdim=True)] = 63 / 64
    noisy[maps == maps.amin((1, 2), keepdim=True)] = 0
    assert torch.equal(top_region(maps, 0.2, seeds(4)), top_region(noisy, 0.2, seeds(4)))


def test_a_flat_map_overlaps_any_mask_by_q_in_expectation():
    mask = torch.zeros(10, 10, dtype=torch.bool)
    mask[2:5, 3:9] = True
    region = top_region(torch.ones(400, 10, 10), 0.2, seeds(400))
    assert (region.flatten(1).sum(1) == 20).all()
    found = (region & mask).flatten(1).sum(1) / mask.sum()
    # Hypergeometric: 18 of 100 pixels drawn 20 times, variance of the share 0.2 * 0.8 / 18 * 82 / 99.
    sd = (0.2 * 0.8 / 18 * 82 / 99 / 400) ** 0.5
    assert found.double().mean().item() == pytest.approx(0.2, abs=4 * sd)


def test_different_roles_do_not_share_a_permutation():
    flat = torch.ones(200, 10, 10)
    overlap = iou(top_region(flat, 0.2, seeds(200)), top_region(flat, 0.2, seeds(200, "noise0"))).mean().item()
    assert overlap == pytest.approx(1 / 9, abs=0.02)


def test_tied_share_counts_what_chance_chose():
    maps = torch.tensor(
        [
            [[9.0, 8, 7, 6], [5, 4, 3, 2]],  # all different: the map decides
            [[9.0, 5, 5, 5], [5, 1, 1, 1]],  # 4 of 8: one by value, three of four fives
            [[1.0, 1, 1, 1], [1, 1, 1, 1]],  # nothing but chance
            [[5.0, 5, 5, 5], [1, 1, 1, 1]],  # ties, but none left out
        ]
    )
    region = top_region(maps, 0.5, seeds(4))
    assert tied_share(maps, region).tolist() == [0, 0.75, 1, 0]


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 60), st.sampled_from([5, 20, 50, 80, 90, 97.5]), st.integers(0, 2**31), st.booleans())
def test_inclusive_region_equals_numpy(n, percentile, seed, tied):
    rng = np.random.default_rng(seed)
    a = (rng.integers(0, 4, (2, 1, n)) / 3 if tied else rng.random((2, 1, n))).astype(np.float64)
    region = inclusive_region(torch.from_numpy(a), percentile).numpy()
    for i in range(2):
        assert (region[i] == (a[i] >= np.percentile(a[i], percentile))).all()


def test_inclusive_region_selects_all_of_a_flat_map():
    assert area(inclusive_region(torch.zeros(1, 4, 4), 80)).item() == 1


def test_iou_by_hand():
    a = torch.tensor([[[True, True], [False, False]], [[True, False], [False, False]], [[False, False]] * 2])
    b = torch.tensor([[[True, False], [True, False]], [[False, True], [False, False]], [[False, False]] * 2])
    found = iou(a, b)
    assert found[:2].tolist() == [pytest.approx(1 / 3), 0]
    assert found[2].isnan()

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from heatproof.base.correlations import fractional_ranks, midranks, pearson, spearman


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(4, 40), st.booleans(), st.booleans(), st.sampled_from([1e-25, 1.0, 1e6]))
def test_batches_equal_scipy_image_by_image(seed, n, tied, masked, unit):
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(0, 5, (2, 3, 1, n)) if tied else rng.normal(size=(2, 3, 1, n))).astype(np.float32)
    a[..., :2], b[..., :2] = (0, 1), (3, 1)
    valid = rng.random((3, 1, n)) < 0.6
    valid[..., :3] = True
    a *= np.float32(unit)
    seen = torch.from_numpy(valid) if masked else None
    r = pearson(torch.from_numpy(a), torch.from_numpy(b), seen)
    rho = spearman(torch.from_numpy(a), torch.from_numpy(b), seen)
    ranks = midranks(torch.from_numpy(a), seen)
    for i in range(3):
        keep = valid[i] if masked else np.ones_like(valid[i])
        x, y = a[i][keep].astype(np.float64) / unit, b[i][keep].astype(np.float64)
        assert r[i].item() == pytest.approx(stats.pearsonr(x, y)[0], abs=1e-6)
        assert rho[i].item() == pytest.approx(stats.spearmanr(x, y)[0], abs=1e-9)
        assert (ranks[i].numpy()[keep] == stats.rankdata(a[i][keep])).all()
        assert np.isnan(ranks[i].numpy()[~keep]).all()


def test_a_constant_side_is_undefined_and_touches_no_other_image():
    a = torch.tensor([[[1.0, 2.0, 3.0]], [[4.0, 4.0, 4.0]], [[1.0, 2.0, 9.0]]])
    b = torch.tensor([[[3.0, 2.0, 1.0]], [[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]]])
    valid = torch.ones(3, 1, 3, dtype=torch.bool)
    for correlation in (pearson, spearman):
        for seen in (None, valid):
            found = correlation(a, b, seen)
            assert found[0] == pytest.approx(-1)
            assert found[1].isnan()
            assert found[2] > 0.9
    a[2] = torch.tensor([5.0, 5.0, 9.0])
    valid[2, 0, 2] = False
    assert pearson(a, b, valid)[2].isnan()


def test_fractional_ranks_lie_inside_0_and_1_with_mean_one_half():
    maps = torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(2, 5, 5, dtype=torch.bool)
    valid[1, 0] = False
    ranks = fractional_ranks(maps, valid)
    assert ranks[0].min() == pytest.approx(0.5 / 25)
    assert ranks[0].max() == pytest.approx(24.5 / 25)
    assert ranks.flatten(1).nanmean(1).tolist() == pytest.approx([0.5, 0.5])
    assert torch.equal(ranks[0], fractional_ranks(maps)[0])
    assert ranks[1, 0].isnan().all()
    assert fractional_ranks(torch.ones(1, 3, 3)).unique().item() == 0.5

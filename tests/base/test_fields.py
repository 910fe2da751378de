"""Random fields: reproducible per image, uniform, independent."""

import numpy as np
import pytest
import torch
from scipy import stats

from heatproof.base.fields import hash_keys, image_seed, normal, uniform

SEEDS = torch.tensor([0, 1, 2, -1, 2**63 - 1, image_seed(0, "a/b.png", "noise")])
MASK = 2**64 - 1


def splitmix(z: int) -> int:
    """The finaliser in unbounded Python integers."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


@pytest.mark.parametrize("seed", [0, 1, -5, 2**62 + 3])
def test_keys_equal_their_twin_in_python_integers(seed):
    start = splitmix(seed & MASK)
    expected = [splitmix((start + i * 0x9E3779B97F4A7C15) & MASK) >> 1 for i in range(1, 9)]
    assert hash_keys(torch.tensor([seed]), 8)[0].tolist() == expected


@pytest.mark.parametrize("field", [uniform, normal])
def test_a_batch_equals_single_images(field):
    together = field(SEEDS, (3, 4, 5))
    assert together.shape == (6, 3, 4, 5)
    assert together.dtype == torch.float32
    alone = torch.cat([field(seed[None], (3, 4, 5)) for seed in SEEDS])
    assert torch.equal(together, alone)
    assert torch.equal(SEEDS, torch.tensor([0, 1, 2, -1, 2**63 - 1, image_seed(0, "a/b.png", "noise")]))


def test_distributions():
    u, z = uniform(SEEDS, (20000,)), normal(SEEDS, (20000,))
    assert u.min() >= 0
    assert u.max() < 1
    for one_u, one_z in zip(u.numpy(), z.numpy(), strict=True):
        assert stats.kstest(one_u, "uniform").pvalue > 1e-3
        assert stats.kstest(one_z, "norm").pvalue > 1e-3
    assert torch.isfinite(z).all()


def test_neighbours_and_seeds_are_independent():
    u = uniform(torch.arange(64), (4096,)).double().numpy()
    lag = [np.corrcoef(row[:-1], row[1:])[0, 1] for row in u]
    assert np.abs(lag).max() < 5 / np.sqrt(4096)
    between = np.corrcoef(u)[np.triu_indices(64, 1)]
    assert np.abs(between).max() < 5.5 / np.sqrt(4096)
    pairs = np.histogram2d(u[:, :-1].ravel(), u[:, 1:].ravel(), bins=16)[0]
    assert stats.chisquare(pairs.ravel()).pvalue > 1e-4


def test_keys_give_uniform_permutations():
    keys = hash_keys(torch.arange(6000), 3)
    assert (keys >= 0).all()
    order = keys.argsort(dim=1)
    counts = np.bincount((order[:, 0] * 3 + order[:, 1]).numpy())
    assert stats.chisquare(counts[counts > 0]).pvalue > 1e-3
    assert (counts > 0).sum() == 6


def test_image_seeds_differ_by_every_part_and_never_change():
    seeds = {image_seed(s, i, r) for s in (0, 1) for i in ("a", "b") for r in ("noise", "ties")}
    assert len(seeds) == 8
    assert all(-(2**63) <= seed < 2**63 for seed in seeds)
    assert image_seed(0, "a", "noise") == GOLDEN_SEED
    assert torch.equal(uniform(torch.tensor([0]), (2,)), torch.tensor([GOLDEN_FIELD]))


GOLDEN_SEED = 6566032122063958925
GOLDEN_FIELD = [0.8833107948303223, 0.4315279722213745]

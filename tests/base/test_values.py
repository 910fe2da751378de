import torch

from heatproof.base.values import extremes, is_constant, norm, status_of


def test_status_takes_the_first_that_applies():
    maps = torch.zeros(6, 2, 2)
    maps[0, 0, 0] = torch.nan
    maps[2] = 3.0
    maps[3] = torch.tensor([[1.0, 1.0], [1.0, 1.0000005]])
    maps[4] = torch.tensor([[1.0, 1.0], [1.0, 1.00001]])
    maps[5] = torch.tensor([[0.0, -1e-30], [0.0, 0.0]])
    assert status_of(maps) == ["nonfinite", "zero", "constant", "constant", "ok", "ok"]


def test_constancy_looks_at_valid_pixels_only():
    maps = torch.tensor([[[1.0, 1.0], [1.0, 9.0]]]).repeat(3, 1, 1)
    valid = torch.ones(3, 2, 2, dtype=torch.bool)
    valid[0, 1, 1] = False
    valid[2] = False
    assert is_constant(maps, valid).tolist() == [True, False, True]
    assert [t.tolist() for t in extremes(maps, valid)] == [[1, 1, 0], [1, 9, 0]]


def test_norm_is_affine_per_map_and_zero_on_a_flat_one():
    maps = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    maps[1] = -7.0
    scaled = norm(maps)
    assert (scaled[1] == 0).all()
    for i in (0, 2):
        assert scaled[i].min() == 0
        assert scaled[i].max() == 1
        torch.testing.assert_close(scaled[i], (maps[i] - maps[i].min()) / (maps[i].max() - maps[i].min()))

"""Moved copies against a convolution."""

import pytest
import torch
from torch.nn import functional as F

from heatproof.base.smooth import along


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("taps", [1, 2, 5])
def test_it_is_a_correlation_along_one_dimension(dtype: torch.dtype, taps: int) -> None:
    draw = torch.Generator().manual_seed(0)
    images, window = torch.rand(2, 3, 9, 11, generator=draw, dtype=dtype), torch.rand(taps, generator=draw, dtype=dtype)
    before = images.clone()
    planes = images.flatten(0, 1)[:, None]
    for dim, kernel in ((-1, window.view(1, 1, 1, -1)), (-2, window.view(1, 1, -1, 1))):
        wanted = F.conv2d(planes, kernel).unflatten(0, (2, 3))[:, :, 0]
        torch.testing.assert_close(along(images, window.tolist(), dim), wanted)
    assert torch.equal(images, before)

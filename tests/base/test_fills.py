import pytest
import torch
from scipy import ndimage

from heatproof.base import fields
from heatproof.base.errors import HeatproofError
from heatproof.base.fills import NAMES, fill, prepared, put

MEAN = torch.tensor([0.1, 0.5, 0.9])
NORM_MEAN = torch.tensor([0.485, 0.456, 0.406])


def setting(size: int = 20) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    images = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    region = torch.rand(3, size, size, generator=torch.Generator().manual_seed(1)) < 0.4
    return images, region, torch.tensor([5, -7, 2**40])


@pytest.mark.parametrize("name", NAMES)
def test_only_the_region_changes_and_a_batch_equals_singles(name):
    images, region, seeds = setting()
    filled = fill(name, images, region, seeds, MEAN, NORM_MEAN)
    outside = ~region[:, None].expand_as(images)
    assert torch.equal(filled[outside], images[outside])
    assert (filled != images)[~outside].float().mean() > 0.99
    for i in range(3):
        alone = fill(name, images[i : i + 1], region[i : i + 1], seeds[i : i + 1], MEAN, NORM_MEAN)
        torch.testing.assert_close(alone[0], filled[i], atol=1e-5, rtol=0)


def test_constant_fills():
    images, _, seeds = setting()
    everything = torch.ones(3, 20, 20, dtype=torch.bool)

    def content(name: str, mean: torch.Tensor | None = MEAN) -> list[float]:
        return fill(name, images, everything, seeds, mean, NORM_MEAN)[1, :, 4, 4].tolist()

    assert content("black") == [0, 0, 0]
    assert content("gray") == [0.5, 0.5, 0.5]
    assert content("mean") == pytest.approx(MEAN.tolist())
    assert content("mean", None) == pytest.approx(NORM_MEAN.tolist())
    assert content("normalized_zero") == pytest.approx(NORM_MEAN.tolist())


def test_blur_is_a_gaussian_of_a_tenth_of_the_width():
    images, _, seeds = setting()
    blurred = fill("blur", images, torch.ones(3, 20, 20, dtype=torch.bool), seeds, None)
    expected = ndimage.gaussian_filter(images[0, 1].double().numpy(), 2.0, mode="reflect", truncate=4.0)
    torch.testing.assert_close(blurred[0, 1].double(), torch.from_numpy(expected), atol=1e-6, rtol=0)


def test_noise_is_one_field_masked_by_the_region():
    images, region, seeds = setting()
    everything = fill("noise", images, torch.ones_like(region), seeds, None)
    part = fill("noise", images, region, seeds, None)
    where = region[:, None].expand_as(images)
    assert torch.equal(part[where], everything[where])
    assert torch.equal(everything, fields.uniform(seeds, (3, 20, 20)))
    assert not torch.equal(everything[0], everything[1])


def test_road_adds_unclipped_noise_of_sd_001():
    images, _, seeds = setting(48)
    images = torch.zeros_like(images)
    region = torch.ones(3, 48, 48, dtype=torch.bool)
    region[:, 0] = False
    filled = fill("road", images, region, seeds, None)
    noise = filled[region[:, None].expand_as(filled)]
    assert noise.std().item() == pytest.approx(0.01, rel=0.03)
    assert noise.min() < 0
    assert not torch.equal(filled[:, 0], filled[:, 1])


def test_road_without_a_kept_pixel_is_the_train_mean_plus_noise():
    images, _, seeds = setting()
    everything = torch.ones(3, 20, 20, dtype=torch.bool)
    filled = fill("road", images, everything, seeds, MEAN)
    assert filled.mean((0, 2, 3)).tolist() == pytest.approx(MEAN.tolist(), abs=1e-3)
    assert filled.std((2, 3)).mean().item() == pytest.approx(0.01, rel=0.1)
    with pytest.raises(HeatproofError, match="fill road: a mean per channel is needed"):
        fill("road", images, everything, seeds, None)


def test_refusals():
    images, region, seeds = setting()
    with pytest.raises(HeatproofError, match=r"no such fill, got 'blurr'\. Did you mean 'blur'"):
        fill("blurr", images, region, seeds, MEAN)
    with pytest.raises(HeatproofError, match="fill mean: a mean per channel is needed and there is none"):
        fill("mean", images, region, seeds, None)
    with pytest.raises(HeatproofError, match="the model does not normalise"):
        fill("normalized_zero", images, region, seeds, MEAN, None)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_ready_for_an_image_serves_every_region(name):
    images, region, seeds = setting()
    ready = prepared(name, images, seeds, MEAN, NORM_MEAN)
    for where in (region, ~region, torch.ones_like(region), torch.zeros_like(region)):
        filled = put(name, images, where, ready, MEAN, NORM_MEAN)
        assert torch.equal(filled, fill(name, images, where, seeds, MEAN, NORM_MEAN))

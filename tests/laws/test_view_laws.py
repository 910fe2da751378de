"""What holds for every view by having a file: batch, seeds, the way back, and honest validity."""

import pytest
import torch

from heatproof.base.registry import choices, conf_folder, preset

PRESETS = sorted(path.stem for path in (conf_folder() / "view").glob("*.yaml"))
SOUND = [name for name in PRESETS if not name.endswith("_study")]
FAMILIES = {"identity", "rotation", "shift", "scale", "flip", "photometric", "noise"}
EXACT = ["identity", "flip"]
PHOTOMETRIC = [name for name in SOUND if preset("view", name).facts["family"] == "photometric"]
SEEDS = torch.tensor([4, -9, 2**60, 1])


def pictures(channels: int = 3, size: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(channels)
    noise = torch.rand(4, channels, size // 4, size // 4, generator=generator)
    return torch.nn.functional.interpolate(noise, size=(size, size), mode="bilinear")


def test_every_view_has_a_family_and_a_file_of_its_name():
    assert {choice.facts["family"] for choice in choices("view").values()} <= FAMILIES
    assert set(choices("view")) <= set(PRESETS)
    assert all(preset("view", name).name == name for name in choices("view"))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PRESETS)
def test_a_batch_equals_single_images(name, channels):
    view, images = preset("view", name), pictures(channels)
    before = images.clone()
    seen, unwarp = view(images, SEEDS)
    assert seen.shape == images.shape
    assert torch.isfinite(seen).all()
    assert torch.equal(images, before)
    maps, valid = unwarp(seen[:, 0])
    assert maps.shape == valid.shape == (4, 32, 32)
    assert valid.dtype == torch.bool
    for i in range(4):
        alone, back = view(images[i : i + 1], SEEDS[i : i + 1])
        torch.testing.assert_close(alone[0], seen[i], atol=1e-6, rtol=0)
        torch.testing.assert_close(back(alone[:, 0])[0][0], maps[i], atol=1 / 255 + 1e-6, rtol=0)


@pytest.mark.parametrize("name", PRESETS)
def test_same_seeds_same_bits(name):
    view, images = preset("view", name), pictures()
    state = torch.get_rng_state()
    assert torch.equal(view(images, SEEDS)[0], view(images, SEEDS)[0])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", SOUND)
def test_an_equivariant_map_comes_back_as_its_own_round_trip(name):
    """An explainer that returns the picture itself: its map on the view, warped back, is its map sent the same way."""
    view, images = preset("view", name), pictures()
    seen, unwarp = view(images, SEEDS)
    if unwarp.identity:
        maps, valid = unwarp(images[:, 0])
        assert torch.equal(maps, images[:, 0])
        assert valid.all()
        return
    maps, valid = unwarp(seen[:, 0])
    reference, same = unwarp(unwarp.warp(images[:, 0]))
    assert torch.equal(valid, same)
    torch.testing.assert_close(maps[valid], reference[valid], atol=1e-6, rtol=0)
    assert valid.float().mean() > 0.5
    # The way back really goes back: the picture itself, within what two bilinear steps blur.
    assert (reference - images[:, 0])[valid].abs().mean() < 0.02
    assert (unwarp.warp(images[:, 0]) - images[:, 0])[valid].abs().mean() > 0.02


@pytest.mark.parametrize("name", EXACT)
def test_exact_round_trips(name):
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    seen, unwarp = preset("view", name)(images, SEEDS)
    maps, valid = unwarp(seen[:, 0])
    assert torch.equal(maps, images[:, 0])
    assert valid.all()


@pytest.mark.parametrize("name", SOUND)
def test_validity_never_includes_what_the_view_did_not_see(name):
    """Pictures padded with NaN: whatever a NaN reaches must not be called valid; nothing else is given away."""
    _, unwarp = preset("view", name)(pictures(), SEEDS)
    size, pad = 32, 16
    padded = torch.full((1, size + 2 * pad, size + 2 * pad), torch.nan)
    padded[:, pad:-pad, pad:-pad] = 1
    shown = unwarp.warp(padded)[:, pad:-pad, pad:-pad]
    maps, valid = unwarp(torch.ones(1, size, size).masked_fill(shown.isnan(), torch.nan))
    assert torch.isfinite(maps[valid]).all()
    torch.testing.assert_close(maps[valid], torch.ones(int(valid.sum())))
    middle = valid[:, 12:20, 12:20]
    assert middle.all()


@pytest.mark.parametrize("name", PHOTOMETRIC)
def test_photometric_views_keep_the_range_and_change_something(name):
    images = pictures()
    seen, unwarp = preset("view", name)(images, SEEDS)
    assert unwarp.identity
    assert seen.min() >= 0
    assert seen.max() <= 1
    assert (seen - images).abs().max() > 0.01

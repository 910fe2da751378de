"""Augmentation against torchvision, matrices written out and pictures that can be read off."""

import math

import pytest
import torch
import torchvision.transforms.v2.functional as tv

from heatproof.base import augment, registry
from heatproof.base.augment import augmented
from heatproof.base.errors import HeatproofError
from heatproof.base.recipes import EFFECTS, recipe

IDS = [f"image{i}" for i in range(40)]


def images(side=16, channels=2):
    return torch.rand(len(IDS), channels, side, side, generator=torch.Generator().manual_seed(0))


def seeds(effect: str) -> torch.Tensor:
    return torch.arange(len(IDS)) + len(effect)


def drawing(monkeypatch, value: float) -> None:
    """Every uniform draw is `value` from here on."""
    monkeypatch.setattr(augment, "uniform", lambda seeds, shape: torch.full((len(seeds), *shape), value))


@pytest.mark.parametrize("name", registry.conf_names("augment"))
def test_it_depends_on_seed_epoch_and_image_alone(name):
    batch = images(channels=3)
    made = augmented(batch, [name], 0, 1, IDS)
    order = torch.randperm(len(IDS), generator=torch.Generator().manual_seed(1))
    assert augmented(batch[order], [name], 0, 1, [IDS[i] for i in order]).allclose(made[order], atol=1e-6)
    assert augmented(batch[3:4], [name], 0, 1, IDS[3:4]).allclose(made[3:4], atol=1e-6)
    assert augmented(batch, [name], 0, 1, IDS).equal(made)
    assert not augmented(batch, [name], 0, 2, IDS).equal(made)
    assert not augmented(batch, [name], 1, 1, IDS).equal(made)
    assert made.shape == batch.shape
    assert made.min() >= 0
    assert made.max() <= 1


def test_flip_mirrors_about_half_of_the_images():
    batch = images()
    made = augmented(batch, ["flip"], 0, 1, IDS)
    mirrored = [made[i].equal(batch[i].flip(-1)) for i in range(len(IDS))]
    assert 8 < sum(mirrored) < 32
    assert all(m or made[i].equal(batch[i]) for i, m in enumerate(mirrored))
    assert augmented(batch, ["flip:1"], 0, 1, IDS).equal(batch.flip(-1))
    assert augmented(batch, ["vertical_flip:1"], 0, 1, IDS).equal(batch.flip(-2))


def test_shift_moves_by_whole_pixels_and_mirrors_the_border():
    batch = images(40)  # 5 % = 2 pixels
    made = augmented(batch, ["shift"], 0, 1, IDS)
    padded = torch.nn.functional.pad(batch, (2, 2, 2, 2), mode="replicate")
    padded[..., 0, :], padded[..., 1, :] = padded[..., 3, :], padded[..., 2, :]
    padded[..., -1, :], padded[..., -2, :] = padded[..., -4, :], padded[..., -3, :]
    padded[..., 0], padded[..., 1] = padded[..., 3], padded[..., 2]
    padded[..., -1], padded[..., -2] = padded[..., -4], padded[..., -3]
    found = set()
    for i in range(len(IDS)):
        every = [(y, x) for y in range(5) for x in range(5)]
        (offset,) = [(y, x) for y, x in every if made[i].allclose(padded[i, :, y : y + 40, x : x + 40], atol=1e-4)]
        found.add(offset)
    assert len(found) > 10
    assert {y for y, _ in found} == {x for _, x in found} == set(range(5))


def test_a_quarter_turn_moves_pixels_exactly(monkeypatch):
    drawing(monkeypatch, 1.0)
    batch = images(9)
    made = augmented(batch, ["rotate:90"], 0, 1, IDS)
    turns = [made.allclose(batch.rot90(turn, (-2, -1)), atol=1e-5) for turn in (1, -1)]
    assert sum(turns) == 1


@pytest.mark.parametrize("flipped", [False, True])
def test_the_whole_set_is_one_resampling_by_keras_matrices(monkeypatch, flipped):
    drawing(monkeypatch, 0.2)
    batch = images(channels=1)[:1]
    names = ["rotate:20", "shift:0.2", "shear:10", "zoom:0.2", f"flip:{1 if flipped else 0}"]
    made = augmented(batch, names, 0, 1, IDS[:1])[0, 0].double()
    turn, slant, zoom = math.radians(20 * -0.6), math.radians(10 * -0.6), 1 - 0.6 * 0.2
    move = math.floor(0.2 * 7) - 3
    for y in range(16):
        for x in range(16):
            p = torch.tensor([x - 7.5, y - 7.5, 1.0], dtype=torch.float64)
            matrices = [
                [[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]],
                [[1, 0, move], [0, 1, move], [0, 0, 1]],
                [[1, -math.sin(slant), 0], [0, math.cos(slant), 0], [0, 0, 1]],
                [[zoom, 0, 0], [0, zoom, 0], [0, 0, 1]],
                [[-1 if flipped else 1, 0, 0], [0, 1, 0], [0, 0, 1]],
            ]
            for matrix in reversed(matrices):
                p = torch.tensor(matrix, dtype=torch.float64) @ p
            assert made[y, x] == pytest.approx(_bilinear(batch[0, 0], p[0] + 7.5, p[1] + 7.5), abs=1e-4)


def _bilinear(image, x, y) -> float:
    """The value at (x, y), the image mirrored about its outer border."""
    total = 0.0
    for column, row in [(i, j) for i in (math.floor(x), math.floor(x) + 1) for j in (math.floor(y), math.floor(y) + 1)]:
        weight = (1 - abs(x - column)) * (1 - abs(y - row))
        i, j = (k % 32 if k % 32 < 16 else 31 - k % 32 for k in (column, row))
        total += float(weight) * float(image[j, i])
    return total


def test_rotate_equals_torchvision(monkeypatch):
    drawing(monkeypatch, 0.75)
    batch = images(31)
    made = augmented(batch, ["pneumonia", "shift:0", "shear:0", "zoom:0", "flip:0"], 0, 1, IDS)
    turned = tv.rotate(batch, 10, interpolation=tv.InterpolationMode.BILINEAR)
    inner = (..., slice(8, 23), slice(8, 23))
    assert made[inner].allclose(turned[inner], atol=1e-4)


def test_rotate_keeps_the_shape_of_things_in_an_oblong_frame():
    wide = torch.zeros(1, 1, 40, 80)
    wide[..., 10:30, 30:50] = 1  # a centred square of 20 x 20
    made = augmented(wide, ["rotate"], 0, 1, IDS[:1])
    assert made.sum().item() == pytest.approx(400, abs=8)
    assert made[0, 0, 20, 40] == pytest.approx(1, abs=1e-6)


def test_what_enters_the_frame_is_edge_mirror_or_black(monkeypatch):
    drawing(monkeypatch, 0.999)
    column = torch.arange(10.0).expand(1, 1, 10, 10) / 10
    expected = {"edge": [9, 9, 9], "mirror": [9, 8, 7], "black": [0, 0, 0]}
    for border, values in expected.items():
        monkeypatch.setattr(augment, "recipe", lambda names, border=border: {"shift": 0.3, "border": border})
        made = augmented(column, ["x"], 0, 1, IDS[:1])[0, 0, 5] * 10
        assert made[:7].allclose(torch.arange(3.0, 10), atol=1e-4)
        assert made[7:].allclose(torch.tensor(values).float(), atol=1e-4)


def test_a_crop_shows_a_part_of_the_image():
    ramp = torch.linspace(0, 1, 64).expand(len(IDS), 1, 64, 64)
    made = augmented(ramp, ["crop:0.5"], 0, 1, IDS)[:, 0, 0]
    lengths = (made[:, -1] - made[:, 0]).abs() / (63 / 64)
    assert 0.48 < lengths.min() < 0.6
    assert 0.85 < lengths.max() <= 1.01
    # A part of the image: nothing is mirrored, so values rise all the way.
    assert (made.diff() > -1e-5).all()


def test_values_change_as_in_torchvision(monkeypatch):
    drawing(monkeypatch, 0.75)  # a factor of 1 + 0.5 span
    batch = images(channels=3)
    for name, reference in (
        ("brightness", tv.adjust_brightness),
        ("contrast", tv.adjust_contrast),
        ("saturation", tv.adjust_saturation),
    ):
        made = augmented(batch, [f"{name}:0.4"], 0, 1, IDS)
        assert made.allclose(reference(batch, 1.2), atol=2e-3), name


def test_noise_has_its_standard_deviation():
    made = augmented(torch.full((len(IDS), 1, 32, 32), 0.5), ["noise:0.1"], 0, 1, IDS)
    assert made.std().item() == pytest.approx(0.1, rel=0.03)


def test_affines_without_effects_leave_positions_alone():
    assert augment.affines({}, seeds, 8, 8, len(IDS)).equal(torch.eye(3).double()[:2].expand(len(IDS), 2, 3))
    batch = images()
    still = ["rotate:0", "shift:0", "shear:0", "zoom:0", "crop:1"]
    assert augmented(batch, still, 0, 1, IDS).allclose(batch, atol=1e-5)


def test_nothing_happens_without_names():
    batch = images()
    assert augmented(batch, [], 0, 1, IDS) is batch


def test_names_sets_and_numbers_become_one_recipe():
    assert recipe([]) == {}
    assert recipe(["rotate", "flip"]) == {"flip": 0.5, "rotate": 10.0}
    study = recipe(["pneumonia"])
    assert study == {"flip": 0.5, "rotate": 20.0, "shift": 0.2, "shear": 0.2, "zoom": 0.2, "border": "edge"}
    assert recipe(["pneumonia", "rotate:5"]) == {**study, "rotate": 5.0}
    assert recipe(["robustcam_ct"]) == {"flip": 0.5, "rotate": 10.0}
    assert set(EFFECTS) <= set(registry.conf_names("augment"))


def test_all_faults_of_a_recipe_are_told_at_once(monkeypatch):
    with pytest.raises(HeatproofError) as caught:
        recipe(["flp", "rotat:10", "zoom:2", "shift:far", "crop:0"])
    text = str(caught.value)
    assert "got 'flp'. Did you mean 'flip'?" in text
    assert "got 'rotat'. Did you mean 'rotate'?" in text
    assert "zoom must be 0 or more and below 1, got 2.0" in text
    assert "shift: takes a number, got 'far'" in text
    assert "crop must be above 0, at most 1, got 0.0" in text
    monkeypatch.setattr("heatproof.base.recipes.conf_file", lambda group, name: {"border": "edgy", "turn": 3})
    with pytest.raises(HeatproofError, match=r"no such border, got 'edgy'\. Did you mean 'edge'\?") as caught:
        recipe(["mine"])
    assert "no such effect, got 'turn'" in str(caught.value)

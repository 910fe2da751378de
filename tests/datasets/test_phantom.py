"""What a phantom promises: one object differs, masks fit, nodules lie anywhere in the lungs."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heatproof.base.errors import HeatproofError
from heatproof.base.registry import bind
from heatproof.datasets import phantom as ph

LOOK = ph.Look(64, 42, 0.5, 0.04, 0.0, False)


def source(size=32, seed=1, **changes):
    return bind("dataset", "phantom", {"root": None, **changes})(size=size, channels=1, seed=seed)


def test_classes_take_turns_and_only_nodules_are_annotated():
    found = source(num_images=10)
    assert found.classes == ("no_nodule", "smooth", "spiculated")
    assert [row.label for row in found.rows] == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert [row.annotation for row in found.rows[:3]] == [None, "mask", "mask"]
    assert found.read_mask(found.rows[0]) is None
    assert found.read_mask(found.rows[1]).any()
    assert found.read(found.rows[0]).shape == (32, 32)
    assert found.read(found.rows[0]).dtype == np.uint8


def test_a_slice_depends_on_index_seed_and_settings_alone():
    few, many = source(num_images=5), source(num_images=50)
    np.testing.assert_array_equal(few.read(few.rows[4]), many.read(many.rows[4]))
    assert few.identity == many.identity
    other = source(num_images=5, seed=2)
    assert (few.read(few.rows[4]) != other.read(other.rows[4])).any()
    assert few.identity != other.identity
    assert few.identity != source(num_images=5, noise=0.05).identity


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from([16, 33, 64, 100]))
def test_the_nodule_changes_its_mask_and_nothing_else(index, size):
    look = replace(LOOK, size=size)
    mask = ph.nodule_mask(index, look)
    change = ph.render(index, look).astype(int) - ph.render(index, look, nodule=False)
    assert mask.any() == (ph.label_of(index) > 0)
    # Outside the mask only rims that cover less than a quarter of their pixel.
    assert np.abs(change[~mask]).max(initial=0) <= 0.25 * 255
    near = np.lib.stride_tricks.sliding_window_view(np.pad(mask, 2), (5, 5)).any((2, 3))
    assert not change[~near].any()
    if ph.label_of(index) == 1 and size >= 64:
        assert np.median(change[mask]) > 0.2 * 255


def test_spicules_belong_to_the_mask():
    def spread(index):
        y, x = np.nonzero(ph.nodule_mask(index, replace(LOOK, size=128)))
        reach = np.hypot(y - y.mean(), x - x.mean()).max()
        return np.pi * reach**2 / len(y)  # 1 for a disk

    assert np.mean([spread(i) for i in range(1, 31, 3)]) < 1.4
    assert np.mean([spread(i) for i in range(2, 32, 3)]) > 1.8


def test_nodules_lie_anywhere_in_the_lungs():
    masks = np.array([ph.nodule_mask(i, LOOK) for i in range(1200) if ph.label_of(i)])
    lungs = np.array([ph.lung_mask(i, LOOK) for i in range(100)]).mean(0) > 0.9
    often = masks.mean(0)
    # Each part of the lungs that all slices share is met, those at an edge less often: a nodule lies wholly inside.
    bands, sides = (slice(0, 26), slice(26, 38), slice(38, 64)), (slice(0, 14), slice(14, 32), slice(32, 64))
    shared = [(part, lungs[part]) for part in itertools.product(bands, sides) if lungs[part].sum() > 30]
    parts = [often[part][inside].mean() for part, inside in shared]
    assert len(parts) >= 5
    assert max(parts) < 4 * min(parts)
    centre = masks[:, 26:38, 26:38].any((1, 2)).mean()
    assert centre < 0.2


@pytest.mark.parametrize("corner", [0, 1, 2, 3])
def test_a_tag_lies_in_its_corner_alone(corner):
    change = ph.render(0, LOOK, tag_corner=corner) != ph.render(0, LOOK, tag_corner=None)
    top, left = corner in (0, 1), corner in (0, 3)
    rows, columns = np.nonzero(change)
    assert len(rows) > 20
    assert (rows < 10).all() if top else (rows >= 54).all()
    assert (columns < 10).all() if left else (columns >= 54).all()


def test_the_shortcut_is_as_frequent_as_asked_and_tells_the_class():
    for shortcut in (0.0, 0.5, 1.0):
        look = replace(LOOK, size=16, shortcut=shortcut)
        tagged = [(ph.render(i, look) != ph.render(i, look, tag_corner=None)).any() for i in range(60)]
        assert abs(np.mean(tagged) - shortcut) < (0.2 if shortcut == 0.5 else 1e-9)
    look = replace(LOOK, shortcut=1.0)
    for index in range(6):
        own = ph.render(index, look, tag_corner=ph.label_of(index))
        np.testing.assert_array_equal(ph.render(index, look), own)


def test_the_distractor_lies_outside_the_lungs_in_every_class():
    for index in range(30):
        with_it = ph.render(index, replace(LOOK, distractor=True)).astype(int)
        change = with_it != ph.render(index, LOOK)
        assert change.sum() >= 8
        assert not (change & ph.lung_mask(index, LOOK)).any()
        assert not (change & ph.nodule_mask(index, LOOK)).sum() > 5


def test_noise_has_the_standard_deviation_asked_for():
    quiet, loud = (ph.render(0, replace(LOOK, noise=s), tag_corner=None) for s in (0.0, 0.03))
    body = (quiet > 100) & (quiet < 160)
    assert 0.028 < (loud.astype(float) - quiet)[body].std() / 255 < 0.038


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_images": 2}, "at least 3"),
        ({"size": 8}, "at least 16 pixels"),
        ({"contrast": 1.5}, r"must lie in \(0, 0.86\]"),
        ({"noise": -1}, "not be negative"),
        ({"shortcut": 2}, "a probability"),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(HeatproofError, match=message):
        source(**changes)

"""Near-duplicates: planted copies are found, other images are left alone, and groups follow from pairs."""

import io
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from shelves import real

from heatproof.base import duplicates
from heatproof.base.duplicates import Pairs, components, joined, near_pairs, signatures
from heatproof.datasets.phantom import phantom

SIMILARITY, DISTANCE = 0.8, 8  # as in conf/config.yaml
few = settings(deadline=None, max_examples=60)


def jpeg(image, quality=50):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def shifted(image, right, down, **fill):
    side = len(image)
    padded = np.pad(image, 3, **(fill or {"mode": "edge"}))
    return padded[3 - down : 3 - down + side, 3 - right : 3 - right + side]


def gained(image, factor):
    return np.clip(image * factor + 0.5, 0, 255).astype(np.uint8)


COPIES = {
    "jpeg": jpeg,
    "right": lambda image: shifted(image, 3, 0),
    "up": lambda image: shifted(image, 0, -3),
    "both ways": lambda image: shifted(image, -3, 3),
    "black border": lambda image: shifted(image, 3, 3, mode="constant"),
    "darker": lambda image: gained(image, 0.9),
    "brighter": lambda image: gained(image, 1.1),
}


def slices(n=60, size=64):
    source = phantom(root=None, size=size, channels=1, seed=42, num_images=n)
    return np.stack([source.read(row).reshape(size, size) for row in source.rows])


def files(name, most, patterns=("*/*.png", "*/*/*.jpeg", "*.JPEG", "images/*.jpg", "*.pgm"), size=224):
    folder = Path(real(name))
    found = sorted(path for pattern in patterns for path in folder.glob(pattern))
    found = [path for path in found if path.name != "00090.jpg"]  # truncated
    chosen = found[:: max(1, len(found) // most)][:most]
    images = [
        np.asarray(Image.open(path).convert("L").resize((size, size), Image.Resampling.BILINEAR)) for path in chosen
    ]
    return np.stack(images)


def near(images):
    return near_pairs(signatures(images[..., None] if images.ndim == 3 else images)).near(SIMILARITY, DISTANCE)


def found_copies(images, change):
    """Share of changed copies that pair with their originals, and the pairs of anything else."""
    n = len(images)
    pairs = near(np.concatenate([images, np.stack([change(image) for image in images])]))
    first, second = pairs.first, pairs.second
    own = second - first == n
    among_originals = {(a, b) for a, b in zip(first[~own] % n, second[~own] % n, strict=True)}
    return own.sum() / n, {tuple(sorted(pair)) for pair in among_originals}


@pytest.mark.parametrize("name", COPIES)
def test_planted_copies_of_phantoms_are_found_and_no_others(name):
    found, others = found_copies(slices(), COPIES[name])
    assert found >= 0.95
    assert not others


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("data", ["chest_xray", "iq_othnccd", "imagenet_samples"])
def test_planted_copies_of_real_images_are_found_and_no_unrelated_ones(data, name):
    images = files(data, 60)
    known = {(int(a), int(b)) for a, b in zip(near(images).first, near(images).second, strict=True)}
    found, others = found_copies(images, COPIES[name])
    assert found >= 0.95
    if data != "iq_othnccd":  # whose neighbouring slices are alike
        assert known == others == set()


def best_correlation(one, other):
    middle = one[4:-4, 4:-4].ravel()
    windows = [other[down : down + 56, across : across + 56].ravel() for down in range(9) for across in range(9)]
    return max(np.corrcoef(middle, window)[0, 1] for window in windows)


def test_a_pair_is_what_its_definition_says():
    """The cosine and the bits of the blocked search are those of two images by themselves."""
    images = np.concatenate([slices(20), np.stack([jpeg(image, 20) for image in slices(20)])])
    signed = signatures(images[..., None])
    pairs = near_pairs(signed, similarity=0.3, distance=60)
    wanted = {}
    for a, b in combinations(range(40), 2):
        one, other = signed.spectra[a].astype(float), signed.spectra[b].astype(float)
        cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        cosine = min(cosine, best_correlation(signed.small[a], signed.small[b])) if cosine >= 0.3 else cosine
        bits = sum(bin(int(x) ^ int(y)).count("1") for x, y in zip(signed.hashes[a], signed.hashes[b], strict=True))
        if cosine >= 0.3 or bits <= 60:
            wanted[a, b] = (cosine, bits)
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == sorted(wanted)
    np.testing.assert_allclose(pairs.similarity, [wanted[pair][0] for pair in sorted(wanted)], atol=1e-5)
    assert pairs.distance.tolist() == [wanted[pair][1] for pair in sorted(wanted)]


def test_dhash_is_that_of_its_definition():
    image = slices(3, 128)[0]
    cells = np.asarray(Image.fromarray(image).resize((17, 16), Image.Resampling.BOX)).astype(int)
    bits = [int(cells[row, column + 1] > cells[row, column]) for row in range(16) for column in range(16)]
    held = signatures(image[None, ..., None]).hashes[0].view(np.uint8)
    assert np.unpackbits(held).tolist() == bits


def test_blocks_and_order_change_no_pair(monkeypatch):
    images = np.concatenate([slices(30), np.stack([gained(image, 1.1) for image in slices(30)])])
    whole = near_pairs(signatures(images[..., None]), similarity=0.3, distance=60)
    order = np.random.default_rng(3).permutation(60)
    monkeypatch.setattr(duplicates, "BLOCK", 7)
    parts = near_pairs(signatures(images[order][..., None]), similarity=0.3, distance=60)
    back = {
        (*sorted((order[a], order[b])), s, d)
        for a, b, s, d in zip(parts.first, parts.second, parts.similarity, parts.distance, strict=True)
    }
    assert back == set(zip(whole.first, whole.second, whole.similarity, whole.distance, strict=True))


def test_flat_and_tiny_images_are_near_duplicates_of_none():
    flat = np.full((3, 64, 64, 1), 90, np.uint8)
    flat[1] += 1
    assert len(near_pairs(signatures(flat))) == 0
    tiny = np.repeat(np.random.default_rng(0).integers(0, 255, (1, 16, 16, 1), dtype=np.uint8), 3, 0)
    assert len(near_pairs(signatures(tiny))) == 0


def test_pictures_of_few_edges_are_told_apart():
    """One bright square on black, somewhere: their hashes are almost all zeros."""
    squares = np.zeros((9, 64, 64), np.uint8)
    for number in range(9):
        squares[number, 4 + 6 * number : 8 + 6 * number, 50 - 5 * number : 60 - 5 * number] = 200
        squares[number] += np.random.default_rng(number).integers(0, 3, (64, 64), dtype=np.uint8)
    assert len(near(squares)) == 0


def test_colour_counts_as_its_luma():
    image = slices(3)[0]
    np.testing.assert_array_equal(
        signatures(np.repeat(image[None, ..., None], 3, 3)).spectra, signatures(image[None, ..., None]).spectra
    )


NONE = Pairs(*(np.empty(0, np.int64) for _ in range(4)))


def pairs_of(links):
    first, second = np.array(links, np.int64).reshape(-1, 2).T
    return Pairs(first, second, np.ones(len(first)), np.zeros(len(first), np.int64))


@few
@given(st.integers(1, 12), st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=14))
def test_components_are_the_transitive_closure(size, links):
    links = [(a % size, b % size) for a, b in links]
    first, second = np.array(links, np.int64).reshape(-1, 2).T
    found = components(size, first, second)
    reach = np.eye(size, dtype=bool)
    for a, b in links:
        reach[a, b] = reach[b, a] = True
    for middle in range(size):
        reach |= reach[:, [middle]] & reach[[middle]]
    np.testing.assert_array_equal(found[:, None] == found[None], reach)


@few
@given(st.data())
def test_groups_hold_pairs_together_whatever_the_order(data):
    size = data.draw(st.integers(2, 10))
    image = [f"image{i}" for i in range(size)]
    known = data.draw(st.lists(st.sampled_from([None, None, "p1", "p2"]), min_size=size, max_size=size))
    content = data.draw(st.lists(st.integers(0, 8), min_size=size, max_size=size))
    links = data.draw(st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)), max_size=8))
    links = [(a, b) for a, b in links if a < b]
    groups = joined(image, known, content, pairs_of(links))

    def together(a, b):
        return groups[a] is not None and groups[a] == groups[b]

    for a, b in combinations(range(size), 2):
        if (known[a] is not None and known[a] == known[b]) or content[a] == content[b]:
            assert together(a, b)
    assert all(together(a, b) for a, b in links if known[a] is None or known[b] is None)
    assert all(groups[i] is not None for i in range(size) if known[i] is not None)
    order = data.draw(st.permutations(range(size)))
    place = {old: new for new, old in enumerate(order)}
    again = joined(
        [image[i] for i in order], [known[i] for i in order], [content[i] for i in order],
        pairs_of([tuple(sorted((place[a], place[b]))) for a, b in links]),
    )  # fmt: skip
    assert again == [groups[i] for i in order]


def test_names_of_groups():
    image, content = ["d", "c", "b", "a"], [0, 1, 2, 3]
    assert joined(image, [None] * 4, content, NONE) == [None] * 4
    assert joined(image, [None] * 4, content, pairs_of([(0, 1), (1, 2)])) == ["near:b"] * 3 + [None]
    assert joined(image, ["p", None, "q", None], content, pairs_of([(0, 1)])) == ["p", "p", "q", None]
    # Two patients stay two where their pictures are alike, and become one where a file is the same.
    assert joined(image, ["p", "q", None, None], content, pairs_of([(0, 1)])) == ["p", "q", None, None]
    assert joined(image, ["p", "q", None, None], [0, 0, 1, 2], NONE) == ["p+q", "p+q", None, None]

"""Near-duplicates among images: signatures, pairs, groups.

Conventions: pixels are uint8 (n, h, w, c), square, as the stages hold them. An image has two signatures, both of whole
numbers, so that what counts as equal depends neither on the order of the images nor on the machine:

- its *spectrum*: the logarithm of the amplitudes of its frequencies below 16 cycles a side, without their mean over
  each ring of equal frequency, at 64 px under a sine window. Amplitudes do not move with the picture, a gain adds the
  same to all logarithms, and compression leaves low frequencies alone; the ring means are what all pictures of a kind
  share. Two spectra are compared by their cosine, -1 to 1. Because the same object elsewhere has the same amplitudes,
  a pair is as similar as the smaller of this cosine and the correlation of the two pictures at 64 px, moved against
  each other by at most 4 px.
- its *dHash*: 256 bits, each saying whether a cell of a 16 x 16 grid is darker than its right neighbour; two are
  compared by the number of bits that differ.

A flat image, or one below 32 px, shows too little to be told from others and is a near-duplicate of none.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int16, UInt8, UInt64

VERSION = 1  # raise it when a signature changes
SIDE, RADIUS = 64, 16  # pixels; cycles a side
FLOOR = 1e-3  # of the largest amplitude: below it there is noise and rounding
SCALE = 4000  # length of a spectrum: products of two then stay exact in float32
LEAST_SIDE, LEAST_SPREAD = 32, 1.0  # pixels; grey levels
# A picture of few edges has a hash of zeros wherever it is flat, and so has any other such picture.
LEAST_BITS = 48
REACH = 4  # pixels of SIDE by which a copy may be moved
BLOCK = 512
# How far pairs are listed at all: beyond the thresholds in use, so that a curve can be drawn.
LISTED_SIMILARITY, LISTED_DISTANCE = 0.6, 24


@dataclass(frozen=True)
class Signatures:
    """Signatures of n images: `small` grey pictures, `spectra` whole numbers, `hashes` 256 bits, `telling` False where
    none of them says anything, `hashed` False where the hash has too few bits set to say anything."""

    small: UInt8[np.ndarray, "n s s"]
    spectra: Int16[np.ndarray, "n d"]
    hashes: UInt64[np.ndarray, "n 4"]
    telling: Bool[np.ndarray, " n"]
    hashed: Bool[np.ndarray, " n"]


@dataclass(frozen=True)
class Pairs:
    """Pairs of images, `first` < `second` (row numbers), with their similarity by spectrum (-1 to 1) and the bits by
    which their hashes differ (256 where they say too little); sorted by row numbers."""

    first: np.ndarray
    second: np.ndarray
    similarity: np.ndarray
    distance: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def near(self, similarity: float | None, distance: int | None) -> "Pairs":
        """Those that are alike enough by either signature; None = that one does not count."""
        by_spectrum = self.similarity >= (np.inf if similarity is None else similarity)
        return self.where(by_spectrum | (self.distance <= (-1 if distance is None else distance)))

    def where(self, keep: np.ndarray) -> "Pairs":
        """Some of the pairs."""
        return Pairs(self.first[keep], self.second[keep], self.similarity[keep], self.distance[keep])


def signatures(pixels: UInt8[np.ndarray, "n h w c"]) -> Signatures:
    """Signatures of all images, read block by block.

    Source of dHash: Krawetz 2013 (8 x 8 there); of shift-invariant amplitudes: Casasent and Psaltis 1976.
    """
    blocks = [_signed(pixels[start : start + BLOCK]) for start in range(0, len(pixels), BLOCK)]
    return Signatures(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


def _signed(pixels: np.ndarray) -> tuple[np.ndarray, ...]:
    from PIL import Image

    small = np.empty((len(pixels), SIDE, SIDE), np.uint8)
    cells = np.empty((len(pixels), 16, 17), np.int16)
    for i, picture in enumerate(pixels):
        image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).convert("L")
        small[i] = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))
        cells[i] = np.asarray(image.resize((17, 16), Image.Resampling.BOX))
    bits = (cells[:, :, 1:] > cells[:, :, :-1]).reshape(len(pixels), 256)
    telling = (small.std(axis=(1, 2)) >= LEAST_SPREAD) & (min(pixels.shape[1:3]) >= LEAST_SIDE)
    hashes = np.packbits(bits, axis=1).view(np.uint64)
    return small, _spectra(small), hashes, telling, telling & (bits.sum(1) >= LEAST_BITS)


def _spectra(small: np.ndarray) -> np.ndarray:
    """Logarithms of amplitudes without their ring means, as whole numbers of length SCALE."""
    window = np.sin(np.pi * (np.arange(SIDE) + 0.5) / SIDE)
    centred = (small - small.mean(axis=(1, 2), keepdims=True)) * np.outer(window, window)
    amplitudes = np.abs(np.fft.rfft2(centred))
    down, across = np.fft.fftfreq(SIDE, 1 / SIDE)[:, None], np.arange(SIDE // 2 + 1)
    radius = np.hypot(down, across)
    # Of a real picture's spectrum one half is the mirror of the other.
    kept = (radius < RADIUS) & ((across > 0) | (down > 0))
    found = amplitudes[:, kept]
    found = np.log(found + FLOOR * found.max(axis=1, keepdims=True) + 1e-12)
    rings = np.round(radius[kept]).astype(int)
    for ring in np.unique(rings):
        found[:, rings == ring] -= found[:, rings == ring].mean(axis=1, keepdims=True)
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return np.round(SCALE * found / np.maximum(length, 1e-9)).astype(np.int16)


def near_pairs(signed: Signatures, *, similarity: float = LISTED_SIMILARITY, distance: int = LISTED_DISTANCE) -> Pairs:
    """All pairs that are at least so similar by spectrum, or whose hashes differ by at most so many bits.

    Every image is compared with every other: 220 million pairs of 21 000 images take a few seconds.
    """
    rows = np.flatnonzero(signed.telling)
    spectra, hashes = signed.spectra[rows].astype(np.float32), signed.hashes[rows]
    hashed = signed.hashed[rows]
    lengths = np.sqrt((signed.spectra[rows].astype(np.float64) ** 2).sum(axis=1))
    found: list[tuple[np.ndarray, ...]] = []
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        cosine = (spectra[block] @ spectra[start:].T) / (lengths[block, None] * lengths[start:])
        bits = _differing(hashes[block], hashes[start:])
        bits[~(hashed[block, None] & hashed[start:])] = 256
        # Each pair once: column number above row number.
        near = np.triu((cosine >= similarity) | (bits <= distance), k=1)
        one, other = np.nonzero(near)
        found.append((rows[start + one], rows[start + other], cosine[one, other], bits[one, other].astype(np.int64)))
    if not found:
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64))
    first, second, alike, differing = (np.concatenate(parts) for parts in zip(*found, strict=True))
    unsure = np.flatnonzero(alike >= similarity)
    for start in range(0, len(unsure), BLOCK):
        some = unsure[start : start + BLOCK]
        alike[some] = np.minimum(alike[some], _registered(signed.small[first[some]], signed.small[second[some]]))
    found_pairs = Pairs(first, second, alike.round(6), differing)
    return found_pairs.near(similarity, distance)


def _registered(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Best correlation of pictures (b, s, s) over all shifts of at most REACH px, by the middle of the first."""
    middle = slice(REACH, SIDE - REACH)
    fixed = one[:, middle, middle].astype(np.float32)
    fixed -= fixed.mean(axis=(1, 2), keepdims=True)
    moving = other.astype(np.float32)
    size = fixed[0].size
    best = np.full(len(one), -np.inf)
    for down in range(2 * REACH + 1):
        for across in range(2 * REACH + 1):
            window = moving[:, down : down + SIDE - 2 * REACH, across : across + SIDE - 2 * REACH]
            product = np.einsum("bij,bij->b", fixed, window)
            spread = np.einsum("bij,bij->b", window, window) - window.sum(axis=(1, 2)) ** 2 / size
            best = np.maximum(best, product / np.sqrt(np.maximum(spread, 1e-9)))
    return best / np.sqrt(np.maximum((fixed**2).sum(axis=(1, 2)), 1e-9))


def _differing(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Number of bits by which 256-bit hashes differ, int16 (a, b)."""
    bits = np.zeros((len(one), len(other)), np.int16)
    for word in range(one.shape[1]):
        bits += np.bitwise_count(one[:, None, word] ^ other[None, :, word])
    return bits


def components(size: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A number per image, equal for two of them where a chain of pairs leads from one to the other."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    links = coo_matrix((np.ones(len(first), np.int8), (first, second)), shape=(size, size))
    return np.asarray(connected_components(links, directed=False)[1])


def joined(
    images: Sequence[str], known: Sequence[str | None], content: Sequence[Hashable], pairs: Pairs | None
) -> list[str | None]:
    """The group of each image: what is known of it, extended by near-duplicates; None for an image on its own.

    Equal content and known groups always join. Near-duplicates join images of which one at least has no known group:
    two patients stay two, however alike their pictures are. A group that no patient is known of is called `near:` and
    its first image; one that joins several patients bears the names of all.
    """
    numbers = {image: i for i, image in enumerate(images)}
    links: list[tuple[int, int]] = []
    for key in (known, content):
        seen: dict[Hashable, int] = {}
        for i, value in enumerate(key):
            if value is not None:
                links.append((seen.setdefault(value, i), i))
    if pairs is not None:
        near = zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
        links += [(a, b) for a, b in near if known[a] is None or known[b] is None]
    first, second = np.array(links, np.int64).reshape(-1, 2).T
    members: dict[int, list[str]] = {}
    for image, number in zip(images, components(len(images), first, second).tolist(), strict=True):
        members.setdefault(number, []).append(image)
    result: list[str | None] = [None] * len(images)
    for own in members.values():
        patients = sorted({name for image in own if (name := known[numbers[image]]) is not None})
        if patients or len(own) > 1:
            name = "+".join(patients) or f"near:{min(own)}"
            for image in own:
                result[numbers[image]] = name
    return result

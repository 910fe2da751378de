"""Random fields that depend on (seed, image, role, position) alone, the only source of random numbers on images.

Conventions: `seeds` int64 (B,), any values, on the device where the field is wanted. A value at position i is an
integer hash of (seed, i), so it is the same in every batch, order and run, whatever is drawn beside it, and on every
device. Integers wrap around at 64 bits; logical shifts are arithmetic shifts with the sign bits masked away.
"""

import hashlib
import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def image_seed(seed: int, image: str, role: str) -> int:
    """A signed 64-bit seed for one image in one role: the first 8 bytes of blake2b over (seed, image, role).

    >>> image_seed(0, "a.png", "noise") == image_seed(0, "a.png", "noise") != image_seed(0, "a.png", "ties")
    True
    """
    text = f"{seed}\0{image}\0{role}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little", signed=True)


def uniform(seeds: Int64[Tensor, "b"], shape: tuple[int, ...]) -> Float[Tensor, "b *shape"]:
    """Independent uniform float32 in [0, 1), multiples of 2^-24, of shape (B, *shape)."""
    return _shift(_bits(seeds, shape), 40).float().mul_(2.0**-24)


def normal(seeds: Int64[Tensor, "b"], shape: tuple[int, ...]) -> Float[Tensor, "b *shape"]:
    """Independent standard normal float32 of shape (B, *shape): the inverse distribution function at 52 random bits.

    Evaluated in float64, so that rounding to float32 hides the last bits in which devices differ. |values| < 8.2.
    """
    centred = _shift(_bits(seeds, shape), 12).mul_(2).add_(1).double().mul_(2.0**-52).sub_(1)
    return torch.erfinv(centred).mul_(math.sqrt(2)).float()


def hash_keys(seeds: Int64[Tensor, "b"], n: int) -> Int64[Tensor, "b n"]:
    """Independent integers, uniform in [0, 2^63): sorting by them gives a random permutation of n positions."""
    return _shift(_bits(seeds, (n,)), 1)


def _bits(seeds: Tensor, shape: tuple[int, ...]) -> Tensor:
    # A sequence per seed that starts at the mixed seed and steps by the golden ratio, mixed once more: seeds that are
    # neighbours give sequences that start far apart.
    positions = torch.arange(1, math.prod(shape) + 1, device=seeds.device) * _signed(0x9E3779B97F4A7C15)
    return _mix(_mix(seeds.clone())[:, None] + positions).view(len(seeds), *shape)


def _mix(z: Tensor) -> Tensor:
    """The finaliser of splitmix64, in place (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number
    generators"; Stafford's variant 13)."""
    z = z.bitwise_xor_(_shift(z, 30)).mul_(_signed(0xBF58476D1CE4E5B9))
    z = z.bitwise_xor_(_shift(z, 27)).mul_(_signed(0x94D049BB133111EB))
    return z.bitwise_xor_(_shift(z, 31))


def _shift(z: Tensor, bits: int) -> Tensor:
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _signed(constant: int) -> int:
    return constant - (1 << 64) if constant >= 1 << 63 else constant

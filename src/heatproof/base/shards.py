"""Shards of a run: whole blocks of images, so that shards together give what one run gives."""

from itertools import pairwise

BLOCK = 64


def blocks_of(n: int) -> list[range]:
    """The numbers 0..n-1 in blocks of at most 64, as even as they go, the larger ones first.

    >>> [len(block) for block in blocks_of(130)]
    [44, 43, 43]
    """
    return _even(n, -(-n // BLOCK))


def shard_of(n: int, shard: int, shards: int) -> list[int]:
    """Which of n images, in their order, one of some shards holds: every `shards`-th block, from `shard` on.

    Blocks stay whole, for images of a block are batched and compared with each other. Where there are fewer blocks than
    shards, the images are cut into as many even parts as there are shards.

    >>> [len(shard_of(130, shard, 2)) for shard in range(2)]
    [87, 43]
    >>> [shard_of(5, shard, 3) for shard in range(3)]
    [[0, 1], [2, 3], [4]]
    """
    blocks = blocks_of(n)
    parts = blocks if len(blocks) >= shards else _even(n, shards)
    return [place for block in parts[shard::shards] for place in block]


def _even(n: int, parts: int) -> list[range]:
    size, larger = divmod(n, parts) if parts else (0, 0)
    ends = [0]
    for part in range(parts):
        ends.append(ends[-1] + size + (part < larger))
    return [range(start, end) for start, end in pairwise(ends)]

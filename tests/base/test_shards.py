"""Shards together hold every image once, and the blocks of one run stay whole in them."""

from hypothesis import given, settings
from hypothesis import strategies as st

from heatproof.base.shards import BLOCK, blocks_of, shard_of


@given(st.integers(0, 2000), st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_every_image_is_in_one_shard(n, shards):
    parts = [shard_of(n, shard, shards) for shard in range(shards)]
    assert sorted(place for part in parts for place in part) == list(range(n))
    assert all(part == sorted(part) for part in parts)


@given(st.integers(1, 3000), st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_a_shard_is_measured_in_the_blocks_of_the_whole(n, shards):
    whole = [list(block) for block in blocks_of(n)]
    assert max(map(len, whole)) <= BLOCK
    assert max(map(len, whole)) - min(map(len, whole)) <= 1
    if len(whole) >= shards:
        for shard in range(shards):
            part = shard_of(n, shard, shards)
            assert [[part[place] for place in block] for block in blocks_of(len(part))] == whole[shard::shards]

"""Batches that do not fit are halved, nothing is lost and nothing is run twice."""

import pytest
import torch

from heatproof.base.halving import Batch, in_batches


@pytest.mark.parametrize("room", [1, 2, 3, 5, 64])
def test_every_thing_is_run_once_in_batches_that_fit(room):
    tried: list[int] = []

    def run(rows: slice) -> list[int]:
        tried.append(rows.stop - rows.start)
        if tried[-1] > room:
            raise torch.OutOfMemoryError("no room")
        return list(range(rows.start, rows.stop))

    size = Batch(16)
    found = list(in_batches(21, size, run))
    assert [one for _, part in found for one in part] == list(range(21))
    assert all(len(part) == rows.stop - rows.start <= room for rows, part in found)
    assert size.batch == max(batch for batch in (16, 8, 4, 2, 1) if batch <= room)


def test_one_that_does_not_fit_alone_is_told():
    def run(rows: slice) -> None:
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError):
        list(in_batches(3, Batch(4), run))


def test_other_errors_come_out_at_once():
    def run(rows: slice) -> None:
        raise ValueError("wrong")

    size = Batch(4)
    with pytest.raises(ValueError, match="wrong"):
        list(in_batches(3, size, run))
    assert size.batch == 4

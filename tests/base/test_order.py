"""Orders of values against plain sorting, on both ways of doing it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heatproof.base import order

TIED = torch.tensor([[2.0, -1.0, 2.0, 0.0, -0.0, 7.5, 2.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])


@pytest.fixture(params=["numpy", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(order, "_on_cpu", lambda values: False)
    return str(request.param)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_ascending_and_descending(way: str, dtype: torch.dtype) -> None:
    values = (torch.randn(5, 1000, generator=torch.Generator().manual_seed(0)) * 30).round().to(dtype)
    for found, falling in ((order.ascending(values), False), (order.descending(values), True)):
        ordered, place = found
        assert torch.equal(ordered, values.sort(dim=1, descending=falling).values)
        assert torch.equal(values.gather(1, place), ordered)
        assert torch.equal(place.sort(dim=1).values, torch.arange(1000).expand(5, -1))


def test_nan_counts_as_the_largest(way: str) -> None:
    values = torch.tensor([[1.0, torch.nan, torch.inf, -torch.inf]])
    assert order.ascending(values)[1].tolist() == [[3, 0, 2, 1]]
    assert order.descending(values)[1].tolist() == [[1, 2, 0, 3]]
    assert order.largest(values, 2)[0].isnan().tolist() == [True, False]


@pytest.mark.parametrize("k", [1, 3, 7])
def test_the_largest(way: str, k: int) -> None:
    assert torch.equal(order.largest(TIED, k), TIED.sort(dim=1, descending=True).values[:, :k])


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.data())
def test_exactly_so_many_keys_and_no_smaller_one(keys: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(keys)))
    rows = torch.tensor([keys, sorted(keys)])
    for found in (
        order.among_largest(rows, torch.tensor([count, count])),
        order._chosen(rows, torch.tensor([count, count])),
    ):
        for row, inside in zip(rows.numpy(), found.numpy(), strict=True):
            assert inside.sum() == count
            assert sorted(row[inside].tolist()) == sorted(row.tolist())[len(keys) - count :]


def test_each_row_has_a_count_of_its_own(way: str) -> None:
    keys = torch.arange(20).view(2, 10)
    assert order.among_largest(keys, torch.tensor([0, 4])).sum(1).tolist() == [0, 4]
    assert order.among_largest(keys[:0], torch.tensor([], dtype=torch.int64)).shape == (0, 10)


def test_nothing_is_changed(way: str) -> None:
    values, before = TIED.clone(), TIED.clone()
    order.ascending(values), order.descending(values), order.largest(values, 3)
    keys = values.long()
    order.among_largest(keys, torch.tensor([2, 2]))
    assert torch.equal(values, before)
    assert torch.equal(keys, before.long())


def test_values_made_under_inference_mode(way: str) -> None:
    with torch.inference_mode():
        values = TIED * 2
    assert np.array_equal(order.ascending(values)[0].numpy(), np.sort(TIED.numpy() * 2, axis=1))

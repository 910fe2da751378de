"""Choosing classes of a data set."""

import numpy as np
import pytest

from heatproof.base.errors import HeatproofError
from heatproof.base.records import Row, Source
from heatproof.base.sources import with_classes


def source(labels=(0, 1, 2, 1)):
    rows = tuple(Row(f"{i}", None, c) for i, c in enumerate(labels))
    return Source(rows, ("a", "b", "c"), read=lambda row: np.zeros((2, 2), np.uint8))


def test_labels_count_in_the_order_of_the_chosen_classes():
    chosen = with_classes(source(), ("c", "b"))
    assert chosen.classes == ("c", "b")
    assert [(row.image, row.label) for row in chosen.rows] == [("1", 1), ("2", 0), ("3", 1)]
    assert [row.label for row in with_classes(source(), None).rows] == [0, 1, 2, 1]


@pytest.mark.parametrize(
    ("classes", "labels", "message"),
    [
        (("a", "d"), (0, 1, 2), "no such class, got 'd'"),
        (("a", "a"), (0, 1, 2), "named twice, got 'a'"),
        (("a",), (0, 1, 2), "at least two classes"),
        (None, (0, 1), "a class without images, got 'c'"),
    ],
)
def test_refusals(classes, labels, message):
    with pytest.raises(HeatproofError, match=message):
        with_classes(source(labels), classes)


def test_data_without_labels_need_no_classes():
    rows = (Row("a", None, None),)
    plain = Source(rows, (), read=lambda row: np.zeros((2, 2), np.uint8))
    assert with_classes(plain, None) is plain
    with pytest.raises(HeatproofError, match="no images"):
        with_classes(Source((), (), read=plain.read), None)

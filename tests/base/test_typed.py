"""Values against annotations read as text."""

import pytest

from heatproof.base.errors import HeatproofError
from heatproof.base.typed import checked, said

GOOD = [
    (3, "int", 3),
    (3, "float", 3.0),
    (True, "bool", True),
    (None, "int | None", None),
    ("a", "int | str | None", "a"),
    ([1, 2], "tuple[float, ...]", (1.0, 2.0)),
    ([1, 2], "list[int]", [1, 2]),
    ([], "tuple[str, ...]", ()),
    (["a"], "Sequence[str]", ("a",)),
    ("road", "Literal['road', 'mean']", "road"),
    ({"a": 1}, "Mapping[str, int]", {"a": 1}),
    ([1, "x"], "list", [1, "x"]),
    (3, "Any", 3),
    (None, "Optional[int]", None),
    (2, "typing.Optional[float]", 2.0),
]
BAD = [
    (True, "int", "a whole number is expected, got True"),
    (1.5, "int", "a whole number is expected, got 1.5"),
    ("3", "int | None", "a whole number or null is expected, got '3'"),
    (1, "bool", "true or false is expected"),
    (1, "str", "text is expected"),
    (None, "float", "a number is expected"),
    ([1], "tuple[float, float]", "a list of 2 values"),
    ([1, "a"], "tuple[int, ...]", "a list of whole numbers is expected"),
    ("abc", "tuple[str, ...]", "a list of text is expected"),
    ("raod", "Literal['road', 'mean']", "Did you mean 'road'?"),
    (3, "dict[str, int]", "a group of keys"),
]


@pytest.mark.parametrize(("value", "annotation", "expected"), GOOD)
def test_a_value_that_fits_comes_back_as_its_annotation_wants_it(
    value: object, annotation: str, expected: object
) -> None:
    result = checked(value, annotation, "key")
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(("value", "annotation", "message"), BAD)
def test_another_value_is_refused_in_words(value: object, annotation: str, message: str) -> None:
    with pytest.raises(HeatproofError) as raised:
        checked(value, annotation, "some.key")
    (text,) = raised.value.faults
    assert text.startswith("some.key: ")
    assert message in text


def test_annotations_in_words() -> None:
    assert said("tuple[float, float, float]") == "a list of 3 values (a number each)"
    assert said("int | str | None") == "a whole number or text or null"

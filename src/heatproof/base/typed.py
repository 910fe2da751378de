"""Values from a config against the annotations of settings, read as text: nothing is imported for it."""

import ast
from collections.abc import Mapping
from typing import Any

from heatproof.base.errors import HeatproofError, fault

SCALARS: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}
WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "None": "null",
}
SEQUENCES = ("tuple", "list", "Sequence")
MAPPINGS = ("dict", "Mapping")


def checked(value: Any, annotation: str, where: str) -> Any:
    """The value as its annotation wants it (whole numbers as float, lists as tuple), or a HeatproofError.

    Understood: int, float, str, bool, None, Literal, unions, tuple, list, Sequence, dict, Mapping; others pass.

    >>> checked([0.6, 1, 0], "tuple[float, float, float]", "dataset.fractions")
    (0.6, 1.0, 0.0)
    """
    node = ast.parse(annotation, mode="eval").body
    fits, result = _fit(value, node)
    if not fits:
        raise HeatproofError(fault(where, f"{said(annotation)} is expected", got=value, choices=_literals(node)))
    return result


def said(annotation: str) -> str:
    """The annotation in words.

    >>> said("tuple[str, ...] | None")
    'a list of text or null'
    """
    return _say(ast.parse(annotation, mode="eval").body)


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and node.value is None:
        return "None"
    if isinstance(node, ast.Subscript):
        return _name(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _arguments(node: ast.expr) -> list[ast.expr]:
    if not isinstance(node, ast.Subscript):
        return []
    return list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]


def _options(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [*_options(node.left), *_options(node.right)]
    if _name(node) == "Optional":
        return [*_arguments(node), ast.Constant(None)]
    return [node]


def _fit(value: Any, node: ast.expr) -> tuple[bool, Any]:
    options = _options(node)
    if len(options) > 1:
        for option in options:
            fits, result = _fit(value, option)
            if fits:
                return True, result
        return False, value
    name = _name(node)
    if name == "None":
        return value is None, value
    if name == "Literal":
        return value in _literals(node), value
    if name in SCALARS:
        return _scalar(value, name)
    if name in SEQUENCES:
        return _sequence(value, name, _arguments(node))
    if name in MAPPINGS:
        return isinstance(value, Mapping), dict(value) if isinstance(value, Mapping) else value
    return True, value


def _scalar(value: Any, name: str) -> tuple[bool, Any]:
    if isinstance(value, bool) and name != "bool":
        return False, value
    if name == "float" and isinstance(value, int):
        return True, float(value)
    return isinstance(value, SCALARS[name]), value


def _sequence(value: Any, name: str, arguments: list[ast.expr]) -> tuple[bool, Any]:
    if not isinstance(value, (list, tuple)):
        return False, value
    fixed = name == "tuple" and arguments and not _open(arguments)
    if fixed and len(value) != len(arguments):
        return False, value
    kinds = arguments if fixed else [arguments[0]] * len(value) if arguments else []
    fitted = [_fit(one, kind) for one, kind in zip(value, kinds, strict=True)] if kinds else [(True, v) for v in value]
    items = [item for _, item in fitted]
    return all(fits for fits, _ in fitted), items if name == "list" else tuple(items)


def _open(arguments: list[ast.expr]) -> bool:
    return len(arguments) == 2 and isinstance(arguments[1], ast.Constant) and arguments[1].value is Ellipsis


def _literals(node: ast.expr) -> list[Any]:
    found = []
    for option in _options(node):
        if _name(option) == "Literal":
            found += [one.value for one in _arguments(option) if isinstance(one, ast.Constant)]
    return found


def _say(node: ast.expr) -> str:
    options = _options(node)
    if len(options) > 1:
        return " or ".join(_say(option) for option in options)
    name, arguments = _name(node), _arguments(node)
    if name == "Literal":
        return "one of these"
    if name in SEQUENCES:
        if name == "tuple" and arguments and not _open(arguments):
            return f"a list of {len(arguments)} values ({_say(arguments[0])} each)"
        return f"a list of {_plural(arguments[0])}" if arguments else "a list"
    if name in MAPPINGS:
        return "a group of keys"
    return WORDS.get(name, name)


def _plural(node: ast.expr) -> str:
    return {"int": "whole numbers", "float": "numbers", "str": "text"}.get(_name(node), _say(node))

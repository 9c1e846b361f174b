"""eq, ne, lt, le, gt, ge as text/template has them: operands of different kinds do not compare (an int is not a float)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.detect.gotmpl.errors import TemplateError


def _kind(value: Any) -> str:
    if value is None:
        return "nil"
    for kind, types in (("bool", bool), ("int", int), ("float", float), ("string", str)):
        if isinstance(value, types):
            return kind
    raise TemplateError("invalid type for comparison")


def _same(one: Any, other: Any) -> bool:
    left, right = _kind(one), _kind(other)
    if "nil" in {left, right}:
        return left == right
    if left != right:
        raise TemplateError("incompatible types for comparison")
    return bool(one == other)


def equal(one: Any, *others: Any) -> bool:
    """Whether the first equals any other."""
    if not others:
        raise TemplateError("error calling eq: missing argument for comparison")
    return any(_same(one, other) for other in others)


def less(one: Any, other: Any) -> bool:
    """Order of numbers and texts."""
    left, right = _kind(one), _kind(other)
    if left != right:
        raise TemplateError("incompatible types for comparison")
    if left in {"bool", "nil"}:
        raise TemplateError("invalid type for comparison")
    return bool(one < other)


def _at_most(one: Any, other: Any) -> bool:
    return less(one, other) or _same(one, other)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": equal,
    "ne": lambda one, other: not _same(one, other),
    "lt": less,
    "le": _at_most,
    "gt": lambda one, other: not _at_most(one, other),
    "ge": lambda one, other: not less(one, other),
}

"""Which labels the result of an expression can carry, where its text alone says so."""

from __future__ import annotations

from typing import Final

from pipeline.promql.errors import ExprError
from pipeline.promql.parse import parse
from pipeline.promql.tree import Aggregation, Binary, Call, Kind, Negation, Node, Paren

_SET_OPERATORS: Final = frozenset({"and", "or", "unless"})
_KEEPING: Final = frozenset(
    {"abs", "ceil", "clamp", "clamp_max", "clamp_min", "exp", "floor", "ln", "log10", "log2", "round", "sgn", "sort", "sort_desc", "sqrt"}
)


def result_labels(expr: str) -> frozenset[str] | None:
    """The label names that a result can have; None where they come from the data (a plain selector, label_replace, ...)."""
    try:
        return _labels(parse(expr).root)
    except ExprError:
        return None


def _labels(node: Node) -> frozenset[str] | None:
    match node:
        case Paren(expr=expr) | Negation(expr=expr):
            return _labels(expr)
        case Aggregation():
            return _aggregated(node)
        case Binary():
            return _joined(node)
        case Call(name="histogram_quantile", args=(_, inner)):
            inside = _labels(inner)
            return None if inside is None else inside - {"le"}
        case Call(name=name, args=args) if name in _KEEPING and args:
            return _labels(args[0])
        case _:
            return None


def _aggregated(node: Aggregation) -> frozenset[str] | None:
    if node.op in {"topk", "bottomk", "limitk", "limit_ratio"}:
        return _labels(node.expr)
    if node.op == "count_values":
        return None
    if not node.without:
        return frozenset(node.labels)
    inside = _labels(node.expr)
    return None if inside is None else inside - set(node.labels)


def _joined(node: Binary) -> frozenset[str] | None:
    """Between vectors: the side with many (the left one) keeps its labels; a comparison or `on` narrows nothing that matters here."""
    left, right = node.left, node.right
    if left.kind is Kind.SCALAR or right.kind is Kind.SCALAR:
        return _labels(right if left.kind is Kind.SCALAR else left)
    if node.op == "or":
        one, other = _labels(left), _labels(right)
        return None if one is None or other is None else one | other
    found = _labels(right if node.matching.group == "right" else left)
    if found is None:
        return frozenset(node.matching.labels) if node.matching.on and not node.matching.group and node.op not in _SET_OPERATORS else None
    return found | set(node.matching.include)

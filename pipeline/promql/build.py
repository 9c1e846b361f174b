"""From a tree to operators. Unsupported (experimental) parts of the language are ExprErrors here, never at evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from pipeline.promql import functions as fn
from pipeline.promql import scalars
from pipeline.promql.aggregate import PICKERS, REDUCERS, CountValuesOp, Grouping, QuantileOp, ReduceOp
from pipeline.promql.binary import NegateOp, NegateScalarOp, ScalarBinaryOp, SetOp, VectorScalarOp, VectorVectorOp
from pipeline.promql.calendar import CALENDAR, CalendarOp
from pipeline.promql.errors import ExprError
from pipeline.promql.histogram import HistogramFractionOp, HistogramQuantileOp, HistogramQuantilesOp
from pipeline.promql.info import InfoOp
from pipeline.promql.over_time import RANGE_FUNCTIONS
from pipeline.promql.plan import MatrixOp, Op, Options, ScalarOp, VectorOp
from pipeline.promql.ranged import EDGE_FUNCTIONS, RangeCallOp, RateOp
from pipeline.promql.relabel import LabelJoinOp, LabelReplaceOp
from pipeline.promql.selectors import InstantOp, RangeOp, SubqueryOp
from pipeline.promql.sorting import SortByLabelOp, SortOp
from pipeline.promql.tree import SET_OPERATORS, Aggregation, Binary, Call, Instant, Kind, Negation, Node, Number, Paren, Range, Subquery, Text, unwrap
from pipeline.series import BadMatcherError


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """In place of a sub-expression: an operator that is made already."""

    op: VectorOp
    kind = Kind.VECTOR


def build(node: Node, options: Options) -> Op:
    """The operator of a tree.

    Raises:
        ExprError: something that this evaluator does not offer, or an argument that cannot be right.
    """
    return _BUILDERS[type(node)](node, options)


def _negation(node: Negation, options: Options) -> Op:
    inner = build(node.expr, options)
    return NegateScalarOp(inner) if isinstance(inner, ScalarOp) else NegateOp(_as_vector(inner), options)


def _as_vector(op: Op) -> VectorOp:
    if isinstance(op, ScalarOp):
        return scalars.VectorOfOp(op)
    if isinstance(op, VectorOp):
        return op
    raise ExprError("an instant vector is needed here")


def _vector(node: Node, options: Options) -> VectorOp:
    return _as_vector(build(node, options))


def _scalar(node: Node, options: Options) -> ScalarOp:
    op = build(node, options)
    if isinstance(op, ScalarOp):
        return op
    raise ExprError("a scalar is needed here")


def _matrix(node: Node, options: Options) -> MatrixOp:
    op = build(node, options)
    if isinstance(op, MatrixOp):
        return op
    raise ExprError("a range vector is needed here")


def _text(node: Node) -> str:
    node = unwrap(node)
    if isinstance(node, Text):
        return node.value
    raise ExprError("a string is needed here")


def _binary(node: Binary, options: Options) -> Op:
    left, right = build(node.left, options), build(node.right, options)
    if isinstance(left, ScalarOp) and isinstance(right, ScalarOp):
        return ScalarBinaryOp(node.op, left, right)
    if isinstance(right, ScalarOp):
        return VectorScalarOp(node.op, _as_vector(left), right, options, swapped=False, return_bool=node.return_bool)
    if isinstance(left, ScalarOp):
        return VectorScalarOp(node.op, _as_vector(right), left, options, swapped=True, return_bool=node.return_bool)
    if node.op in SET_OPERATORS:
        return SetOp(node.op, _as_vector(left), _as_vector(right), node.matching, options)
    return VectorVectorOp(node.op, _as_vector(left), _as_vector(right), node.matching, options, return_bool=node.return_bool)


def _aggregation(node: Aggregation, options: Options) -> Op:
    inner = _vector(node.expr, options)
    grouping = Grouping(node.labels, without=node.without)
    reduce = REDUCERS.get(node.op)
    if reduce is not None:
        return ReduceOp(inner, grouping, reduce)
    if node.param is None:
        raise ExprError(f"aggregation {node.op} needs a parameter")
    if node.op == "count_values":
        return CountValuesOp(inner, grouping, _label_name(_text(node.param), "count_values"))
    if node.op == "quantile":
        return QuantileOp(inner, grouping, _scalar(node.param, options))
    if node.op in PICKERS:
        return PICKERS[node.op](inner, grouping, _scalar(node.param, options))
    raise ExprError(f"aggregation '{node.op}' is experimental and not offered")


def _label_name(name: str, where: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        name = ""
    if not name or "\ufffd" in name:
        raise ExprError(f"invalid label name {name!r} in '{where}'")
    return name


def _call(node: Call, options: Options) -> Op:
    maker = _MAKERS.get(node.name)
    if maker is None:
        raise ExprError(f"function '{node.name}' is experimental and not offered")
    return maker(node, options)


def _math(function: Callable[..., object], node: Call, options: Options) -> Op:
    args = [_scalar(arg, options) for arg in node.args[1:]]
    return fn.MapOp(_vector(node.args[0], options), function, args, options)


def _ranged(node: Call, options: Options) -> Op:
    args = [_scalar(arg, options) for arg in node.args if arg.kind is Kind.SCALAR]
    matrix = next(arg for arg in node.args if arg.kind is Kind.MATRIX)
    op = _matrix(matrix, options)
    if node.name in EDGE_FUNCTIONS and isinstance(op, RangeOp):
        return RateOp(node.name, op, options)
    return RangeCallOp(node.name, op, args, options)


def _calendar(node: Call, options: Options) -> Op:
    inner = _vector(node.args[0], options) if node.args else None
    return CalendarOp(inner, CALENDAR[node.name], options)


def _absent(node: Call, options: Options) -> Op:
    inner = build(node.args[0], options)
    matrix = inner if isinstance(inner, MatrixOp) else _as_vector(inner)
    return fn.AbsentOp(matrix, fn.absent_labels(node.args[0]))


def _label_replace(node: Call, options: Options) -> Op:
    target, template, source, pattern = map(_text, node.args[1:])
    try:
        return LabelReplaceOp(_vector(node.args[0], options), _label_name(target, node.name), template, source, pattern)
    except BadMatcherError as error:
        raise ExprError(f"invalid regular expression in label_replace(): {error}") from None


def _label_join(node: Call, options: Options) -> Op:
    target, separator, *sources = map(_text, node.args[1:])
    sources = [_label_name(source, node.name) for source in sources]
    return LabelJoinOp(_vector(node.args[0], options), _label_name(target, node.name), separator, sources)


def _sort_by_label(node: Call, options: Options) -> Op:
    return SortByLabelOp(_vector(node.args[0], options), [_text(arg) for arg in node.args[1:]], descending=node.name.endswith("_desc"))


def _extreme(node: Call, options: Options) -> Op:
    return scalars.ExtremeOp(min if node.name == "min_of" else max, _scalar(node.args[0], options), _scalar(node.args[1], options))


def _info(node: Call, options: Options) -> Op:
    selector = unwrap(node.args[1]) if len(node.args) > 1 else None
    matchers = selector.selector.matchers if isinstance(selector, Instant) else ()
    return InfoOp(_vector(node.args[0], options), node.args[0], matchers, options)


def _histogram_quantiles(node: Call, options: Options) -> Op:
    label, inner = _label_name(_text(node.args[1]), node.name), _vector(node.args[0], options)
    return HistogramQuantilesOp([_scalar(arg, options) for arg in node.args[2:]], inner, label, options)


_MAKERS: Final[dict[str, Callable[[Call, Options], Op]]] = {
    **{name: partial(_math, function) for name, function in fn.MATH.items()},
    **dict.fromkeys(RANGE_FUNCTIONS, _ranged),
    **dict.fromkeys(CALENDAR, _calendar),
    "round": partial(_math, fn.round_to),
    "clamp": partial(_math, fn.clamp),
    "clamp_min": partial(_math, fn.clamp_min),
    "clamp_max": partial(_math, fn.clamp_max),
    "absent": _absent,
    "absent_over_time": _absent,
    "histogram_quantile": lambda node, options: HistogramQuantileOp(_scalar(node.args[0], options), _vector(node.args[1], options), options),
    "histogram_fraction": lambda node, options: HistogramFractionOp(
        _scalar(node.args[0], options), _scalar(node.args[1], options), _vector(node.args[2], options), options
    ),
    "histogram_quantiles": _histogram_quantiles,
    "max_of": _extreme,
    "min_of": _extreme,
    **dict.fromkeys(("start", "end", "step", "range"), lambda node, _options: scalars.QueryOp(node.name)),
    "info": _info,
    "label_join": _label_join,
    "label_replace": _label_replace,
    "pi": lambda _node, _options: scalars.ConstantOp(math.pi),
    "scalar": lambda node, options: scalars.ScalarOfOp(_vector(node.args[0], options)),
    "sort": lambda node, options: SortOp(_vector(node.args[0], options), node.name),
    "sort_desc": lambda node, options: SortOp(_vector(node.args[0], options), node.name),
    "sort_by_label": _sort_by_label,
    "sort_by_label_desc": _sort_by_label,
    "time": lambda _node, _options: scalars.TimeOp(),
    "timestamp": lambda node, options: fn.TimestampOp(_vector(node.args[0], options), options),
    "vector": lambda node, options: scalars.VectorOfOp(_scalar(node.args[0], options)),
}

_BUILDERS: Final[dict[type[Any], Callable[[Any, Options], Op]]] = {
    Ready: lambda node, _options: node.op,
    Number: lambda node, _options: scalars.ConstantOp(node.value),
    Text: lambda node, _options: node.value,
    Paren: lambda node, options: build(node.expr, options),
    Instant: InstantOp,
    Range: RangeOp,
    Subquery: lambda node, options: SubqueryOp(node, _vector(node.expr, options), options),
    Negation: _negation,
    Binary: _binary,
    Aggregation: _aggregation,
    Call: _call,
}

FUNCTION_NAMES: Final = tuple(sorted(_MAKERS))
"""All functions that can be evaluated."""

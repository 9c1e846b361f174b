"""`parse`: expression text to a tree, through promql-parser (Prometheus' own grammar).

Guarantee: whatever the text, the outcome is an Expression or an ExprError; the native parser never sees text that could exhaust its
stack, and its panics (which are not Exceptions) do not pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from typing import Any, Final

import promql_parser as pp

from pipeline.promql.build import FUNCTION_NAMES, build
from pipeline.promql.diagnose import SYNTAX_ERROR, syntax_error
from pipeline.promql.errors import ExprError
from pipeline.promql.lexer import Token, at_instants, error_at, scan
from pipeline.promql.plan import Options
from pipeline.promql.tree import (
    COMPARISONS,
    SET_OPERATORS,
    Aggregation,
    At,
    Binary,
    Call,
    Instant,
    Kind,
    Matching,
    Negation,
    Node,
    Number,
    Paren,
    Range,
    Subquery,
    Text,
)
from pipeline.series import BadMatcherError, Matcher, MatchOp, Selector

__all__ = ["COMPARISONS", "MAX_DEPTH", "SET_OPERATORS", "Expression", "parse"]

MAX_DEPTH: Final = 120

_UNKNOWN_FUNCTION: Final = re.compile(r"unknown function with name '(.+)'")
_OPS: Final = {str(pp.MatchOp.Equal): MatchOp.EQUAL, str(pp.MatchOp.NotEqual): MatchOp.NOT_EQUAL, str(pp.MatchOp.Re): MatchOp.REGEX}
_KINDS: Final = {"ValueType.Vector": Kind.VECTOR, "ValueType.Scalar": Kind.SCALAR, "ValueType.Matrix": Kind.MATRIX, "ValueType.String": Kind.STRING}


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression: `text` in Prometheus' canonical spelling, and its tree."""

    source: str
    text: str
    root: Node

    @property
    def kind(self) -> Kind:
        """Static type of the result."""
        return self.root.kind


def parse(text: str) -> Expression:
    """Read one PromQL expression.

    Raises:
        ExprError: not a valid expression; `line` and `column` are set where the place is known.
    """
    tokens = scan(text)
    try:
        native = _native(text)
    except ValueError as error:
        raise _explained(str(error), text, tokens) from None
    instants = at_instants(text, tokens)
    try:
        root = _Reader(iter(instants)).node(native, 0)
        build(root, Options())  # so that what parses can also be evaluated
    except BadMatcherError as error:
        raise ExprError(str(error)) from None
    except ExprError as error:
        raise error if error.line is not None else _explained(error.message, text, tokens) from None
    # The library spells a time before 1970 as 0.
    canonical = text if any(at_ms is not None and at_ms < 0 for at_ms in instants) else _one_line(_shielded(native.prettify))
    return Expression(text, canonical, root)


def _one_line(text: str) -> str:
    """Undo the library's line breaks (inside strings it writes them as escapes)."""
    return re.sub(r"\n\s*", " ", re.sub(r"\n\s*(?=\))", "", re.sub(r"(?<=\()\n\s*", "", text))).strip()


def _native(text: str) -> Any:
    """The library's tree.

    Raises:
        ValueError: not valid.
    """
    return _shielded(lambda: pp.parse(text))


def _shielded(action: Callable[[], Any]) -> Any:
    """Run native code; a panic of it becomes an ExprError."""
    try:
        return action()
    except (Exception, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a Rust panic arrives as a BaseException that cannot be imported
        raise ExprError(f"the parser failed: {error}") from None


def _explained(message: str, text: str, tokens: list[Token]) -> ExprError:
    """The library's error with a place: found by search for a syntax error, else where the text quoted by the message stands."""
    if message == SYNTAX_ERROR:
        return syntax_error(text, tokens, _is_grammatical)
    unknown = _UNKNOWN_FUNCTION.fullmatch(message)
    if unknown is not None:
        close = get_close_matches(unknown[1], FUNCTION_NAMES, n=1)
        message += f" (did you mean {close[0]}?)" if close else ""
    for piece in [*message.split("'")[1::2], message.rpartition(": ")[2], message.partition("illegal regex for ")[2]]:
        if piece and text.count(piece) == 1:
            return error_at(message, text, text.index(piece))
    return ExprError(message)


def _is_grammatical(text: str) -> bool:
    try:
        _native(text)
    except ValueError as error:
        return str(error) != SYNTAX_ERROR
    return True


def _ms(delta: timedelta | None) -> int:
    return 0 if delta is None else round(delta / timedelta(milliseconds=1))


class _Reader:
    """Native tree to ours. `@` instants come from the text, in its order, because the library cannot hand out negative ones."""

    def __init__(self, instants: Iterator[int | None]) -> None:
        self._instants = instants

    def node(self, native: Any, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise ExprError(f"expression is nested deeper than {MAX_DEPTH} levels")
        read: Callable[[Any, int], Node] = getattr(self, "_" + type(native).__name__)
        return read(native, depth + 1)

    def _NumberLiteral(self, native: Any, _depth: int) -> Node:  # noqa: N802 - named after the library's node, like all below
        return Number(native.val)

    def _StringLiteral(self, native: Any, _depth: int) -> Node:  # noqa: N802
        return Text(native.val)

    def _VectorSelector(self, native: Any, _depth: int) -> Instant:  # noqa: N802
        if native.matchers.or_matchers:
            raise ExprError("`or` between label matchers is not PromQL")
        matchers = [Matcher(m.name, _OPS.get(str(m.op), MatchOp.NOT_REGEX), m.value) for m in native.matchers.matchers]
        if native.name is not None:
            matchers.insert(0, Matcher("__name__", MatchOp.EQUAL, native.name))
        return Instant(Selector(matchers), _ms(native.offset), self._at(native))

    def _MatrixSelector(self, native: Any, depth: int) -> Node:  # noqa: N802
        instant = self._VectorSelector(native.vector_selector, depth)
        return Range(instant, _ms(native.range))

    def _SubqueryExpr(self, native: Any, depth: int) -> Node:  # noqa: N802
        expr = self.node(native.expr, depth)
        step = _ms(native.step) if native.step is not None else None
        return Subquery(expr, _ms(native.range), step or None, _ms(native.offset), self._at(native))

    def _at(self, native: Any) -> At | None:
        # `native.at.at` panics for a time before 1970, so only the kind is read from the library.
        if native.at is None:
            return None
        at_ms = next(self._instants, None)
        kind = str(native.at.type).rpartition(".")[2]
        if kind == "At":
            if at_ms is None:
                raise ExprError("the timestamp of @ cannot be read")
            return At("time", at_ms)
        return At(kind.lower())

    def _Call(self, native: Any, depth: int) -> Node:  # noqa: N802
        args = tuple(self.node(arg, depth) for arg in native.args)
        return Call(native.func.name, args, _KINDS[str(native.func.return_type)])

    def _AggregateExpr(self, native: Any, depth: int) -> Node:  # noqa: N802
        param = None if native.param is None else self.node(native.param, depth)
        modifier = native.modifier
        labels = tuple(modifier.labels) if modifier is not None else ()
        without = modifier is not None and str(modifier.type).endswith("Without")
        return Aggregation(str(native.op), self.node(native.expr, depth), param, labels, without)

    def _BinaryExpr(self, native: Any, depth: int) -> Node:  # noqa: N802
        left, right = self.node(native.lhs, depth), self.node(native.rhs, depth)
        scalar = left.kind is Kind.SCALAR and right.kind is Kind.SCALAR
        modifier = native.modifier
        return_bool = modifier is not None and modifier.return_bool
        return Binary(str(native.op), left, right, _matching(modifier), return_bool, Kind.SCALAR if scalar else Kind.VECTOR)

    def _UnaryExpr(self, native: Any, depth: int) -> Node:  # noqa: N802
        expr = self.node(native.expr, depth)
        return Negation(expr, expr.kind)

    def _ParenExpr(self, native: Any, depth: int) -> Node:  # noqa: N802
        expr = self.node(native.expr, depth)
        return Paren(expr, expr.kind)


def _matching(modifier: Any) -> Matching:
    if modifier is None:
        return Matching()
    on, labels = False, ()
    if modifier.matching is not None:
        on, labels = str(modifier.matching.type).endswith("Include"), tuple(modifier.matching.labels)
    group = {"ManyToOne": "left", "OneToMany": "right"}.get(str(modifier.card).rpartition(".")[2], "")
    fill = modifier.fill_values
    return Matching(on, labels, group, tuple(modifier.group_labels or ()), getattr(fill, "lhs", None), getattr(fill, "rhs", None))

"""A rule's condition, as pySigma parsed and resolved it, to one closure on a log record.

The order of the operands is kept, except that cheap tests of one field run before keyword searches through the whole record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sigma import conditions, types

from pipeline.model.signals import LogRecord
from pipeline.sigma.errors import SigmaError
from pipeline.sigma.fields import getter
from pipeline.sigma.values import field_reference, predicate

Test = Callable[[LogRecord], bool]


def compile_condition(node: Any) -> Test:
    """The test for a node of pySigma's condition tree.

    Raises:
        SigmaError: an empty condition, or a value this engine cannot test.
    """
    if node is None:
        raise SigmaError("the condition is empty")
    if isinstance(node, conditions.ConditionFieldEqualsValueExpression):
        return _field(node.field, node.value)
    if isinstance(node, conditions.ConditionValueExpression):
        return _keyword(node.value)
    tests = [compile_condition(argument) for argument in sorted(node.args, key=_cost)]
    if isinstance(node, conditions.ConditionNOT):
        inner = tests[0]
        return lambda record: not inner(record)
    if isinstance(node, conditions.ConditionAND):
        return _all_of(tests)
    if isinstance(node, conditions.ConditionOR):
        return _any_of(tests)
    raise SigmaError(f"conditions of kind {type(node).__name__} are not supported")


def _cost(node: Any) -> int:
    if isinstance(node, conditions.ConditionFieldEqualsValueExpression):
        return 0
    if isinstance(node, conditions.ConditionValueExpression):
        return 2
    return max((_cost(argument) for argument in node.args), default=1) if node is not None else 1


def _all_of(tests: list[Test]) -> Test:
    if len(tests) == 2:
        first, second = tests
        return lambda record: first(record) and second(record)

    def every(record: LogRecord) -> bool:
        for test in tests:  # noqa: SIM110 - a generator costs more than the tests themselves
            if not test(record):
                return False
        return True

    return every


def _any_of(tests: list[Test]) -> Test:
    def some(record: LogRecord) -> bool:
        for test in tests:  # noqa: SIM110 - as above
            if test(record):
                return True
        return False

    return some


def _field(name: str, value: Any) -> Test:
    get = getter(name)
    if isinstance(value, types.SigmaFieldReference):
        other, compared = getter(value.field), field_reference(value)
        return lambda record: compared(get(record.fields), other(record.fields))
    holds = predicate(value)
    return lambda record: holds(get(record.fields))


def _keyword(value: Any) -> Test:
    """Anywhere: in the message, or in the value of any field."""
    holds = predicate(value, keyword=True)

    def anywhere(record: LogRecord) -> bool:
        return holds(record.message) or any(map(holds, record.fields.values()))

    return anywhere

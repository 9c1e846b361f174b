"""Rules made runnable: one program per rule, with its expression compiled and its alert states.

Guarantee: evaluating a program raises nothing but PromQLError; templates never fail, their text says what went wrong (as Prometheus does).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.detect.facts import Origin
from pipeline.detect.gotmpl import Scope, Text
from pipeline.detect.lives import Element, Life, Lives
from pipeline.detect.presence import Presence
from pipeline.detect.reads import Reads
from pipeline.model.labels import EMPTY, METRIC_NAME, Labels
from pipeline.model.records import Ending
from pipeline.promql import Compiled, EvalError, Graph, Options, Row, Scalar, Vector, compile_expr
from pipeline.rulebook.book import AlertRule, RecordRule, RuleGroup
from pipeline.series import SeriesView

ALERTNAME = "alertname"
_MAX_CACHED_LABELS = 10_000


def rows_of(compiled: Compiled, view: SeriesView, at_ms: int) -> Sequence[Row]:
    """The elements of a result; a scalar is one element without labels."""
    result = compiled.eval(view, at_ms)
    if isinstance(result, Vector):
        return result.rows
    if isinstance(result, Scalar):
        return [Row(EMPTY, result.value)]
    raise EvalError("rule result is not a vector or scalar")


@dataclass(slots=True)
class RecordProgram:
    """A recording rule. `written`: the series of its last evaluation, to end those that vanish."""

    rule: RecordRule
    group: RuleGroup
    expr: Compiled
    reads: Reads
    labels: Mapping[str, str]
    written: set[Labels] = field(default_factory=set)

    @classmethod
    def of(cls, rule: RecordRule, group: RuleGroup, options: Options, graph: Graph | None = None) -> RecordProgram:
        """Compile one rule.

        Raises:
            ExprError: the expression is not valid.
        """
        compiled = compile_expr(rule.expr, compat=options.compat, options=options, graph=graph)
        return cls(rule, group, compiled, Reads.of(compiled), {**group.labels, **rule.labels, METRIC_NAME: rule.name})

    def results(self, view: SeriesView, at_ms: int) -> dict[Labels, float]:
        """What the rule records at an instant, by full label set.

        Raises:
            EvalError: the expression failed on these data, or two results have the same labels.
        """
        results: dict[Labels, float] = {}
        for labels, value in rows_of(self.expr, view, at_ms):
            full = Labels.of(labels, **self.labels)
            if full in results:
                raise EvalError("vector contains metrics with the same labelset after applying rule labels")
            results[full] = value
        return results


@dataclass(slots=True)
class AlertProgram:
    """An alerting rule with its lives."""

    rule: AlertRule
    group: RuleGroup
    origin: Origin
    expr: Compiled
    reads: Reads
    labels: tuple[tuple[str, Text], ...]
    annotations: tuple[tuple[str, Text], ...]
    presence: Presence
    lives: Lives
    base: Reads | None = None  # what it reads from outside, through recording rules
    warming_ms: int = 0  # how much past the expression needs, through recorded metrics
    written: set[Labels] = field(default_factory=set)
    _full: dict[Labels, Labels] = field(default_factory=dict)

    @classmethod
    def of(cls, rule: AlertRule, group: RuleGroup, version: str, options: Options, graph: Graph | None = None) -> AlertProgram:
        """Compile one rule.

        Raises:
            ExprError: the expression is not valid.
        """
        compiled = compile_expr(rule.expr, compat=options.compat, options=options, graph=graph)
        labels = {**group.labels, **rule.labels}
        return cls(
            rule,
            group,
            Origin(rule.name, rule.rule_id, version),
            compiled,
            Reads.of(compiled),
            tuple((name, Text(text)) for name, text in labels.items()),
            tuple((name, Text(text)) for name, text in rule.annotations.items()),
            Presence(compiled.expression, options),
            Lives(rule.for_ms, rule.keep_firing_for_ms),
        )

    def held(self, view: SeriesView, at_ms: int, scope: Scope) -> dict[Labels, Element]:
        """For which alert labels the expression holds at an instant.

        Raises:
            EvalError: the expression failed on these data, or two elements give the same alert.
        """
        held: dict[Labels, Element] = {}
        for labels, value in rows_of(self.expr, view, at_ms):
            full = self._full.get(labels) or self._with_rule_labels(labels, value, scope)
            if full in held:
                raise EvalError("vector contains metrics with the same labelset after applying alert labels")
            held[full] = Element(labels, value)
        return held

    def annotations_of(self, life: Life, scope: Scope) -> dict[str, str]:
        """The annotations of a life, expanded with what its last true evaluation saw."""
        seen = scope.about(life.origin, life.value)
        return {name: text.expand(seen) for name, text in self.annotations}

    def ending(self, life: Life, view: SeriesView, at_ms: int) -> Ending:
        """How a life ended whose expression no longer holds: with its inputs there and fine, or without them."""
        return Ending.BY_VALUE if self.presence.covers(life.origin, view, at_ms) else Ending.BY_NODATA

    def is_warming(self, life: Life, view: SeriesView, at_ms: int, *, started_ms: int) -> bool:
        """Whether the inputs of this life began inside the window that the expression looks at.

        Where it has no inputs at all (`absent`), whether the detector has run for less than the look-back: they may just not have come yet.
        """
        if self.base is None or not self.base.items:
            return False
        first = self.base.first_sample_at_ms(view, life.origin, at_ms)
        if first is None:
            return at_ms - started_ms < self.base.look_back_ms
        return self.warming_ms > 0 and first > at_ms - self.warming_ms

    def _with_rule_labels(self, labels: Labels, value: float, scope: Scope) -> Labels:
        seen = scope.about(labels, value)
        own = {name: text.expand(seen) for name, text in self.labels}
        full = Labels.of(labels.drop(METRIC_NAME), **own | {ALERTNAME: self.rule.name})
        if all(text.is_constant for _, text in self.labels):
            if len(self._full) >= _MAX_CACHED_LABELS:
                self._full.clear()
            self._full[labels] = full
        return full

"""Watches: standing expressions that remediation asked for, measured at fixed instants.

Instants are `at_ms + k * interval_ms`, k = 0, 1, ..., those after the anchor; each is due a settle delay after it, so that its samples have come.
With an anchor only later samples count, and recorded metrics are recomputed from such samples (a recorded value would still hold old errors).

A value watch is TRUE with its number when the expression yields exactly one finite number. None, NaN, an infinity or several elements are NODATA:
a controller must not act on a sum that nobody asked for. What went wrong stands in `values` as a text with no number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from pipeline.detect.programs import rows_of
from pipeline.detect.reads import Reads
from pipeline.detect.ruleset import Chain, RuleSet
from pipeline.model.records import Measurement, Truth, Watch, stable_id
from pipeline.model.wire import finite
from pipeline.promql import Compiled, Condition, PromQLError, compile_condition, compile_expr
from pipeline.series import SeriesStore, SeriesView

_MAX_VALUES = 20
_NO_CHAIN = Chain(())
Answer = tuple[Truth, float | None, tuple[tuple[str, float | None], ...]]


@dataclass(slots=True)
class Measured:
    """One watch, compiled. `question` is the reason where it cannot be."""

    watch: Watch
    next_ms: int
    question: Condition | Compiled | str
    chain: Chain = _NO_CHAIN
    window_ms: int = 0
    reads: Reads | None = None
    scratch: SeriesStore = field(default_factory=SeriesStore)

    @property
    def compiled(self) -> Compiled | None:
        """The expression, where it is one."""
        return self.question.compiled if isinstance(self.question, Condition) else self.question if isinstance(self.question, Compiled) else None


class Watches:
    """All watches of one detector."""

    def __init__(self, rules: RuleSet, delay_ms: int) -> None:
        self._rules = rules
        self._delay_ms = delay_ms
        self.by_id: dict[str, Measured] = {}

    def put(self, watch: Watch, *, next_ms: int | None = None) -> None:
        """Begin, replace or cancel a watch. The same watch again changes nothing, so that a record read twice is harmless."""
        if watch.until_ms and watch.until_ms <= watch.at_ms:
            self.by_id.pop(watch.id, None)
            return
        known = self.by_id.get(watch.id)
        if known is not None and known.watch == watch:
            return
        self.by_id[watch.id] = self._stand(watch, _first_ms(watch) if next_ms is None else next_ms)

    def rebase(self, rules: RuleSet) -> None:
        """Recompile under new rules; measuring goes on where it was."""
        self._rules = rules
        self.by_id = {watch_id: self._stand(one.watch, one.next_ms) for watch_id, one in self.by_id.items()}

    def skip(self, until_ms: int, max_catch_up: int) -> None:
        """Leave out instants that are too many to make up for."""
        for one in self.by_id.values():
            step = max(one.watch.interval_ms, 1)
            due = (until_ms - self._delay_ms - one.next_ms) // step + 1
            one.next_ms += max(0, due - max_catch_up) * step

    def due_at_ms(self) -> int | None:
        """When the next measurement is due."""
        return min((one.next_ms + self._delay_ms for one in self.by_id.values()), default=None)

    def next_at_ms(self) -> int | None:
        """The earliest instant still to measure."""
        return min((one.next_ms for one in self.by_id.values()), default=None)

    def lookback_ms(self) -> int:
        """The longest past that a watch needs."""
        return max((one.window_ms for one in self.by_id.values()), default=0)

    def measure_next(self, store: SeriesStore) -> list[Measurement]:
        """Measure the watch that is due first; one whose end has passed is forgotten instead."""
        one = min(self.by_id.values(), key=lambda item: (item.next_ms, item.watch.id))
        at_ms = one.next_ms
        if one.watch.until_ms and at_ms > one.watch.until_ms:
            del self.by_id[one.watch.id]
            return []
        one.next_ms += max(one.watch.interval_ms, 1)
        return [self._measure(one, store, at_ms)]

    def _stand(self, watch: Watch, next_ms: int) -> Measured:
        try:
            options = self._rules.options
            compile_ = compile_condition if watch.kind == "condition" else compile_expr
            question = compile_(watch.expr, compat=options.compat, options=options)
        except PromQLError as error:
            return Measured(watch, next_ms, str(error))
        one = Measured(watch, next_ms, question)
        if one.compiled is not None:
            one.reads = Reads.of(one.compiled)
            chain = self._rules.chain(one.reads.metric_names)
            one.chain = chain if watch.anchor_ms else _NO_CHAIN
            one.window_ms = one.compiled.lookback_ms + sum(program.expr.lookback_ms for program in chain.programs)
        return one

    def _measure(self, one: Measured, store: SeriesStore, at_ms: int) -> Measurement:
        watch = one.watch
        if one.chain:
            one.scratch.evict(at_ms - one.window_ms)
        try:
            view = one.chain.over(store.after(watch.anchor_ms) if watch.anchor_ms else store, at_ms, one.scratch)
            truth, value, values = _answer(one.question, view, at_ms)
        except PromQLError as error:
            truth, value, values = Truth.NODATA, None, ((str(error), None),)
        return Measurement(
            id=stable_id(watch.id, at_ms),
            group=watch.group,
            watch_id=watch.id,
            at_ms=at_ms,
            truth=truth,
            value=value,
            values=values,
            warming=_is_warming(one, store, at_ms),
            silent=one.reads.silent(store, at_ms) if watch.kind == "value" and one.reads is not None else 0,
        )


def _first_ms(watch: Watch) -> int:
    """The first instant of the watch's rhythm that lies after its anchor."""
    if watch.anchor_ms < watch.at_ms:
        return watch.at_ms
    step = max(watch.interval_ms, 1)
    return watch.at_ms + ((watch.anchor_ms - watch.at_ms) // step + 1) * step


def _answer(question: Condition | Compiled | str, view: SeriesView, at_ms: int) -> Answer:
    if isinstance(question, str):
        return Truth.NODATA, None, ((question, None),)
    if isinstance(question, Condition):
        judgement = question.eval(view, at_ms)
        values = tuple((str(row.labels), finite(row.value)) for row in judgement.compared[:_MAX_VALUES])
        if not values and judgement.reason:
            values = ((judgement.reason, None),)
        return judgement.truth, values[0][1] if judgement.compared else None, values
    rows = rows_of(question, view, at_ms)
    values = tuple((str(row.labels), finite(row.value)) for row in rows[:_MAX_VALUES])
    if not rows:
        return Truth.NODATA, None, (("no data", None),)
    if len(rows) > 1:
        return Truth.NODATA, None, ((f"{len(rows)} elements where one is needed", None), *values[: _MAX_VALUES - 1])
    if not math.isfinite(rows[0].value):
        return Truth.NODATA, None, ((f"value is {rows[0].value}", None),)
    return Truth.TRUE, rows[0].value, values


def _is_warming(one: Measured, store: SeriesStore, at_ms: int) -> bool:
    """Whether the window is not yet whole. An anchored watch asked for a short window, so it is judged by its data, not by this."""
    if one.watch.anchor_ms or one.reads is None or not one.reads.window_ms:
        return False
    first = min((series.first_sample_at_ms for series in one.reads.series(store)), default=None)
    return first is not None and first > at_ms - one.reads.window_ms

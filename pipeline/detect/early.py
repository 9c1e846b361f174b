"""The early track's timing: which rules are to be evaluated now, and at which event time.

A sample of a metric that a rule reads makes an evaluation pending at the newest event time t of that metric. It is ready once its inputs at t have
settled: every active series of the rule has delivered up to t, or `settle_ms` passed since the sample came (0: at once). A rule whose selection
just gained or lost a series waits for the settle time, because the series that it does not know yet may still be on their way.
While one evaluation is pending, newer samples only move the next one; a rule is evaluated at most once in max(settle, gap).

Where a pending alert's `for` ends between samples, a timer makes an evaluation at that instant, later by as much as the data lag behind the wall.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.detect.reads import Reads
from pipeline.series import SeriesView

_NEVER = -(1 << 62)


@dataclass(slots=True)
class EarlyRule:
    """The timing state of one rule. Times `*_at_ms` are event times; `due_ms` and `*_now_ms` are wall times."""

    number: int  # position in the rule book: the order of evaluation
    settle_ms: int
    reads: Reads
    at_ms: int | None = None  # the pending evaluation
    due_ms: int = 0
    next_at_ms: int | None = None  # the newest sample after it
    next_now_ms: int = 0
    last_at_ms: int = _NEVER
    last_now_ms: int = _NEVER
    known: int = -1  # series selected at the last evaluation
    timer_at_ms: int | None = None
    timer_due_ms: int = 0


class EarlyTrack:
    """Timing of all rules of the early track."""

    def __init__(self, rules: Iterable[tuple[EarlyRule, frozenset[str]]], gap_ms: int) -> None:
        self._gap_ms = gap_ms
        self.rules: dict[int, EarlyRule] = {}
        self._by_metric: dict[str, list[EarlyRule]] = {}
        self._waiting: dict[int, EarlyRule] = {}
        for rule, metrics in rules:
            self.rules[rule.number] = rule
            for name in metrics:
                self._by_metric.setdefault(name, []).append(rule)

    def reads(self, metric_name: str) -> bool:
        """Whether a rule of this track depends on the metric."""
        return metric_name in self._by_metric

    def touch(self, newest: Mapping[str, int], now_ms: int) -> list[EarlyRule]:
        """Samples came; `newest` is the newest event time per metric. Returns the rules touched, in order of the rule book."""
        touched: dict[int, int] = {}
        for name, at_ms in newest.items():
            for rule in self._by_metric.get(name, ()):
                touched[rule.number] = max(at_ms, touched.get(rule.number, at_ms))
        rules = []
        for number in sorted(touched):
            rule = self.rules[number]
            self._pend(rule, max(touched[number], rule.last_at_ms), now_ms)
            rules.append(rule)
        return rules

    def ready(self, rule: EarlyRule, view: SeriesView, now_ms: int) -> int | None:
        """The event time to evaluate a touched rule at now; None: not yet."""
        if rule.at_ms is None or now_ms < rule.last_now_ms + max(self._gap_ms, rule.settle_ms if rule.due_ms > now_ms else 0):
            return None
        if now_ms >= rule.due_ms:
            return rule.at_ms
        if rule.reads.count(view) != rule.known:
            return None
        until_ms = rule.reads.settled_until_ms(view, rule.at_ms)
        if until_ms is None or until_ms < rule.at_ms:
            return None
        return min(until_ms, rule.next_at_ms) if rule.next_at_ms is not None and rule.next_at_ms > rule.at_ms else rule.at_ms

    def due_at_ms(self) -> int | None:
        """When a pending evaluation or a timer is due at the latest."""
        return min((self._wake_ms(rule) for rule in self._waiting.values()), default=None)

    def take_due(self, now_ms: int) -> tuple[EarlyRule, int] | None:
        """The next rule that is due by time, and its event time; None where there is none."""
        due = [(self._wake_ms(rule), rule.number) for rule in self._waiting.values() if self._wake_ms(rule) <= now_ms]
        if not due:
            return None
        rule = self.rules[min(due)[1]]
        if rule.at_ms is not None and self._pending_ms(rule) <= now_ms:
            return rule, rule.at_ms
        at_ms = rule.timer_at_ms
        rule.timer_at_ms = None
        self._settle(rule)
        return (rule, at_ms) if at_ms is not None and at_ms > rule.last_at_ms else self.take_due(now_ms)

    def done(self, rule: EarlyRule, at_ms: int, *, now_ms: int, known: int, fires_at_ms: int | None) -> None:
        """An evaluation at `at_ms` was made. `fires_at_ms`: when the first pending alert would fire by time alone."""
        rule.last_at_ms, rule.last_now_ms, rule.known = max(at_ms, rule.last_at_ms), now_ms, known
        if rule.at_ms is None or rule.at_ms <= at_ms:
            after, rule.at_ms, rule.next_at_ms = rule.next_at_ms, None, None
            if after is not None and after > at_ms:
                rule.at_ms, rule.due_ms = after, rule.next_now_ms + rule.settle_ms
        rule.timer_at_ms = fires_at_ms if fires_at_ms is not None and fires_at_ms > at_ms else None
        if rule.timer_at_ms is not None:
            rule.timer_due_ms = now_ms + (rule.timer_at_ms - at_ms) + rule.settle_ms
        self._settle(rule)

    def resume(self, rule: EarlyRule) -> None:
        """A rule's timers were set from a stored state."""
        self._settle(rule)

    def _pend(self, rule: EarlyRule, at_ms: int, now_ms: int) -> None:
        if rule.at_ms is None or rule.settle_ms == 0:
            rule.due_ms = now_ms + rule.settle_ms if rule.at_ms is None else rule.due_ms
            rule.at_ms = at_ms if rule.at_ms is None else max(at_ms, rule.at_ms)
        elif at_ms > rule.at_ms and (rule.next_at_ms is None or at_ms > rule.next_at_ms):
            rule.next_at_ms, rule.next_now_ms = at_ms, now_ms
        self._waiting[rule.number] = rule

    def _pending_ms(self, rule: EarlyRule) -> int:
        return max(rule.due_ms, rule.last_now_ms + self._gap_ms)

    def _wake_ms(self, rule: EarlyRule) -> int:
        pending = self._pending_ms(rule) if rule.at_ms is not None else None
        timer = rule.timer_due_ms if rule.timer_at_ms is not None else None
        return min(time for time in (pending, timer) if time is not None)

    def _settle(self, rule: EarlyRule) -> None:
        if rule.at_ms is None and rule.timer_at_ms is None:
            self._waiting.pop(rule.number, None)
        else:
            self._waiting[rule.number] = rule

"""The early track's timing: which rules are to be evaluated now, and at which event time.

A sample of a metric that a rule reads makes an evaluation pending at the newest event time t of that metric. It is ready once its inputs at t have
settled: every active series of the rule has delivered up to t, or `settle_ms` passed since the sample came (0: at once). A rule whose selection
just gained or lost a series waits for the settle time, because the series that it does not know yet may still be on their way.
While one evaluation is pending, newer samples only move the next one.

Cost is bounded twice: a rule is looked at most once in `gap_ms`, and all rules together spend at most a fixed share of the time, estimated from the
number of series that they read (a leaky bucket: a burst goes through at once, a lasting flood waits). Who waited longest goes first.

Where a pending alert's `for` ends between samples, a timer makes an evaluation at that instant, later by as much as the data lag behind the wall.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.detect.reads import Reads
from pipeline.series import SeriesView

_NEVER = -(1 << 62)
_COST_US, _COST_OF_SERIES_US = 100, 15  # an evaluation, roughly
_SHARE_US = 300  # that may be spent per ms of wall time
_BURST_US = 10_000


@dataclass(slots=True)
class EarlyRule:
    """The timing state of one rule. Times `*_at_ms` are event times; `due_ms`, `checked_ms` and `*_now_ms` are wall times."""

    number: int  # position in the rule book
    settle_ms: int
    reads: Reads
    at_ms: int | None = None  # the pending evaluation
    due_ms: int = 0  # when it is made at the latest
    check_ms: int = 0  # when its inputs are looked at next
    checked_ms: int = _NEVER
    next_at_ms: int | None = None  # the newest sample after it
    next_now_ms: int = 0
    last_at_ms: int = _NEVER
    last_now_ms: int = _NEVER
    known: int = -1  # series selected at the last evaluation
    timer_at_ms: int | None = None
    timer_due_ms: int = 0

    def wake_ms(self) -> int | None:
        """When something is to be done for this rule."""
        pending = None if self.at_ms is None else min(self.due_ms, self.check_ms)
        if self.timer_at_ms is None:
            return pending
        return self.timer_due_ms if pending is None else min(pending, self.timer_due_ms)


class EarlyTrack:
    """Timing of all rules of the early track."""

    def __init__(self, rules: Iterable[tuple[EarlyRule, frozenset[str]]], gap_ms: int) -> None:
        self._gap_ms = gap_ms
        self.rules: dict[int, EarlyRule] = {}
        self._by_metric: dict[str, list[EarlyRule]] = {}
        self._waiting: dict[int, EarlyRule] = {}
        self._next_ms: int | None = None  # not later than the first wake of the waiting ones
        self.spent_us = 0
        self.spent_at_ms = 0
        for rule, metrics in rules:
            self.rules[rule.number] = rule
            for name in metrics:
                self._by_metric.setdefault(name, []).append(rule)

    def touch(self, newest: Mapping[str, int], now_ms: int) -> None:
        """Samples came; `newest` is the newest event time per metric."""
        by_metric = self._by_metric
        for name, at_ms in newest.items():
            for rule in by_metric.get(name, ()):
                self._pend(rule, max(at_ms, rule.last_at_ms), now_ms)

    def due_at_ms(self) -> int | None:
        """When `take` is wanted next."""
        if not self._waiting:
            return None
        if self._next_ms is None:
            self._next_ms = min((wake for rule in self._waiting.values() if (wake := rule.wake_ms()) is not None), default=None)
        return None if self._next_ms is None else max(self._next_ms, self._allowed_ms())

    def take(self, view: SeriesView, now_ms: int) -> tuple[EarlyRule, int] | None:
        """The next rule to evaluate now, and at which event time; None where nothing is ready."""
        while True:
            due_ms = self.due_at_ms()
            if due_ms is None or due_ms > now_ms:
                return None
            ready = [rule for rule in self._waiting.values() if (wake := rule.wake_ms()) is not None and wake <= now_ms]
            self._next_ms = None
            for rule in sorted(ready, key=lambda one: (one.last_now_ms, one.number)):
                at_ms = self._ready_at_ms(rule, view, now_ms)
                if at_ms is not None:
                    return rule, at_ms

    def done(self, rule: EarlyRule, at_ms: int, *, now_ms: int, known: int, fires_at_ms: int | None) -> None:
        """An evaluation at `at_ms` was made. `fires_at_ms`: when the first pending alert would fire by time alone."""
        rule.last_at_ms, rule.last_now_ms, rule.known = max(at_ms, rule.last_at_ms), now_ms, known
        if rule.at_ms is None or rule.at_ms <= at_ms:
            after, rule.at_ms, rule.next_at_ms = rule.next_at_ms, None, None
            if after is not None and after > at_ms:
                self._begin(rule, after, rule.next_now_ms, now_ms)
        rule.timer_at_ms = fires_at_ms if fires_at_ms is not None and fires_at_ms > at_ms else None
        if rule.timer_at_ms is not None:
            rule.timer_due_ms = now_ms + (rule.timer_at_ms - at_ms) + rule.settle_ms
        self._spend(_COST_US + _COST_OF_SERIES_US * known, now_ms)
        self.settle(rule)

    def settle(self, rule: EarlyRule) -> None:
        """Wait for this rule, or no longer, as its timers say."""
        if rule.wake_ms() is None:
            self._waiting.pop(rule.number, None)
        else:
            self._waiting[rule.number] = rule
        self._next_ms = None

    def _pend(self, rule: EarlyRule, at_ms: int, now_ms: int) -> None:
        if rule.at_ms is None:
            self._begin(rule, at_ms, now_ms, now_ms)
            self.settle(rule)
            return
        if at_ms <= now_ms < rule.at_ms:  # what is pending lies ahead of the wall: this one comes first
            rule.next_at_ms, rule.next_now_ms = max(rule.at_ms, rule.next_at_ms or rule.at_ms), now_ms
            self._begin(rule, at_ms, now_ms, now_ms)
        elif rule.settle_ms == 0 and at_ms <= now_ms:
            rule.at_ms = max(at_ms, rule.at_ms)
        elif at_ms > rule.at_ms and (rule.next_at_ms is None or at_ms > rule.next_at_ms):
            rule.next_at_ms, rule.next_now_ms = at_ms, now_ms
        # A sample may be the one that was waited for.
        rule.check_ms = min(rule.check_ms, max(now_ms, rule.at_ms, rule.last_now_ms + self._gap_ms, rule.checked_ms + self._gap_ms))
        if self._next_ms is not None:
            self._next_ms = min(self._next_ms, rule.check_ms)

    def _begin(self, rule: EarlyRule, at_ms: int, came_ms: int, now_ms: int) -> None:
        # Never before the wall has reached the instant: a clock that runs ahead must not shorten a `for`.
        free_ms = max(rule.last_now_ms + self._gap_ms, at_ms)
        rule.at_ms = at_ms
        rule.due_ms = max(came_ms + rule.settle_ms, free_ms)
        rule.check_ms = max(now_ms, free_ms, rule.checked_ms + self._gap_ms)

    def _ready_at_ms(self, rule: EarlyRule, view: SeriesView, now_ms: int) -> int | None:
        """The event time to evaluate at, of a rule whose time has come; None: its inputs are not there yet, or its timer is moot."""
        if rule.at_ms is not None and now_ms >= rule.due_ms:
            return rule.at_ms
        if rule.at_ms is not None and now_ms >= rule.check_ms:
            rule.checked_ms, rule.check_ms = now_ms, rule.due_ms
            if rule.reads.count(view) == rule.known and rule.reads.has_settled(view, rule.at_ms):
                return rule.at_ms
        if rule.timer_at_ms is not None and now_ms >= rule.timer_due_ms:
            at_ms, rule.timer_at_ms = rule.timer_at_ms, None
            self.settle(rule)
            return at_ms if at_ms > rule.last_at_ms else None
        return None

    def _spend(self, cost_us: int, now_ms: int) -> None:
        self.spent_us = max(0, self.spent_us - max(0, now_ms - self.spent_at_ms) * _SHARE_US) + cost_us
        self.spent_at_ms = max(now_ms, self.spent_at_ms)

    def _allowed_ms(self) -> int:
        """When the next evaluation may be made."""
        over_us = self.spent_us - _BURST_US
        return self.spent_at_ms - (-over_us // _SHARE_US) if over_us > 0 else _NEVER

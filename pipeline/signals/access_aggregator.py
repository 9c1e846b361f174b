"""`AccessAggregator`: cumulative counters and latency histograms out of access-log records, as if the proxy had exported them.

Decoding is pure per message, but `rate(http_requests_total[30s])` needs a counter, and a counter is a state: this is the one place that holds it.

    http_requests_total{service, version, site, cluster, code}                         counter
    http_request_duration_seconds_bucket|_sum|_count{service, version, site, cluster}  classic histogram, no code

Rules: deterministic, a fold over the records. What comes out is like a scrape: all series of every service that had a request, stamped with the
time of the newest record, so that a rate that fell to zero is a zero and not a gap; services without requests every `refresh_ms`. Never twice for
one time: what comes sooner than `step_ms` after the last emission waits for the next record (or for `flush`). A series that is new is preceded by a
sample of 0, which is true, so that `rate` sees its first requests too. When no records come at all, nothing is emitted: missing is not zero.

Nothing is stored: after a restart all counters start at 0, which PromQL reads as a counter reset; windows that are rebuilt by reading the input again
come out the same. A series without a request for `idle_ms` is forgotten.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

from pipeline.model.labels import METRIC_NAME, Labels
from pipeline.model.signals import LogRecord, SignalBatch

REQUESTS: Final = "http_requests_total"
DURATION: Final = "http_request_duration_seconds"
DEFAULT_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class _Histogram:
    """Counts per bucket (not cumulative), and the series they become."""

    __slots__ = ("bounds", "counts", "series", "total_s")

    def __init__(self, base: Labels, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total_s = 0.0
        name = {METRIC_NAME: f"{DURATION}_bucket"}
        edges = [*(_edge(bound) for bound in bounds), "+Inf"]
        buckets = [Labels.of(dict(base.pairs) | name | {"le": edge}) for edge in edges]
        self.series = [*buckets, base.set(METRIC_NAME, f"{DURATION}_sum"), base.set(METRIC_NAME, f"{DURATION}_count")]

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total_s += seconds

    def values(self) -> list[float]:
        cumulative, running = [], 0
        for count in self.counts:
            running += count
            cumulative.append(float(running))
        return [*cumulative, self.total_s, float(running)]


class _Service:
    """The series of one service, each with the time of its last request."""

    __slots__ = ("changed", "counters", "exported_at_ms", "fresh", "last_ms", "timers")

    def __init__(self) -> None:
        self.counters: dict[Labels, int] = {}
        self.timers: dict[Labels, _Histogram] = {}
        self.last_ms: dict[Labels, int] = {}
        self.fresh: set[Labels] = set()
        self.changed = False
        self.exported_at_ms = 0

    def count(self, counter: Labels, at_ms: int) -> None:
        if counter not in self.counters:
            self.counters[counter] = 0
            self.fresh.add(counter)
        self.counters[counter] += 1
        self.last_ms[counter] = max(at_ms, self.last_ms.get(counter, at_ms))
        self.changed = True

    def observe(self, timer: Labels, seconds: float, at_ms: int, bounds: Sequence[float]) -> None:
        histogram = self.timers.get(timer)
        if histogram is None:
            histogram = self.timers[timer] = _Histogram(timer, bounds)
            self.fresh.add(timer)
        histogram.observe(seconds)
        self.last_ms[timer] = max(at_ms, self.last_ms.get(timer, at_ms))

    def export(self, rows: _Rows, *, at_ms: int, zero_at_ms: int) -> None:
        """All series at `at_ms`, the new ones with their zero before."""
        for counter, count in self.counters.items():
            rows.add([counter], [float(count)], at_ms, zero_at_ms if counter in self.fresh else None)
        for timer, histogram in self.timers.items():
            rows.add(histogram.series, histogram.values(), at_ms, zero_at_ms if timer in self.fresh else None)
        self.fresh.clear()
        self.changed = False
        self.exported_at_ms = at_ms

    def forget(self, before_ms: int) -> bool:
        """Drop series without a request since `before_ms`; whether any was dropped."""
        idle = [key for key, last_ms in self.last_ms.items() if last_ms < before_ms]
        for key in idle:
            self.counters.pop(key, None)
            self.timers.pop(key, None)
            del self.last_ms[key]
        return bool(idle)


class _Rows:
    """Samples in columns."""

    __slots__ = ("at_ms", "labels", "values")

    def __init__(self) -> None:
        self.labels: list[Labels] = []
        self.at_ms: list[int] = []
        self.values: list[float] = []

    def add(self, series: Sequence[Labels], values: Sequence[float], at_ms: int, zero_at_ms: int | None) -> None:
        if zero_at_ms is not None:
            self.labels.extend(series)
            self.at_ms.extend([zero_at_ms] * len(series))
            self.values.extend([0.0] * len(series))
        self.labels.extend(series)
        self.at_ms.extend([at_ms] * len(series))
        self.values.extend(values)


class AccessAggregator:
    """Feed it the records of one input, in order; it belongs to one input partition set.

    Args:
        labels: which record labels become series labels. Bounded values only: an id or a path here makes a series each.
        step_ms: shortest distance between two emissions; grows with the number of samples, so that at most 20 are emitted a millisecond.
        refresh_ms: how often series of services without requests are repeated.
        idle_ms: when a series without requests is forgotten.
        max_series: label sets held; requests beyond are counted in `overflowed` and nowhere else.
    """

    def __init__(
        self,
        *,
        buckets_s: Sequence[float] = DEFAULT_BUCKETS,
        labels: Sequence[str] = ("service", "version", "site", "cluster"),
        step_ms: int = 20,
        refresh_ms: int = 500,
        idle_ms: int = 300_000,
        max_series: int = 10_000,
    ) -> None:
        self._bounds = tuple(sorted(buckets_s))
        self._by_time = frozenset(labels)
        self._by_code = frozenset((*labels, "code"))
        self._step_ms, self._refresh_ms, self._idle_ms, self._max_series = step_ms, refresh_ms, idle_ms, max_series
        self._series_of: dict[Labels, tuple[Labels, Labels]] = {}  # from a record's labels to its counter and its timer
        self._services: dict[str, _Service] = {}
        self._pending = False
        self._oldest_ms = self._newest_ms = 0
        self._emitted_at_ms: int | None = None
        self._next_at_ms = 0
        self.overflowed = 0

    def add(self, batch: SignalBatch) -> SignalBatch:
        """The batch with the samples that its records caused; the same batch where there are none.

        Only records with a status code are counted; others pass through.
        """
        self.observe(batch.logs)
        if not self._pending or (self._emitted_at_ms is not None and self._newest_ms < self._next_at_ms):
            return batch
        rows = self._emit()
        return SignalBatch(
            [*batch.labels, *rows.labels], [*batch.at_ms, *rows.at_ms], [*batch.values, *rows.values], batch.logs, batch.events, batch.source
        )

    def observe(self, records: Iterable[LogRecord]) -> None:
        """Count; emits nothing."""
        for record in records:
            if isinstance(record.fields.get("http.response.status_code"), int):
                self._count(record)

    def flush(self) -> SignalBatch:
        """What waits for the step, now. Empty when nothing changed or nothing newer came than the last emission."""
        if not self._pending or (self._emitted_at_ms is not None and self._newest_ms <= self._emitted_at_ms):
            return SignalBatch()
        rows = self._emit()
        return SignalBatch(rows.labels, rows.at_ms, rows.values)

    def _count(self, record: LogRecord) -> None:
        pair = self._series_of.get(record.labels)
        if pair is None:
            if len(self._series_of) >= self._max_series:
                self.overflowed += 1
                return
            counter = record.labels.keep(self._by_code).set(METRIC_NAME, REQUESTS)
            pair = self._series_of[record.labels] = counter, record.labels.keep(self._by_time)
        counter, timer = pair
        name = record.labels.get("service", "")
        service = self._services.get(name)
        if service is None:
            service = self._services[name] = _Service()
        service.count(counter, record.at_ms)
        duration_ns = record.fields.get("event.duration")
        if isinstance(duration_ns, int | float):
            service.observe(timer, duration_ns / 1e9, record.at_ms, self._bounds)
        self._oldest_ms = min(self._oldest_ms, record.at_ms) if self._pending else record.at_ms
        self._newest_ms = max(self._newest_ms, record.at_ms)
        self._pending = True

    def _emit(self) -> _Rows:
        rows, at_ms = _Rows(), self._newest_ms
        zero_at_ms = min(self._oldest_ms, at_ms) - 1
        if self._emitted_at_ms is not None:
            zero_at_ms = max(zero_at_ms, self._emitted_at_ms)
        forgot = False
        for service in self._services.values():
            if service.changed or at_ms - service.exported_at_ms >= self._refresh_ms:
                forgot |= service.forget(at_ms - self._idle_ms)
                service.export(rows, at_ms=at_ms, zero_at_ms=zero_at_ms)
        if forgot:
            self._clear_forgotten()
        self._pending, self._emitted_at_ms = False, at_ms
        self._next_at_ms = at_ms + max(self._step_ms, len(rows.values) // 20)
        return rows

    def _clear_forgotten(self) -> None:
        self._services = {name: service for name, service in self._services.items() if service.counters}
        held = {counter for service in self._services.values() for counter in service.counters}
        self._series_of = {labels: pair for labels, pair in self._series_of.items() if pair[0] in held}


def _edge(bound: float) -> str:
    """`le` as Prometheus' clients write it: `0.005`, `1.0`, `10.0`."""
    return repr(float(bound))

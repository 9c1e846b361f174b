"""`AccessAggregator`: cumulative counters and latency histograms out of access-log records, as if the proxy had exported them.

Decoding is pure per message, but `rate(http_requests_total[30s])` needs a counter, and a counter is a state: this is the one place that holds it.

    http_requests_total{service, version, site, cluster, code}                         counter
    http_request_duration_seconds_bucket|_sum|_count{service, version, site, cluster}  classic histogram, no code

Rules: deterministic, a fold over the records. Samples are emitted for series that changed, stamped with the time of the newest record, and never
twice for one time: what comes sooner than `step_ms` after the last emission waits for the next record (or for `flush`). Every `refresh_ms` all series
are emitted, changed or not, as a scrape would show them: no errors since then is a counter that stands still, not missing data. A series that is new
is preceded by a sample of 0, which is true, so that `rate` sees its first requests too; one that stood still for `forget_ms` is forgotten, as a
proxy forgets at its restart. Nothing is stored: after a restart all counters start at 0,
which PromQL reads as a counter reset; windows that are rebuilt by reading the input again come out the same.
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


class AccessAggregator:
    """Feed it the records of one input, in order; it belongs to one input partition set.

    Args:
        labels: which record labels become series labels. Bounded values only: an id or a path here makes a series each.
        step_ms: shortest distance between two emissions of one series.
        refresh_ms: after how long a series that did not change is emitted again.
        forget_ms: how long a series may stand still.
        max_series: label sets held; requests beyond are counted in `overflowed` and nowhere else.
    """

    def __init__(
        self,
        *,
        buckets_s: Sequence[float] = DEFAULT_BUCKETS,
        labels: Sequence[str] = ("service", "version", "site", "cluster"),
        step_ms: int = 20,
        refresh_ms: int = 500,
        forget_ms: int = 600_000,
        max_series: int = 10_000,
    ) -> None:
        self._bounds = tuple(sorted(buckets_s))
        self._by_time = frozenset(labels)
        self._by_code = frozenset((*labels, "code"))
        self._step_ms, self._refresh_ms, self._forget_ms, self._max_series = step_ms, refresh_ms, forget_ms, max_series
        self._series_of: dict[Labels, tuple[Labels, Labels]] = {}
        self._requests: dict[Labels, int] = {}
        self._histograms: dict[Labels, _Histogram] = {}
        self._changed: dict[Labels, None] = {}
        self._slow_changed: dict[Labels, None] = {}
        self._fresh: set[Labels] = set()
        self._oldest_ms = self._newest_ms = 0
        self._emitted_at_ms: int | None = None
        self._refreshed_at_ms = 0
        self._moved_at_ms: dict[Labels, int] = {}  # counter or timer -> time of its last request
        self.overflowed = 0

    def add(self, batch: SignalBatch) -> SignalBatch:
        """The batch with the samples that its records caused; the same batch where there are none.

        Only records with a status code are counted; others pass through.
        """
        self.observe(batch.logs)
        samples = self._emit(self._step_ms)
        if samples is None:
            return batch
        labels, at_ms, values = samples
        return SignalBatch([*batch.labels, *labels], [*batch.at_ms, *at_ms], [*batch.values, *values], batch.logs, batch.events, batch.source)

    def observe(self, records: Iterable[LogRecord]) -> None:
        """Count; emits nothing."""
        for record in records:
            if isinstance(record.fields.get("http.response.status_code"), int):
                self._count(record)

    def flush(self) -> SignalBatch:
        """What waits for the step, now. Empty when nothing changed or nothing newer came than the last emission."""
        samples = self._emit(1)
        return SignalBatch(*samples) if samples is not None else SignalBatch()

    def _count(self, record: LogRecord) -> None:
        pair = self._series_of.get(record.labels)
        if pair is None:
            if len(self._series_of) >= self._max_series:
                self.overflowed += 1
                return
            pair = self._series_of[record.labels] = self._admit(record.labels)
        counter, timer = pair
        if not self._changed:
            self._oldest_ms = record.at_ms
        self._oldest_ms, self._newest_ms = min(self._oldest_ms, record.at_ms), max(self._newest_ms, record.at_ms)
        self._requests[counter] += 1
        self._changed[counter] = None
        self._moved_at_ms[counter] = self._moved_at_ms[timer] = self._newest_ms
        duration_ns = record.fields.get("event.duration")
        if isinstance(duration_ns, int | float):
            if timer not in self._histograms:
                self._histograms[timer] = _Histogram(timer, self._bounds)
                self._fresh.add(timer)
            self._histograms[timer].observe(duration_ns / 1e9)
            self._slow_changed[timer] = None

    def _admit(self, labels: Labels) -> tuple[Labels, Labels]:
        counter = labels.keep(self._by_code).set(METRIC_NAME, REQUESTS)
        if counter not in self._requests:
            self._requests[counter] = 0
            self._fresh.add(counter)
        return counter, labels.keep(self._by_time)

    def _emit(self, step_ms: int) -> tuple[list[Labels], list[int], list[float]] | None:
        if not self._changed or (self._emitted_at_ms is not None and self._newest_ms < self._emitted_at_ms + step_ms):
            return None
        zero_at_ms = self._oldest_ms - 1 if self._emitted_at_ms is None else max(self._oldest_ms - 1, self._emitted_at_ms)
        if self._newest_ms >= self._refreshed_at_ms + self._refresh_ms:
            self._refresh()
        rows: tuple[list[Labels], list[int], list[float]] = ([], [], [])
        for counter in self._changed:
            self._append(rows, counter, [counter], [float(self._requests[counter])], zero_at_ms)
        for timer in self._slow_changed:
            histogram = self._histograms[timer]
            self._append(rows, timer, histogram.series, histogram.values(), zero_at_ms)
        self._changed.clear()
        self._slow_changed.clear()
        self._fresh.clear()
        self._emitted_at_ms = self._newest_ms
        return rows

    def _refresh(self) -> None:
        """Mark every series as changed, and forget those that stood still for too long."""
        self._refreshed_at_ms = self._newest_ms
        still = [key for key, at_ms in self._moved_at_ms.items() if at_ms < self._newest_ms - self._forget_ms]
        for key in still:
            del self._moved_at_ms[key]
            self._requests.pop(key, None)
            self._histograms.pop(key, None)
        if still:
            gone = frozenset(still)
            self._series_of = {labels: pair for labels, pair in self._series_of.items() if gone.isdisjoint(pair)}
        self._changed.update(dict.fromkeys(self._requests))
        self._slow_changed.update(dict.fromkeys(self._histograms))

    def _append(
        self, rows: tuple[list[Labels], list[int], list[float]], key: Labels, series: list[Labels], values: list[float], zero_at_ms: int
    ) -> None:
        labels, at_ms, column = rows
        if key in self._fresh:
            labels.extend(series)
            at_ms.extend([zero_at_ms] * len(series))
            column.extend([0.0] * len(series))
        labels.extend(series)
        at_ms.extend([self._newest_ms] * len(series))
        column.extend(values)


def _edge(bound: float) -> str:
    """`le` as Prometheus' clients write it: `0.005`, `1.0`, `10.0`."""
    return repr(float(bound))

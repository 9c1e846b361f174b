"""The store of one test and the input series that flow into it.

Guarantee: as in Prometheus' storage a second value at the same time is an error (a rule cannot record over an input series), nothing is inserted
before what is there, and whatever a limit keeps out is said, never silently missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline.model.labels import Labels
from pipeline.promql import EvalError
from pipeline.ruletest.notation import Run, expand
from pipeline.ruletest.suite import Case
from pipeline.series import Appended, SeriesLimits, SeriesStore, is_stale

LIMITS = SeriesLimits(labels=1024, label_value_length=1 << 20)
MAX_SAMPLES = 20_000_000


class RefusedError(Exception):
    """An input that cannot be stored."""


class AppendOnly(SeriesStore):
    """A store that only ever grows at its end. A stale marker that comes too late is left out, as Prometheus does."""

    def __init__(self) -> None:
        super().__init__(limits=LIMITS)

    def append(self, labels: Labels, at_ms: int, value: float) -> Appended:
        """Store one sample.

        Raises:
            EvalError: the series has a later sample, or another value at that time.
        """
        series = self.get(labels)
        if series is None or series.times[-1] < at_ms:
            return super().append(labels, at_ms, value)
        if not is_stale(value) and series.times[-1] > at_ms:
            raise EvalError(f"out of order sample of {str(labels)[:200]}")
        if not is_stale(value) and series.values[-1] != value:
            raise EvalError(f"duplicate sample for timestamp: {str(labels)[:200]} is an input series, or another rule records it")
        return Appended.TOO_LATE


class Feed:
    """Input series, handed over as far as a test's time has come."""

    def __init__(self, case: Case) -> None:
        wanted = {one.labels: one.runs for one in case.inputs}  # of two with the same labels the last counts
        self._waiting = [(labels, samples) for labels, runs in wanted.items() if (samples := Samples(case, runs)).at_ms is not None]
        self._count = 0

    def until(self, at_ms: int, store: SeriesStore) -> None:
        """Store everything up to a time.

        Raises:
            RefusedError: a series has more labels or longer values than are allowed, or there are too many samples.
        """
        left = []
        for labels, samples in self._waiting:
            for time_ms, value in samples.until(at_ms):
                try:
                    outcome = store.append(labels, time_ms, value)
                except EvalError as error:
                    raise RefusedError(f"input series: {error}") from None
                if outcome.refused and outcome is not Appended.TOO_LATE:
                    raise RefusedError(f"input series {str(labels)[:200]}: {outcome.value}")
                self._count += 1
            if samples.at_ms is not None:
                left.append((labels, samples))
            if self._count > MAX_SAMPLES:
                raise RefusedError(f"more than {MAX_SAMPLES} samples of input series")
        self._waiting = left


class Samples:
    """What is still to come of one series; `at_ms` is the next sample's time, None at the end."""

    def __init__(self, case: Case, runs: Iterable[Run]) -> None:
        self._start_ms, self._interval_ms = case.start_ms, case.interval_ms
        self._rest = expand(tuple(runs))
        self.at_ms: int | None = None
        self._value = 0.0
        self._next()

    def until(self, at_ms: int) -> Iterator[tuple[int, float]]:
        """What comes up to a time."""
        while self.at_ms is not None and self.at_ms <= at_ms:
            yield self.at_ms, self._value
            self._next()

    def _next(self) -> None:
        index, self._value = next(self._rest, (-1, 0.0))
        self.at_ms = None if index < 0 else self._start_ms + index * self._interval_ms

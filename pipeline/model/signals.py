"""Signals: what comes in. A `SignalBatch` is what one message, scrape or fetch held, and is atomic for the detector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.model.labels import EMPTY, Labels


class Sample(NamedTuple):
    """One value of one series. `at_ms` is the producer's event time (Unix epoch); the value may be NaN, an infinity or the stale marker."""

    labels: Labels
    at_ms: int
    value: float


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One log line. `fields` are flat, dotted ECS names (`source.ip`, `event.outcome`); nested input is flattened by the decoder."""

    at_ms: int
    message: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    labels: Labels = EMPTY


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: a deployment, an alert of a foreign Alertmanager (`kind="alert"`), a change by an operator.

    For `kind="alert"`: `labels` are the alert's, `fields` hold `annotations`, `starts_at_ms`, `ends_at_ms` (0: still firing), `generator_url`.
    """

    at_ms: int
    kind: str
    labels: Labels = EMPTY
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SignalBatch:
    """Signals that arrived together, columnar for samples: row i is (`labels[i]`, `at_ms[i]`, `values[i]`).

    Atomic: no rule is evaluated at an event time of this batch before all of it is in. `source` names the input (for skew and provenance).
    """

    labels: list[Labels] = field(default_factory=list)
    at_ms: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    logs: list[LogRecord] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    source: str = ""

    @classmethod
    def of(cls, samples: Iterable[Sample] = (), *, logs: Iterable[LogRecord] = (), events: Iterable[Event] = (), source: str = "") -> SignalBatch:
        """A batch from row-wise samples."""
        rows = list(samples)
        return cls([row.labels for row in rows], [row.at_ms for row in rows], [row.value for row in rows], list(logs), list(events), source)

    def samples(self) -> Iterable[Sample]:
        """The samples, row by row."""
        return map(Sample, self.labels, self.at_ms, self.values)

    def __len__(self) -> int:
        return len(self.values) + len(self.logs) + len(self.events)

"""`Intake`: samples into the store, with every reason to refuse one.

Guarantees: a time stamp too far ahead is refused and moves nothing; one older than anything that will still be evaluated is refused as late; NaN
and infinities are ordinary values. Rejections are counted per reason, with one example.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.detect.facts import Counts, Rejection
from pipeline.model.labels import METRIC_NAME, Labels
from pipeline.model.signals import SignalBatch
from pipeline.series import Appended, SeriesStore

_MAX_SOURCES = 1000
_REASONS = {Appended.TOO_LATE: "late"}


@dataclass(slots=True)
class Refusals:
    """Counts refused rows of one batch."""

    source: str
    found: dict[str, Rejection] = field(default_factory=dict)

    def add(self, reason: str, text: str, at_ms: int) -> None:
        """One more; the first gives the example."""
        first = self.found.get(reason)
        self.found[reason] = Rejection(
            reason, first.text if first else text, (first.count if first else 0) + 1, first.at_ms if first else at_ms, self.source
        )

    def all(self) -> list[Rejection]:
        """Per reason, in order of appearance."""
        return list(self.found.values())


@dataclass(slots=True)
class Intake:
    """Feeds one store. `newest_ms`: newest accepted event time per metric."""

    store: SeriesStore
    max_future_ms: int
    counts: Counts = field(default_factory=Counts)
    newest_ms: dict[str, int] = field(default_factory=dict)

    def take(self, batch: SignalBatch, *, now_ms: int, floor_ms: int) -> tuple[dict[str, int], list[Rejection]]:
        """Store a batch's samples; returns the newest event time per metric touched, and what was refused."""
        if not batch.values:
            return {}, []
        refusals = Refusals(batch.source)
        labels, at_ms, values = batch.labels, batch.at_ms, batch.values
        ceiling_ms = now_ms + self.max_future_ms
        if max(at_ms) > ceiling_ms or min(at_ms) < floor_ms:
            rows = [row for row, at in enumerate(at_ms) if _in_time(labels[row], at, floor_ms, ceiling_ms, refusals)]
            labels, at_ms, values = [labels[row] for row in rows], [at_ms[row] for row in rows], [values[row] for row in rows]
        report = self.store.extend(labels, at_ms, values)
        refused: set[int] = set()
        for row, why in report.refused:
            refused.add(row)
            reason = _REASONS.get(why, why.value)
            refusals.add(reason, f"{labels[row]} at {at_ms[row]}: {reason}", at_ms[row])
        touched = _newest_of(labels, at_ms, refused)
        counts = self.counts
        counts.samples += report.stored + report.late + report.replaced
        counts.refused += len(batch.values) - report.stored - report.late - report.replaced
        if touched and (batch.source in counts.skew_ms or len(counts.skew_ms) < _MAX_SOURCES):
            counts.skew_ms[batch.source] = max(touched.values()) - now_ms
        known = self.newest_ms
        for name, at in touched.items():
            if at > known.get(name, at - 1):
                known[name] = at
        return touched, refusals.all()

    def forget(self) -> None:
        """Drop the metrics that have no series any more."""
        alive = set(self.store.metric_names)
        for name in [name for name in self.newest_ms if name not in alive]:
            del self.newest_ms[name]


def metric_of(labels: Labels) -> str:
    """The metric name, fast where it is the first label (it nearly always is)."""
    pairs = labels.pairs
    return pairs[0][1] if pairs and pairs[0][0] == METRIC_NAME else labels.metric_name


def _newest_of(labels: list[Labels], at_ms: list[int], refused: set[int]) -> dict[str, int]:
    newest: dict[str, int] = {}
    for row, (key, at) in enumerate(zip(labels, at_ms, strict=True)):
        name = metric_of(key)
        if at > newest.get(name, at - 1) and row not in refused:
            newest[name] = at
    return newest


def _in_time(labels: Labels, at_ms: int, floor_ms: int, ceiling_ms: int, refusals: Refusals) -> bool:
    if at_ms > ceiling_ms:
        refusals.add("future", f"{labels} at {at_ms} is {at_ms - ceiling_ms} ms beyond what is allowed ahead", at_ms)
        return False
    if at_ms < floor_ms:
        refusals.add("late", f"{labels} at {at_ms} is older than anything still looked at ({floor_ms})", at_ms)
        return False
    return True

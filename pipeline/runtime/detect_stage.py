"""The detect stage: bytes of any configured input in, facts and records out, through one detector.

Guarantee: a message is one atomic batch; what cannot be decoded, and samples that the detector refuses, end as dead letters and move nothing.
The state is the detector's snapshot (alert and watch states), stored with every step that said something; windows are rewound from the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from pipeline.model import wire
from pipeline.model.reasons import Reason
from pipeline.model.records import AlertFact, Finding, LogDocument, Measurement, Watch, stable_id
from pipeline.model.signals import SignalBatch
from pipeline.ports import bus
from pipeline.ports.bus import BusRecord, OutRecord
from pipeline.ports.execution import FaultPoint
from pipeline.ports.stage import StepResult
from pipeline.rulebook.book import RuleBook
from pipeline.runtime.machines import DetectorLike
from pipeline.runtime.sources import SourceGuard
from pipeline.runtime.stages import dead_letter

DETECTOR = "detector"
FLUSH_MS = 20
SNAPSHOT_MS = 4000  # below the detector's `max_future`, else a rewind would take what came after the last snapshot for the future
DEAD = frozenset({"future", "bad_event", "label_count_limit", "label_length_limit"})  # the message itself is wrong; the rest is only counted
ANCIENT_MS = 86_400_000  # a sample that is late by more than this is not late but wrong (a time stamp of 1970): a dead letter too
Decode = Callable[[BusRecord], SignalBatch]
OnBatch = Callable[[SignalBatch], None]
"""Told of every batch that is fed (not of those that are rewound), for metrics."""
OnLate = Callable[[str, int], None]
"""Told of samples that came too late: input and number."""


def _no_hook(*_args: object) -> None:
    """Nobody counts."""


class Aggregate(Protocol):
    """`pipeline.signals.AccessAggregator`: a fold over log records that adds the samples they cause."""

    def add(self, batch: SignalBatch) -> SignalBatch:
        """The batch with its samples."""
        ...

    def flush(self) -> SignalBatch:
        """Samples that wait."""
        ...


class RejectionLike(Protocol):
    """`pipeline.detect.Rejection`: what was not taken in or not evaluated."""

    reason: str
    text: str
    count: int
    at_ms: int


class Input(NamedTuple):
    """How one topic is read.

    `aggregate`: makes metrics of its log records. `store_logs`: they also go to the record store. `guard`: it may not speak for every service.
    """

    decode: Decode
    aggregate: Aggregate | None = None
    store_logs: bool = False
    guard: SourceGuard | None = None


class DetectStage:
    """One detector over the configured inputs and the watches of remediation. `decode_error`: what decoders raise."""

    name = "detect"

    def __init__(
        self,
        detector: DetectorLike,
        inputs: Mapping[str, Input],
        *,
        decode_error: type[Exception],
        fault: FaultPoint,
        on_batch: OnBatch = _no_hook,
        on_late: OnLate = _no_hook,
    ) -> None:
        self._detector, self._inputs, self._decode_error, self._fault = detector, inputs, decode_error, fault
        self.inputs: tuple[str, ...] = (*inputs, bus.WATCHES)
        self._on_batch, self._on_late = on_batch, on_late
        self._stored_at_ms = 0
        self._flush_at_ms: int | None = None
        self.rejected: dict[str, int] = {}  # by reason; telemetry reads it

    @property
    def detector(self) -> DetectorLike:
        """For looking at what it holds between two steps."""
        return self._detector

    @property
    def lookback_ms(self) -> int:
        """How far back the windows reach."""
        return self._detector.lookback_ms

    def load(self, states: Mapping[str, bytes]) -> None:
        """Restore alert and watch states."""
        if DETECTOR in states:
            self._detector.restore(states[DETECTOR])

    def rewind(self, records: Sequence[BusRecord]) -> None:
        """Fill the windows from before the committed offset; says nothing, not even of what it cannot read (that was said then)."""
        for record in records:
            source = self._inputs.get(record.topic)
            batch = self._batch(record, source, record.appended_at_ms, []) if source else None
            if batch is not None:
                self._detector.rewind(batch)

    def reload(self, rules: RuleBook, now_ms: int) -> StepResult:
        """Swap the rules; alerts of unchanged rules stay, those of the others end."""
        outputs: list[OutRecord] = []
        _, ended = self._detector.reload(rules, now_ms)
        self._said(ended, None, now_ms, outputs)
        return self._result(outputs, now_ms, changed=True)

    def handle(self, records: Sequence[BusRecord], now_ms: int) -> StepResult:
        """Signals and watches, in order."""
        outputs: list[OutRecord] = []
        decoded = [(record, self._read(record, now_ms, outputs)) for record in records]
        self._fault("after_decode")
        changed = False
        for record, what in decoded:
            if isinstance(what, Watch):
                self._detector.watch(what, now_ms)
                changed = True
            elif what is not None:
                self._on_batch(what)
                changed |= self._said(self._detector.feed(what, now_ms), record, now_ms, outputs)
        return self._result(outputs, now_ms, changed=changed)

    def tick(self, now_ms: int) -> StepResult:
        """Grid evaluations, `for` timers, settling."""
        outputs: list[OutRecord] = []
        changed = False
        if self._flush_at_ms is not None and self._flush_at_ms <= now_ms:
            self._flush_at_ms = None
            for source in self._inputs.values():
                waiting = source.aggregate.flush() if source.aggregate else None
                if waiting:
                    changed |= self._said(self._detector.feed(waiting, now_ms), None, now_ms, outputs)
        changed |= self._said(self._detector.advance(now_ms), None, now_ms, outputs)
        return self._result(outputs, now_ms, changed=changed)

    def due_at_ms(self) -> int | None:
        """The detector's next timer, or an aggregate that waits."""
        due = self._detector.due_at_ms()
        if self._flush_at_ms is None:
            return due
        return self._flush_at_ms if due is None else min(due, self._flush_at_ms)

    def _read(self, record: BusRecord, now_ms: int, outputs: list[OutRecord]) -> SignalBatch | Watch | None:
        source = self._inputs.get(record.topic)
        if source is not None:
            return self._batch(record, source, now_ms, outputs)
        try:
            return wire.decode_as(Watch, record.value)
        except wire.WireError as error:
            outputs.append(dead_letter(record, str(error), now_ms))
            return None

    def _batch(self, record: BusRecord, source: Input, now_ms: int, outputs: list[OutRecord]) -> SignalBatch | None:
        try:
            batch = source.decode(record)
        except self._decode_error as error:
            outputs.append(dead_letter(record, str(error), now_ms))
            return None
        if source.guard is not None:
            batch, foreign = source.guard.filtered(batch)
            if foreign:
                self._count(Reason.SOURCE_NOT_ALLOWED, len(foreign))
                text = f"{Reason.SOURCE_NOT_ALLOWED}: input {batch.source or record.topic} may not speak for {', '.join(foreign)}"
                outputs.append(dead_letter(record, text, now_ms))
        if source.store_logs:
            for index, log in enumerate(batch.logs):
                if log.at_ms > record.appended_at_ms + ANCIENT_MS:
                    continue  # the detector makes it a dead letter; a store that keeps dated indices would keep one of the year 2100 for ever
                document = LogDocument(
                    id=stable_id(record.topic, record.partition, record.offset, index), at_ms=log.at_ms, message=log.message, fields=dict(log.fields)
                )
                outputs.append(OutRecord(bus.RECORDS, document.id, wire.encode(document)))
        if source.aggregate is None:
            return batch
        if self._flush_at_ms is None:
            self._flush_at_ms = now_ms + FLUSH_MS
        return source.aggregate.add(batch)

    def _said(self, detections: Sequence[Any], record: BusRecord | None, now_ms: int, outputs: list[OutRecord]) -> bool:
        said = False
        for detection in detections:
            if isinstance(detection, AlertFact):
                outputs.append(OutRecord(bus.FACTS, detection.group, wire.encode(detection)))
                outputs.append(OutRecord(bus.RECORDS, detection.group, wire.encode(detection.alert)))
            elif isinstance(detection, Measurement):
                outputs.append(OutRecord(bus.FACTS, detection.group, wire.encode(detection)))
            elif isinstance(detection, Finding):
                outputs.append(OutRecord(bus.RECORDS, detection.id, wire.encode(detection)))
            else:
                self._rejected(detection, record, now_ms, outputs)
                continue
            said = True
        return said

    def _rejected(self, rejection: RejectionLike, record: BusRecord | None, now_ms: int, outputs: list[OutRecord]) -> None:
        self._count(rejection.reason, rejection.count)
        if rejection.reason == "late":
            self._on_late(record.topic if record else "", rejection.count)
        if record is not None and (rejection.reason in DEAD or (rejection.reason == "late" and record.appended_at_ms - rejection.at_ms > ANCIENT_MS)):
            outputs.append(dead_letter(record, f"{rejection.reason}: {rejection.text}", now_ms))

    def _count(self, reason: str, count: int) -> None:
        self.rejected[reason] = self.rejected.get(reason, 0) + count

    def _result(self, outputs: list[OutRecord], now_ms: int, *, changed: bool) -> StepResult:
        """With the snapshot where something was said, and now and then: it also says how far time had come, which a rewind goes by."""
        if not changed and now_ms - self._stored_at_ms < SNAPSHOT_MS:
            return StepResult(outputs, {})
        self._stored_at_ms = now_ms
        return StepResult(outputs, {DETECTOR: self._detector.snapshot()})

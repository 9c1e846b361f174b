"""`StageHost`: drives one stage on the embedded bus.

One step, one transaction: what it caused, the states that changed and the position in the inputs are committed together, so that a kill at any
instruction leaves either the whole step or nothing of it. A step that raises (a bug, or a full disk) is undone; the stage is built anew from what
is stored, takes the records one by one, and the one that cannot be taken goes to the dead letters.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from pipeline.ports import bus as topics
from pipeline.ports.bus import BusRecord
from pipeline.ports.clock import Clock
from pipeline.ports.execution import FaultPoint
from pipeline.ports.stage import Rewinding, Stage, StepResult
from pipeline.runtime.faults import POINTS
from pipeline.runtime.parts import Meter, Work
from pipeline.runtime.sqlite_bus import SqliteBus
from pipeline.runtime.stages import dead_letter

LOG: Final = logging.getLogger(__name__)
BATCH: Final = 500
_MAX_WAIT_MS: Final = 1000


class _StepError(Exception):
    """The machine raised; nothing was committed."""


class StageHost:
    """Runs the stage that `make` builds, from what its name has stored."""

    def __init__(self, bus: SqliteBus, make: Callable[[], Stage], clock: Clock, *, fault: FaultPoint, meter: Meter | None = None) -> None:
        self._bus, self._make, self._clock, self._fault, self._meter = bus, make, clock, fault, meter
        self.stage = make()
        self._inputs = tuple(self.stage.inputs)
        self._position = 0
        self._posted: list[Work] = []
        self._changed: asyncio.Event | None = None
        self.opened = False

    @property
    def name(self) -> str:
        """The stage's name, which is also the consumer's."""
        return self.stage.name

    def post(self, work: Work) -> None:
        """Do something with the stage between two steps (a reload)."""
        self._posted.append(work)
        if self._changed is not None:
            self._changed.set()

    async def run(self) -> None:
        """Step until cancelled."""
        self._open(self._make() if self.opened else self.stage)
        self.opened = True
        with self._bus.subscription(self._inputs) as changed:
            self._changed = changed
            while True:
                changed.clear()
                while self._posted:
                    self._do(self._posted.pop(0))
                if self._step_once():
                    await asyncio.sleep(0)
                else:
                    await self._wait(changed)

    def _do(self, work: Work) -> None:
        stage, now_ms = self.stage, self._clock.now_ms()
        self._commit([], lambda: work(stage, now_ms) or StepResult([], {}))

    def _open(self, stage: Stage) -> None:
        log = self._bus.log
        self.stage = stage
        self._position = log.position(stage.name)
        stage.load(log.states(stage.name))
        if isinstance(stage, Rewinding):
            self._rewind(stage)

    def _rewind(self, stage: Rewinding) -> None:
        log = self._bus.log
        for_rewind = [topic for topic in self._inputs if topic != topics.WATCHES]
        newest = max((at_ms for topic in for_rewind if (at_ms := log.appended_at_ms(topic, self._position)) is not None), default=None)
        if newest is None:
            return
        after = min(log.offset_at(topic, newest - stage.lookback_ms) for topic in for_rewind)
        while records := [r for r in log.fetch(for_rewind, after, BATCH) if r.offset <= self._position]:
            stage.rewind(records)
            after = records[-1].offset

    def _step_once(self) -> bool:
        now_ms = self._clock.now_ms()
        due = self.stage.due_at_ms()
        ticked = due is not None and due <= now_ms
        if ticked:
            self._commit([], lambda: self.stage.tick(now_ms))
        records = self._bus.log.fetch(self._inputs, self._position, BATCH)
        if records:
            self._take(records, now_ms)
        return ticked or bool(records)

    def _take(self, records: list[BusRecord], now_ms: int) -> None:
        try:
            self._commit(records, lambda: self.stage.handle(records, now_ms))
        except _StepError:
            LOG.exception("step_failed", extra={"stage": self.name, "records": len(records)})
            self._open(self._make())
            for record in records:
                self._take_alone(record, now_ms)

    def _take_alone(self, record: BusRecord, now_ms: int) -> None:
        try:
            self._commit([record], lambda: self.stage.handle([record], now_ms))
        except _StepError as error:
            LOG.exception("record_refused", extra={"stage": self.name, "topic": record.topic, "offset": record.offset})
            letter = dead_letter(record, f"{self.name} failed on it: {error}", now_ms)
            self._commit([record], lambda: StepResult([letter], {}))
            self._open(self._make())

    def _commit(self, records: Sequence[BusRecord], step: Callable[[], StepResult]) -> None:
        started = time.perf_counter()
        try:
            result = step()
        except Exception as error:  # whatever a machine raises on one record, the others must not wait for it
            raise _StepError(f"{type(error).__name__}: {error}") from error
        position = records[-1].offset if records else self._position
        written = {output.topic for output in result.outputs}
        points = [topic for topic in written if f"before_{topic}" in POINTS]
        for topic in points:
            self._fault(f"before_{topic}")
        if records or result.outputs or result.states:
            moved = (self.name, position) if records else None
            self._bus.log.commit(result.outputs, stage=self.name, states=result.states, position=moved)
        for topic in points:
            self._fault(f"after_{topic}")
        self._position = position
        self._bus.woke(written)
        if self._meter is not None:
            self._meter.stepped(self.name, records, result, seconds=time.perf_counter() - started)

    async def _wait(self, changed: asyncio.Event) -> None:
        due = self.stage.due_at_ms()
        wait_ms = _MAX_WAIT_MS if due is None else min(max(due - self._clock.now_ms(), 0), _MAX_WAIT_MS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_ms / 1000):
                await changed.wait()

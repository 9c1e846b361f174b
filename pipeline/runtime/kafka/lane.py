"""`Lane`: one partition of one stage, and the order in which a step becomes durable.

1. the step record (input offsets it includes, changed states, outbox) is written to the table's changelog and acknowledged;
2. the outbox is published and acknowledged;
3. the inputs are marked as done, so that Faust may commit them.

A crash before 1 repeats the step; between 1 and 3 the new owner publishes the outbox again (same ids, same bytes) and skips inputs whose offset the
record includes. States live under a key each, written after the step record that changed them and before the next one: what a recovery reads is
always the newest step record over the states before it. A step that changed nothing writes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from pipeline.ports.bus import BusRecord, OutRecord
from pipeline.ports.clock import Clock
from pipeline.ports.execution import FaultPoint
from pipeline.ports.stage import Rewinding, Stage, StepResult
from pipeline.runtime.faults import POINTS
from pipeline.runtime.parts import CannotStartError, Meter, Work
from pipeline.runtime.stages import dead_letter

LOG: Final = logging.getLogger(__name__)
STEP_KEY: Final = "step"
STATE_KEY: Final = "state:"
SCHEMA_VERSION: Final = 1
_MAX_WAIT_MS: Final = 1000
_FULL: Final = 5000
BATCH: Final = 500


class Step(msgspec.Struct, frozen=True):
    """The newest step of a lane: what it includes, what it changed, what it says."""

    applied: dict[str, int]
    states: dict[str, bytes | None]
    outbox: list[tuple[str, str, bytes]]
    schema_version: int = SCHEMA_VERSION


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Step)


class Offered(NamedTuple):
    """Records of one topic that Faust delivered together, and how to say that they are done with."""

    records: list[BusRecord]
    done: Callable[[], None]


class Shelf(Protocol):
    """The lane's part of the table."""

    def load(self) -> Mapping[str, bytes]:
        """Everything that was stored, as recovered."""
        ...

    async def put(self, entries: Sequence[tuple[str, bytes | None]]) -> None:
        """Write in this order; durable when it returns."""
        ...


class Surroundings(NamedTuple):
    """What a lane works with. `rewind`: reads the inputs from `lookback_ms` before the given offsets up to them."""

    shelf: Shelf
    publish: Callable[[Sequence[OutRecord]], Awaitable[None]]
    committed: Callable[[], Awaitable[Mapping[str, int]]]
    rewind: Callable[[Mapping[str, int], int, Callable[[list[BusRecord]], None]], Awaitable[None]]
    clock: Clock
    fault: FaultPoint
    meter: Meter | None = None


class Lane:
    """Runs the stage that `make` builds, on one partition."""

    def __init__(self, make: Callable[[], Stage], around: Surroundings) -> None:
        self._make, self._around = make, around
        self.stage = make()
        self._queue: deque[Offered] = deque()
        self._applied: dict[str, int] = {}
        self._posted: list[Work] = []
        self._changed, self._room = asyncio.Event(), asyncio.Event()
        self.opened = False
        self.waiting = 0  # records in the queue

    def offer(self, offered: Offered) -> None:
        """Take delivered records; they are stepped in the order of offering."""
        self._queue.append(offered)
        self.waiting += len(offered.records)
        self._changed.set()

    async def room(self) -> None:
        """Wait until the queue is not full."""
        while self.waiting >= _FULL:
            self._room.clear()
            await self._room.wait()

    def post(self, work: Work) -> None:
        """Do something with the stage between two steps."""
        self._posted.append(work)
        self._changed.set()

    async def run(self) -> None:
        """Step until cancelled. Once: what it took from the queue and did not finish is delivered again only to a new worker life."""
        await self._open(self.stage)
        self.opened = True
        while True:
            self._changed.clear()
            while self._posted:
                await self._do(self._posted.pop(0))
            if not await self._step_once():
                await self._wait()

    # --- opening ---------------------------------------------------------------------------------------------------------------------

    async def _open(self, stage: Stage) -> None:
        self.stage = stage
        stored = dict(self._around.shelf.load())
        states: dict[str, bytes | None] = {key.removeprefix(STATE_KEY): value for key, value in stored.items() if key.startswith(STATE_KEY)}
        if STEP_KEY in stored:
            step = _DECODER.decode(stored[STEP_KEY])
            if step.schema_version > SCHEMA_VERSION:
                raise CannotStartError(f"{stage.name}'s state was written by a newer version ({step.schema_version}): update this worker first")
            states |= step.states
            for topic, offset in step.applied.items():
                self._applied[topic] = max(self._applied.get(topic, -1), offset)
            if not self.opened:  # a former life may have died before it said this; this life has not
                await self._around.publish([OutRecord(*output) for output in step.outbox])
        stage.load({key: value for key, value in states.items() if value is not None})
        if isinstance(stage, Rewinding):
            await self._rewind(stage)

    async def _rewind(self, stage: Rewinding) -> None:
        starts = dict(await self._around.committed())
        for topic, offset in self._applied.items():
            if topic in stage.inputs:  # type: ignore[attr-defined]  # every stage has inputs
                starts[topic] = max(starts.get(topic, 0), offset + 1)
        await self._around.rewind(starts, stage.lookback_ms, stage.rewind)
        for topic, start in starts.items():
            self._applied[topic] = max(self._applied.get(topic, -1), start - 1)

    # --- stepping --------------------------------------------------------------------------------------------------------------------

    async def _step_once(self) -> bool:
        now_ms = self._around.clock.now_ms()
        due = self.stage.due_at_ms()
        ticked = due is not None and due <= now_ms
        if ticked:
            await self._commit([], lambda: self.stage.tick(now_ms))
        batch = self._next_batch()
        if batch:
            await self._take([record for one in batch for record in one.records if record.offset > self._applied.get(record.topic, -1)], now_ms)
            for one in batch:
                one.done()
        return ticked or bool(batch)

    def _next_batch(self) -> list[Offered]:
        batch: list[Offered] = []
        count = 0
        while self._queue and count < BATCH:
            batch.append(self._queue.popleft())
            count += len(batch[-1].records)
        self.waiting -= count
        self._room.set()
        return batch

    async def _take(self, records: list[BusRecord], now_ms: int) -> None:
        if not records:
            return
        try:
            await self._commit(records, lambda: self.stage.handle(records, now_ms))
        except _StepError:
            LOG.exception("step_failed", extra={"stage": self.stage.name, "records": len(records)})
            await self._open(self._make())
            for record in records:
                await self._take_alone(record, now_ms)

    async def _take_alone(self, record: BusRecord, now_ms: int) -> None:
        try:
            await self._commit([record], lambda: self.stage.handle([record], now_ms))
        except _StepError as error:
            LOG.exception("record_refused", extra={"stage": self.stage.name, "topic": record.topic, "offset": record.offset})
            letter = dead_letter(record, f"{self.stage.name} failed on it: {error}", now_ms)
            await self._commit([record], lambda: StepResult([letter], {}))
            await self._open(self._make())

    async def _do(self, work: Work) -> None:
        stage, now_ms = self.stage, self._around.clock.now_ms()
        await self._commit([], lambda: work(stage, now_ms) or StepResult([], {}))

    async def _commit(self, records: Sequence[BusRecord], step: Callable[[], StepResult]) -> None:
        started = time.perf_counter()
        try:
            result = step()
        except Exception as error:  # whatever a machine raises on one record, the others must not wait for it
            raise _StepError(f"{type(error).__name__}: {error}") from error
        for record in records:
            self._applied[record.topic] = record.offset
        if result.outputs or result.states:
            await self._make_durable(result)
        if self._around.meter is not None:
            self._around.meter.stepped(self.stage.name, records, result, seconds=time.perf_counter() - started)

    async def _make_durable(self, result: StepResult) -> None:
        points = [topic for topic in {output.topic for output in result.outputs} if f"before_{topic}" in POINTS]
        entry = Step(dict(self._applied), dict(result.states), [(output.topic, output.key, output.value) for output in result.outputs])
        await self._around.shelf.put([(STEP_KEY, _ENCODER.encode(entry))])
        for topic in points:
            self._around.fault(f"before_{topic}")
        states = [(f"{STATE_KEY}{key}", value) for key, value in result.states.items()]
        await asyncio.gather(self._around.publish(result.outputs), self._around.shelf.put(states))
        for topic in points:
            self._around.fault(f"after_{topic}")

    async def _wait(self) -> None:
        due = self.stage.due_at_ms()
        wait_ms = _MAX_WAIT_MS if due is None else min(max(due - self._around.clock.now_ms(), 0), _MAX_WAIT_MS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_ms / 1000):
                await self._changed.wait()


class _StepError(Exception):
    """The machine raised; nothing was written."""

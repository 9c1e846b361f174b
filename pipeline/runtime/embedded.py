"""The embedded runtime: every role in one process over one SQLite file.

Each part runs as a task of its own and is started again with a growing pause when it fails; none takes another down. `stop` ends the inputs first,
then lets the executor finish what it has begun.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from pipeline.model import wire
from pipeline.model.records import Action
from pipeline.ports import bus as topics
from pipeline.ports.bus import BusRecord
from pipeline.ports.clock import Clock
from pipeline.ports.execution import FaultPoint, IntentLog
from pipeline.ports.notifier import Notifier
from pipeline.ports.record import RecordStore
from pipeline.ports.stage import Rewinding
from pipeline.runtime import recording
from pipeline.runtime.host import StageHost
from pipeline.runtime.intents import SqliteIntents
from pipeline.runtime.parts import ExecutorLike, MakeStage, Meter, Parts, Work, first_to_fail
from pipeline.runtime.sqlite_bus import SqliteBus
from pipeline.runtime.sqlite_log import checkpoint
from pipeline.runtime.stages import dead_letter
from pipeline.runtime.tail import FileTail, SqlitePlaces
from pipeline.runtime.topics import NOTICES

LOG: Final = logging.getLogger(__name__)
_BATCH: Final = 500
_UPKEEP_S: Final = 2.0
_TRIM_ROUNDS: Final = 100
HOUR_MS: Final = 3_600_000
_KEEP_UNREAD_MS: Final = 7 * 24 * HOUR_MS
_MARGIN_MS: Final = 300_000


def _owns_all(_group: str) -> bool:
    """One process, one partition."""
    return True


class Consumer:
    """Reads topics in order and hands batches to `take`; the position moves when `take` returns. At least once."""

    def __init__(
        self, bus: SqliteBus, name: str, inputs: Sequence[str], take: Callable[[list[BusRecord]], Awaitable[None]], batch: int = _BATCH
    ) -> None:
        self._bus, self.name, self.inputs, self._take, self._batch = bus, name, tuple(inputs), take, batch

    async def run(self) -> None:
        """Consume until cancelled."""
        position = self._bus.log.position(self.name)
        with self._bus.subscription(self.inputs) as changed:
            while True:
                changed.clear()
                records = self._bus.log.fetch(self.inputs, position, self._batch)
                if not records:
                    await changed.wait()
                    continue
                await self._take(records)
                position = records[-1].offset
                self._bus.log.commit(position=(self.name, position))


class Embedded:
    """Holds the parts, runs them, keeps the file small."""

    def __init__(
        self,
        bus: SqliteBus,
        clock: Clock,
        *,
        fault: FaultPoint,
        meter: Meter | None = None,
        inputs: Sequence[str] = (),
        keep_inputs_ms: int = HOUR_MS,
        keep_own_ms: int = 6 * HOUR_MS,
    ) -> None:
        self.bus, self._clock, self._fault, self._meter = bus, clock, fault, meter
        self._hosts: list[StageHost] = []
        self._inputs, self._keep_inputs_ms, self._keep_own_ms = tuple(inputs), keep_inputs_ms, keep_own_ms
        self.parts = Parts()
        self._consumers: dict[str, tuple[str, ...]] = {}
        self._executor: ExecutorLike | None = None

    # --- what runs -------------------------------------------------------------------------------------------------------------------

    def add_part(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Anything that runs until cancelled."""
        self.parts.add(name, run)

    def add_file(self, path: Path, topic: str) -> None:
        """A growing file as an input topic; lines and the place in the file are one transaction."""
        self.add_part(f"file {path}", FileTail(SqlitePlaces(self.bus), path, topic).run)

    def add_stage(self, make: MakeStage) -> None:
        """A stage; `make` is called again after a failure."""
        host = StageHost(self.bus, lambda: make(_owns_all), self._clock, fault=self._fault, meter=self._meter)
        self._hosts.append(host)
        self._consumers[host.name] = tuple(host.stage.inputs)
        self.add_part(host.name, host.run)

    def post(self, work: Work) -> None:
        """Do something with every stage between two of its steps (a reload)."""
        for host in self._hosts:
            host.post(work)

    @property
    def intents(self) -> IntentLog:
        """The executor's log, in the same file."""
        return SqliteIntents(self.bus, self._clock)

    @property
    def unready(self) -> str:
        """Which part is not up yet; empty when all are."""
        return ", ".join(host.name for host in self._hosts if not host.opened)

    def add_executor(self, make: Callable[[], ExecutorLike]) -> None:
        """The executor: actions in; it publishes outcomes through its intent log. One that fails is made anew and settles what was left."""

        async def run() -> None:
            executor = self._executor = make()

            async def take(records: list[BusRecord]) -> None:
                for record in records:
                    await self._accept(executor, record)

            try:
                await executor.resume()
                await first_to_fail(consumer(take).run(), executor.failed())
            except Exception:
                await executor.close()
                raise

        def consumer(take: Callable[[list[BusRecord]], Awaitable[None]]) -> Consumer:
            return self._consumer("execute", [topics.ACTIONS], take)

        self.add_part("execute", run)

    def add_recorder(self, store: RecordStore, to_document: recording.ToDocument) -> None:
        """The recorder: records into the store."""

        async def take(records: list[BusRecord]) -> None:
            self._fault("before_record")
            letters = await recording.store(records, store, to_document, self._clock.now_ms())
            self._fault("after_record")
            if letters:
                await self.bus.publish(letters)

        self.add_part("record", self._consumer("record", [topics.RECORDS], take).run)

    def add_notifier(self, receivers: Mapping[str, Notifier]) -> None:
        """The notifier: notices to people."""

        async def take(records: list[BusRecord]) -> None:
            for record in records:
                letter = await recording.deliver(record, receivers, self._clock)
                if letter is not None:
                    await self.bus.publish([letter])

        self.add_part("notify", self._consumer("notify", [NOTICES], take, batch=1).run)

    def _consumer(self, name: str, inputs: Sequence[str], take: Callable[[list[BusRecord]], Awaitable[None]], batch: int = _BATCH) -> Consumer:
        self._consumers[name] = tuple(inputs)
        return Consumer(self.bus, name, inputs, take, batch)

    async def _accept(self, executor: ExecutorLike, record: BusRecord) -> None:
        try:
            action = wire.decode_as(Action, record.value)
        except wire.WireError as error:
            await self.bus.publish([dead_letter(record, str(error), self._clock.now_ms())])
            return
        await executor.accept(action)

    # --- life ------------------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start every part."""
        self.add_part("upkeep", self._upkeep)
        self.parts.start()

    async def stop(self, *, within_s: float = 8.0) -> None:
        """End all parts between two steps, then wait for the executor; the bus stays open."""
        await self.parts.stop()
        if self._executor is not None:
            try:
                await self._executor.drain(int(within_s * 1000))
            except Exception:  # it had failed before; what it left is settled by the next start
                LOG.exception("executor_not_drained")
            await self._executor.close()

    def restart_part(self, name: str) -> None:
        """End one part and start it again."""
        self.parts.restart(name)

    async def lag(self) -> dict[str, int]:
        """Records not yet dealt with, per consumer."""
        log = self.bus.log
        return {name: log.backlog(inputs, log.position(name)) for name, inputs in self._consumers.items()}

    async def _upkeep(self) -> None:
        while True:
            await asyncio.sleep(_UPKEEP_S)
            await asyncio.to_thread(checkpoint, self.bus.log.path)
            await self.trim()

    async def trim(self) -> None:
        """Each process trims what it reads: what nobody has read stays, for a week at most."""
        now_ms = self._clock.now_ms()
        for topic, readers in self._readers().items():
            position = min((self.bus.log.position(name) for name in readers), default=self.bus.log.end())
            await self._trim_topic(topic, now_ms - self._keep_ms(topic), position)
            await self._trim_topic(topic, now_ms - _KEEP_UNREAD_MS, self.bus.log.end())
        self.bus.log.trim_intents(before_ms=now_ms - self._keep_own_ms)

    def _readers(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {topics.DEAD_LETTERS: []}
        for name, inputs in self._consumers.items():
            for topic in inputs:
                found.setdefault(topic, []).append(name)
        return found

    def _keep_ms(self, topic: str) -> int:
        """Inputs as long as a rewind may want them, our own topics for a look back."""
        if topic == topics.DEAD_LETTERS:
            return _KEEP_UNREAD_MS
        if topic not in self._inputs:
            return self._keep_own_ms
        lookbacks = [host.stage.lookback_ms for host in self._hosts if isinstance(host.stage, Rewinding)]
        return max(self._keep_inputs_ms, max(lookbacks, default=0) + _MARGIN_MS)

    async def _trim_topic(self, topic: str, before_ms: int, up_to: int) -> None:
        for _ in range(_TRIM_ROUNDS):
            if not self.bus.log.trim(topic, before_ms=before_ms, up_to=up_to):
                return
            await asyncio.sleep(0)  # a step of the stages in between: deleting must not hold up an action

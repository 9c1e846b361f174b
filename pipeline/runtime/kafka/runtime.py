"""`KafkaRuntime`: the same parts as the embedded runtime, on Kafka. `app` wires either without knowing which."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from aiokafka.errors import KafkaError

from pipeline.model import wire
from pipeline.model.records import Action
from pipeline.ports import bus as topics
from pipeline.ports.bus import BusRecord
from pipeline.ports.clock import Clock
from pipeline.ports.execution import FaultPoint, IntentLog
from pipeline.ports.notifier import Notifier
from pipeline.ports.record import RecordStore
from pipeline.runtime import recording
from pipeline.runtime.kafka.bus import KafkaBus
from pipeline.runtime.kafka.cluster import Cluster, prepare
from pipeline.runtime.kafka.intents import KafkaIntents
from pipeline.runtime.kafka.lane import Surroundings
from pipeline.runtime.kafka.producer import Producer
from pipeline.runtime.kafka.sinks import Ownership, Sink
from pipeline.runtime.kafka.worker import StageSpec, Worker, changelog_of
from pipeline.runtime.parts import ExecutorLike, MakeStage, Meter, Parts, Work, first_to_fail
from pipeline.runtime.stages import dead_letter
from pipeline.runtime.tail import FilePlaces, FileTail
from pipeline.runtime.topics import NOTICES

LOG: Final = logging.getLogger(__name__)
FAMILIES: Final = {"detect": "inputs", "remediate": "groups", "govern": "single"}
ROLE_OF: Final = {"detect": "detect", "remediate": "remediate", "govern": "remediate"}


_LOOK_AGAIN_S: Final = 1.0

SWITCH_S: Final = 0.0005  # measured: p50 of the whole way 298 -> 99 ms on a busy machine


class KafkaRuntime:
    """Holds the parts and runs them. `inputs`: the topics of the configuration, which detection reads and rewinds."""

    def __init__(
        self, cluster: Cluster, clock: Clock, *, fault: FaultPoint, data_dir: Path, inputs: tuple[str, ...], meter: Meter | None = None
    ) -> None:
        self._cluster, self._clock, self._fault, self._data_dir, self._inputs, self._meter = cluster, clock, fault, data_dir, inputs, meter
        # A producer has one request under way per broker, so whoever is on the way from cause to action has one of its own.
        self._producers = {name: Producer(cluster) for name in ("bus", "intents", *ROLE_OF)}
        self.bus = KafkaBus(cluster, self._producers["bus"])
        self.parts = Parts()
        self._specs: dict[str, list[StageSpec]] = {}
        self._workers: dict[str, Worker] = {}
        self._sinks: list[Sink] = []
        self._executor: ExecutorLike | None = None
        self._widths: Mapping[str, int] = {}
        self._intents = KafkaIntents(cluster, self._producers["intents"], clock)

    @property
    def intents(self) -> IntentLog:
        """The executor's log."""
        return self._intents

    # --- what runs -------------------------------------------------------------------------------------------------------------------

    def add_part(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Anything that runs until cancelled."""
        self.parts.add(name, run)

    def restart_part(self, name: str) -> None:
        """End one part and start it again."""
        self.parts.restart(name)

    def add_file(self, path: Path, topic: str) -> None:
        """A growing file as an input topic. The place in the file follows the lines: a crash may send some lines twice, never none."""
        self.parts.add(f"file {path}", FileTail(FilePlaces(self.bus, self._data_dir / "places"), path, topic).run)

    def add_stage(self, make: MakeStage) -> None:
        """A stage; `make` is called for every partition, and again after a failure."""
        stage = make(lambda _group: True)
        spec = StageSpec(stage.name, make, stage.inputs, FAMILIES[stage.name], self._inputs if stage.name == "detect" else ())
        role = ROLE_OF[stage.name]
        if role not in self._specs:
            self.parts.add(role, lambda: self._work(role))
        self._specs.setdefault(role, []).append(spec)

    def post(self, work: Work) -> None:
        """Do something with every stage between two of its steps."""
        for worker in self._workers.values():
            for lane in worker.lanes:
                lane.post(work)

    def add_executor(self, make: Callable[[], ExecutorLike]) -> None:
        """The executor: made anew whenever the partitions of the actions change hands."""

        async def gained(partitions: set[int]) -> None:
            await self._close_executor()
            await self._intents.read_back(partitions)
            executor = self._executor = make()
            await executor.resume()

        async def take(records: list[BusRecord]) -> None:
            for record in records:
                await self._accept(record)

        sink = Sink(self._cluster, "execute", [topics.ACTIONS], take, ownership=Ownership(gained, self._close_executor))
        self._sinks.append(sink)

        async def run() -> None:
            try:
                await first_to_fail(sink.run(), self._executor_failed())
            finally:
                await self._close_executor()

        self.parts.add("execute", run)

    def add_recorder(self, store: RecordStore, to_document: recording.ToDocument) -> None:
        """The recorder: records into the store."""

        async def take(records: list[BusRecord]) -> None:
            self._fault("before_record")
            letters = await recording.store(records, store, to_document, self._clock.now_ms())
            self._fault("after_record")
            if letters:
                await self.bus.publish(letters)

        self._add_sink("record", topics.RECORDS, take)

    def add_notifier(self, receivers: Mapping[str, Notifier]) -> None:
        """The notifier: notices to people."""

        async def take(records: list[BusRecord]) -> None:
            for record in records:
                letter = await recording.deliver(record, receivers, self._clock)
                if letter is not None:
                    await self.bus.publish([letter])

        self._add_sink("notify", NOTICES, take)

    # --- life ------------------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect, make what topics are missing, start every part.

        Raises:
            ClusterError: topics that cannot be worked with.
        """
        # Faust's consumers run in threads of their own: with Python's 5 ms each hand-over of a record would cost a hop several of them.
        sys.setswitchinterval(SWITCH_S)
        await asyncio.gather(*(producer.start() for producer in self._producers.values()))
        width = await self._prepared()
        self._widths = {"inputs": width, "groups": self._cluster.partitions, "single": 1}
        self.parts.start()

    async def _prepared(self) -> int:
        tables = {changelog_of(self._cluster, role, name): FAMILIES[name] for name, role in ROLE_OF.items()}
        while True:
            try:
                return await prepare(self._cluster, self._inputs, tables)
            except KafkaError as error:
                LOG.warning("topics_not_prepared", extra={"error": repr(error)})
                await asyncio.sleep(_LOOK_AGAIN_S)

    async def stop(self, *, within_s: float = 6.0) -> None:
        """Let the executor finish what it has begun, then end all."""
        executor = self._executor
        if executor is not None:
            try:
                await executor.drain(int(within_s * 1000))
            except Exception:  # it had failed before; what it left is settled by the next start
                LOG.exception("executor_not_drained")
        await self.parts.stop()
        await asyncio.gather(*(producer.stop() for producer in self._producers.values()))

    @property
    def unready(self) -> str:
        """Which part is not up yet; empty when all are."""
        waiting = [role for role in self._specs if not self._is_up(role)]
        waiting += [sink.role for sink in self._sinks if not sink.ready]
        if any(producer.waiting_since for producer in self._producers.values()):
            waiting.append("the broker does not answer")
        return ", ".join(waiting)

    async def lag(self) -> dict[str, int]:
        """Records not yet dealt with, per consumer."""
        found = {sink.role: await sink.lag() for sink in self._sinks}
        return found | {role: sum(lane.waiting for lane in worker.lanes) for role, worker in self._workers.items()}

    # --- inside ----------------------------------------------------------------------------------------------------------------------

    def _is_up(self, role: str) -> bool:
        worker = self._workers.get(role)
        return worker is not None and worker.is_up

    async def _work(self, role: str) -> None:
        worker = self._workers[role] = Worker(
            self._cluster, role, self._specs[role], self._producers, data_dir=self._data_dir, widths=self._widths, around=self._around
        )
        await worker.run()

    def _around(self, **parts: Any) -> Surroundings:
        return Surroundings(**parts, clock=self._clock, fault=self._fault, meter=self._meter)

    def _add_sink(self, role: str, topic: str, take: Callable[[list[BusRecord]], Awaitable[None]]) -> None:
        sink = Sink(self._cluster, role, [topic], take)
        self._sinks.append(sink)
        self.parts.add(role, sink.run)

    async def _accept(self, record: BusRecord) -> None:
        try:
            action = wire.decode_as(Action, record.value)
        except wire.WireError as error:
            await self.bus.publish([dead_letter(record, str(error), self._clock.now_ms())])
            return
        if self._executor is None:
            raise RuntimeError("actions came before their partition")
        await self._executor.accept(action)

    async def _executor_failed(self) -> None:
        """Raise what the executor of the moment fails with."""
        while True:
            executor = self._executor
            if executor is None:
                await asyncio.sleep(_LOOK_AGAIN_S)
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(executor.failed(), _LOOK_AGAIN_S)

    async def _close_executor(self) -> None:
        executor, self._executor = self._executor, None
        if executor is not None:
            await executor.close()

"""`Worker`: one Faust app that runs the lanes of some stages.

An agent per input topic hands what Faust delivers to the lane of its partition; a table per stage holds the lanes' states. Lanes live from the end of
a recovery to the next rebalance. When anything fails for good the whole app is ended and a new one takes over from what is durable.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import faust
from faust.auth import SASLCredentials, SSLCredentials

from pipeline.ports.bus import OutRecord
from pipeline.runtime.kafka.bus import bus_record, messages_of
from pipeline.runtime.kafka.cluster import Cluster, partition_of
from pipeline.runtime.kafka.lane import Lane, Offered, Surroundings
from pipeline.runtime.kafka.producer import Message, Producer
from pipeline.runtime.kafka.rewinding import Rewinder
from pipeline.runtime.kafka.transport import Transport
from pipeline.runtime.parts import MakeStage

LOG: Final = logging.getLogger(__name__)
_STOP_S: Final = 5.0
_WATCH_S: Final = 5.0
_MAX_DOWN_S: Final = 120.0


class StageSpec(NamedTuple):
    """A stage to run: how it is built, its topics, and its family of partitions (inputs, groups, single)."""

    name: str
    make: MakeStage
    inputs: tuple[str, ...]
    family: str
    rewound: tuple[str, ...] = ()


class WorkerError(Exception):
    """The Faust app ended by itself."""


def changelog_of(cluster: Cluster, role: str, stage: str) -> str:
    """The topic that Faust gives the table of a stage."""
    return f"{cluster.group(role)}-{stage}-state-changelog"


class _App(faust.App):  # type: ignore[misc]  # Faust is read without types
    """Faust with our transport, and what it has to say under its own name."""

    logger = logging.getLogger("faust.app")

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)


class TableShelf:
    """A lane's part of a table: keys carry the partition, writes go to its changelog partition and into the table at once."""

    def __init__(self, table: Any, topic: str, partition: int, producer: Producer) -> None:
        self._table, self._topic, self._partition, self._producer = table, topic, partition, producer
        self._prefix = f"{partition}/".encode()

    def load(self) -> Mapping[str, bytes]:
        """Everything of this partition, as recovered."""
        found = self._table.data.data.items()
        return {key[len(self._prefix) :].decode(): value for key, value in found if key.startswith(self._prefix) and value is not None}

    async def put(self, entries: Sequence[tuple[str, bytes | None]]) -> None:
        """Durable when it returns."""
        if not entries:
            return
        await self._producer.send([Message(self._topic, self._prefix + key.encode(), value, self._partition) for key, value in entries])
        for key, value in entries:
            self._table.data.data[self._prefix + key.encode()] = value


class Worker:
    """Runs until cancelled or failed; not to be used twice."""

    def __init__(
        self,
        cluster: Cluster,
        role: str,
        specs: Sequence[StageSpec],
        producers: Mapping[str, Producer],
        *,
        data_dir: Path,
        widths: Mapping[str, int],
        around: Callable[..., Surroundings],
    ) -> None:
        self._cluster, self._role, self._specs, self._producers, self._around = cluster, role, list(specs), producers, around
        self._data_dir = data_dir / "faust"
        self._app = self._new_app()
        self._tables = {
            spec.name: self._app.Table(f"{spec.name}-state", partitions=widths[spec.family], key_type=bytes, value_type=bytes) for spec in specs
        }
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for spec in specs:
            for topic in spec.inputs:
                self._add_agent(spec, topic)
        self._app.on_partitions_revoked.connect(self._on_revoked)
        self._app.on_rebalance_complete.connect(self._on_recovered)
        self._recovered = False

    @property
    def lanes(self) -> list[Lane]:
        """Those that run now."""
        return list(self._lanes.values())

    @property
    def is_up(self) -> bool:
        """Whether all lanes of the last assignment are open."""
        return self._recovered and all(lane.opened for lane in self._lanes.values())

    async def run(self) -> None:
        """Start, stay, and end everything again.

        Raises:
            WorkerError: a lane or the app failed.
        """
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self._app.finalize()
        watching, ended = asyncio.create_task(self._watch()), asyncio.create_task(self._ended())
        try:
            await self._app.start()
            await asyncio.wait({ended, self._failed}, return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                self._failed.result()
            raise WorkerError(f"the Faust app of role {self._role} ended: {self._app.crash_reason!r}")
        finally:
            watching.cancel()
            ended.cancel()
            await self._end_lanes()
            with contextlib.suppress(TimeoutError):  # what it holds is durable; a new app takes over
                await asyncio.wait_for(self._app.stop(), _STOP_S)

    async def _ended(self) -> None:
        """Return when the app, once started, has stopped by itself."""
        await self._app.wait_until_stopped()

    async def _watch(self) -> None:
        """An app that neither recovers nor fails is started anew."""
        down_s = 0.0
        while down_s < _MAX_DOWN_S:
            await asyncio.sleep(_WATCH_S)
            down_s = 0.0 if self._recovered else down_s + _WATCH_S
        self._fail(WorkerError(f"role {self._role} had no partitions for {_MAX_DOWN_S:g} s"))

    # --- Faust calls these -----------------------------------------------------------------------------------------------------------

    def _add_agent(self, spec: StageSpec, topic: str) -> None:
        name = self._cluster.topic(topic)
        channel = self._app.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", allow_empty=True)

        async def hand_over(stream: Any) -> None:
            events: AsyncIterator[Any] = stream.noack().events()
            async for event in events:
                await self._hand_over(spec, event)

        self._app.agent(channel, name=f"{spec.name}.{name}")(hand_over)

    async def _hand_over(self, spec: StageSpec, event: Any) -> None:
        message = event.message
        lane = self._lanes.get((spec.name, message.partition))
        event.ack()
        if message.generation_id != self._app.consumer_generation_id or not self._recovered:
            return  # of a partition that was taken away: whoever has it now reads it again
        if lane is None:
            self._fail(WorkerError(f"{message.topic}/{message.partition} was delivered, but has no lane"))
            return
        consumer = self._app.consumer
        records = [bus_record(self._cluster, record) for record in message.value.records]
        lane.offer(Offered(records, lambda: consumer.finish(message.tp, message.offset)))
        await lane.room()

    async def _on_revoked(self, *_args: Any, **_more: Any) -> None:
        self._recovered = False
        await self._end_lanes()

    async def _on_recovered(self, *_args: Any, **_more: Any) -> None:
        """Tables are whole and nothing is delivered yet: start a lane per partition that is ours."""
        await self._end_lanes()
        mine = self._app.assignor.assigned_actives()
        for spec in self._specs:
            topics = {self._cluster.topic(topic) for topic in spec.inputs}
            for partition in sorted({tp.partition for tp in mine if tp.topic in topics}):
                self._start_lane(spec, partition)
        self._recovered = True

    # --- lanes -----------------------------------------------------------------------------------------------------------------------

    def _start_lane(self, spec: StageSpec, partition: int) -> None:
        producer = self._producers[spec.name]
        shelf = TableShelf(self._tables[spec.name], changelog_of(self._cluster, self._role, spec.name), partition, producer)
        rewinder = Rewinder(self._cluster, self._cluster.group(self._role), spec.inputs, spec.rewound, partition)
        owns = self._owner(spec, partition)
        lane = Lane(
            lambda: spec.make(owns),
            self._around(shelf=shelf, publish=partial(self._publish, producer), committed=rewinder.committed, rewind=rewinder.rewind),
        )
        self._lanes[spec.name, partition] = lane
        task = asyncio.create_task(lane.run(), name=f"{spec.name}/{partition}")
        self._tasks.add(task)
        task.add_done_callback(self._lane_ended)

    def _owner(self, spec: StageSpec, partition: int) -> Callable[[str], bool]:
        if spec.family != "groups":
            return lambda _group: True
        return lambda group: partition_of(group, self._cluster.partitions) == partition

    async def _publish(self, producer: Producer, records: Sequence[OutRecord]) -> None:
        if records:
            await producer.send(messages_of(self._cluster, records))

    def _lane_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)

    async def _end_lanes(self) -> None:
        self._lanes.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _new_app(self) -> _App:
        cluster = self._cluster
        return _App(
            cluster.group(self._role),
            broker=[f"kafka://{address}" for address in cluster.bootstrap],
            broker_credentials=_credentials(cluster.security),
            store="memory://",
            datadir=self._data_dir / self._role,
            autodiscover=False,
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            reply_create_topic=False,
            table_standby_replicas=0,
            processing_guarantee="at_least_once",
            consumer_auto_offset_reset="earliest",
            consumer_group_instance_id=f"{cluster.instance_id}-{self._role}",
            broker_session_timeout=6.0,
            broker_heartbeat_interval=2.0,
            broker_rebalance_timeout=10.0,
            broker_commit_interval=0.5,
            broker_max_poll_records=2000,
            stream_wait_empty=False,
            stream_recovery_delay=0.0,
            loop=asyncio.get_running_loop(),
        )


def _credentials(security: Mapping[str, Any]) -> Any:
    context = security.get("ssl_context")
    if "sasl_mechanism" in security:
        return SASLCredentials(
            username=security["sasl_plain_username"],
            password=security["sasl_plain_password"],
            mechanism=security["sasl_mechanism"],
            ssl_context=context,
        )
    return SSLCredentials(context=context) if context is not None else None

"""Consumers that need no table: recorder, notifier, and the executor with its intent log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError

from pipeline.ports.bus import BusRecord
from pipeline.runtime.kafka.bus import bus_record, new_consumer
from pipeline.runtime.kafka.cluster import Cluster

Take = Callable[[list[BusRecord]], Awaitable[None]]
_POLL_MS: Final = 200
_COMMIT_S: Final = 0.5


def group_consumer(cluster: Cluster, role: str) -> AIOKafkaConsumer:
    """A member of the role's group with a static identity: a quick restart keeps its partitions."""
    return new_consumer(
        cluster,
        group_id=cluster.group(role),
        group_instance_id=f"{cluster.instance_id}-{role}",
        session_timeout_ms=6000,
        heartbeat_interval_ms=2000,
        rebalance_timeout_ms=10_000,
        max_poll_records=500,
    )


class Ownership(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Notes what was assigned; `gained` and `lost` are called by the sink's loop, between two batches, and right at the loss."""

    def __init__(self, gained: Callable[[set[int]], Awaitable[None]] | None = None, lost: Callable[[], Awaitable[None]] | None = None) -> None:
        self._gained, self._lost = gained, lost
        self._news: set[int] | None = None
        self.known = False  # whether the group has said what is ours; it may be nothing

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Called inside the rebalance, so it only notes."""
        self._news = {tp.partition for tp in assigned}

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:  # noqa: ARG002 - aiokafka's shape
        """Everything is revoked at every rebalance."""
        if self._lost is not None:
            await self._lost()

    async def settle(self) -> None:
        """Tell of an assignment that is new."""
        news, self._news = self._news, None
        if news is None:
            return
        if self._gained is not None:
            await self._gained(news)
        self.known = True


class Sink:
    """Hands records to `take` and commits what it has returned from; at least once. `ownership` hears of partitions before their first record."""

    def __init__(self, cluster: Cluster, role: str, inputs: Sequence[str], take: Take, *, ownership: Ownership | None = None) -> None:
        self._cluster, self.role, self.inputs, self._take = cluster, role, tuple(inputs), take
        self._ownership = ownership or Ownership()
        self._consumer: AIOKafkaConsumer | None = None
        self.ready = False

    async def run(self) -> None:
        """Consume until cancelled."""
        consumer = self._consumer = group_consumer(self._cluster, self.role)
        await consumer.start()
        try:
            consumer.subscribe([self._cluster.topic(name) for name in self.inputs], listener=self._ownership)
            await self._consume(consumer)
        finally:
            self.ready = False
            await consumer.stop()

    async def _consume(self, consumer: AIOKafkaConsumer) -> None:
        loop = asyncio.get_running_loop()
        done: dict[TopicPartition, int] = {}
        committed_at = loop.time()
        try:
            while True:
                found: Mapping[TopicPartition, list[Any]] = await consumer.getmany(timeout_ms=_POLL_MS)
                await self._ownership.settle()
                self.ready = self._ownership.known
                for tp, records in found.items():
                    await self._take([bus_record(self._cluster, record) for record in records])
                    done[tp] = records[-1].offset + 1
                if done and loop.time() - committed_at >= _COMMIT_S:
                    await self._commit(consumer, done)
                    committed_at = loop.time()
        finally:
            await self._commit(consumer, done)

    @staticmethod
    async def _commit(consumer: AIOKafkaConsumer, done: dict[TopicPartition, int]) -> None:
        offsets = {tp: offset for tp, offset in done.items() if tp in consumer.assignment()}
        done.clear()
        if offsets:
            try:
                await consumer.commit(offsets)
            except (CommitFailedError, IllegalStateError):
                return  # taken away meanwhile: the new owner takes the records again, and knows their ids

    async def lag(self) -> int:
        """Records not taken yet."""
        consumer = self._consumer
        if consumer is None or not self.ready:
            return 0
        lags = [(consumer.highwater(tp) or 0) - await consumer.position(tp) for tp in consumer.assignment()]
        return sum(max(lag, 0) for lag in lags)

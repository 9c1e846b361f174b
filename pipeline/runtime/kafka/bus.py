"""`KafkaBus`: the bus port on Kafka, for gateway, command line and tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.ports import bus
from pipeline.ports.bus import BusRecord, OutRecord
from pipeline.runtime.kafka.cluster import Cluster
from pipeline.runtime.kafka.producer import Message, Producer

FETCH_WAIT_MS: Final = 10
_POLL_MS: Final = 200


class KafkaBus:
    """Publishes through one producer; every `read` has a consumer of its own, without a group."""

    def __init__(self, cluster: Cluster, producer: Producer | None = None) -> None:
        self._cluster = cluster
        self._own = producer is None
        self.producer = producer or Producer(cluster)
        self._started = not self._own
        self._starting = asyncio.Lock()
        self._closed = False

    async def publish(self, records: Sequence[OutRecord]) -> None:
        """Durable when it returns. A command for all groups goes to every partition."""
        await self._start()
        await self.producer.send(messages_of(self._cluster, records))

    async def read(self, topic: str, *, from_start: bool = True) -> AsyncIterator[BusRecord]:
        """Every record, in order per partition; ends when the bus is closed."""
        await self._start()
        consumer = new_consumer(self._cluster)
        await consumer.start()
        try:
            name = self._cluster.topic(topic)
            partitions = [TopicPartition(name, number) for number in await self.producer.partitions(name)]
            consumer.assign(partitions)
            await (consumer.seek_to_beginning if from_start else consumer.seek_to_end)(*partitions)
            while not self._closed:
                for records in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
                    for record in records:
                        yield bus_record(self._cluster, record)
        finally:
            await consumer.stop()

    async def _start(self) -> None:
        async with self._starting:
            if not self._started:
                await self.producer.start()
                self._started = True

    async def close(self) -> None:
        """Release the producer. Idempotent."""
        self._closed = True
        if self._own and self._started:
            await self.producer.stop()


def messages_of(cluster: Cluster, records: Sequence[OutRecord]) -> list[Message]:
    """Records as the broker takes them."""
    found: list[Message] = []
    for record in records:
        topic, key = cluster.topic(record.topic), record.key.encode() or None
        if record.topic == bus.COMMANDS and key is None:
            found.extend(Message(topic, None, record.value, partition) for partition in range(cluster.partitions))
        else:
            found.append(Message(topic, key, record.value))
    return found


def bus_record(cluster: Cluster, record: Any) -> BusRecord:
    """A record of aiokafka as ours."""
    key = record.key.decode(errors="replace") if record.key else ""
    return BusRecord(cluster.bare(record.topic), record.partition, record.offset, key, record.value or b"", record.timestamp)


def new_consumer(cluster: Cluster, **more: Any) -> AIOKafkaConsumer:
    """A consumer that commits nothing by itself and does not wait for data longer than a moment: a fetch for quiet partitions holds up the others."""
    settings = {
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "fetch_max_wait_ms": FETCH_WAIT_MS,
        "max_partition_fetch_bytes": 4 << 20,
        "retry_backoff_ms": 50,
    }
    return AIOKafkaConsumer(**cluster.client(), **settings | more)

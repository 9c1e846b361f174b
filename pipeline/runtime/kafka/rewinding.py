"""`Rewinder`: reads inputs again from before the committed offsets, so that windows need no storage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.ports.bus import BusRecord
from pipeline.runtime.kafka.bus import bus_record, new_consumer
from pipeline.runtime.kafka.cluster import Cluster

_WAIT_MS: Final = 1000


class Rewinder:
    """For one partition of one stage. `rewound`: the inputs that are read again."""

    def __init__(self, cluster: Cluster, group: str, inputs: tuple[str, ...], rewound: tuple[str, ...], partition: int) -> None:
        self._cluster, self._group, self._inputs, self._rewound, self._partition = cluster, group, inputs, rewound, partition

    async def committed(self) -> Mapping[str, int]:
        """The committed offset per input topic (bare names); absent where nothing was committed."""
        consumer = new_consumer(self._cluster, group_id=self._group)
        await consumer.start()
        try:
            found: dict[str, int] = {}
            consumer.assign([self._at(topic) for topic in self._inputs])
            for topic in self._inputs:
                offset = await consumer.committed(self._at(topic))
                if offset is not None:
                    found[topic] = offset
            return found
        finally:
            await consumer.stop()

    async def rewind(self, starts: Mapping[str, int], lookback_ms: int, take: Callable[[list[BusRecord]], None]) -> None:
        """Hand over what lies between `lookback_ms` before the newest record below `starts` and there, in the order of arrival."""
        ends = {self._at(topic): starts[topic] for topic in self._rewound if starts.get(topic, 0) > 0}
        if not ends:
            return
        consumer = new_consumer(self._cluster)
        await consumer.start()
        try:
            consumer.assign(list(ends))
            newest_ms = await self._newest_ms(consumer, ends)
            if newest_ms is None:
                return
            await self._seek(consumer, ends, newest_ms - lookback_ms)
            await self._read(consumer, ends, take)
        finally:
            await consumer.stop()

    def _at(self, topic: str) -> TopicPartition:
        return TopicPartition(self._cluster.topic(topic), self._partition)

    async def _newest_ms(self, consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> int | None:
        """When the newest record below the ends was appended; None: nothing of it is left."""
        beginnings = await consumer.beginning_offsets(list(ends))
        times: list[int] = []
        for tp, end in ends.items():
            if beginnings[tp] >= end:
                continue
            consumer.seek(tp, end - 1)
            record = await self._one(consumer, tp, end)
            if record is not None:
                times.append(record)
        return max(times, default=None)

    @staticmethod
    async def _one(consumer: AIOKafkaConsumer, tp: TopicPartition, end: int) -> int | None:
        while await consumer.position(tp) < end:
            for record in (await consumer.getmany(tp, timeout_ms=_WAIT_MS, max_records=1)).get(tp, ()):
                return int(record.timestamp)
        return None

    @staticmethod
    async def _seek(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int], from_ms: int) -> None:
        places = await consumer.offsets_for_times(dict.fromkeys(ends, max(from_ms, 0)))
        for tp, end in ends.items():
            place = places.get(tp)
            consumer.seek(tp, min(place.offset, end) if place is not None else end)

    async def _read(self, consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int], take: Callable[[list[BusRecord]], None]) -> None:
        """Partitions one after the other would mix up time between inputs, so everything is gathered and sorted by arrival."""
        gathered: list[BusRecord] = []
        left = {tp for tp, end in ends.items() if await consumer.position(tp) < end}
        while left:
            for tp, records in (await consumer.getmany(*left, timeout_ms=_WAIT_MS)).items():
                gathered.extend(bus_record(self._cluster, record) for record in records if record.offset < ends[tp])
            left = {tp for tp in left if await consumer.position(tp) < ends[tp]}
        gathered.sort(key=lambda record: record.appended_at_ms)
        take(gathered)

"""The intent log on Kafka: a compacted topic, partitioned like the actions, read back when a partition becomes ours.

An outcome is first stored in its intent, then published, then marked as published: whoever reads an unpublished outcome publishes
the very same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from aiokafka import TopicPartition

from pipeline.model import wire
from pipeline.model.records import Action, Outcome
from pipeline.ports import bus
from pipeline.ports.bus import OutRecord
from pipeline.ports.clock import Clock
from pipeline.ports.execution import Intent
from pipeline.runtime.intents import decode_intent, encode_intent
from pipeline.runtime.kafka.bus import messages_of, new_consumer
from pipeline.runtime.kafka.cluster import INTENTS, Cluster, partition_of
from pipeline.runtime.kafka.producer import Message, Producer

KEEP_MS: Final = 24 * 3_600_000


class _Entry(msgspec.Struct):
    """An intent on the topic."""

    accepted_at_ms: int
    body: bytes
    published: bool = False


_DECODER: Final = msgspec.msgpack.Decoder(_Entry)


class KafkaIntents:
    """The intent log port for the partitions that `read_back` was told."""

    def __init__(self, cluster: Cluster, producer: Producer, clock: Clock) -> None:
        self._cluster, self._producer, self._clock = cluster, producer, clock
        self._topic = cluster.topic(INTENTS)
        self._entries: dict[str, _Entry] = {}

    async def read_back(self, partitions: Iterable[int]) -> None:
        """Know everything about these partitions and nothing of others; publish outcomes that were stored but not said."""
        self._entries = {}
        consumer = new_consumer(self._cluster)
        await consumer.start()
        try:
            tps = [TopicPartition(self._topic, partition) for partition in partitions]
            consumer.assign(tps)
            ends = await consumer.end_offsets(tps)
            await consumer.seek_to_beginning(*tps)
            left = {tp for tp in tps if await consumer.position(tp) < ends[tp]}
            while left:
                for records in (await consumer.getmany(*left, timeout_ms=200)).values():
                    for record in records:
                        self._note(record.key.decode(), record.value)
                left = {tp for tp in left if await consumer.position(tp) < ends[tp]}
        finally:
            await consumer.stop()
        await self._tidy()

    async def accept(self, action: Action) -> bool:
        """Store a new intent; False when this action id is known."""
        if action.id in self._entries:
            return False
        await self._write(action, _Entry(self._clock.now_ms(), encode_intent(Intent(action=action))))
        return True

    async def planned(self, action_id: str, change: Mapping[str, Any]) -> None:
        """Store the concrete change."""
        entry = self._entries[action_id]
        intent = msgspec.structs.replace(decode_intent(entry.body), change=change)
        await self._write(intent.action, _Entry(entry.accepted_at_ms, encode_intent(intent)))

    async def finish(self, outcome: Outcome) -> None:
        """Store the outcome, publish it, note that it is published."""
        entry = self._entries[outcome.action_id]
        known = decode_intent(entry.body)
        if known.outcome is not None:
            return
        intent = msgspec.structs.replace(known, outcome=outcome)
        done = _Entry(entry.accepted_at_ms, encode_intent(intent))
        await self._write(intent.action, done)
        await self._publish(intent.action, done, outcome)

    async def unfinished(self) -> list[Intent]:
        """Intents without an outcome, oldest first."""
        entries = sorted(self._entries.items(), key=lambda item: (item[1].accepted_at_ms, item[0]))
        return [intent for _, entry in entries if not entry.published and (intent := decode_intent(entry.body)).outcome is None]

    async def _publish(self, action: Action, entry: _Entry, outcome: Outcome) -> None:
        await self._producer.send(messages_of(self._cluster, [OutRecord(bus.OUTCOMES, outcome.group, wire.encode(outcome))]))
        await self._write(action, _Entry(entry.accepted_at_ms, entry.body, published=True))

    async def _tidy(self) -> None:
        """Say what a crash left unsaid; forget what is too old to come again."""
        before_ms = self._clock.now_ms() - KEEP_MS
        for action_id, entry in list(self._entries.items()):
            intent = decode_intent(entry.body)
            if entry.published and entry.accepted_at_ms < before_ms:
                del self._entries[action_id]
                await self._producer.send([Message(self._topic, action_id.encode(), None, self._partition(intent.action))])
            elif intent.outcome is not None and not entry.published:
                await self._publish(intent.action, entry, intent.outcome)

    def _note(self, action_id: str, value: bytes | None) -> None:
        if value is None:
            self._entries.pop(action_id, None)
        else:
            self._entries[action_id] = _DECODER.decode(value)

    async def _write(self, action: Action, entry: _Entry) -> None:
        await self._producer.send([Message(self._topic, action.id.encode(), msgspec.msgpack.encode(entry), self._partition(action))])
        self._entries[action.id] = entry

    def _partition(self, action: Action) -> int:
        return partition_of(action.group, self._cluster.partitions)

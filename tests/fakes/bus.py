"""`FakeBus`: topics in memory, one partition each."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from pipeline.ports.bus import BusRecord, OutRecord
from pipeline.ports.clock import Clock
from tests.fakes.clock import FakeClock


class FakeBus:
    """The bus port without anything behind it. `records` is all that was published, in order."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or FakeClock()
        self.records: list[BusRecord] = []
        self._changed = asyncio.Condition()
        self._closed = False

    async def publish(self, records: Sequence[OutRecord]) -> None:
        async with self._changed:
            for topic, key, value in records:
                self.records.append(BusRecord(topic, 0, len(self.records) + 1, key, value, self._clock.now_ms()))
            self._changed.notify_all()

    async def read(self, topic: str, *, from_start: bool = True) -> AsyncIterator[BusRecord]:
        seen = 0 if from_start else len(self.records)
        while not self._closed:
            while seen < len(self.records):
                record = self.records[seen]
                seen += 1
                if record.topic == topic:
                    yield record
            async with self._changed:
                while not self._closed and seen >= len(self.records):
                    await self._changed.wait()

    async def close(self) -> None:
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

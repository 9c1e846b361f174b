"""`SqliteBus`: the embedded bus over a `SqliteLog`, and who is woken when something was written.

Writers in this process wake readers at once; what other processes write is noticed within `POLL_MS` by SQLite's `data_version`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Final

from pipeline.ports.bus import BusRecord, OutRecord
from pipeline.runtime.sqlite_log import SqliteLog

POLL_MS: Final = 15
_PAGE: Final = 500


class SqliteBus:
    """The bus port on SQLite. `log` is for the runtime, which commits more than records."""

    def __init__(self, log: SqliteLog) -> None:
        self.log = log
        self._waiting: dict[asyncio.Event, frozenset[str]] = {}
        self._poller: asyncio.Task[None] | None = None
        self._closed = False

    async def publish(self, records: Sequence[OutRecord]) -> None:
        """Durable when it returns."""
        self.log.commit(records)
        self.woke({record.topic for record in records})

    async def read(self, topic: str, *, from_start: bool = True) -> AsyncIterator[BusRecord]:
        """Records of one topic, then those still to come; ends when the bus is closed."""
        after = 0 if from_start else self.log.end()
        with self.subscription([topic]) as changed:
            while not self._closed:
                changed.clear()
                page = self.log.fetch([topic], after, _PAGE)
                for record in page:
                    yield record
                    after = record.offset
                if not page:
                    await changed.wait()

    @contextlib.contextmanager
    def subscription(self, topics: Iterable[str]) -> Iterator[asyncio.Event]:
        """An event that is set whenever one of the topics may have grown."""
        event = asyncio.Event()
        self._waiting[event] = frozenset(topics)
        self._watch()
        try:
            yield event
        finally:
            del self._waiting[event]

    def woke(self, topics: set[str]) -> None:
        """Tell the readers of these topics; called after a commit."""
        for event, wanted in self._waiting.items():
            if wanted & topics:
                event.set()

    def _watch(self) -> None:
        if self._poller is None or self._poller.done():
            self._poller = asyncio.get_running_loop().create_task(self._poll())

    async def _poll(self) -> None:
        seen = self.log.data_version()
        while True:
            await asyncio.sleep(POLL_MS / 1000)
            version = self.log.data_version()
            if version != seen:
                seen = version
                for event in self._waiting:
                    event.set()

    async def close(self) -> None:
        """Release the file and end every reader. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for event in self._waiting:
            event.set()
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)
        self.log.close()

"""Health checks that never make anybody wait: they run on their own and leave their latest answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import aiohttp

from connectors.process.settings import WorkloadSettings
from connectors.process.state import Instance

_STARTING_S = 0.02  # how often an instance that is not ready yet is asked


@dataclass(slots=True)
class _Record:
    ready: bool = False
    failures: int = 0
    due_at: float = 0.0
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Prober:
    """The latest answer per instance of one workload. Use inside a running event loop."""

    def __init__(self, settings: WorkloadSettings) -> None:
        self._settings = settings
        self._records: dict[tuple[str, int], _Record] = {}
        self._session: aiohttp.ClientSession | None = None

    def is_ready(self, instance: Instance) -> bool:
        """What the last check said, and start the next one when it is due. Before the first check: what was true when we last knew."""
        record = self._records.setdefault((instance.name, instance.pid), _Record(ready=instance.ready))
        if record.task is None and asyncio.get_running_loop().time() >= record.due_at:
            record.task = asyncio.create_task(self._check(record, instance.port))
        return record.ready

    def keep(self, alive: set[tuple[str, int]]) -> None:
        """Drop what is known about instances that are gone."""
        for key in self._records.keys() - alive:
            record = self._records.pop(key)
            if record.task is not None:
                record.task.cancel()

    async def close(self) -> None:
        """Stop asking."""
        tasks = [record.task for record in self._records.values() if record.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._records.clear()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _check(self, record: _Record, port: int) -> None:
        health = self._settings.health
        try:
            async with asyncio.timeout(health.timeout_ms / 1000):
                answered = await self._answers(self._settings.address, port, health.path)
        except (OSError, TimeoutError, aiohttp.ClientError):
            answered = False
        record.failures = 0 if answered else record.failures + 1
        record.ready = answered or (record.ready and record.failures < health.failures)
        record.due_at = asyncio.get_running_loop().time() + (health.interval_ms / 1000 if record.ready else _STARTING_S)
        record.task = None

    async def _answers(self, address: str, port: int, path: str | None) -> bool:
        if path is None:
            _, writer = await asyncio.open_connection(address, port)
            writer.close()
            return True
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        async with self._session.get(f"http://{address}:{port}{path}", allow_redirects=False) as response:
            return 200 <= response.status < 300

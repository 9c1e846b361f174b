"""The demo's load: an open loop of requests through the proxy, counted where the user stands.

Open loop: requests start on schedule whether or not earlier ones were answered, as users do; so a slow service is not spared.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

TIMEOUT_SECONDS: Final = 3.0
TICK_SECONDS: Final = 0.005
CONNECTIONS: Final = 256


@dataclass(frozen=True, slots=True)
class Hit:
    """One request as its sender saw it. `status` 0: no answer (refused, reset, timed out)."""

    started_at_ms: int
    duration_ms: float
    status: int

    @property
    def failed(self) -> bool:
        """True for no answer and for 5xx; a refusal (401, 403) is an answer."""
        return self.status == 0 or self.status >= 500


@dataclass
class Load:
    """Sends `rate` requests/s to the proxy and remembers every answer of the run. The schedule's jitter comes from `seed`."""

    port: int
    rate: float
    seed: int = 1
    hits: deque[Hit] = field(default_factory=lambda: deque(maxlen=500_000))

    def __post_init__(self) -> None:
        self._idle: list[_Connection] = []
        self._running: set[asyncio.Task[None]] = set()
        self._random = random.Random(self.seed)

    async def run(self) -> None:
        """Send until cancelled."""
        due = time.monotonic()
        try:
            while True:
                now = time.monotonic()
                while due <= now:
                    self._start("/checkout")
                    due += self._random.expovariate(self.rate)
                await asyncio.sleep(TICK_SECONDS)
        finally:
            for task in self._running:
                task.cancel()
            for connection in self._idle:
                connection.close()

    def between(self, since_ms: int, until_ms: int) -> list[Hit]:
        """Answers to requests that started in [since, until)."""
        return [hit for hit in self.hits if since_ms <= hit.started_at_ms < until_ms]

    def _start(self, path: str) -> None:
        if len(self._running) < CONNECTIONS * 4:
            task = asyncio.create_task(self._one(path))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        else:  # the machine cannot even send: count it as the failure that a user would see
            self.hits.append(Hit(_now_ms(), 0.0, 0))

    async def _one(self, path: str) -> None:
        started_ms, clock = _now_ms(), time.monotonic()
        connection = self._idle.pop() if self._idle else _Connection(self.port, "127.0.0.1")
        status = await connection.get(path)
        self.hits.append(Hit(started_ms, (time.monotonic() - clock) * 1000, status))
        if status and len(self._idle) < CONNECTIONS:
            self._idle.append(connection)
        else:
            connection.close()


async def burst(port: int, *, source: str, path: str, count: int, pause_seconds: float) -> Counter[int]:
    """Send `count` requests one after the other from one client address; how often each status came back."""
    seen: Counter[int] = Counter()
    for _ in range(count):
        connection = _Connection(port, source)
        seen[await connection.get(path)] += 1
        connection.close()
        await asyncio.sleep(pause_seconds)
    return seen


def percentile(hits: Iterable[Hit], ratio: float) -> float | None:
    """A percentile of the durations in ms, None without an answer."""
    durations = sorted(hit.duration_ms for hit in hits if hit.status)
    return durations[min(int(len(durations) * ratio), len(durations) - 1)] if durations else None


class _Connection:
    """A kept-alive HTTP/1.1 connection from a chosen local address."""

    def __init__(self, port: int, source: str) -> None:
        self._port, self._source = port, source
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def get(self, path: str) -> int:
        """The status of the answer, 0 for none."""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await self._exchange(path)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
            return 0

    async def _exchange(self, path: str) -> int:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(self._source, 0))
        assert self._reader is not None  # noqa: S101 - opened together with the writer
        self._writer.write(f"GET {path} HTTP/1.1\r\nhost: checkout\r\n\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.partition("content-length:")[2].partition("\r\n")[0] or "0")
        if length:
            await self._reader.readexactly(length)
        return int(head.split(" ", 2)[1])

    def close(self) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

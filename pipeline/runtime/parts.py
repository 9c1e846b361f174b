"""Parts: what both runtimes run as tasks of their own. A part that fails is started again with a growing pause; none takes another down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from pipeline.model.records import Action
from pipeline.ports.bus import Bus, BusRecord
from pipeline.ports.execution import IntentLog
from pipeline.ports.notifier import Notifier
from pipeline.ports.record import RecordStore
from pipeline.ports.stage import Stage, StepResult
from pipeline.runtime.recording import ToDocument

LOG: Final = logging.getLogger(__name__)
_FIRST_PAUSE_S: Final = 0.1
_MAX_PAUSE_S: Final = 10.0
_STEADY_S: Final = 30.0


class CannotStartError(Exception):
    """What keeps a runtime from starting, and what to do about it."""


class ExecutorLike(Protocol):
    """`pipeline.execute.Executor`."""

    async def accept(self, action: Action) -> bool:
        """Take an action over; returns when it is durable."""
        ...

    async def resume(self) -> int:
        """Settle what a former life left unfinished."""
        ...

    async def drain(self, timeout_ms: int) -> bool:
        """Finish what has begun."""
        ...

    async def failed(self) -> None:
        """Raises when it cannot go on."""
        ...

    async def close(self) -> None:
        """Stop at once."""
        ...


async def supervised(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run a part again and again until cancelled; a part that fails waits longer each time."""
    loop = asyncio.get_running_loop()
    pause_s = _FIRST_PAUSE_S
    while True:
        started = loop.time()
        try:
            await run()
        except Exception:  # one part's failure must not end the others; it is logged and tried again
            LOG.exception("part_failed", extra={"part": name, "pause_s": pause_s})
        else:
            return
        if loop.time() - started > _STEADY_S:
            pause_s = _FIRST_PAUSE_S
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, _MAX_PAUSE_S)


async def first_to_fail(*runs: Coroutine[Any, Any, None]) -> None:
    """Run several until one raises; the others are cancelled."""
    async with asyncio.TaskGroup() as group:
        for run in runs:
            group.create_task(run)


MakeStage = Callable[[Callable[[str], bool]], Stage]
"""Builds a stage; it is told which groups are its own."""

Work = Callable[[Stage, int], StepResult | None]
"""Something done with a stage between two of its steps, at a time; what it causes is committed like a step."""


class Meter(Protocol):
    """Told of every step of every stage; telemetry makes metrics of it."""

    def stepped(self, stage: str, records: Sequence[BusRecord], result: StepResult, *, seconds: float) -> None:
        """One step was committed."""
        ...


class Runtime(Protocol):
    """What `app` wires, embedded or on Kafka."""

    @property
    def bus(self) -> Bus:
        """For the gateway and the observer."""
        ...

    @property
    def intents(self) -> IntentLog:
        """The executor's log."""
        ...

    @property
    def unready(self) -> str:
        """Which part is not up yet; empty when all are."""
        ...

    def add_part(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Anything that runs until cancelled."""
        ...

    def add_file(self, path: Path, topic: str) -> None:
        """A growing file as an input topic."""
        ...

    def add_stage(self, make: MakeStage) -> None:
        """A stage."""
        ...

    def add_executor(self, make: Callable[[], ExecutorLike]) -> None:
        """The executor."""
        ...

    def add_recorder(self, store: RecordStore, to_document: ToDocument) -> None:
        """The recorder."""
        ...

    def add_notifier(self, receivers: Mapping[str, Notifier]) -> None:
        """The notifier."""
        ...

    def restart_part(self, name: str) -> None:
        """End one part and start it again."""
        ...

    def post(self, work: Work) -> None:
        """Do something with every stage between two of its steps."""
        ...

    async def start(self) -> None:
        """Start every part."""
        ...

    async def stop(self) -> None:
        """End every part in order."""
        ...

    async def lag(self) -> dict[str, int]:
        """Records not yet dealt with, per consumer."""
        ...


class Parts:
    """Named parts and their tasks."""

    def __init__(self) -> None:
        self._runs: dict[str, Callable[[], Awaitable[None]]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def add(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Anything that runs until cancelled."""
        self._runs[name] = run

    def start(self) -> None:
        """Start all."""
        for name, run in self._runs.items():
            self._tasks[name] = asyncio.create_task(supervised(name, run), name=name)

    def restart(self, name: str) -> None:
        """End one part and start it again: it has new rules to go by."""
        task = self._tasks.get(name)
        if task is not None:
            task.cancel()
            self._tasks[name] = asyncio.create_task(supervised(name, self._runs[name]), name=name)

    async def stop(self) -> None:
        """End all, and wait until they have."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

"""`run`: start what the roles need, stay until a signal, stop in order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pipeline.app.settings import Settings, SettingsError, load_config, load_rules
from pipeline.app.whole import ROLES, App
from pipeline.runtime.faults import VARIABLE, FaultError
from pipeline.runtime.lock import AlreadyRunningError
from pipeline.runtime.parts import CannotStartError
from pipeline.runtime.sqlite_log import NewerFileError

STOP_S: Final = 10.0


async def run(path: Path, *, roles: Sequence[str] = ROLES, log_format: str = "text", environment: Mapping[str, str] | None = None) -> int:
    """Run the pipeline until SIGTERM or SIGINT; 1 when configuration or rules are refused."""
    try:
        settings = load_config(path, environment=environment)
        rules = load_rules(settings)
        app = App(settings, rules, roles, fault=(environment or os.environ).get(VARIABLE, ""), log_format=log_format)
    except (SettingsError, AlreadyRunningError, FaultError, NewerFileError) as error:
        sys.stderr.write(f"reflexarc: {error}\n")
        return 1
    return await _live(app)


async def _live(app: App) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await _started(app, stop)
        await stop.wait()
    except (CannotStartError, OSError) as error:
        sys.stderr.write(f"reflexarc: {error}\n")
        return 1
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        await _stopped(app)
    return 0


async def _started(app: App, stop: asyncio.Event) -> None:
    """Return when it runs, or when a signal came first: it may be waiting for a broker that is not there."""
    starting, stopping = asyncio.create_task(app.start()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
    finally:
        for task in (starting, stopping):
            task.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)


async def _stopped(app: App) -> None:
    try:
        await asyncio.wait_for(app.stop(), STOP_S)
    except TimeoutError:  # everything is durable as it is: the next start goes on from there
        sys.stderr.write(f"reflexarc: not everything ended within {STOP_S:g} s; it is left to the next start\n")


__all__ = ["App", "Settings", "run"]

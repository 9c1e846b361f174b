"""Workloads of the real process connector for tests, on the small HTTP service; `stop` ends what a test started."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from connectors import registry
from connectors.process import Process
from connectors.process.state import State
from pipeline.model.target import Target
from pipeline.ports.connector import Observed
from pipeline.runtime.clock import SystemClock
from tests.rigs.process import free_block

SERVICE = Path(__file__).with_name("http_service.py")


def workload(**changes: Any) -> dict[str, Any]:
    """Settings of one workload; `ready_after` delays its readiness."""
    first = free_block(20)
    last = first + 19
    command = [sys.executable, "-S", "-E", str(SERVICE), "--port", "{port}", "--version", "{version}", "--instance", "{instance}"]
    command += ["--ready-after", str(changes.pop("ready_after", 0))]
    given = {"service": "shop", "site": "a", "command": command, "version": "v1", "replicas": 2, "ports": f"{first}-{last}"}
    return given | {"health": {"path": "/healthz", "interval": "100ms", "timeout": "2s"}} | changes


def process_settings(folder: Path, **workloads: dict[str, Any]) -> dict[str, Any]:
    """Settings of a process connector."""
    return {
        "state_dir": str(folder / "state"),
        "endpoints_file": str(folder / "endpoints.json"),
        "drain": "100ms",
        "stop": "2s",
        "workloads": workloads,
    }


def process(settings: dict[str, Any]) -> Process:
    """A connector called `local`."""
    return registry.build("local", "process", settings, clock=SystemClock())  # type: ignore[return-value]  # the kind says which class


def stored(folder: Path, name: str = "shop") -> State:
    """What the state file says."""
    return msgspec.json.decode((folder / "state" / f"{name}.json").read_bytes(), type=State)


def stop(folder: Path) -> None:
    """End every process that a connector of this folder started."""
    mark = f"REFLEXARC_INSTANCE={(folder / 'state').absolute()}:".encode()
    for entry in Path("/proc").iterdir():
        try:
            ours = entry.name.isdigit() and any(word.startswith(mark) for word in (entry / "environ").read_bytes().split(b"\0"))
        except OSError:
            continue
        if ours:
            os.kill(int(entry.name), signal.SIGKILL)


async def until(holds: Callable[[], bool], *, within_s: float = 15.0) -> None:
    """Wait for something that a real process does."""
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.01)


async def observed(connector: Any, target: Target, *, within_s: float = 15.0, **wanted: Any) -> Observed:
    """Wait until a target is like this."""
    async with asyncio.timeout(within_s):
        while True:
            found = await connector.read(target)
            if all(found.value.get(key) == value for key, value in wanted.items()):
                return found
            await asyncio.sleep(0.01)

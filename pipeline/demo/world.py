"""The demo's world: one directory with everything, the proxy, the engine, and the file through which things break.

The service instances belong to the engine's `process` connector; the world only ends those that are left when it closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

from pipeline.app import Settings, load_config
from pipeline.demo.proxy import prepare

RULES: Final = Path(__file__).resolve().parents[2] / "rules" / "demo"
CONFIG: Final = RULES / "reflexarc.yaml"
LOOK: Final = "reflexarc.yaml"  # in the directory that is kept: for `incidents` and `explain`, which need none of the demo's variables
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.02
PORTS_PER_WORKLOAD: Final = 20
INSTANCES: Final = 4  # two of checkout-a, the canary, one of checkout-b


class WorldError(RuntimeError):
    """The world could not be built; the message says which part and what to do."""


class World:
    """Owns the directory, the ports and two child processes: Envoy and the engine. Use as an async context manager."""

    def __init__(self, *, keep: bool = False) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="reflexarc-demo-"))
        self.public_port, self.admin_port, self.gateway_port = (_free_port() for _ in range(3))
        base = _free_block(3 * PORTS_PER_WORKLOAD)
        self._ports = {name: base + index * PORTS_PER_WORKLOAD for index, name in enumerate(("A", "CANARY", "B"))}
        self._keep = keep
        self._envoy: asyncio.subprocess.Process | None = None
        self._engine: asyncio.subprocess.Process | None = None
        self._mode = ""

    async def __aenter__(self) -> Self:
        try:
            await self._start_envoy()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    # --- the engine ---

    def settings(self, mode: str) -> Settings:
        """The demo's configuration file as the engine in this mode reads it."""
        return load_config(CONFIG, environment=self.environment(mode))

    def environment(self, mode: str) -> dict[str, str]:
        """The variables that the configuration file asks for."""
        return os.environ | {
            "DEMO_DIR": str(self.directory),
            "DEMO_MODE": mode,
            "DEMO_RULES": str(RULES),
            "DEMO_CODE": str(RULES.parents[1]),
            **{f"DEMO_PORTS_{name}": f"{first}-{first + PORTS_PER_WORKLOAD - 1}" for name, first in self._ports.items()},
            "DEMO_PYTHON": sys.executable,
            "DEMO_ADMIN_PORT": str(self.admin_port),
            "DEMO_GATEWAY_PORT": str(self.gateway_port),
        }

    async def start_engine(self, mode: str) -> None:
        """Run `reflexarc run` and return when it is ready."""
        self._mode = mode
        with (self.directory / f"engine-{mode}.log").open("ab") as log:
            self._engine = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "pipeline",
                "run",
                "--config",
                str(CONFIG),
                env=self.environment(mode),
                stdout=log,
                stderr=log,
                cwd=RULES.parents[1],
            )
        await self._wait(f"http://127.0.0.1:{self.gateway_port}/readyz", self._engine, f"the engine (see {self.directory}/engine-{mode}.log)")

    async def stop_engine(self, *, kill: bool = False) -> None:
        """End the engine: politely, or with SIGKILL."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await _end(engine, signal.SIGKILL if kill else signal.SIGTERM)

    # --- faults ---

    def break_things(self, **faults: Any) -> None:
        """Replace the control file that the service instances obey; no argument: all is well."""
        draft = self.directory / "control.draft"
        draft.write_text(json.dumps(faults), encoding="utf-8")
        draft.replace(self.directory / "control.json")

    # --- parts ---

    async def _start_envoy(self) -> None:
        for name in ("access.json", "logins.json"):
            (self.directory / name).touch()
        self.break_things()
        command = prepare(self.settings("observe"), self.directory, public_port=self.public_port)
        with (self.directory / "envoy.log").open("ab") as log:
            self._envoy = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
        await self._wait(f"http://127.0.0.1:{self.admin_port}/server_info", self._envoy, f"Envoy (see {self.directory}/envoy.log)")

    async def until_serving(self) -> None:
        """Return when the instances are there and the proxy answers 200 for the service."""
        endpoints = self.directory / "endpoints.json"
        if not await wait_until(
            lambda: endpoints.exists() and endpoints.read_text(encoding="utf-8").count('"ready": true') >= INSTANCES, START_SECONDS
        ):
            raise WorldError(f"the service instances are not ready after {START_SECONDS:.0f} s:\n{self._last_words()}")
        # Ask the proxy's admin side first: a request that finds no instance yet would be an error that the rules see.
        await self._wait(
            f"http://127.0.0.1:{self.admin_port}/clusters", self._envoy, "the proxy's list of instances", shows="checkout-v1::127.0.0.1:"
        )
        await self._wait(f"http://127.0.0.1:{self.public_port}/checkout", self._envoy, "the checkout service behind the proxy")

    async def _wait(self, url: str, process: asyncio.subprocess.Process | None, what: str, *, shows: str = "") -> None:
        deadline = time.monotonic() + START_SECONDS
        while not await asyncio.to_thread(_answers, url, shows):
            if process is not None and process.returncode is not None:
                raise WorldError(f"{what} ended with exit code {process.returncode}:\n{self._last_words()}")
            if time.monotonic() > deadline:
                raise WorldError(f"{what} is not ready after {START_SECONDS:.0f} s:\n{self._last_words()}")
            await asyncio.sleep(POLL_SECONDS)

    def _last_words(self) -> str:
        logs = sorted(self.directory.glob("*.log"), key=lambda path: path.stat().st_mtime)
        return "\n".join(logs[-1].read_text(encoding="utf-8", errors="replace").splitlines()[-15:]) if logs else ""

    async def _close(self) -> None:
        await self.stop_engine()
        if self._envoy is not None:
            await _end(self._envoy, signal.SIGTERM)
        self._end_instances()
        if self._keep:
            (self.directory / LOOK).write_text("data_dir: engine\n", encoding="utf-8")
        else:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _end_instances(self) -> None:
        """End the service instances that carry this world's directory in their command line; nobody else's."""
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes().split(b"\0")
                if b"pipeline.demo.service" in command and str(self.directory / "control.json").encode() in command:
                    os.kill(int(entry.name), signal.SIGKILL)


async def wait_until(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


async def _end(process: asyncio.subprocess.Process, how: signal.Signals) -> None:
    if process.returncode is not None:
        return
    process.send_signal(how)
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


def _answers(url: str, shows: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 - our own loopback address
            return answer.status == 200 and shows.encode() in answer.read()
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _free_block(size: int) -> int:
    """The first of `size` neighbouring ports that were free a moment ago."""
    for first in range(21_000, 31_000, size):
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError):
            for port in range(first, first + size):
                probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise WorldError(f"no {size} free neighbouring ports between 21000 and 31000 on 127.0.0.1")

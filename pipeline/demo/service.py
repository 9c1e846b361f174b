"""The demo's `checkout` service: one process, one instance. Started by the `process` connector: `python -m pipeline.demo.service ...`.

It answers HTTP with a little work, writes an ECS log line for every login, reports its own metrics to the gateway, and obeys a control file
(`{"v2": {"error_ratio": 1}, "site:a": {"latency_ms": 400, "dead": true}, "report": false}`) through which the demo breaks things.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WORKERS = 3  # requests in work at once; with 20 ms each an instance carries about 150/s
WORK_SECONDS = 0.02
QUEUE_LIMIT = 100  # beyond this the instance sheds load with 503
REPORT_SECONDS = 0.25
CONTROL_SECONDS = 0.05
GATEWAY_TIMEOUT_SECONDS = 1.0


@dataclass
class Faults:
    """What the control file asks of this instance now."""

    error_ratio: float = 0.0
    latency_ms: float = 0.0
    dead: bool = False
    report: bool = True


@dataclass
class Service:
    """One instance: its identity, its counters and its faults."""

    version: str
    site: str
    instance: str
    port: int
    control: Path
    login_log: Path
    gateway: str
    requests: int = 0
    errors: int = 0
    waiting: int = 0
    faults: Faults = field(default_factory=Faults)
    _control_mtime_ns: int = -1

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(WORKERS)
        self._random = random.Random(self.instance)
        self._connections: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def run(self) -> None:
        """Serve until SIGTERM; then say that its series end here, so that nobody waits for them."""
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        self._read_control()
        work = [asyncio.create_task(self._obey()), asyncio.create_task(self._report())]
        await ended.wait()
        for task in work:
            task.cancel()
        if self.faults.report:
            await self._send(self._metrics(ended=True))

    # --- HTTP ---

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while (head := await _read_head(reader)) is not None:
                status, body = await self._answer(*head)
                reply = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\nx-version: {self.version}\r\n\r\n"
                writer.write(reply.encode() + body)
                await writer.drain()
        self._connections.discard(writer)
        writer.close()

    async def _answer(self, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        if path == "/healthz":
            return 200, b"{}"
        self.requests += 1
        if path.startswith("/login"):
            self._log_login(headers)
            return 401, b'{"error":"wrong password"}'
        status = await self._work()
        self.errors += status >= 500
        return status, json.dumps({"version": self.version, "site": self.site}).encode()

    async def _work(self) -> int:
        if self.waiting >= QUEUE_LIMIT:
            return 503
        self.waiting += 1
        try:
            async with self._slots:
                await asyncio.sleep(WORK_SECONDS * self._random.uniform(0.7, 1.3))
            if self.faults.latency_ms:
                await asyncio.sleep(self.faults.latency_ms / 1000)
        finally:
            self.waiting -= 1
        return 500 if self._random.random() < self.faults.error_ratio else 200

    def _log_login(self, headers: dict[str, str]) -> None:
        address = headers.get("x-forwarded-for", "").rsplit(",", 1)[-1].strip()  # the last hop is the proxy's own word
        entry = {
            "@timestamp": int(time.time_ns() // 1_000_000),
            "message": "login failed",
            "event": {"category": "authentication", "action": "login", "outcome": "failure"},
            "source": {"ip": address},
            "user": {"name": "admin"},
            "service": {"name": "checkout"},
        }
        with self.login_log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(entry) + "\n")

    # --- control and metrics ---

    async def _obey(self) -> None:
        while True:
            self._read_control()
            if self.faults.dead:
                await self._close()
            elif self._server is None:
                self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            await asyncio.sleep(CONTROL_SECONDS)

    async def _close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for writer in list(self._connections):
            writer.transport.abort()

    def _read_control(self) -> None:
        try:
            mtime_ns = self.control.stat().st_mtime_ns
            if mtime_ns == self._control_mtime_ns:
                return
            asked: dict[str, Any] = json.loads(self.control.read_text(encoding="utf-8"))
            mine = asked.get(self.version, {}) | asked.get(f"site:{self.site}", {})
            self.faults = Faults(**mine, report=asked.get("report", True))
        except (OSError, ValueError, TypeError, AttributeError):
            return  # the file is moved in as a whole; a missing one means no faults yet, and one that says something else changes nothing
        self._control_mtime_ns = mtime_ns

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            if self.faults.report and not self.faults.dead:
                await self._send(self._metrics())

    async def _send(self, body: bytes) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(_post(self.gateway, body), GATEWAY_TIMEOUT_SECONDS)

    def _metrics(self, *, ended: bool = False) -> bytes:
        labels = {"service": "checkout", "site": self.site, "version": self.version, "instance": self.instance}
        now_ms = time.time_ns() // 1_000_000
        probe_seconds = WORK_SECONDS * (1 + self.waiting / WORKERS) + self.faults.latency_ms / 1000
        values = {
            "service_requests_total": self.requests,
            "service_errors_total": self.errors,
            "service_waiting": self.waiting,
            "service_probe_seconds": probe_seconds,
        }
        lines = ({"name": name, "labels": labels, "ts": now_ms, "value": "stale" if ended else value} for name, value in values.items())
        return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


async def _read_head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]] | None:
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    request, *lines = raw.decode("latin-1").rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    if length:
        await reader.readexactly(length)
    return request.split(" ")[1], headers


async def _post(gateway: str, body: bytes) -> None:
    host, _, port = gateway.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"POST /api/v1/signals HTTP/1.1\r\nhost: {gateway}\r\ncontent-type: application/x-ndjson\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
        + body
    )
    await writer.drain()
    await reader.read()
    writer.close()


def main(argv: list[str] | None = None) -> None:
    """Run one instance until it is terminated."""
    parser = argparse.ArgumentParser(prog="checkout")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--site", required=True)
    parser.add_argument("--control", type=Path, required=True)
    parser.add_argument("--login-log", type=Path, required=True)
    parser.add_argument("--gateway", required=True)
    args = parser.parse_args(argv)
    instance = f"{args.site}-{args.version}-{args.port}"
    service = Service(args.version, args.site, instance, args.port, args.control, args.login_log, args.gateway)
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(service.run())


if __name__ == "__main__":
    main()

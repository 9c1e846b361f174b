"""A small closed loop for crash and outage tests: a shop whose error rate follows what the engine really did to it.

Its two changeable things (the route's weights, the canary's version) are documents of the `file` connector, which keeps every change with its key: the
independent count of what was applied. Metrics go straight to the bus, so they flow on while the engine is dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.app import load_config, open_bus, open_store
from pipeline.model import wire
from pipeline.model.records import AlertFact, Decision, Outcome, OutcomeStatus
from pipeline.ports.bus import FACTS, OUTCOMES, RECORDS, Bus, OutRecord

PER_SECOND = 100
PERIOD_S = 0.05
ROOT = Path(__file__).resolve().parents[2]

ALERTS = """
groups:
  - name: shop
    interval: 1s
    rules:
      - alert: ShopErrors
        expr: >-
          sum by (service, version) (rate(http_requests_total{service="shop", code="500"}[2s]))
          / sum by (service, version) (rate(http_requests_total{service="shop"}[2s])) > 0.05
        labels: {severity: critical}
"""

POLICIES = """
services:
  - name: shop
    match: {service: shop}
    route: sys://document/route
    backends:
      - {name: v1, weight: 80}
      - {name: v2, weight: 20, workload: sys://document/canary}
policies:
  - name: bad-release
    when: {alertname: ShopErrors}
    mode: enforce
    steps:
      - shift_traffic: {away_from: {version: "{{ version }}"}}
        verify: &healthy
          success: >-
            sum(rate(http_requests_total{service="shop", code="500"}[1s])) / sum(rate(http_requests_total{service="shop"}[1s])) < 0.01
          settle: 100ms
          interval: 250ms
          count: 2
          failure_limit: 10
          inconclusive_limit: 100
          within: 60s
        then: next
      - roll_back: {version: "{{ version }}"}
        verify: *healthy
        then: stop
    guard: {cooldown: 0s, attempts: {max: 20, per: 1h}, ttl: 60s}
"""


@dataclass
class Shop:
    """One shop in one directory, with the engine as a child process."""

    directory: Path
    kafka: str = ""
    elasticsearch: str = ""
    prefix: str = "shop."
    counters: Counter[tuple[str, str]] = field(default_factory=Counter)
    broken: bool = False
    engine: asyncio.subprocess.Process | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.directory / "rules").mkdir(parents=True)
        (self.directory / "rules" / "alerts.yaml").write_text(ALERTS)
        (self.directory / "rules" / "policies.yaml").write_text(POLICIES)
        config: dict[str, Any] = {
            "data_dir": str(self.directory / "data"),
            "inputs": [{"topic": f"{self.prefix}metrics", "format": "json-batch"}],
            "rules": [str(self.directory / "rules")],
            "metrics": ["http_requests_total"],
            "detect": {"settle": "50ms"},
            "observe_interval": "500ms",
            "connectors": {
                "sys": {
                    "kind": "file",
                    "dir": str(self.directory / "sys"),
                    "documents": {"route": {"weights": {"v1": 80, "v2": 20}}, "canary": {"version": "v2", "previous_version": "v1", "replicas": 1}},
                }
            },
            "grants": {"shop": {"mode": "enforce"}},
        }
        if self.kafka:
            config["kafka"] = {"bootstrap": self.kafka, "prefix": self.prefix, "partitions": 1, "instance_id": f"{self.prefix}1"}
        if self.elasticsearch:
            config["elasticsearch"] = {"hosts": [self.elasticsearch], "prefix": self.prefix.rstrip(".")}
        self.config_path = self.directory / "reflexarc.yaml"
        self.config_path.write_text(json.dumps(config))  # JSON is YAML
        self.config = load_config(self.config_path)

    # --- the shop ---

    def document(self, name: str) -> dict[str, Any]:
        """A document as the connector keeps it; the value it starts with when nothing was changed yet."""
        path = self.directory / "sys" / f"{name}.json"
        if path.exists():
            return json.loads(path.read_text())
        start = {"route": {"weights": {"v1": 80, "v2": 20}}, "canary": {"version": "v2"}}[name]
        return {"value": start, "history": []}

    def _sell(self) -> bytes:
        """One period's requests by the weights in force, as cumulative counters of both versions: one message, one scrape."""
        weights = self.document("route")["value"]["weights"]
        bad = self.broken and self.document("canary")["value"]["version"] == "v2"
        for version, weight in weights.items():
            self.counters[version, "500" if bad and version == "v2" else "200"] += PER_SECOND * PERIOD_S * weight / 100
        now_ms = time.time_ns() // 1_000_000
        rows = [
            {
                "name": "http_requests_total",
                "labels": {"service": "shop", "version": version, "code": code},
                "ts": now_ms,
                "value": self.counters[version, code],
            }
            for version in ("v1", "v2")
            for code in ("200", "500")
        ]
        return json.dumps(rows).encode()

    async def _trade(self, bus: Bus) -> None:
        while True:
            await bus.publish([OutRecord(f"{self.prefix}metrics", "shop", self._sell())])
            await asyncio.sleep(PERIOD_S)

    @property
    def healed(self) -> bool:
        """Both steps are in force."""
        return self.document("route")["value"]["weights"].get("v2") == 0 and self.document("canary")["value"]["version"] == "v1"

    # --- the engine ---

    async def start_engine(self, fault: str = "") -> None:
        """Start the engine; it runs on its own."""
        with (self.directory / "engine.log").open("ab") as log:
            self.engine = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "pipeline", "run", "--config", str(self.config_path), cwd=ROOT, stdout=log, stderr=log,
                env=os.environ | ({"REFLEXARC_FAULT": fault} if fault else {}),
            )  # fmt: skip

    async def keep_running(self, fault: str = "") -> None:
        """Start it again whenever it died, as a service manager does."""
        while True:
            await self.start_engine(fault)
            assert self.engine is not None
            await self.engine.wait()

    def kill(self) -> None:
        """kill -9."""
        if self.engine is not None and self.engine.returncode is None:
            self.engine.kill()

    def fault_struck(self, name: str) -> bool:
        """Whether the armed fault point did kill the engine."""
        return (self.directory / "data" / f"fault.{name}").exists()

    @contextlib.asynccontextmanager
    async def open(self, fault: str = ""):
        """Trade and run until the block ends."""
        bus = await open_bus(self.config)
        self._tasks = [asyncio.create_task(self._trade(bus)), asyncio.create_task(self.keep_running(fault))]
        try:
            yield self
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self.engine is not None and self.engine.returncode is None:
                self.engine.terminate()
                try:
                    await asyncio.wait_for(self.engine.wait(), 12)
                except TimeoutError:
                    self.kill()
            await bus.close()

    async def until(self, condition, timeout_s: float) -> bool:
        """Poll the world until a condition holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.05)
        return True

    def log_tail(self) -> str:
        """The engine's last words, for a failing test."""
        path = self.directory / "engine.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-40:]) if path.exists() else "(no log)"

    # --- the books ---

    async def on_bus(self, topic: str, *, quiet_s: float = 1.0) -> list[Any]:
        """All records of one of our topics: read until nothing came for a while."""
        bus = await open_bus(self.config)
        records = []
        reader = bus.read(topic)
        try:
            with contextlib.suppress(TimeoutError, StopAsyncIteration):
                while True:
                    record = await asyncio.wait_for(anext(reader), quiet_s)
                    records.append(wire.decode(record.value))
        finally:
            with contextlib.suppress(Exception):
                await reader.aclose()
            await bus.close()
        return records

    async def missing_from_store(self, *, patience_s: float = 20.0) -> list[str]:
        """What is on the bus but not in the store, once the recorder had time to catch up. Empty is good."""
        wanted = {("alerts", fact.alert.id) for fact in await self.on_bus(FACTS) if isinstance(fact, AlertFact)}
        wanted |= {("outcomes", record.id) for record in await self.on_bus(OUTCOMES) if isinstance(record, Outcome)}
        wanted |= {("decisions", record.id) for record in await self.on_bus(RECORDS) if isinstance(record, Decision)}
        store = await open_store(self.config)
        deadline = time.monotonic() + patience_s
        try:
            while True:
                missing = [f"{kind} {id_}" for kind, id_ in sorted(wanted) if await store.get(kind, id_) is None]
                if not missing or time.monotonic() > deadline:
                    return missing
                await asyncio.sleep(0.5)
        finally:
            await store.close()

    async def verdict(self) -> list[str]:
        """Everything that is wrong after a run; empty is good."""
        wrong = [] if self.healed else ["the shop is not healed"]
        keys = [entry["key"] for name in ("route", "canary") for entry in self.document(name)["history"]]
        wrong += [f"action {key} was applied {count} times" for key, count in Counter(keys).items() if count > 1]
        outcomes = [record for record in await self.on_bus(OUTCOMES) if isinstance(record, Outcome)]
        applied = {outcome.action_id for outcome in outcomes if outcome.status is OutcomeStatus.APPLIED}
        wrong += [f"action {key} was applied but has no such outcome" for key in sorted(set(keys) - applied)]
        wrong += [f"{text} is on the bus but not in the store" for text in await self.missing_from_store()]
        return wrong

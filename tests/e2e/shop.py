"""A small closed loop for crash, outage and bad-input tests: a shop whose error rate follows what the engine really did to it.

Its two changeable things (the route's weights, the canary's version) are documents of the `file` connector, which keeps every change with its key: the
independent count of what was applied. Metrics go straight to the bus, so they flow on while the engine is dead; while the bus is away they wait here,
as they do in any shipper. The engine is the real command, as one process or as several with a role each.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

import aiohttp

from pipeline.app import load_config, open_bus, open_store
from pipeline.model import wire
from pipeline.model.records import Action, AlertFact, Decision, Outcome, OutcomeStatus
from pipeline.ports.bus import ACTIONS, FACTS, OUTCOMES, RECORDS, Bus, BusRecord, OutRecord
from pipeline.ports.record import RecordStore
from pipeline.record.errors import StoreUnavailableError
from tests.rigs.process import free_port

PER_SECOND = 100
PERIOD_S = 0.05
ROOT = Path(__file__).resolve().parents[2]
Roles = tuple[str, ...]
ALL_ROLES: Roles = ()

ALERTS = """
groups:
  - name: shop
    interval: 1s
    rules:
      - alert: ShopErrors
        expr: >-
          sum by (service, version) (rate(http_requests_total{code="500"}[2s]))
          / sum by (service, version) (rate(http_requests_total[2s])) > 0.05
        labels: {severity: critical}
"""

SERVICE = Template("""
  - name: $service
    match: {service: $service}
    route: sys://document/$route
    backends:
      - {name: v1, weight: 80}
      - {name: v2, weight: 20, workload: sys://document/$canary}
""")
POLICY = Template("""
  - name: bad-release-of-$service
    when: {alertname: ShopErrors, service: $service}
    mode: enforce
    steps:
      - shift_traffic: {away_from: {version: "{{ version }}"}}
        verify: &healthy-$service
          success: >-
            sum(rate(http_requests_total{service="$service", code="500"}[1s])) / sum(rate(http_requests_total{service="$service"}[1s])) < 0.01
          settle: 100ms
          interval: 250ms
          count: 2
          failure_limit: 10
          inconclusive_limit: 100
          within: 60s
        then: next
      - roll_back: {version: "{{ version }}"}
        verify: *healthy-$service
        then: stop
    guard: {cooldown: 0s, attempts: {max: 20, per: 1h}, ttl: $ttl}
""")


def _name(service: str, document: str) -> str:
    return document if service == "shop" else f"{service}-{document}"


@dataclass
class Shop:
    """One shop in one directory, with the engine as child processes.

    `ttls`: the services that are sold, with the TTL of their actions. `processes`: the roles of each engine process. `background_per_s`: so many sample
    messages and so many log lines a second on top. `gateway`: the engine listens on `url`.
    """

    directory: Path
    kafka: str = ""
    elasticsearch: str = ""
    prefix: str = "shop."
    ttls: dict[str, str] = field(default_factory=lambda: {"shop": "60s"})
    processes: tuple[Roles, ...] = (ALL_ROLES,)
    period_s: float = PERIOD_S
    background_per_s: int = 0
    gateway: bool = False
    counters: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    broken: bool = False
    sent: Counter[str] = field(default_factory=Counter)
    engines: dict[Roles, asyncio.subprocess.Process] = field(default_factory=dict)
    url: str = ""
    junk: set[bytes] = field(default_factory=set)
    _bus: Bus | None = None
    _keepers: dict[Roles, asyncio.Task[None]] = field(default_factory=dict)
    _waiting: deque[OutRecord] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.rules.mkdir(parents=True)
        (self.rules / "alerts.yaml").write_text(ALERTS)
        self.write_policies()
        config: dict[str, Any] = {
            "data_dir": str(self.directory / "data"),
            "inputs": [{"topic": self.metrics, "format": "json-batch"}, {"topic": self.logs, "format": "ecs"}],
            "rules": [str(self.rules)],
            "metrics": ["http_requests_total"],
            "detect": {"settle": "50ms"},
            "observe_interval": "500ms",
            "connectors": {"sys": {"kind": "file", "dir": str(self.directory / "sys"), "documents": dict(self._documents())}},
            "grants": {service: {"mode": "enforce"} for service in self.ttls},
        }
        if self.kafka:
            config["kafka"] = {"bootstrap": self.kafka, "prefix": self.prefix, "partitions": 1, "instance_id": f"{self.prefix}1"}
        if self.elasticsearch:
            config["elasticsearch"] = {"hosts": [self.elasticsearch], "prefix": self.prefix.rstrip(".")}
        if self.gateway:
            listen = f"127.0.0.1:{free_port()}"
            config["gateway"], self.url = {"listen": listen}, f"http://{listen}"
        self.config_path = self.directory / "reflexarc.yaml"
        self.config_path.write_text(json.dumps(config))  # JSON is YAML
        self.config = load_config(self.config_path)

    @property
    def rules(self) -> Path:
        """The folder of its rule files."""
        return self.directory / "rules"

    @property
    def metrics(self) -> str:
        """The topic of its samples."""
        return f"{self.prefix}metrics"

    @property
    def logs(self) -> str:
        """The topic of its log lines."""
        return f"{self.prefix}logs"

    def write_policies(self, more: str = "") -> None:
        """(Re)write the policy file; `more` stands at its end."""
        names = [{"service": one, "route": _name(one, "route"), "canary": _name(one, "canary"), "ttl": ttl} for one, ttl in self.ttls.items()]
        services = "".join(SERVICE.substitute(one) for one in names)
        (self.rules / "policies.yaml").write_text(f"services:{services}policies:{''.join(POLICY.substitute(one) for one in names)}{more}")

    def _documents(self) -> list[tuple[str, dict[str, Any]]]:
        return [
            (_name(service, name), value)
            for service in self.ttls
            for name, value in (
                ("route", {"weights": {"v1": 80, "v2": 20}}),
                ("canary", {"version": "v2", "previous_version": "v1", "replicas": 1}),
            )
        ]

    # --- the shop ---

    def document(self, name: str, service: str = "shop") -> dict[str, Any]:
        """A document as the connector keeps it; the value it starts with when nothing was changed yet."""
        name = _name(service, name)
        path = self.directory / "sys" / f"{name}.json"
        if path.exists():
            return json.loads(path.read_text())
        return {"value": dict(self._documents())[name], "history": []}

    def history(self) -> list[dict[str, Any]]:
        """Every change that was made, oldest first."""
        found = [entry for service in self.ttls for name in ("route", "canary") for entry in self.document(name, service)["history"]]
        return sorted(found, key=lambda entry: entry["at_ms"])

    def _is_bad(self, service: str) -> bool:
        """Whether the new version of a service fails."""
        return self.broken

    def _sell(self) -> bytes:
        """One period's requests by the weights in force, as cumulative counters of both versions: one message, one scrape."""
        rows: list[dict[str, Any]] = []
        for service in self.ttls:
            bad = self._is_bad(service) and self.document("canary", service)["value"]["version"] == "v2"
            for version, weight in self.document("route", service)["value"]["weights"].items():
                code = "500" if bad and version == "v2" else "200"
                self.counters[service, version, code] += PER_SECOND * self.period_s * weight / 100
            rows += [
                {"name": "http_requests_total", "labels": labels, "value": self.counters[service, labels["version"], labels["code"]]}
                for labels in ({"service": service, "version": version, "code": code} for version in ("v1", "v2") for code in ("200", "500"))
            ]
        now_ms = time.time_ns() // 1_000_000
        return json.dumps([row | {"ts": now_ms} for row in rows]).encode()

    def _put(self, topic: str, value: bytes) -> None:
        self.sent[topic] += 1
        self._waiting.append(OutRecord(topic, "shop", value))

    async def _trade(self) -> None:
        while True:
            self._put(self.metrics, self._sell())
            await asyncio.sleep(self.period_s)

    async def _rustle(self) -> None:
        """The background load."""
        number = 0
        while self.background_per_s:
            at_ms = time.time_ns() // 1_000_000
            sample = {"name": "background_total", "labels": {"service": "shop", "series": str(number % 50)}, "value": number, "ts": at_ms}
            self._put(self.metrics, json.dumps(sample).encode())
            self._put(self.logs, json.dumps({"@timestamp": at_ms, "message": "sold", "service": "shop", "event": {"sequence": number}}).encode())
            number += 1
            await asyncio.sleep(1 / self.background_per_s)

    async def publish(self, topic: str, *values: bytes, junk: bool = False) -> None:
        """Put records on the bus at once. `junk`: these are not records of ours, and the books leave them out."""
        assert self._bus is not None
        if junk:
            self.junk.update(values)
        await self._bus.publish([OutRecord(topic, "shop", value) for value in values])

    async def _deliver(self, bus: Bus) -> None:
        """Send what waits, in order; it goes on waiting while the bus is away."""
        while True:
            batch = [self._waiting[place] for place in range(min(len(self._waiting), 500))]
            try:
                await bus.publish(batch)
            except OSError:
                await asyncio.sleep(0.2)
                continue
            for _ in batch:
                self._waiting.popleft()
            await asyncio.sleep(0.01)

    @property
    def healed(self) -> bool:
        """Both steps are in force, for every service."""
        return all(
            self.document("route", service)["value"]["weights"].get("v2") == 0 and self.document("canary", service)["value"]["version"] == "v1"
            for service in self.ttls
        )

    # --- the engine ---

    async def start_engine(self, fault: str = "", roles: Roles = ALL_ROLES) -> asyncio.subprocess.Process:
        """Start one process of the engine; it runs on its own."""
        arguments = [part for role in roles for part in ("--role", role)]
        with (self.directory / "engine.log").open("ab") as log:
            self.engines[roles] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "pipeline", "run", "--config", str(self.config_path), *arguments, cwd=ROOT, stdout=log, stderr=log,
                env=os.environ | ({"REFLEXARC_FAULT": fault} if fault else {}),
            )  # fmt: skip
        return self.engines[roles]

    async def keep_running(self, fault: str = "", roles: Roles = ALL_ROLES) -> None:
        """Start it again whenever it died, as a service manager does."""
        while True:
            engine = await self.start_engine(fault, roles)
            await engine.wait()

    def kill(self, roles: Roles | None = None) -> None:
        """kill -9, all of it or one process."""
        for name, engine in self.engines.items():
            if roles in {None, name} and engine.returncode is None:
                engine.kill()

    async def hold(self, roles: Roles) -> None:
        """kill -9 one process, and do not start it again."""
        await _cancelled(self._keepers.pop(roles))
        self.kill(roles)
        await self.engines[roles].wait()

    def release(self, roles: Roles) -> None:
        """Start what was held."""
        self._keepers[roles] = asyncio.create_task(self.keep_running(roles=roles))

    def fault_struck(self, name: str) -> bool:
        """Whether the armed fault point did kill the engine."""
        return (self.directory / "data" / f"fault.{name}").exists()

    @contextlib.asynccontextmanager
    async def open(self, fault: str = "") -> AsyncIterator[Shop]:
        """Trade and run until the block ends."""
        bus = self._bus = await open_bus(self.config)
        trading = [asyncio.create_task(work) for work in (self._trade(), self._rustle())]
        delivering = asyncio.create_task(self._deliver(bus))
        self._keepers = {roles: asyncio.create_task(self.keep_running(fault, roles)) for roles in self.processes}
        try:
            yield self
        finally:
            await _cancelled(*trading)
            await self.until(lambda: not self._waiting, 5)
            await _cancelled(delivering, *self._keepers.values())
            await self._end_engines()
            await bus.close()

    async def _end_engines(self) -> None:
        running = [engine for engine in self.engines.values() if engine.returncode is None]
        for engine in running:
            engine.terminate()
        try:
            async with asyncio.timeout(12):
                await asyncio.gather(*(engine.wait() for engine in running))
        except TimeoutError:
            self.kill()

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Poll the world until a condition holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.05)
        return True

    async def until_ready(self, timeout_s: float = 30.0) -> bool:
        """Poll `/readyz` of the engine's gateway."""
        deadline = time.monotonic() + timeout_s
        async with aiohttp.ClientSession(self.url) as session:
            while time.monotonic() < deadline:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get("/readyz") as answer:
                        if answer.status == 200:
                            return True
                await asyncio.sleep(0.1)
        return False

    async def metrics_text(self) -> str:
        """What `/metrics` says."""
        async with aiohttp.ClientSession(self.url) as session, session.get("/metrics") as answer:
            return await answer.text()

    async def until_metric(self, name: str, wanted: Callable[[float], bool], timeout_s: float) -> float | None:
        """The value of one of our own metrics, named with its labels, once it is what is wanted; else the last one (None: it is not there)."""
        deadline = time.monotonic() + timeout_s
        while True:
            value = next((float(line.rpartition(" ")[2]) for line in (await self.metrics_text()).splitlines() if line.startswith(f"{name} ")), None)
            if (value is not None and wanted(value)) or time.monotonic() > deadline:
                return value
            await asyncio.sleep(0.1)

    async def until_on_bus(self, topic: str, wanted: Callable[[Any], bool], timeout_s: float) -> Any:
        """The first record of one of our topics that is what is wanted; None when it did not come in time."""
        async with _reading(self, topic) as records:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    async for record in records:
                        if wanted(value := wire.decode(record.value)):
                            return value
        return None

    async def run_command(self, *arguments: str) -> tuple[int, str, str]:
        """A command of ours on this shop's configuration: exit code, stdout, stderr."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pipeline", *arguments, "--config", str(self.config_path), cwd=ROOT,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    def log_text(self) -> str:
        """Everything the engine said."""
        path = self.directory / "engine.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def log_tail(self) -> str:
        """The engine's last words, for a failing test."""
        return "\n".join(line[:600] for line in self.log_text().splitlines()[-40:]) or "(no log)"

    # --- the books ---

    async def raw_on_bus(self, topic: str, *, quiet_s: float = 1.0) -> list[BusRecord]:
        """All records that a topic holds now: read until they are newer than the question, or nothing came for a while."""
        found: list[BusRecord] = []
        asked_at_ms = time.time_ns() // 1_000_000
        async with _reading(self, topic) as records:
            with contextlib.suppress(TimeoutError, StopAsyncIteration):
                while not found or found[-1].appended_at_ms <= asked_at_ms:
                    found.append(await asyncio.wait_for(anext(records), quiet_s))
        return found

    async def on_bus(self, topic: str, *, quiet_s: float = 1.0) -> list[Any]:
        """All records of one of our topics, decoded."""
        return [wire.decode(record.value) for record in await self.raw_on_bus(topic, quiet_s=quiet_s) if record.value not in self.junk]

    async def missing_from_store(self, *, patience_s: float = 20.0) -> list[str]:
        """What is on the bus but not in the store, once the recorder had time to catch up. Empty is good."""
        wanted = {("alerts", fact.alert.id) for fact in await self.on_bus(FACTS) if isinstance(fact, AlertFact)}
        wanted |= {("outcomes", record.id) for record in await self.on_bus(OUTCOMES) if isinstance(record, Outcome)}
        wanted |= {("decisions", record.id) for record in await self.on_bus(RECORDS) if isinstance(record, Decision)}

        async def look(store: RecordStore) -> list[str]:
            return [f"{kind} {id_}" for kind, id_ in sorted(wanted) if await store.get(kind, id_) is None]

        return await self._until_stored(look, patience_s)

    async def wrong_log_lines(self, *, patience_s: float = 20.0) -> list[str]:
        """What is wrong with the background's log lines in the store: each must be there once. Empty is good; end the background first."""

        async def look(store: RecordStore) -> list[str]:
            wanted, stored = self.sent[self.logs], [document.body["fields"]["event.sequence"] async for document in _every(store, "logs")]
            lost, doubled = wanted - len(set(stored)), len(stored) - len(set(stored))
            return [f"{lost} of {wanted} log lines lost, {doubled} doubled"] if lost or doubled else []

        return await self._until_stored(look, patience_s)

    async def _until_stored(self, look: Callable[[RecordStore], Awaitable[list[str]]], patience_s: float) -> list[str]:
        """Look again until nothing is missing; a store that is just coming up does not answer at first."""
        missing = ["the store does not answer"]
        deadline = time.monotonic() + patience_s
        store = await open_store(self.config)
        try:
            while missing and time.monotonic() < deadline:
                with contextlib.suppress(StoreUnavailableError):
                    missing = await look(store)
                await asyncio.sleep(0.5 if missing else 0)
        finally:
            await store.close()
        return missing

    async def stale_executions(self) -> list[str]:
        """Changes that were made after their action had expired, or without an action. Empty is good."""
        expiry = {action.id: action.expires_at_ms for action in await self.on_bus(ACTIONS) if isinstance(action, Action)}
        return [f"{entry['verb']} {entry['key']} at {entry['at_ms']}" for entry in self.history() if entry["at_ms"] > expiry.get(entry["key"], 0)]

    async def verdict(self) -> list[str]:
        """Everything that is wrong after a run; empty is good."""
        wrong = [] if self.healed else ["the shop is not healed"]
        keys = [entry["key"] for entry in self.history()]
        wrong += [f"action {key} was applied {count} times" for key, count in Counter(keys).items() if count > 1]
        outcomes = [record for record in await self.on_bus(OUTCOMES) if isinstance(record, Outcome)]
        applied = {outcome.action_id for outcome in outcomes if outcome.status is OutcomeStatus.APPLIED}
        wrong += [f"action {key} was applied but has no such outcome" for key in sorted(set(keys) - applied)]
        wrong += [f"{text} is on the bus but not in the store" for text in await self.missing_from_store()]
        return wrong


async def _cancelled(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def _reading(shop: Shop, topic: str) -> AsyncIterator[AsyncIterator[BusRecord]]:
    bus = await open_bus(shop.config)
    records: Any = bus.read(topic)
    try:
        yield records
    finally:
        with contextlib.suppress(Exception):
            await records.aclose()
        await bus.close()


async def _every(store: Any, kind: str) -> AsyncIterator[Any]:
    cursor = None
    while True:
        page = await store.search(kind, limit=2000, cursor=cursor)
        for document in page.documents:
            yield document
        cursor = page.cursor
        if cursor is None:
            return

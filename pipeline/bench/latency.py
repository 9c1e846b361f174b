"""From a sample on the bus to an action applied in a local connector: the whole way, every stage included.

Many small services, each with one document of the `file` connector. Background samples flow at the asked rate, one JSON message each; one
service after the other goes over its threshold, and the connector's own note of when it wrote ends that measurement.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.app import load_config, load_rules, open_bus
from pipeline.app.whole import App
from pipeline.model.wire import finite
from pipeline.ports.bus import Bus, OutRecord

TICK_S: Final = 0.01
WARM_S: Final = 3.0
GRACE_S: Final = 5.0
THRESHOLD: Final = 100.0
FAULT_S: Final = 2.0  # how long a service stays over its threshold
CALM: Final = 300  # series of the background; the rule reads them too, and they never go over


@dataclass(frozen=True, slots=True)
class Plan:
    """How to measure. `rate`: samples/s; `faults`: how many measurements, `faults_per_s` of them a second."""

    rate: int = 1000
    faults: int = 300
    faults_per_s: float = 15.0
    kafka: str = ""


@dataclass(frozen=True, slots=True)
class Latencies:
    """The result: ms from publishing the sample to the write, and how many faults saw none."""

    ms: Sequence[int]
    missing: int
    samples: int
    seconds: float

    def percentile(self, ratio: float) -> float:
        """A percentile in ms; NaN without a measurement."""
        ordered = sorted(self.ms)
        return float(ordered[min(int(len(ordered) * ratio), len(ordered) - 1)]) if ordered else float("nan")

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "p50_ms": finite(self.percentile(0.5)),
            "p90_ms": finite(self.percentile(0.9)),
            "p99_ms": finite(self.percentile(0.99)),
            "max_ms": max(self.ms, default=None),
            "measured": len(self.ms),
            "missing": self.missing,
            "samples_per_s": round(self.samples / self.seconds),
        }


async def measure(plan: Plan, directory: Path) -> Latencies:
    """Build the pipeline in this process, load it, count."""
    settings = load_config(_write(plan, directory))
    app = App(settings, load_rules(settings), ("detect", "remediate", "execute", "record"))
    await app.start()
    bus: Bus = await open_bus(settings) if plan.kafka else app.bus
    try:
        while app.unready:  # noqa: ASYNC110 - readiness is a question, not an event
            await asyncio.sleep(TICK_S)
        return await _load(plan, bus, directory)
    finally:
        if plan.kafka:
            await bus.close()
        await app.stop()


async def _load(plan: Plan, bus: Bus, directory: Path) -> Latencies:
    sent_at_ms: dict[int, int] = {}
    started = time.monotonic()
    samples = fault = 0
    while fault < plan.faults:
        elapsed = time.monotonic() - started
        due = int(elapsed * plan.rate) - samples
        if due > 0:
            await bus.publish([_sample(f"calm{(samples + offset) % CALM}", 1.0) for offset in range(due)])
            samples += due
        if elapsed - WARM_S >= fault / plan.faults_per_s:
            sent_at_ms[fault] = _now_ms()
            await bus.publish([_sample(f"s{fault}", 2 * THRESHOLD)])
            over = fault - int(FAULT_S * plan.faults_per_s)  # this one has lasted long enough
            if over >= 0:
                await bus.publish([_sample(f"s{over}", 1.0)])
            fault, samples = fault + 1, samples + 1 + (over >= 0)
        await asyncio.sleep(TICK_S)
    seconds = time.monotonic() - started
    await asyncio.sleep(GRACE_S)
    written = {number: _written_at_ms(directory / "documents" / f"d{number}.json") for number in sent_at_ms}
    ms = [at_ms - sent_at_ms[number] for number, at_ms in written.items() if at_ms is not None]
    return Latencies(ms, len(sent_at_ms) - len(ms), samples, seconds)


def _sample(service: str, value: float) -> OutRecord:
    body = {"name": "bench_load", "labels": {"service": service}, "ts": _now_ms(), "value": value}
    return OutRecord("bench-samples", service, json.dumps(body).encode())


def _written_at_ms(path: Path) -> int | None:
    if not path.exists():
        return None
    return int(json.loads(path.read_bytes())["history"][0]["at_ms"])


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _write(plan: Plan, directory: Path) -> Path:
    """The configuration and rules, as a user would write them (JSON is YAML)."""
    numbers = range(plan.faults)
    rules = {
        "groups": [{"name": "bench", "interval": "1s", "rules": [{"alert": "Overload", "expr": f"bench_load > {THRESHOLD:g}", "settle": "0s"}]}],
        "services": [
            {
                "name": f"s{number}",
                "match": {"service": f"s{number}"},
                "sites": [{"name": "here", "workload": f"local://document/d{number}"}],
                "limits": {"replicas": {"min": 1, "max": 9}},
            }
            for number in numbers
        ],
        "policies": [
            {
                "name": "add-capacity",
                "when": {"alertname": "Overload"},
                "mode": "enforce",
                "confirmations": 1,
                "allow_warming": True,
                "steps": [{"scale": {"replicas": 2}}],
                "guard": {"cooldown": "0s", "ttl": "1m"},
            }
        ],
    }
    documents = {f"d{number}": {"replicas": 1, "ready": 1} for number in numbers}
    config: dict[str, Any] = {
        "data_dir": str(directory / "data"),
        "inputs": [{"topic": "bench-samples", "format": "json"}],
        "rules": [str(directory / "rules.yaml")],
        "connectors": {"local": {"kind": "file", "dir": str(directory / "documents"), "documents": documents}},
        "grants": {"*": {"mode": "enforce"}},
        "observe_interval": "5s",
    }
    if plan.kafka:
        config["kafka"] = {"bootstrap": plan.kafka, "prefix": f"bench{_now_ms()}.", "partitions": 1}
    (directory / "rules.yaml").write_text(json.dumps(rules), encoding="utf-8")
    path = directory / "reflexarc.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path

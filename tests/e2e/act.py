"""The demo's bad-release act on its real world (Envoy, local processes, load) with the engine killed at any moment of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from pipeline.app import open_bus, open_store
from pipeline.demo.acts import BASE_RATE, WARM_SECONDS
from pipeline.demo.load import Load
from pipeline.demo.release import release_canary
from pipeline.demo.world import World
from pipeline.model import wire
from pipeline.model.records import AlertFact, Decision, Outcome, OutcomeStatus
from pipeline.ports.bus import FACTS, OUTCOMES, RECORDS

HEAL_S = 45.0
QUIET_S = 1.0
SETTLE_S = 5.0  # for the last verification and the recorder


async def killed_after(seconds: float) -> list[str]:
    """Break v2, kill the engine `seconds` later, start it again; what is wrong when it should have healed (empty is good)."""
    async with World() as world:
        await world.start_engine("enforce")
        await world.until_serving()
        await release_canary(world)
        before = _written(world)
        load = Load(world.public_port, BASE_RATE)
        sending = asyncio.create_task(load.run())
        try:
            await asyncio.sleep(WARM_SECONDS)
            world.break_things(v2={"error_ratio": 1.0})
            await asyncio.sleep(seconds)
            await world.stop_engine(kill=True)
            await world.start_engine("enforce")
            healed = await _until(lambda: _healed(world), HEAL_S)
            await asyncio.sleep(SETTLE_S)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        await world.stop_engine()  # in order: what it has begun is in the books
        wrong = [] if healed else [f"v2 is not healed: {_what_is_there(world)}"]
        return wrong + await _books(world, before)


async def _books(world: World, before: dict[str, int]) -> list[str]:
    """Writes at the targets against outcomes, and the bus against the store."""
    outcomes = [record for record in await _on_bus(world, OUTCOMES) if isinstance(record, Outcome)]
    applied = {record.action_id for record in outcomes if record.status is OutcomeStatus.APPLIED}
    written = sum(_written(world).values()) - sum(before.values())
    wrong = [] if written == len(applied) else [f"the targets were written {written} times for {len(applied)} applied actions"]
    wanted = {("alerts", fact.alert.id) for fact in await _on_bus(world, FACTS) if isinstance(fact, AlertFact)}
    wanted |= {("outcomes", record.id) for record in outcomes}
    wanted |= {("decisions", record.id) for record in await _on_bus(world, RECORDS) if isinstance(record, Decision)}
    store = await open_store(world.settings("enforce"))
    try:
        return wrong + [f"{kind} {id_} is on the bus but not in the store" for kind, id_ in sorted(wanted) if await store.get(kind, id_) is None]
    finally:
        await store.close()


async def _on_bus(world: World, topic: str) -> list[Any]:
    bus = await open_bus(world.settings("enforce"))
    records, reader = [], bus.read(topic)
    try:
        while True:
            records.append(wire.decode((await asyncio.wait_for(anext(reader), QUIET_S)).value))
    except (TimeoutError, StopAsyncIteration):
        return records
    finally:
        await bus.close()


def _written(world: World) -> dict[str, int]:
    """How often each target was written, as the connectors' own state files count."""
    envoy = json.loads((world.directory / "envoy" / ".reflexarc-state.json").read_bytes())["services"]["checkout"]["revisions"]
    workloads = {path.stem: json.loads(path.read_bytes())["generation"] for path in (world.directory / "processes").glob("*.json")}
    return {**{f"envoy {kind}": count for kind, count in envoy.items()}, **workloads}


def _healed(world: World) -> bool:
    weights, version = _what_is_there(world)
    return weights.get("v2") == 0 and version == "v1"


def _what_is_there(world: World) -> tuple[dict[str, int], str]:
    envoy = json.loads((world.directory / "envoy" / ".reflexarc-state.json").read_bytes())["services"]["checkout"]["weights"]
    canary = [entry["version"] for entry in json.loads((world.directory / "endpoints.json").read_bytes()) if entry["workload"] == "checkout-a-canary"]
    return envoy, "/".join(sorted(set(canary)))


async def _until(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True

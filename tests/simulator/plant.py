"""The targets as a connector sees them: what is wanted of the service, with revisions, and the troubles of an outside system."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random
from typing import Any

from pipeline.model.target import Target
from pipeline.ports.connector import Change, Observed, Temporary, Unknown
from tests.fakes.connector import FakeConnector, World
from tests.simulator.clock import VirtualLoop
from tests.simulator.scenario import Scenario
from tests.simulator.world import Service, strongest

ROUTE = Target.parse("edge://route/checkout")
SITES = Target.parse("edge://sites/checkout")
WORKLOADS = {Target.parse(f"local://workload/checkout-{name}"): name for name in ("a", "canary", "b")}
PERSON = "a person"


class Plant(World):
    """The fake world, tied to the service: what is set here happens there. `history`: (at_ms, key, target, values) of every write."""

    def __init__(self, scenario: Scenario, service: Service, loop: VirtualLoop) -> None:
        pools = service.pools
        values: dict[Target, dict[str, Any]] = {ROUTE: {"weights": dict(service.weights)}, SITES: {"sites": dict(service.shares)}}
        for target, name in WORKLOADS.items():
            values[target] = {"replicas": pools[name].replicas, "version": pools[name].version, "previous_version": "v1", "restart_key": ""}
        super().__init__(values)
        self.scenario, self.service, self._loop = scenario, service, loop
        self.key = ""
        self.history: list[tuple[int, str, Target, dict[str, Any], dict[str, Any]]] = []

    def set(self, target: Target, **values: Any) -> None:
        now_ms, start_ms = self._loop.now_ms, self.scenario.start_ms
        self.service.advance(now_ms)
        self.history.append((now_ms, self.key, target, dict(self.values[target]), dict(values)))
        super().set(target, **values)
        name = WORKLOADS.get(target)
        if "replicas" in values and name:
            self.service.pools[name].scale(int(values["replicas"]), now_ms, start_ms)
        if "version" in values and name:
            self.service.pools[name].next_version = (now_ms + start_ms, str(values["version"]))
        if "weights" in values:
            self.service.weights = dict(values["weights"])
        if "sites" in values:
            self.service.shares = dict(values["sites"])
        self.service.settle(now_ms)

    def by_hand(self, target: Target, **values: Any) -> None:
        """A person changes something."""
        self.key = PERSON
        self.set(target, **values)


class PlantConnector(FakeConnector):
    """Reads and writes the plant, with delays and troubles."""

    def __init__(self, name: str, plant: Plant, loop: VirtualLoop) -> None:
        super().__init__(name, world=plant)
        self._plant, self._loop = plant, loop
        self._rng = Random(plant.scenario.seed + 2)

    def _trouble(self, kind: str) -> bool:
        return self._rng.random() < strongest(self._plant.scenario.connector.get(kind, ()), self._loop.now_ms)

    async def read(self, target: Target) -> Observed:
        await asyncio.sleep(0.002)
        if self._trouble("blind"):
            raise Temporary(f"{target}: no connection")
        return self._observed(target)

    async def apply(self, change: Change, *, key: str, fence: int, deadline_ms: int) -> Observed:
        self.overlaps += change.target in self.applying
        self.applying.add(change.target)
        try:
            return await self._apply(change, key, fence, deadline_ms)
        finally:
            self.applying.discard(change.target)

    async def _apply(self, change: Change, key: str, fence: int, deadline_ms: int) -> Observed:
        scenario = self._plant.scenario
        await asyncio.sleep(scenario.apply_ms / 2000)
        if self._trouble("temporary"):
            raise Temporary(f"{change.target}: try again")
        if self._trouble("unknown_before"):
            raise Unknown(f"{change.target}: connection lost")
        if self._trouble("hangs"):
            await asyncio.sleep(deadline_ms / 1000)
            raise Unknown(f"{change.target}: no answer")
        late_ms = strongest(scenario.connector.get("late", ()), self._loop.now_ms)
        await asyncio.sleep(late_ms / 1000)
        self._plant.key = key
        self._write(change, key, fence)
        if self._trouble("unknown_after"):
            raise Unknown(f"{change.target}: connection lost after sending")
        grows = change.verb == "scale" and change.after["replicas"] > change.before["replicas"]
        if scenario.waits_ready and (grows or change.verb in {"roll_back", "deploy"}):
            await asyncio.sleep(scenario.start_ms / 1000)
        await asyncio.sleep(scenario.apply_ms / 2000)
        return self._observed(change.target)

    def _observed(self, target: Target) -> Observed:
        observed = super()._observed(target)
        name = WORKLOADS.get(target)
        if name is None:
            return observed
        now_ms, service = self._loop.now_ms, self._plant.service
        service.settle(now_ms)
        value: Mapping[str, Any] = {**observed.value, "ready": service.ready(name, now_ms)}
        return Observed(value, observed.version)

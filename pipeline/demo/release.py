"""What a delivery system would do before the first act: deploy v2 on the canary workload and give it its share of the traffic.

Goes through the connectors, as any change of the world does; the engine only sees the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pipeline.app import open_connectors
from pipeline.demo.world import World
from pipeline.model.records import stable_id
from pipeline.model.target import Target

CANARY: Final = "local://workload/checkout-a-canary"
ROUTE: Final = "edge://route/checkout"
WEIGHTS: Final = {"v1": 80, "v2": 20}
DEADLINE_MS: Final = 15_000


async def release_canary(world: World) -> None:
    """Deploy v2, then send it 20 % of the requests."""
    connectors = open_connectors(world.settings("observe"))
    try:
        await _set(connectors, "deploy", CANARY, {"version": "v2"})
        await _set(connectors, "shift_traffic", ROUTE, {"weights": WEIGHTS})
    finally:
        for connector in connectors.values():
            await connector.close()


async def _set(connectors: Mapping[str, Any], verb: str, address: str, desired: Mapping[str, Any]) -> None:
    target = Target.parse(address)
    connector = connectors[target.connector]
    change = connector.plan(target, verb, await connector.read(target), desired)
    if change is not None:
        await connector.apply(change, key=stable_id("release", verb, address), fence=0, deadline_ms=DEADLINE_MS)

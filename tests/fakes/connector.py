"""A connector to an imagined world: workloads, routes, sites and block lists in memory, with a version per target and errors on demand."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from pipeline.model.target import Target
from pipeline.ports.clock import Clock
from pipeline.ports.connector import Change, Conflict, ConnectorInfo, Discovered, Fence, Observed, Permanent, Unknown

_KEYS = {
    "scale": "replicas",
    "deploy": "version",
    "roll_back": "version",
    "restart": "restart_key",
    "shift_traffic": "weights",
    "fail_over": "sites",
    "fail_back": "sites",
}


class FakeSettings(BaseModel):
    """No settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass
class World:
    """The outside: it outlives connectors. `writes` lists every write that arrived, with its idempotency key."""

    values: dict[Target, dict[str, Any]]
    revisions: dict[Target, int] = field(default_factory=dict)
    fences: dict[Target, int] = field(default_factory=dict)
    writes: list[tuple[str, Change]] = field(default_factory=list)

    def set(self, target: Target, **values: Any) -> None:
        """Somebody else changes something."""
        self.values[target] = self.values[target] | values
        self.revisions[target] = self.revisions.get(target, 0) + 1


class FakeConnector:
    """`reads`, `applies`: errors (or callables) for the next calls, first come first; None lets a call through.

    An `Unknown` in `applies` is raised without writing; `after_write` raises it after the write arrived.
    """

    INFO: ClassVar[ConnectorInfo] = ConnectorInfo(
        name="fake",
        summary="An imagined world",
        verbs={
            "scale": ("workload",),
            "deploy": ("workload",),
            "roll_back": ("workload",),
            "restart": ("workload",),
            "shift_traffic": ("route",),
            "fail_over": ("sites",),
            "fail_back": ("sites",),
            "block": ("blocklist",),
        },
        invertible=frozenset({"scale", "deploy", "roll_back", "shift_traffic", "fail_over", "fail_back", "block"}),
        fence=Fence.ENFORCED,
        permissions=(),
        config_model=FakeSettings,
    )

    def __init__(self, name: str, config: FakeSettings | None = None, *, clock: Clock | None = None, world: World | None = None) -> None:
        self.name, self.world = name, world or World({})
        self.reads: list[Exception | Callable[[], None] | None] = []
        self.applies: list[Exception | Callable[[], None] | None] = []
        self.after_write: list[BaseException | None] = []
        self.hang = False
        self.applying: set[Target] = set()
        self.overlaps = 0

    @property
    def info(self) -> ConnectorInfo:
        return self.INFO

    async def read(self, target: Target) -> Observed:
        await asyncio.sleep(0)
        _next(self.reads)
        return self._observed(target)

    def plan(self, target: Target, verb: str, observed: Observed, desired: Mapping[str, Any]) -> Change | None:
        self._known(target)
        if target.kind not in self.INFO.verbs.get(verb, ()):
            raise Permanent(f"{target}: cannot {verb}")
        before, after = _block(observed, desired) if verb == "block" else _simple(target, verb, observed, desired)
        if before == after:
            return None
        inverse = None if verb == "restart" else ({**before, "from": after["version"]} if verb == "roll_back" else before)
        return Change(target, verb, before, after, f"{verb} {before} -> {after}", observed.version, inverse)

    async def apply(self, change: Change, *, key: str, fence: int, deadline_ms: int) -> Observed:
        self.overlaps += change.target in self.applying
        self.applying.add(change.target)
        try:
            await asyncio.sleep(0)
            _next(self.applies)
            if self.hang:
                await self._hang(change, deadline_ms)
            self._write(change, key, fence)
            error = self.after_write.pop(0) if self.after_write else None
            if error is not None:
                raise error
            return self._observed(change.target)
        finally:
            self.applying.discard(change.target)

    async def discover(self) -> Sequence[Discovered]:
        return [Discovered(target, {"path": target.path}, dict(value)) for target, value in sorted(self.world.values.items())]

    async def close(self) -> None:
        await asyncio.sleep(0)

    async def _hang(self, change: Change, deadline_ms: int) -> None:
        try:
            async with asyncio.timeout(deadline_ms / 1000):
                await asyncio.Event().wait()
        except TimeoutError as error:
            raise Unknown(f"{change.target}: no answer") from error

    def _write(self, change: Change, key: str, fence: int) -> None:
        target, world = change.target, self.world
        observed = self._observed(target)
        if fence < world.fences.get(target, 0):
            raise Conflict(f"{target}: a newer owner", observed=observed.value)
        if self.plan(target, change.verb, observed, change.after) is None:
            return
        if change.version != observed.version:
            raise Conflict(f"{target}: changed meanwhile", observed=observed.value)
        world.writes.append((key, change))
        world.fences[target] = fence
        current = dict(observed.value)
        if change.verb == "block":
            blocked = dict(current["blocked"])
            blocked.pop(change.after["address"], None)
            if change.after["blocked_until_ms"]:
                blocked[change.after["address"]] = change.after["blocked_until_ms"]
            world.set(target, blocked=blocked)
            return
        if "version" in change.after and change.verb != "restart":
            world.set(target, previous_version=current["version"])
        world.set(target, **change.after)

    def _known(self, target: Target) -> None:
        if target not in self.world.values:
            raise Permanent(f"{target}: unknown target")

    def _observed(self, target: Target) -> Observed:
        self._known(target)
        return Observed(dict(self.world.values[target]), str(self.world.revisions.get(target, 0)))


def _next(script: list[Any]) -> None:
    step = script.pop(0) if script else None
    if isinstance(step, BaseException):
        raise step
    if step is not None:
        step()


def _simple(target: Target, verb: str, observed: Observed, desired: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    key = _KEYS[verb]
    if key not in desired:
        raise Permanent(f"{target}: {verb} needs {key}")
    before, value = {key: observed.value[key]}, desired[key]
    if verb == "roll_back" and desired.get("from", observed.value["version"]) != observed.value["version"]:
        return before, before
    if verb == "roll_back" and value == "previous":
        if "previous_version" not in observed.value:
            raise Permanent(f"{target}: no version to roll back to")
        value = observed.value["previous_version"]
    return before, {key: value}


def _block(observed: Observed, desired: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    address = desired["address"]
    return {"address": address, "blocked_until_ms": observed.value["blocked"].get(address, 0)}, {
        "address": address,
        "blocked_until_ms": desired["blocked_until_ms"],
    }

"""`Process`: workloads of local processes, changed by writing what is wanted and then leading the instances there.

Guarantees: what is wanted changes only by compare-and-set of its generation under a lock (an older fence is refused); the wish is on disk before
anything starts or stops, so a crash at any instruction leaves work that the next pass finishes; new instances are ready before old ones leave the
endpoints file, and those are asked to stop only after the drain time; instances outlive us and are found again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from connectors.process.settings import ProcessSettings
from connectors.process.shop import Shop, ShopError, StartingError
from connectors.process.state import State, is_settled
from connectors.process.wishes import inverse, wish
from connectors.settings import require_target, require_verb
from pipeline.model.target import Target
from pipeline.ports.clock import Clock
from pipeline.ports.connector import Change, Conflict, ConnectorInfo, Discovered, Fence, Observed, Permanent, Unknown

KIND: Final = "workload"
_LOG = logging.getLogger("reflexarc.connectors.process")
_PASS_S: Final = 0.01  # between two passes while an action waits
_LOOK_S: Final = 0.05  # how soon an instance that ended is noticed
_GIVE_UP: Final = 3  # starts in a row that ended before they were ready

_INFO = ConnectorInfo(
    name="process",
    summary="Local processes as instances of versioned workloads (one Linux host)",
    verbs={"scale": (KIND,), "deploy": (KIND,), "roll_back": (KIND,), "restart": (KIND,)},
    invertible=frozenset({"scale", "deploy", "roll_back"}),
    fence=Fence.ENFORCED,
    permissions=("write state_dir and endpoints_file", "start processes", "signal the processes it started"),
    config_model=ProcessSettings,
    crash="nothing: what is wanted is on disk first; restart carries its key, so a key already in force starts nothing again",
)


@dataclass(slots=True)
class _Followed:
    due_at: float = 0.0
    state: State | None = None


class Process:
    """One host's workloads. Targets: `<name>://workload/<workload>`."""

    INFO: Final = _INFO

    def __init__(self, name: str, config: ProcessSettings, *, clock: Clock) -> None:
        self._name, self._config = name, config
        self._shop = Shop(config, clock)
        self._settling: dict[str, asyncio.Task[None]] = {}

    @property
    def info(self) -> ConnectorInfo:
        """Static description."""
        return _INFO

    async def read(self, target: Target) -> Observed:
        """What is wanted, and how many instances of it are ready."""
        return _observed(self._load(self._workload(target), target))

    def plan(self, target: Target, verb: str, observed: Observed, desired: Mapping[str, Any]) -> Change | None:
        """The change that leads there; None: already wanted."""
        name = self._workload(target)
        require_verb(_INFO, verb, target)
        after = wish(target, verb, observed.value, desired)
        if after is None:
            return None
        settings = self._config.workloads[name]
        if after.get("replicas", 0) > len(settings.port_range):
            raise Permanent(f"{target}: {after['replicas']} replicas need more than the {len(settings.port_range)} ports of {settings.ports}")
        if settings.versions and after.get("version", settings.version) not in settings.versions:
            raise Permanent(f"{target}: version {after['version']} may not run; versions: {', '.join(settings.versions)}")
        before = {key: observed.value[key] for key in after}
        summary = ", ".join(f"{key} {before[key]} -> {value}" for key, value in after.items())
        return Change(target, verb, before, after, summary, observed.version, inverse(verb, before, after))

    async def apply(self, change: Change, *, key: str, fence: int, deadline_ms: int) -> Observed:
        """Want it, and return when the wanted instances serve and no other does (those go on draining)."""
        name = self._workload(change.target)
        try:
            previous, wanted = self._want(name, change, fence)
        except ShopError as error:
            raise Permanent(f"{change.target}: {error}") from error
        _LOG.info("workload_wanted", extra={"target": str(change.target), "change": change.summary, "key": key})
        try:
            async with asyncio.timeout(deadline_ms / 1000):
                state = await self._converge(name, wanted.generation)
        except TimeoutError as error:
            raise Unknown(f"{change.target}: {change.summary}: wanted, but not ready after {deadline_ms} ms") from error
        except StartingError as error:
            self._restore(name, previous, wanted)
            raise Permanent(f"{change.target}: {change.summary}: {error}; what was there before stays") from error
        self._settle_later(name)
        return _observed(state)

    async def discover(self) -> Sequence[Discovered]:
        """Every configured workload."""
        found = []
        for name, settings in self._config.workloads.items():
            labels = {"workload": name, "service": settings.service} | ({"site": settings.site} if settings.site else {})
            target = Target(self._name, KIND, name)
            found.append(Discovered(target, labels, self._load(name, target).value()))
        return found

    async def follow(self) -> None:
        """Start what is missing, replace what died, finish what a crash left, keep the endpoints file true. Until cancelled."""
        followed = {name: _Followed() for name in self._config.workloads}
        while True:
            for name, one in followed.items():
                now = asyncio.get_running_loop().time()
                if one.due_at <= now or (one.state is not None and self._shop.lost_any(one.state)):
                    one.state = self._step_quietly(name)
                    one.due_at = now + self._pause_s(name, one.state)
            await asyncio.sleep(_LOOK_S)

    async def close(self) -> None:
        """Stop looking; the instances stay."""
        tasks = list(self._settling.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._shop.close()

    def _workload(self, target: Target) -> str:
        return require_target(target, connector=self._name, kind=KIND, known=self._config.workloads)

    def _load(self, name: str, target: Target) -> State:
        try:
            return self._shop.load(name)
        except ShopError as error:
            raise Permanent(f"{target}: {error}") from error

    def _want(self, name: str, change: Change, fence: int) -> tuple[State, State]:
        """Compare and set; what was wanted before and what is now."""
        with self._shop.changing(name) as slot:
            state = slot.state
            if fence < state.fence:
                raise Conflict(f"{change.target}: a newer owner (fence {state.fence}) has it, ours is {fence}", observed=state.value())
            if state.holds(change.after):
                return state, state
            if change.version not in {"", str(state.generation)} or not state.holds(change.before):
                raise Conflict(f"{change.target}: generation is {state.generation}, planned on {change.version or 'none'}", observed=state.value())
            slot.state = state.wanting(change.verb, change.after).fenced(fence)
            return state, slot.state

    def _restore(self, name: str, previous: State, wanted: State) -> None:
        with self._shop.changing(name) as slot:
            if slot.state.generation == wanted.generation and previous.generation != wanted.generation:
                slot.state = slot.state.wanting_as(previous)
        self._settle_later(name)

    def _step_quietly(self, name: str) -> State | None:
        try:
            return self._shop.step(name)
        except (OSError, ShopError) as error:
            _LOG.warning("workload_pass_failed", extra={"workload": name, "error": str(error)})
            return None

    def _pause_s(self, name: str, state: State | None) -> float:
        if state is not None and not (is_settled(state) and len(state.instances) == state.replicas):
            return _LOOK_S
        return self._config.workloads[name].health.interval_ms / 1000

    async def _converge(self, name: str, generation: int) -> State:
        while True:
            state = self._shop.step(name)
            if state.generation != generation:
                raise Unknown(f"{self._name}://{KIND}/{name}: somebody wants something else since")
            if is_settled(state):
                return state
            if self._shop.failed_starts(name) >= _GIVE_UP:
                raise StartingError(f"{_GIVE_UP} instances ended before they were ready (see {self._shop.log_folder})")
            await asyncio.sleep(_PASS_S)

    def _settle_later(self, name: str) -> None:
        running = self._settling.get(name)
        if running is None or running.done():
            self._settling[name] = asyncio.create_task(self._settle(name), name=f"settle {name}")

    async def _settle(self, name: str) -> None:
        while True:
            state = self._step_quietly(name)
            if state is None or (is_settled(state) and not any(instance.draining_at_ms for instance in state.instances)):
                return
            await asyncio.sleep(_LOOK_S)


def _observed(state: State) -> Observed:
    return Observed(state.value(), version=str(state.generation))

"""The modelled service: replicas behind a proxy, two sites, a stable version and a canary. Requests are served one by one (M/M/c with shedding).

Arrivals, and every request's luck (where it is sent, how much work it is, whether a bad version fails it), are drawn before the run, so that two runs
of a seed differ only in what was done to the service.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from tests.simulator.scenario import Scenario, Span

SLOTS = 4  # requests that one replica works on at once
WORK_S = 0.05  # mean; so one replica carries 80 requests/s
SHED_S = 0.8  # a longer wait is refused at once
TIMEOUT_S = 1.0  # a longer answer is none
GRID_MS = 50
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
OF_SITE = {"a": "a", "canary": "a", "b": "b"}


def strongest(spans: tuple[Span, ...], at_ms: float, default: float = 0.0) -> float:
    """The largest value in force; `default` where none is."""
    return max((span.value for span in spans if span.holds(at_ms)), default=default)


@dataclass
class Pool:
    """The replicas of one workload."""

    name: str
    version: str
    replicas: int
    starting: list[int] = field(default_factory=list)  # when each becomes ready
    next_version: tuple[int, str] | None = None
    free: list[float] = field(default_factory=list)

    def settle(self, at_ms: float, dead: float) -> None:
        """Become what time has made of it."""
        self.starting = [ready_ms for ready_ms in self.starting if ready_ms > at_ms]
        if self.next_version is not None and self.next_version[0] <= at_ms:
            self.version, self.next_version = self.next_version[1], None
        slots = SLOTS * self.ready(dead)
        if len(self.free) > slots:
            self.free = sorted(self.free)[:slots]
        while len(self.free) < slots:
            heapq.heappush(self.free, at_ms / 1000)

    def ready(self, dead: float) -> int:
        """Replicas that serve."""
        return max(0, int(self.replicas - len(self.starting) - dead))

    def scale(self, replicas: int, at_ms: int, start_ms: int) -> None:
        """More start; fewer are gone at once, those that had not started first."""
        if replicas > self.replicas:
            self.starting += [at_ms + start_ms] * (replicas - self.replicas)
        elif replicas < self.replicas:
            self.starting = sorted(self.starting)[: max(0, len(self.starting) - (self.replicas - replicas))]
        self.replicas = replicas


def _arrivals(scenario: Scenario, rng: np.random.Generator) -> np.ndarray:
    """Arrival times in s: a Poisson process with the load's rate."""
    steps = np.arange(0, scenario.length_ms + 100, 100)
    rates = np.array([scenario.rate * strongest(scenario.load, at, 1.0) * (1 + 0.1 * np.sin(at / 9000)) for at in steps[:-1]])
    whole = np.concatenate(([0.0], np.cumsum(rates * 0.1)))
    marks = np.cumsum(rng.exponential(1.0, int(whole[-1] * 1.2) + 100))
    return np.interp(marks[marks < whole[-1]], whole, steps / 1000)


class Service:
    """What the proxy and the replicas do. `failed` counts what users saw."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        rng = np.random.default_rng(scenario.seed)
        self._times = _arrivals(scenario, rng).tolist()
        count = len(self._times)
        self._site_luck, self._version_luck, self._error_luck = rng.random(count).tolist(), rng.random(count).tolist(), rng.random(count).tolist()
        self._work = rng.exponential(WORK_S, count).tolist()
        self._next = 0
        versions = {"a": "v1", "canary": "v2", "b": "v1"}
        self.pools = {name: Pool(name, versions[name], replicas) for name, replicas in scenario.replicas.items()}
        self.shares = {"a": 100, "b": 0}
        self.weights = {"v1": 100 - scenario.canary_percent, "v2": scenario.canary_percent}
        self.requests = self.failed = 0
        self.why: Counter[str] = Counter()
        self.answers: Counter[tuple[str, str, str]] = Counter()  # (version, site, code): as the proxy's log counts them
        self.durations: dict[str, list[int]] = {"a": [0] * (len(BUCKETS) + 1), "b": [0] * (len(BUCKETS) + 1)}
        self.demand: Counter[str] = Counter()  # by pool: as the replicas count them
        self._pending: list[tuple[float, str, str, str, float]] = []
        self.settle(0)

    def dead(self, pool: str, at_ms: float) -> float:
        return strongest(self.scenario.dead.get(pool, ()), at_ms)

    def ready(self, pool: str, at_ms: float) -> int:
        return self.pools[pool].ready(self.dead(pool, at_ms))

    def settle(self, at_ms: float) -> None:
        """What changes by itself does so on a grid, whoever looks when: two runs of a seed must not differ by being looked at."""
        grid_ms = at_ms // GRID_MS * GRID_MS
        for pool in self.pools.values():
            pool.settle(grid_ms, self.dead(pool.name, grid_ms))

    def advance(self, to_ms: float) -> None:
        """Serve everything that arrives until then, in slices short enough for what changes by itself."""
        end_s = to_ms / 1000
        while self._next < len(self._times) and self._times[self._next] <= end_s:
            at_ms = self._times[self._next] * 1000 // GRID_MS * GRID_MS
            self.settle(at_ms)
            self._slice(min(end_s, (at_ms + GRID_MS) / 1000), at_ms)
        self.settle(to_ms)
        while self._pending and self._pending[0][0] <= end_s:
            _, version, site, code, latency_s = heapq.heappop(self._pending)
            self.answers[version, site, code] += 1
            row = self.durations[site]
            row[next((index for index, le in enumerate(BUCKETS) if latency_s <= le), len(BUCKETS))] += 1

    def _slice(self, end_s: float, at_ms: float) -> None:
        scenario, times = self.scenario, self._times
        slow = {site: strongest(scenario.slow.get(site, ()), at_ms, 1.0) for site in "ab"}
        everywhere = strongest(scenario.errors.get("*", ()), at_ms)
        ratio = {version: max(everywhere, strongest(scenario.errors.get(version, ()), at_ms)) for version in ("v1", "v2")}
        share_a, weight_v1 = self.shares["a"] / 100, self.weights.get("v1", 0) / 100
        index, count = self._next, len(times)
        while index < count and times[index] <= end_s:
            name = "b" if self._site_luck[index] >= share_a else "a" if self._version_luck[index] < weight_v1 else "canary"
            self._serve(index, self.pools[name], slow[OF_SITE[name]], ratio)
            index += 1
        self._next = index

    def _serve(self, index: int, pool: Pool, slow: float, ratio: dict[str, float]) -> None:
        at_s, free = self._times[index], pool.free
        self.requests += 1
        if not free:
            self._answer(at_s + 0.002, pool, "503", 0.002, "dead")
            return
        self.demand[pool.name] += 1
        start_s = max(at_s, free[0])
        if start_s - at_s > SHED_S:
            self._answer(at_s + 0.002, pool, "503", 0.002, "shed")
            return
        end_s = start_s + self._work[index] * slow
        heapq.heapreplace(free, end_s)
        if self._error_luck[index] < ratio[pool.version]:
            self._answer(end_s, pool, "500", end_s - at_s, "error")
        elif end_s - at_s > TIMEOUT_S:
            self._answer(at_s + TIMEOUT_S, pool, "504", TIMEOUT_S, "timeout")
        else:
            self._answer(end_s, pool, "200", end_s - at_s, "")

    def _answer(self, end_s: float, pool: Pool, code: str, latency_s: float, why: str) -> None:
        if why:
            self.failed += 1
            self.why[why] += 1
        heapq.heappush(self._pending, (end_s, pool.version, OF_SITE[pool.name], code, latency_s))

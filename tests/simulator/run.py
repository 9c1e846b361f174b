"""One run of one scenario in one mode, and the pair of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from pipeline.app.building import targets_of
from tests.simulator import checks, rules
from tests.simulator.clock import VirtualLoop
from tests.simulator.engine import Engine
from tests.simulator.plant import ROUTE, WORKLOADS, Plant, PlantConnector
from tests.simulator.scenario import Happening, Scenario, scenario
from tests.simulator.scrape import Scraper
from tests.simulator.world import Service


@dataclass
class Run:
    """How one run went."""

    mode: str
    requests: int
    failed: int
    actions: int
    violations: list[str]
    why: dict[str, int] = field(default_factory=dict)


@dataclass
class Pair:
    """A scenario, without and with the engine's hands."""

    scenario: Scenario
    observe: Run
    enforce: Run

    @property
    def harmed(self) -> bool:
        return self.enforce.failed > self.observe.failed

    @property
    def violations(self) -> list[str]:
        return [f"{run.mode}: {text}" for run in (self.observe, self.enforce) for text in run.violations]


class Simulation:
    """The parts of one run, tied together; kept for whoever wants to look into it."""

    def __init__(self, scenario: Scenario, mode: str) -> None:
        self.scenario, self.mode = scenario, mode
        self.loop = VirtualLoop()
        self.service = Service(scenario)
        self.plant = Plant(scenario, self.service, self.loop)
        book = rules.book(scenario.variant, mode, scenario.least, scenario.canary_percent)
        self.connectors = {name: PlantConnector(name, self.plant, self.loop) for name in ("edge", "local")}
        self.engine = Engine(scenario, book, self.connectors, targets_of(book), self.loop)

    def alone(self) -> Run:
        """The service without any engine: the same failed requests as in observe, in a tenth of the time."""
        self.loop.close()
        self.service.advance(self.scenario.length_ms)
        return Run("alone", self.service.requests, self.service.failed, 0, [], dict(self.service.why))

    def run(self) -> Run:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self._live())
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()
        found = checks.violations(self)
        service = self.service
        return Run(self.mode, service.requests, service.failed, len(self.plant.history), found, dict(service.why))

    async def _live(self) -> None:
        scraper = Scraper(self.scenario, self.service)
        for happening in self.scenario.happenings:
            self.loop.call_at(happening.at_ms / 1000, self._happen, happening)
        self.engine.start()
        for at_ms in range(self.scenario.scrape_ms, self.scenario.length_ms + 1, self.scenario.scrape_ms):
            await asyncio.sleep(at_ms / 1000 - self.loop.time())
            self.service.advance(at_ms)
            for batch, delay_ms in scraper.batches(at_ms):
                self.loop.call_later(delay_ms / 1000, self.engine.feed, batch)
        await self.engine.die()

    def _happen(self, happening: Happening) -> None:
        if happening.what == "weights":
            self.plant.by_hand(ROUTE, weights={"v1": 100 - int(happening.value), "v2": int(happening.value)})
        elif happening.what == "replicas":
            target = next(target for target, name in WORKLOADS.items() if name == happening.subject)
            self.plant.by_hand(target, replicas=int(happening.value))
        elif happening.what == "clock":
            self.engine.clock.offset_ms += int(happening.value)
        else:
            self._restart = self.loop.create_task(self._restarted(happening.value))

    async def _restarted(self, down_ms: float) -> None:
        if not self.engine.alive:
            return
        await self.engine.die()
        await asyncio.sleep(down_ms / 1000)
        self.engine.start()


def run(seed: int) -> Pair:
    """Both runs of a seed."""
    drawn = scenario(seed)
    return Pair(drawn, Simulation(drawn, "observe").run(), Simulation(drawn, "enforce").run())


def run_quickly(seed: int) -> Pair:
    """The same without an engine in the control run, where nobody changes anything by hand (then time would have to stop for it)."""
    drawn = scenario(seed)
    if any(happening.what in {"weights", "replicas"} for happening in drawn.happenings):
        return run(seed)
    return Pair(drawn, Simulation(drawn, "observe").alone(), Simulation(drawn, "enforce").run())

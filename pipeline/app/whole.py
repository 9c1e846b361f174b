"""`App`: all parts of one process, built from settings and rules for the roles it has."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from pipeline import __version__
from pipeline.app import building
from pipeline.app.logs import open_log
from pipeline.app.metering import StageMeter
from pipeline.app.opening import cluster_of, open_connectors, open_sqlite_bus, open_store
from pipeline.app.receivers import receivers_of
from pipeline.app.reloading import RuleWatch
from pipeline.app.settings import Settings
from pipeline.detect import Detector
from pipeline.execute.executor import Executor
from pipeline.execute.observer import Observer
from pipeline.execute.switch import FileSwitch
from pipeline.gateway.server import Gateway
from pipeline.model import wire
from pipeline.model.records import Action, Observation, Outcome
from pipeline.ports.bus import FACTS, OutRecord
from pipeline.ports.connector import Connector, Following
from pipeline.ports.record import RecordStore
from pipeline.ports.stage import Stage, StepResult
from pipeline.record.documents import document_of
from pipeline.record.errors import StoreError
from pipeline.record.kinds import DAY_MS, KINDS
from pipeline.record.retention import keep_expiring
from pipeline.rulebook.book import AlertRule, RecordRule, RuleBook
from pipeline.rulebook.spec import GrantSpec
from pipeline.runtime.clock import SystemClock
from pipeline.runtime.detect_stage import DetectStage
from pipeline.runtime.embedded import Embedded
from pipeline.runtime.faults import fault_point
from pipeline.runtime.lock import RoleLocks
from pipeline.runtime.parts import Runtime
from pipeline.runtime.stages import RemediateStage
from pipeline.telemetry import Telemetry

ROLES: Final = ("detect", "remediate", "execute", "record", "gateway")
_GAUGE_S: Final = 2.0


class App:
    """Build, `start`, `stop`. `rules` is the book in force; a reload replaces it."""

    def __init__(self, settings: Settings, rules: RuleBook, roles: Sequence[str] = ROLES, *, fault: str = "", log_format: str = "text") -> None:
        self.settings, self.rules, self._roles = settings, rules, frozenset(roles)
        self._log = open_log(settings.config, log_format)
        self._telemetry = Telemetry(version=__version__)
        self._clock = SystemClock()
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        self._fault = fault_point(fault, settings.data_dir)
        self._locks = RoleLocks(settings.data_dir, self._roles)
        self.runtime = self._new_runtime()
        self.bus = self.runtime.bus
        self.connectors: Mapping[str, Connector] = {}
        self.store: RecordStore | None = None
        self._observer: Observer | None = None
        self._looks: set[asyncio.Task[None]] = set()
        self._gateway: Gateway | None = None
        self._detecting: DetectStage | None = None
        self._telemetry.reload("ok", **_counted(rules))

    async def start(self) -> None:
        """Build the parts of every role and start them."""
        builders: dict[str, Callable[[], Awaitable[None]]] = {
            "detect": self._build_detect,
            "remediate": self._build_remediate,
            "execute": self._build_execute,
            "record": self._build_record,
            "gateway": self._build_gateway,
        }
        for role, build in builders.items():
            if role in self._roles:
                await build()
        self.runtime.add_part("rules", RuleWatch(self.settings, self._take_rules, self._refuse_rules).run)
        self.runtime.add_part("gauges", self._gauge)
        await self.runtime.start()
        self._log("started", roles=sorted(self._roles), rules=self.rules.version, data_dir=str(self.settings.data_dir))

    async def stop(self) -> None:
        """Inputs first, then the executor, then what they stood on. Idempotent."""
        if self._gateway is not None:
            await self._gateway.close()
        await self.runtime.stop()
        for look in list(self._looks):
            look.cancel()
        await asyncio.gather(*self._looks, return_exceptions=True)
        for connector in self.connectors.values():
            await connector.close()
        if self.store is not None:
            await self.store.close()
        await self.bus.close()
        self._locks.release()

    @property
    def unready(self) -> str:
        """What is not up yet; empty when the pipeline is ready."""
        return self.runtime.unready

    def _new_runtime(self) -> Runtime:
        meter, inputs = StageMeter(self._telemetry, self._clock), tuple(building.input_formats(self.settings))
        cluster = cluster_of(self.settings)
        if cluster is None:
            return Embedded(open_sqlite_bus(self.settings, self._clock), self._clock, fault=self._fault, meter=meter, inputs=inputs)
        from pipeline.runtime.kafka.runtime import KafkaRuntime

        return KafkaRuntime(cluster, self._clock, fault=self._fault, data_dir=self.settings.data_dir, inputs=inputs, meter=meter)

    # --- roles -----------------------------------------------------------------------------------------------------------------------

    async def _build_detect(self) -> None:
        def make(_owns: object) -> DetectStage:
            self._detecting = building.detect_stage(self.settings, self._rules_in_force, self._fault, self._telemetry)
            return self._detecting

        self.runtime.add_stage(make)
        for one in self.settings.config.inputs:
            if one.file:
                self.runtime.add_file(self.settings.absolute(one.file), one.topic_name)

    async def _build_remediate(self) -> None:
        self.runtime.add_stage(lambda owns: building.remediate_stage(self.rules, owns))
        self.runtime.add_stage(lambda _owns: building.govern_stage())

    async def _build_execute(self) -> None:
        self.connectors = open_connectors(self.settings, self._clock)
        self.runtime.add_executor(self._executor)
        self._observer = self._new_observer()
        self.runtime.add_part("observe", self._observe)
        for name, connector in self.connectors.items():
            if isinstance(connector, Following):
                self.runtime.add_part(f"follow {name}", connector.follow)

    async def _build_record(self) -> None:
        self.store = store = await open_store(self.settings, self._clock)
        elastic = self.settings.config.elasticsearch
        days = dict.fromkeys(KINDS, math.ceil(elastic.retention_ms / DAY_MS)) if elastic and elastic.retention_ms else None
        self.runtime.add_recorder(self.store, document_of)
        self.runtime.add_part(
            "retention", lambda: keep_expiring(store, self._clock, keep_days=days, on_done=self._expired, on_failed=self._not_expired)
        )
        self.runtime.add_notifier(receivers_of(self.settings.config.receivers))

    def _expired(self, count: int) -> None:
        if count:
            self._log("records_expired", count=count)

    def _not_expired(self, error: StoreError) -> None:
        self._log("records_not_expired", level="warning", error=str(error))

    async def _build_gateway(self) -> None:
        config = self.settings.config.gateway
        if config is None:
            return
        self._gateway = Gateway(
            self.bus,
            config,
            clock=self._clock,
            telemetry=self._telemetry,
            health=lambda: self.unready,
            look=self._look,
            log=self._log,
            base=self.settings.path.parent,
        )
        await self._gateway.start()

    def _look(self) -> Detector | str:
        """The detector that queries are answered from, or why there is none."""
        if not isinstance(self.runtime, Embedded):
            return "detection is spread over partitions here; queries are answered by the embedded runtime only"
        detector = self._detecting.detector if self._detecting is not None else None
        return detector if isinstance(detector, Detector) else "detection does not run in this process"

    async def _gauge(self) -> None:
        switch = FileSwitch(self.settings.data_dir)
        while True:
            for name, records in (await self.runtime.lag()).items():
                self._telemetry.lag(name, 0, records)
            self._telemetry.paused(bool(switch.paused()))
            await asyncio.sleep(_GAUGE_S)

    # --- execution -------------------------------------------------------------------------------------------------------------------

    def _executor(self) -> Executor:
        return Executor(
            self.connectors,
            self.runtime.intents,
            FileSwitch(self.settings.data_dir),
            self._clock,
            self._grants,
            fault=self._fault,
            on_outcome=self._after_outcome,
        )

    def _rules_in_force(self) -> RuleBook:
        return self.rules

    def _grants(self, group: str) -> GrantSpec:
        """From the book in force now, not from the one at the start."""
        return self.rules.grant_of(group)

    def _after_outcome(self, action: Action, _outcome: Outcome) -> None:
        """Look at the target at once: remediation plans on what is there now."""
        if self._observer is not None:
            look = asyncio.get_running_loop().create_task(self._observer.look(action.target))
            self._looks.add(look)
            look.add_done_callback(self._looks.discard)

    def _new_observer(self) -> Observer:
        return Observer(
            self.connectors, building.targets_of(self.rules), self._clock, self._say, interval_ms=self.settings.config.observe_interval_ms
        )

    async def _observe(self) -> None:
        if self._observer is not None:
            await self._observer.run()

    async def _say(self, observation: Observation) -> None:
        await self.bus.publish([OutRecord(FACTS, observation.group, wire.encode(observation))])

    # --- rules -----------------------------------------------------------------------------------------------------------------------

    def _refuse_rules(self) -> None:
        self._telemetry.reload("refused")

    def _take_rules(self, rules: RuleBook) -> None:
        self.rules = rules
        self._telemetry.reload("ok", **_counted(rules))

        def reload(stage: Stage, now_ms: int) -> StepResult | None:
            return stage.reload(rules, now_ms) if isinstance(stage, DetectStage | RemediateStage) else None

        self.runtime.post(reload)
        if self._observer is not None:
            self._observer = self._new_observer()
            self.runtime.restart_part("observe")


def _counted(rules: RuleBook) -> dict[str, int]:
    every = [rule for group in rules.groups for rule in group.rules]
    return {
        "alerts": sum(isinstance(rule, AlertRule) for rule in every),
        "recordings": sum(isinstance(rule, RecordRule) for rule in every),
        "sigma": len(rules.sigma),
        "policies": len(rules.policies),
        "scalers": len(rules.scalers),
        "failovers": len(rules.failovers),
        "services": len(rules.services),
    }

"""The engine under test: the real stages and the real executor over an in-memory bus, on virtual time. It can die and come back at any moment.

What a stage said and its state are one step, as with the runtimes' transactions; a message travels `HOP_S`. A restart loses everything but the bus,
the states of finished steps and the intent log.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from random import Random

from pipeline.detect import Detector
from pipeline.execute.executor import Executor
from pipeline.execute.observer import Observer
from pipeline.model import wire
from pipeline.model.records import Action, Observation, Outcome
from pipeline.model.signals import SignalBatch
from pipeline.model.target import Target
from pipeline.ports import bus as topics
from pipeline.ports.bus import BusRecord, OutRecord
from pipeline.ports.connector import Connector
from pipeline.ports.stage import Rewinding, Stage
from pipeline.remediate import Governor, Remediator
from pipeline.rulebook.book import RuleBook
from pipeline.runtime.detect_stage import DetectStage, Input
from pipeline.runtime.stages import GovernStage, RemediateStage
from tests.fakes.execution import FakeSwitch, MemoryIntents
from tests.simulator.clock import EngineClock, VirtualLoop
from tests.simulator.scenario import Scenario
from tests.simulator.world import strongest

HOP_S = 0.002
METRICS = "metrics"
LONGEST_WAIT_S = 1.0


@dataclass
class Said:
    """One record of the store, with the true time at which it was said."""

    at_ms: int
    data: bytes


@dataclass
class Consumer:
    """A stage with its inbox and stored states. `generation` tells the wake-ups of a dead stage apart."""

    name: str
    inbox: deque[BusRecord] = field(default_factory=deque)
    states: dict[str, bytes] = field(default_factory=dict)
    stage: Stage | None = None
    wake: asyncio.TimerHandle | None = None


class Intents(MemoryIntents):
    """The intent log; finishing an intent publishes its outcome."""

    def __init__(self, publish) -> None:
        super().__init__()
        self._publish = publish

    async def finish(self, outcome: Outcome) -> None:
        await super().finish(outcome)
        self._publish(outcome)


class Engine:
    """Start with `start`; `die` and `start` again to restart it."""

    def __init__(self, scenario: Scenario, rules: RuleBook, connectors: dict[str, Connector], targets: dict[Target, str], loop: VirtualLoop) -> None:
        self.scenario, self.rules, self.connectors, self._targets, self._loop = scenario, rules, connectors, targets, loop
        self.clock = EngineClock(loop)
        self.intents = Intents(self._outcome)
        self.said: list[Said] = []
        self.actions: list[tuple[int, Action]] = []
        self.outcomes: list[tuple[int, Outcome]] = []
        self.letters = 0
        self._batches: dict[int, SignalBatch] = {}
        self._inputs: list[BusRecord] = []
        self._read = -1  # offset of the newest input that a finished step has taken
        self._offset = 0
        self._rng = Random(scenario.seed + 3)
        self.consumers = {name: Consumer(name) for name in ("detect", "remediate", "govern")}
        self._readers = {
            METRICS: "detect", topics.WATCHES: "detect", topics.PROPOSALS: "govern",
            **dict.fromkeys((topics.COMMANDS, topics.OUTCOMES, topics.GRANTS, topics.FACTS), "remediate"),
        }  # fmt: skip
        self._unsent: deque[Action] = deque()
        self._sent = asyncio.Event()
        self._executor: Executor | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.alive = False

    # --- life

    def start(self) -> None:
        """Make everything anew from what is stored."""
        self.alive = True
        detect = DetectStage(
            Detector(self.rules), {METRICS: Input(lambda record: self._batches[record.offset])}, decode_error=KeyError, fault=lambda _: None
        )
        stages: dict[str, Stage] = {"detect": detect, "remediate": RemediateStage(Remediator, self.rules), "govern": GovernStage(Governor())}
        for name, consumer in self.consumers.items():
            stage = consumer.stage = stages[name]
            stage.load(consumer.states)
            if isinstance(stage, Rewinding):
                stage.rewind([record for record in self._inputs if record.offset <= self._read])
            self._wake(consumer, 0.0)
        self._executor = Executor(self.connectors, self.intents, FakeSwitch(), self.clock, self.rules.grant_of)
        observer = Observer(self.connectors, self._targets, self.clock, self._observed, interval_ms=1000)
        self._tasks = [self._loop.create_task(self._execute(self._executor)), self._loop.create_task(observer.run())]

    async def die(self) -> None:
        """The process is gone, with all that it had in memory."""
        self.alive = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._executor is not None:
            await self._executor.close()
        for consumer in self.consumers.values():
            consumer.stage = None
            if consumer.wake is not None:
                consumer.wake.cancel()

    # --- the bus

    def feed(self, batch: SignalBatch) -> None:
        """A message on the input topic."""
        record = self._record(METRICS, "checkout", b"")
        self._batches[record.offset] = batch
        self._inputs.append(record)
        self._deliver(record)

    def publish(self, outputs: list[OutRecord]) -> None:
        """What a stage said, to whom it may concern."""
        now_ms = self._loop.now_ms
        for output in outputs:
            if output.topic == topics.RECORDS:
                self.said.append(Said(now_ms, output.value))
            elif output.topic == topics.ACTIONS:
                action = wire.decode_as(Action, output.value)
                self.actions.append((now_ms, action))
                self._unsent.append(action)
                self._loop.call_later(HOP_S, self._sent.set)
            elif output.topic == topics.DEAD_LETTERS:
                self.letters += 1
            elif output.topic in self._readers:
                self._deliver(self._record(output.topic, output.key, output.value))

    def _record(self, topic: str, key: str, value: bytes) -> BusRecord:
        self._offset += 1
        return BusRecord(topic, 0, self._offset, key, value, self.clock.now_ms())

    def _deliver(self, record: BusRecord) -> None:
        consumer = self.consumers[self._readers[record.topic]]
        consumer.inbox.append(record)
        if self.alive:
            self._wake(consumer, HOP_S)

    # --- the stages

    def _wake(self, consumer: Consumer, after_s: float) -> None:
        at_s = self._loop.time() + after_s
        if consumer.wake is not None and not consumer.wake.cancelled():
            if consumer.wake.when() <= at_s and consumer.wake.when() > self._loop.time():
                return
            consumer.wake.cancel()
        consumer.wake = self._loop.call_at(at_s, self._step, consumer)

    def _step(self, consumer: Consumer) -> None:
        consumer.wake = None
        stage, now_ms = consumer.stage, self.clock.now_ms()
        if stage is None:
            return
        due_at_ms = stage.due_at_ms()
        if due_at_ms is not None and due_at_ms <= now_ms:
            self._commit(consumer, stage.tick(now_ms))
        if consumer.inbox:
            records = list(consumer.inbox)
            consumer.inbox.clear()
            self._commit(consumer, stage.handle(records, now_ms))
            self._read = max((record.offset for record in records if record.topic == METRICS), default=self._read)
        due_at_ms = stage.due_at_ms()
        wait_s = LONGEST_WAIT_S if due_at_ms is None else min(LONGEST_WAIT_S, max(0.001, (due_at_ms - self.clock.now_ms()) / 1000))
        self._wake(consumer, wait_s)

    def _commit(self, consumer: Consumer, result) -> None:
        for key, state in result.states.items():
            if state is None:
                consumer.states.pop(key, None)
            else:
                consumer.states[key] = state
        self.publish(result.outputs)

    # --- execution

    async def _execute(self, executor: Executor) -> None:
        await executor.resume()
        while True:
            while self._unsent:
                await executor.accept(self._unsent[0])
                self._unsent.popleft()
            self._sent.clear()
            await self._sent.wait()

    def _outcome(self, outcome: Outcome) -> None:
        """An outcome on its way back, which can go wrong."""
        now_ms = self._loop.now_ms
        self.outcomes.append((now_ms, outcome))
        trouble = self.scenario.outcomes
        if self._rng.random() < strongest(trouble.get("lost", ()), now_ms):
            return
        record = OutRecord(topics.OUTCOMES, outcome.group, wire.encode(outcome))
        late_s = strongest(trouble.get("late", ()), now_ms) / 1000
        self._loop.call_later(late_s, self.publish, [record])
        if strongest(trouble.get("doubled", ()), now_ms):
            self._loop.call_later(late_s + 0.5, self.publish, [record])
        if strongest(trouble.get("stale", ()), now_ms):
            _, first = self.outcomes[0]
            self._loop.call_later(1.0, self.publish, [OutRecord(topics.OUTCOMES, first.group, wire.encode(first))])

    async def _observed(self, observation: Observation) -> None:
        self.publish([OutRecord(topics.FACTS, observation.group, wire.encode(observation))])

"""`Play`: detector, remediators and governor of one case, driven together on a clock that the test moves.

The same machines as in the pipeline, wired as the runtime wires them, without its bus: facts go to the remediator of their group, proposals to the
governor, actions to a simulated world, watches back to the detector. Guarantee: the same case gives the same story; nothing happens between the
times that an input, a timer or an outcome asks for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from pipeline.detect import Detected, DetectOptions, Detector, Rejection
from pipeline.model.records import (
    Action,
    AlertFact,
    Decision,
    Effect,
    Incident,
    Measurement,
    Observation,
    Proposal,
    RemediatorInput,
    Tick,
    Watch,
    stable_id,
)
from pipeline.model.signals import SignalBatch
from pipeline.model.target import Target
from pipeline.promql import Options
from pipeline.remediate import Governor, Remediator
from pipeline.rulebook.book import RuleBook
from pipeline.ruletest.inputs import LIMITS, Samples
from pipeline.ruletest.suite import Case, Ending
from pipeline.ruletest.world import World

START_MS = 1_704_067_200_000  # 2024-01-01T00:00:00Z, a Monday: where a case begins that names no start
MAX_STEPS = 2_000_000
OBSERVED_EVERY_MS = 30_000


class TooLongError(Exception):
    """A case that would take too many steps."""


@dataclass(slots=True)
class Story:
    """Everything that happened so far, in order; `errors`: rules that could not be evaluated."""

    actions: list[Action] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    incidents: dict[str, Incident] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


class Play:
    """One case. `until` moves the clock; `story` is what came of it."""

    def __init__(self, case: Case, book: RuleBook, options: Options) -> None:
        book = replace(book, grants=dict(case.grants))
        self.start_ms = case.start_ms or START_MS
        self.now_ms = self.start_ms
        self._turned_ms = self.start_ms - 1
        self.story = Story()
        self._book = book
        detect = DetectOptions(grid_delay_ms=0, external_labels=case.external_labels, external_url=case.external_url, promql=options, limits=LIMITS)
        self._detector = Detector(book, detect)
        self._governor = Governor()
        self._world = World(case, book.services)
        self._machines = {group: Remediator(group, book) for group in sorted({service.group_name for service in book.services})}
        moved = replace(case, start_ms=self.start_ms)
        wanted = {one.labels: one.runs for one in case.inputs}
        self._samples = [(labels, Samples(moved, runs)) for labels, runs in wanted.items()]
        self._under_way: list[tuple[int, Action, Ending]] = []
        self._observe_ms = self.start_ms
        self._inbox: deque[RemediatorInput] = deque()
        self._steps = 0

    def until(self, at_ms: int) -> Story:
        """Let everything happen up to and including a time after the start.

        Raises:
            TooLongError: there is too much to do.
        """
        end_ms = self.start_ms + at_ms
        while (due := self._due_ms()) is not None and (now_ms := max(due, self._turned_ms + 1)) <= end_ms:
            self.now_ms = self._turned_ms = now_ms
            self._turn()
            self._steps += 1
            if self._steps > MAX_STEPS:
                raise TooLongError(f"more than {MAX_STEPS} steps")
        self.now_ms = end_ms
        return self.story

    def _due_ms(self) -> int | None:
        times = [self._detector.due_at_ms(), self._observe_ms]
        times += [samples.at_ms for _, samples in self._samples]
        times += [machine.due_at_ms() for machine in self._machines.values()]
        times += [at_ms for at_ms, _, _ in self._under_way]
        return min((time for time in times if time is not None), default=None)

    def _turn(self) -> None:
        """One instant: what the world says, then what comes in, then what is due."""
        now_ms = self.now_ms
        if self._observe_ms <= now_ms:
            self._observe_ms = now_ms + OBSERVED_EVERY_MS
            for target in sorted(self._world.groups):
                self._observed(Target.parse(target))
        ready = [one for one in self._under_way if one[0] <= now_ms]
        self._under_way = [one for one in self._under_way if one[0] > now_ms]
        for _, action, ending in sorted(ready, key=lambda one: one[0]):
            self._carry_out(action, ending)
        self._deliver()
        batch = self._batch()
        if len(batch):
            self._take(self._detector.feed(batch, now_ms))
        self._take(self._detector.advance(now_ms))
        self._deliver()
        for machine in list(self._machines.values()):
            due = machine.due_at_ms()
            if due is not None and due <= now_ms:
                self._effects(machine.step(Tick(at_ms=now_ms), now_ms))
        self._deliver()

    def _batch(self) -> SignalBatch:
        batch = SignalBatch(source="test")
        for labels, samples in self._samples:
            for at_ms, value in samples.until(self.now_ms):
                batch.labels.append(labels)
                batch.at_ms.append(at_ms)
                batch.values.append(value)
        return batch

    def _take(self, detected: Iterable[Detected]) -> None:
        for one in detected:
            if isinstance(one, AlertFact | Measurement):
                self._inbox.append(one)
            elif isinstance(one, Rejection):
                self.story.errors.append(one.text)

    def _deliver(self) -> None:
        """Hand over what waits, and what follows from it, until all is quiet."""
        while self._inbox:
            event = self._inbox.popleft()
            group = "" if isinstance(event, Tick) else event.group
            machine = self._machines.get(group)
            if machine is None:
                machine = self._machines[group] = Remediator(group, self._book)
            self._effects(machine.step(event, self.now_ms))

    def _effects(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Proposal():
                    self._inbox.extend(self._governor.step(effect, self.now_ms))
                case Watch():
                    self._detector.watch(effect, self.now_ms)
                case Action():
                    self.story.actions.append(effect)
                    self._act(effect)
                case Decision():
                    self.story.decisions.append(effect)
                case Incident():
                    self.story.incidents[effect.id] = effect
                case _:
                    pass

    def _act(self, action: Action) -> None:
        ending = self._world.ending(action)
        if ending.delay_ms:
            self._under_way.append((self.now_ms + ending.delay_ms, action, ending))
        else:
            self._carry_out(action, ending)

    def _carry_out(self, action: Action, ending: Ending) -> None:
        outcome = self._world.carry_out(action, ending, self.now_ms)
        self._governor.step(outcome, self.now_ms)
        self._inbox.append(outcome)
        self._observed(action.target)

    def _observed(self, target: Target) -> None:
        group = self._world.groups.get(str(target))
        if group is not None:
            value = self._world.value(str(target))
            record_id = stable_id("observation", target, self.now_ms, value)
            self._inbox.append(Observation(id=record_id, group=group, target=target, at_ms=self.now_ms, observed=value))

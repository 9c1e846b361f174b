"""The stages: each wraps pure machines for the bus. Bytes are decoded and encoded here, effects get their topics here.

Guarantee: a stage never raises for what a record holds: bytes that cannot be read become dead letters. No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from pipeline.model import wire
from pipeline.model.records import (
    Action,
    Audit,
    Command,
    DeadLetter,
    Effect,
    Grant,
    Notice,
    Outcome,
    Proposal,
    RemediatorInput,
    Tick,
    Value,
    Watch,
    stable_id,
)
from pipeline.ports import bus
from pipeline.ports.bus import BusRecord, OutRecord
from pipeline.ports.stage import StepResult
from pipeline.rulebook.book import RuleBook
from pipeline.runtime.machines import GovernorLike, NewRemediator, RemediatorLike
from pipeline.runtime.topics import NOTICES

GOVERNOR = "governor"
_MAX_LETTER_BYTES = 64 * 1024


def dead_letter(record: BusRecord, reason: str, now_ms: int) -> OutRecord:
    """What cannot be read: where it was, why, and its (first) bytes."""
    letter = DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        at_ms=now_ms,
        reason=reason[:500],
        payload=record.value[:_MAX_LETTER_BYTES],
        truncated=len(record.value) > _MAX_LETTER_BYTES,
    )
    return OutRecord(bus.DEAD_LETTERS, record.topic, wire.encode(letter))


def _stored(key: str, value: Value) -> OutRecord:
    return OutRecord(bus.RECORDS, key, wire.encode(value))


def _route(effect: Effect) -> Iterable[OutRecord]:
    """Where an effect goes: to whoever acts on it, and to the records where people look for it."""
    data = wire.encode(effect)
    if isinstance(effect, Proposal):
        return (OutRecord(bus.PROPOSALS, effect.group, data),)
    if isinstance(effect, Watch):
        return (OutRecord(bus.WATCHES, effect.group, data),)
    record = OutRecord(bus.RECORDS, effect.group, data)
    if isinstance(effect, Action):
        return (OutRecord(bus.ACTIONS, effect.group, data), record)
    if isinstance(effect, Notice):
        return (OutRecord(NOTICES, effect.to, data), record)
    return (record,)


def _audit(command: Command) -> Audit:
    return Audit(
        id=stable_id("audit", command.id),
        at_ms=command.at_ms,
        identity=command.identity,
        what=command.kind,
        args={**command.args, "group": command.group},
    )


class RemediateStage:
    """One remediator per group, made when the group is first heard of. State: one snapshot per group.

    `owns` says which groups belong to this instance (Kafka: to its partition). A command without a group concerns all of them.
    """

    name = "remediate"
    inputs: tuple[str, ...] = (bus.COMMANDS, bus.OUTCOMES, bus.GRANTS, bus.FACTS)

    def __init__(self, new: NewRemediator, rules: RuleBook, *, owns: Callable[[str], bool] = lambda _group: True) -> None:
        self._new, self._rules, self._owns = new, rules, owns
        self._machines: dict[str, RemediatorLike] = {}
        self._due: dict[str, int | None] = {}  # asked of a machine when it has stepped, not of all of them all the time
        self._start_pending = True

    def load(self, states: Mapping[str, bytes]) -> None:
        """Restore every stored group."""
        for group, data in states.items():
            machine = self._machine(group)
            machine.restore(data)
            self._due[group] = machine.due_at_ms()
        self._start_pending = True

    def reload(self, rules: RuleBook, now_ms: int) -> StepResult:
        """Swap the rules; guards and incidents stay. New services' controllers start with the next tick."""
        self._rules = rules
        self._start_pending = True
        outputs = [output for machine in self._machines.values() for effect in machine.reload(rules, now_ms) for output in _route(effect)]
        return self._result(outputs, set(self._machines))

    def handle(self, records: Sequence[BusRecord], now_ms: int) -> StepResult:
        """Facts, grants, outcomes and commands, in order."""
        outputs: list[OutRecord] = []
        touched: set[str] = set()
        for record in records:
            try:
                event = wire.decode(record.value)
            except wire.WireError as error:
                outputs.append(dead_letter(record, str(error), now_ms))
                continue
            if isinstance(event, RemediatorInput):
                self._take(event, now_ms, outputs, touched)
            else:
                outputs.append(dead_letter(record, f"{type(event).__name__} does not belong on {record.topic}", now_ms))
        return self._result(outputs, touched)

    def tick(self, now_ms: int) -> StepResult:
        """Start the controllers of all owned services once, then whatever timers are due."""
        outputs: list[OutRecord] = []
        touched: set[str] = set()
        if self._start_pending:
            self._start_pending = False
            for group in sorted({service.group_name for service in self._rules.services}):
                if self._owns(group):
                    self._machine(group)
        for group in [group for group, due in self._due.items() if due is not None and due <= now_ms]:
            self._step(group, Tick(at_ms=now_ms), now_ms, outputs, touched)
        return self._result(outputs, touched)

    def due_at_ms(self) -> int | None:
        """The earliest timer of all groups."""
        if self._start_pending:
            return 0
        return min((due for due in self._due.values() if due is not None), default=None)

    def _take(self, event: RemediatorInput, now_ms: int, outputs: list[OutRecord], touched: set[str]) -> None:
        if isinstance(event, Tick):
            return
        if isinstance(event, Command):
            outputs.append(_stored(event.group or event.id, _audit(event)))
            outputs.append(OutRecord(bus.PROPOSALS, event.group, wire.encode(event)))
            for group in [event.group] if event.group else list(self._machines):
                self._step(group, event, now_ms, outputs, touched)
            return
        if isinstance(event, Outcome):
            outputs.append(_stored(event.group, event))
            outputs.append(OutRecord(bus.PROPOSALS, event.group, wire.encode(event)))
        self._step(event.group, event, now_ms, outputs, touched)

    def _step(self, group: str, event: RemediatorInput, now_ms: int, outputs: list[OutRecord], touched: set[str]) -> None:
        for effect in self._machine(group).step(event, now_ms):
            outputs.extend(_route(effect))
        touched.add(group)

    def _machine(self, group: str) -> RemediatorLike:
        machine = self._machines.get(group)
        if machine is None:
            machine = self._machines[group] = self._new(group, self._rules)
            self._due[group] = machine.due_at_ms()
        return machine

    def _result(self, outputs: list[OutRecord], touched: set[str]) -> StepResult:
        states: dict[str, bytes | None] = {}
        for group in sorted(touched):
            self._due[group] = self._machines[group].due_at_ms()
            states[group] = self._machines[group].snapshot()
        return StepResult(outputs, states)


class GovernStage:
    """The governor. One inbox, one partition: the order of proposals is the order of answers."""

    name = "govern"
    inputs: tuple[str, ...] = (bus.PROPOSALS,)

    def __init__(self, governor: GovernorLike) -> None:
        self._governor = governor

    def load(self, states: Mapping[str, bytes]) -> None:
        """Restore the counters."""
        if GOVERNOR in states:
            self._governor.restore(states[GOVERNOR])

    def handle(self, records: Sequence[BusRecord], now_ms: int) -> StepResult:
        """Proposals, and copies of outcomes and commands."""
        outputs: list[OutRecord] = []
        changed = False
        for record in records:
            try:
                event = wire.decode(record.value)
            except wire.WireError as error:
                outputs.append(dead_letter(record, str(error), now_ms))
                continue
            if isinstance(event, Proposal | Outcome | Command):
                outputs.extend(self._grants(self._governor.step(event, now_ms)))
                changed = True
            else:
                outputs.append(dead_letter(record, f"{type(event).__name__} does not belong on {record.topic}", now_ms))
        return StepResult(outputs, {GOVERNOR: self._governor.snapshot()} if changed else {})

    def tick(self, now_ms: int) -> StepResult:  # noqa: ARG002 - the port's shape; the governor has no timers
        """Nothing: every answer is caused by a question."""
        return StepResult([], {})

    def due_at_ms(self) -> int | None:
        """Never."""
        return None

    @staticmethod
    def _grants(grants: Iterable[Grant]) -> Iterable[OutRecord]:
        return (OutRecord(bus.GRANTS, grant.group, wire.encode(grant)) for grant in grants)

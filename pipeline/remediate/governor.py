"""The governor: the one place that grants what must hold over all groups. One instance, one partition.

A budget counts distinct targets within its window; touching one again costs nothing. Exempt proposals (reverts, operators) are counted and never
refused. Pause refuses everything but what is exempt is refused too: pause means nothing is applied. A proposal that was answered gets the same
answer again; a token whose action changed nothing is given back.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from pipeline.model.reasons import Reason
from pipeline.model.records import Budget, Command, Grant, Outcome, OutcomeStatus, Proposal, Tick
from pipeline.remediate.state import STATE_VERSION, dump, load

KEPT: Final = 2000
UNSPENT: Final = frozenset({OutcomeStatus.ALREADY_THERE, OutcomeStatus.PLANNED, OutcomeStatus.STALE, OutcomeStatus.REFUSED})


class Window(msgspec.Struct):
    """One budget's past: when each target was last touched, and by which action."""

    per_ms: int
    touched: dict[str, tuple[int, str]] = {}


class GovernorState(msgspec.Struct):
    """Everything the governor remembers."""

    schema_version: int = STATE_VERSION
    windows: dict[str, Window] = {}
    answers: dict[str, Grant] = {}
    paused: dict[str, str] = {}  # group ("" for all) -> why


class Governor:
    """A fold like the remediator: proposals in, grants out."""

    def __init__(self) -> None:
        self.state = GovernorState()

    def step(self, event: Proposal | Command | Outcome | Tick, now_ms: int) -> list[Grant]:
        """Take one input."""
        match event:
            case Proposal():
                return [self._answer(event, now_ms)]
            case Outcome():
                self._settle(event)
            case Command():
                self._command(event)
            case Tick():
                self._prune(now_ms)
        return []

    def due_at_ms(self) -> int | None:
        """No timer: windows are looked at when they are used."""
        return None

    def snapshot(self) -> bytes:
        """The whole memory as bytes."""
        return dump(self.state)

    def restore(self, data: bytes) -> None:
        """Take up the memory again. Raises `StateError` for what this version cannot read."""
        self.state = load(GovernorState, data)

    def _answer(self, proposal: Proposal, now_ms: int) -> Grant:
        known = self.state.answers.get(proposal.id)
        if known is not None:
            return known
        granted, reason, evidence = self._judge(proposal, now_ms)
        grant = Grant(id=proposal.id, group=proposal.group, at_ms=now_ms, granted=granted, reason=reason, evidence=evidence)
        if granted:
            for budget in proposal.budgets:
                window = self.state.windows.setdefault(budget.key, Window(budget.per_ms))
                window.per_ms = budget.per_ms
                window.touched[str(proposal.action.target)] = (now_ms, proposal.id)
        self.state.answers[proposal.id] = grant
        self._prune(now_ms)
        return grant

    def _judge(self, proposal: Proposal, now_ms: int) -> tuple[bool, Reason, dict[str, Any]]:
        paused = self.state.paused.get("") or self.state.paused.get(proposal.group)
        if paused:
            return False, Reason.PAUSED, {"paused": paused}
        if proposal.exempt:
            return True, Reason.GRANTED, {"exempt": True}
        for budget in proposal.budgets:
            evidence = self._overspent(budget, str(proposal.action.target), now_ms)
            if evidence is not None:
                return False, Reason.BUDGET, evidence
        return True, Reason.GRANTED, {}

    def _overspent(self, budget: Budget, target: str, now_ms: int) -> dict[str, Any] | None:
        window = self.state.windows.get(budget.key)
        touched = {name: at_ms for name, (at_ms, _) in window.touched.items() if at_ms + budget.per_ms > now_ms} if window else {}
        allowed = limit_of(budget)
        if target in touched or len(touched) < allowed:
            return None
        retry_at_ms = min(touched.values()) + budget.per_ms if touched else now_ms + budget.per_ms
        return {"budget": budget.key, "used": len(touched), "limit": allowed, "per_ms": budget.per_ms, "retry_at_ms": retry_at_ms}

    def _settle(self, outcome: Outcome) -> None:
        if outcome.status in UNSPENT:
            for window in self.state.windows.values():
                window.touched = {name: entry for name, entry in window.touched.items() if entry[1] != outcome.action_id}

    def _command(self, command: Command) -> None:
        if command.kind == "pause":
            self.state.paused[command.group] = f"by {command.identity}"
        elif command.kind == "resume" and not command.group:
            self.state.paused.clear()
        elif command.kind == "resume":
            self.state.paused.pop(command.group, None)

    def _prune(self, now_ms: int) -> None:
        for key, window in list(self.state.windows.items()):
            window.touched = {name: entry for name, entry in window.touched.items() if entry[0] + window.per_ms > now_ms}
            if not window.touched:
                del self.state.windows[key]
        answers = self.state.answers
        while len(answers) > KEPT:
            del answers[next(iter(answers))]


def limit_of(budget: Budget) -> int:
    """Distinct targets that a window may hold: the smaller of the absolute number and the percentage (floor, at least 1)."""
    limits = [] if budget.targets is None else [budget.targets]
    if budget.percent is not None:
        limits.append(max(1, math.floor(budget.percent / 100 * budget.enabled)))
    return min(limits, default=KEPT)

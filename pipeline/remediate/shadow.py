"""Observe: what happened to the world while a policy only watched.

A shadow run made one would-be action and waits. It ends with the alert ("healed by itself after X"), and notes on the way when somebody else
changed the target: to the same value, or to another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.model.reasons import Reason, Verdict
from pipeline.model.records import Action, Ending, Observation
from pipeline.remediate import follow, guards
from pipeline.remediate.state import AlertEntry, Run
from pipeline.remediate.turn import Turn

ENDINGS: Mapping[Ending | None, tuple[Reason, str]] = {
    Ending.BY_VALUE: (Reason.RESOLVED_BY_VALUE, "It healed without us"),
    Ending.BY_NODATA: (Reason.RESOLVED_BY_NODATA, "Its alert vanished without data"),
    Ending.BY_RULE_CHANGE: (Reason.RESOLVED_BY_RULE_CHANGE, "Its rule was changed"),
}


def _shadows(turn: Turn) -> list[Run]:
    return [run for run in turn.state.runs.values() if run.phase == "shadow"]


def _would_be(turn: Turn, run: Run) -> list[Action]:
    return [turn.state.done[id_].action for id_ in run.orders if id_ in turn.state.done]


def adopt(turn: Turn) -> None:
    """A policy that may do more (or less) than watch from now on is considered anew."""
    for run in _shadows(turn):
        policy = turn.scope.policy.get(run.policy)
        if policy is None or guards.effective_mode(turn, policy.mode) != "observe":
            follow.finish(turn, run, "it no longer only watches")


def ended(turn: Turn, entry: AlertEntry) -> None:
    """The alert is over: say what would have been, and what was."""
    for run in _shadows(turn):
        if run.alert_id == entry.alert.id:
            reason, words = ENDINGS.get(entry.alert.ended, ENDINGS[Ending.BY_VALUE])
            after_ms = turn.now_ms - run.shadow_at_ms
            evidence = {"after_ms": after_ms, "would_have": [action.id for action in _would_be(turn, run)]}
            text = f"{words} {after_ms / 1000:.1f} s after policy {run.policy} would have acted."
            turn.decide(Verdict.NOTE, reason, text, evidence, incident_id=run.incident_id, alert_id=run.alert_id, policy=run.policy, mode="observe")
            follow.finish(turn, run, "its alert is over")


def observed(turn: Turn, observation: Observation, before: Mapping[str, Any] | None) -> None:
    """A target changed, and not by us: did somebody do what we would have done?"""
    for run in _shadows(turn):
        for action in _would_be(turn, run):
            if action.target == observation.target and before is not None and observation.observed is not None:
                _compare(turn, run, action, before, observation.observed)


def _compare(turn: Turn, run: Run, action: Action, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    names = [name for name in action.desired if name in now or name in before]
    if all(before.get(name) == now.get(name) for name in names):
        return
    same = all(now.get(name) == action.desired[name] for name in names)
    words = "did what" if same else "did something else than"
    evidence = {"human": "same" if same else "other", "now": {name: now.get(name) for name in names}, "would_have": dict(action.desired)}
    text = f"Somebody {words} policy {run.policy} would have done on {action.target}."
    turn.decide(
        Verdict.NOTE, Reason.MODE_OBSERVE, text, evidence, incident_id=run.incident_id, action_id=action.id, policy=run.policy, mode="observe"
    )

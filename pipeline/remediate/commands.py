"""Operators' orders to one group. An order for another group is not heard; one without a group is for all.

pause {reason}, resume, silence {match, for_ms | ends_at_ms}, approve {action}, release {override}, act {verb, target, desired}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pipeline.model.reasons import Reason, Verdict
from pipeline.model.records import Command
from pipeline.model.target import Target
from pipeline.remediate import dispatch, matchers, revert
from pipeline.remediate.dispatch import Draft
from pipeline.remediate.state import SilenceEntry
from pipeline.remediate.turn import Hold, Launched, Refused, Settled, Turn

OPERATOR_TTL_MS: Final = 60_000


def obey(turn: Turn, command: Command) -> None:
    """Carry out a command meant for this group."""
    handler = COMMANDS.get(command.kind)
    if handler is not None and command.group in {"", turn.group}:
        handler(turn, command)


def _argument(command: Command, *names: str) -> str:
    return next((str(command.args[name]) for name in names if command.args.get(name)), "")


def _pause(turn: Turn, command: Command) -> None:
    turn.state.paused = f"by {command.identity}{': ' + _argument(command, 'reason') if _argument(command, 'reason') else ''}"
    turn.decide(Verdict.NOTE, Reason.PAUSED, f"Paused {turn.state.paused}", {"identity": command.identity})


def _resume(turn: Turn, command: Command) -> None:
    if turn.state.paused:
        turn.state.paused, turn.again = "", True
        turn.decide(Verdict.NOTE, Reason.OPERATOR, f"Resumed by {command.identity}.", {"identity": command.identity})


def _silence(turn: Turn, command: Command) -> None:
    given = command.args.get("match") or command.args.get("matchers") or ()
    texts = [f'{name}="{value}"' for name, value in given.items()] if isinstance(given, Mapping) else list(given)
    ends_at_ms = int(command.args.get("ends_at_ms") or command.at_ms + int(command.args.get("for_ms") or 3_600_000))
    try:
        for text in texts:
            matchers.parse(text)
    except matchers.MatcherError as error:
        turn.decide(Verdict.FAIL, Reason.TEMPLATE, f"The silence of {command.identity} was refused: {error}.", {"match": texts})
        return
    starts_at_ms = int(command.args.get("starts_at_ms") or command.at_ms)
    if texts and ends_at_ms > turn.now_ms:
        turn.state.silences[command.id] = SilenceEntry(command.id, tuple(texts), starts_at_ms, ends_at_ms, command.identity)
        turn.decide(Verdict.NOTE, Reason.SILENCED, f"{command.identity} silenced {', '.join(texts)}.", {"ends_at_ms": ends_at_ms})


def _approve(turn: Turn, command: Command) -> None:
    action_id = _argument(command, "action", "action_id", "id")
    if dispatch.approve(turn, action_id, command.identity):
        turn.decide(
            Verdict.NOTE, Reason.OPERATOR, f"{command.identity} approved action {action_id}.", {"identity": command.identity}, action_id=action_id
        )


def _release(turn: Turn, command: Command) -> None:
    override_id = _argument(command, "override", "override_id", "id")
    if override_id in turn.state.overrides:
        turn.state.releases.pop(override_id, None)
        revert.ask_release(turn, override_id, f"released by {command.identity}", strict=False, identity=command.identity)


def _act(turn: Turn, command: Command) -> None:
    verb, desired = _argument(command, "verb"), command.args.get("desired")
    try:
        target = Target.parse(_argument(command, "target"))
    except ValueError as error:
        turn.decide(Verdict.FAIL, Reason.UNKNOWN_TARGET, f"{command.identity} asked for {verb}: {error}.", dict(command.args))
        return
    place = turn.scope.places.get(target)
    if place is None:
        if command.group == turn.group:
            turn.decide(
                Verdict.FAIL,
                Reason.UNKNOWN_TARGET,
                f"{target} is not in the catalogue of {turn.group}.",
                dict(command.args),
                verb=verb,
                target=target,
            )
        return
    if not isinstance(desired, Mapping) or not desired:
        turn.decide(
            Verdict.FAIL, Reason.TEMPLATE, f"{command.identity} did not say what {verb} should set.", dict(command.args), verb=verb, target=target
        )
        return
    hold = dispatch.submit(turn, _operator_draft(turn, command, verb, target, desired, place.service))
    if hold is not None:
        turn.decide(hold.verdict, hold.reason, hold.text, hold.evidence, verb=verb, target=target)


def _operator_draft(turn: Turn, command: Command, verb: str, target: Target, desired: Mapping[str, Any], service: str) -> Draft:
    seen = turn.state.observed.get(str(target))
    current = (seen.value or {}).get("replicas") if seen else None
    wanted = desired.get("replicas")
    up = verb == "scale" and current is not None and wanted is not None and wanted > current
    return Draft(
        owner=f"operator:{command.id}",
        service=service,
        verb=verb,
        target=target,
        desired=dict(desired),
        ttl_ms=OPERATOR_TTL_MS,
        direction="up" if up else "",
        incident_id=_argument(command, "incident", "incident_id"),
        reason=Reason.OPERATOR,
        exempt=True,
        identity=command.identity,
        caused_at_ms=command.at_ms,
    )


COMMANDS: Final[Mapping[str, Callable[[Turn, Command], None]]] = {
    "pause": _pause,
    "resume": _resume,
    "silence": _silence,
    "approve": _approve,
    "release": _release,
    "act": _act,
}


def launched(turn: Turn, event: Launched) -> None:
    """An operator's action is on its way."""


def refused(turn: Turn, event: Refused) -> None:
    """An operator's action did not go."""
    hold: Hold = event.hold
    turn.decide(hold.verdict, hold.reason, hold.text, hold.evidence, **dispatch.about(event.order.action))


def settled(turn: Turn, event: Settled) -> None:
    """An operator's action is in force: an override like any other."""
    revert.came_into_force(turn, turn.state.done[event.order.action.id])

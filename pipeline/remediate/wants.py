"""From a firing alert to a run: which policies speak of it, what holds each of them, and when to look again.

Guarantee: every firing alert ends up in a run or in a decision that says why not.
"""

from __future__ import annotations

from typing import Final

from pipeline.model.reasons import Reason, Verdict
from pipeline.model.records import stable_id
from pipeline.remediate import guards, incidents, steps
from pipeline.remediate.guards import Asked
from pipeline.remediate.muting import labels_of
from pipeline.remediate.state import AlertEntry, Run, Want
from pipeline.remediate.transitions import Happening
from pipeline.remediate.turn import About, Hold, Turn
from pipeline.rulebook.spec import Policy

NEVER_MS: Final = 2**60
MUTED: Final = frozenset({Reason.SILENCED, Reason.INHIBITED, Reason.MAINTENANCE})
ENDABLE: Final = frozenset(
    {Reason.OUTRANKED, Reason.IN_FLIGHT, Reason.CONTRADICTS, Reason.DWELL, Reason.INHIBITED, Reason.PAUSED}
)  # held by something that ends with an event, not with time
ON_CHANGE_MS: Final = 30_000  # a hold that names no time is looked at again after this, too


def policies_for(turn: Turn, entry: AlertEntry) -> list[Policy]:
    """The policies that speak of the alert, highest priority first, then in the order of the files."""
    labels = labels_of(entry)
    return turn.scope.policies_of(labels)


def raise_wants(turn: Turn, entry: AlertEntry) -> None:
    """A firing alert: note every policy that may act on it, or say that there is none."""
    alert, policies = entry.alert, policies_for(turn, entry)
    about: About = {"alert_id": alert.id, "incident_id": entry.incident_id}
    if not entry.service and not any(policy.service for policy in policies):
        hold = Hold(
            Reason.NO_SERVICE,
            f"{alert.name} belongs to no service of the catalogue, so nothing can be changed for it.",
            {"labels": dict(alert.labels)},
            verdict=Verdict.NOTE,
        )
        turn.decide_once(f"alert:{alert.id}", hold, **about)
    elif not policies:
        hold = Hold(Reason.NO_POLICY, f"No policy speaks of {alert.name}.", {"labels": dict(alert.labels)}, verdict=Verdict.NOTE)
        turn.decide_once(f"alert:{alert.id}", hold, **about)
    else:
        for policy in policies:
            _want(turn, policy.name, entry)


def _want(turn: Turn, policy: str, entry: AlertEntry) -> None:
    if any(run.policy == policy and run.alert_id == entry.alert.id for run in turn.state.runs.values()):
        return
    key = f"{policy}:{entry.alert.id}"
    turn.state.wants[key] = Want(policy, entry.alert.id, entry.incident_id, due_at_ms=entry.heard_at_ms)


def advance(turn: Turn) -> None:
    """Consider every want that is due; after something ended, also those that wait for an end."""
    ended, afresh = turn.again, turn.afresh
    turn.again = turn.afresh = False
    for key, want in list(turn.state.wants.items()):
        if key not in turn.state.wants:
            continue
        if (afresh or (ended and want.reason in ENDABLE)) and want.due_at_ms > turn.now_ms:
            want.due_at_ms = turn.now_ms
        if want.due_at_ms <= turn.now_ms:
            _consider(turn, key, want)


def _consider(turn: Turn, key: str, want: Want) -> None:
    policy = turn.scope.policy.get(want.policy)
    entry = turn.state.alerts.get(want.alert_id)
    if policy is None or entry is None or not guards.still_fires(entry):
        del turn.state.wants[key]
        return
    if _own_run(turn, want):
        text = f"{entry.alert.name} still fires while policy {policy.name} is at work; that starts nothing new."
        _put(turn, key, want, Hold(Reason.IN_FLIGHT, text, retry_at_ms=NEVER_MS))
        return
    service = turn.scope.services.get(policy.service or entry.service)
    if service is None:
        name = policy.service or "none"
        text = f"Policy {policy.name} would act on service {name}, which is not in group {turn.group}; its alerts must carry that service's labels."
        _put(turn, key, want, Hold(Reason.NO_SERVICE, text, {"service": name}, retry_at_ms=NEVER_MS))
        return
    asked = Asked(turn, want, policy, entry, service, guards.effective_mode(turn, policy.mode))
    hold = guards.first_hold(asked)
    if hold is None:
        del turn.state.wants[key]  # before the start: a run that ends at once puts its own want there
        hold = _start(turn, asked)
    if hold is not None:
        _put(turn, key, want, hold)
    else:
        turn.forget(_subject(want))


def _own_run(turn: Turn, want: Want) -> bool:
    return any(run.policy == want.policy and run.incident_id == want.incident_id for run in turn.state.runs.values())


def _subject(want: Want) -> str:
    return f"want:{want.policy}:{want.alert_id}"


def _put(turn: Turn, key: str, want: Want, hold: Hold) -> None:
    """Keep the want, say what holds it (once), and act on the reasons that a person has to know."""
    news = turn.state.said.get(_subject(want)) != hold.reason
    want.reason, want.due_at_ms = hold.reason, hold.retry_at_ms or turn.now_ms + ON_CHANGE_MS
    turn.state.wants[key] = want
    turn.decide_once(_subject(want), hold, alert_id=want.alert_id, incident_id=want.incident_id, policy=want.policy)
    if not news:
        return
    if hold.reason is Reason.ATTEMPTS_EXHAUSTED:
        incidents.escalate(turn, want.incident_id, hold.reason, hold.text, policy=want.policy)
    elif hold.reason in MUTED and not incidents.busy(turn, want.incident_id):
        incidents.happen(turn, want.incident_id, Happening.SUPPRESS, f"suppressed: {hold.reason}", want.alert_id)


def _start(turn: Turn, asked: Asked) -> Hold | None:
    """Begin a run; when its first step is held it never was."""
    want, ledger = asked.want, asked.ledger
    ledger.serial += 1
    run = Run(
        id=stable_id("run", want.incident_id, want.policy, asked.mode, ledger.serial),
        policy=want.policy,
        service=asked.service.name,
        incident_id=want.incident_id,
        alert_id=want.alert_id,
        mode=asked.mode,
        serial=ledger.serial,
        started_at_ms=turn.now_ms,
    )
    turn.state.runs[run.id] = run
    hold = steps.drive(turn, run)
    if hold is not None:
        turn.state.runs.pop(run.id, None)
    return hold

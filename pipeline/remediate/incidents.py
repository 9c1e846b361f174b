"""Incidents: which alerts belong together, and how the group of them lives and ends.

Grouping: one open incident per service and kind of trouble (metrics and external alerts together, security apart). A new alert joins it; after the
end an alert of the same name re-opens it within `REOPEN_MS`. Good news is only: every alert ended by its value, or ended otherwise while a
measured verification of the incident had succeeded. Absence alone resolves nothing: after `BLIND_MS` a person is asked.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from pipeline.model.reasons import Reason, Verdict
from pipeline.model.records import AlertState, Ending, Incident, IncidentState, stable_id
from pipeline.remediate.state import AlertEntry
from pipeline.remediate.transitions import Happening, next_state
from pipeline.remediate.turn import Turn

REOPEN_MS: Final = 300_000
BLIND_MS: Final = 600_000
KEPT_MS: Final = 900_000
TIMELINE_KEPT: Final = 200
ALERTS_KEPT: Final = 200  # named in the record of an incident; more of them belong to it all the same
SECURITY: Final = "sigma"


def _kind(entry: AlertEntry) -> str:
    return "security" if entry.alert.source == SECURITY else "service"


def attach(turn: Turn, entry: AlertEntry) -> str:
    """Put a firing alert into its incident, opening or re-opening one where there is none; its id."""
    alert, ended = entry.alert, ""
    for incident in turn.state.incidents.values():
        if incident.service != entry.service or not incident.alert_ids or _kind_of(turn, incident) != _kind(entry):
            continue
        if not entry.service and alert.name not in _names(turn, incident):
            continue  # strays have nothing in common but their name
        if incident.state is not IncidentState.RESOLVED:
            return _join(turn, incident, entry)
        if turn.now_ms - incident.resolved_at_ms < REOPEN_MS and alert.name in _names(turn, incident):
            ended = incident.id
    if ended:
        happen(turn, ended, Happening.REOPEN, f"re-opened by {alert.name}", alert.id)
        return _join(turn, turn.state.incidents[ended], entry)
    return _open(turn, entry)


def _kind_of(turn: Turn, incident: Incident) -> str:
    entry = turn.state.alerts.get(incident.alert_ids[0])
    return _kind(entry) if entry else "service"


def _names(turn: Turn, incident: Incident) -> set[str]:
    first = (turn.state.alerts.get(id_) for id_ in incident.alert_ids)
    return {entry.alert.name for entry in first if entry is not None}


def _join(turn: Turn, incident: Incident, entry: AlertEntry) -> str:
    alert = entry.alert
    if alert.id not in incident.alert_ids and len(incident.alert_ids) < ALERTS_KEPT:
        grown = replace(incident, alert_ids=(*incident.alert_ids, alert.id), severity=incident.severity or alert.labels.get("severity", ""))
        turn.state.incidents[incident.id] = grown
        note(turn, incident.id, f"alert {alert.name} fires", alert.id)
    return incident.id


def _open(turn: Turn, entry: AlertEntry) -> str:
    alert = entry.alert
    title = alert.annotations.get("summary") or f"{alert.name} on {entry.service or turn.group}"
    return open_incident(turn, entry.service, title, alert.id, severity=alert.labels.get("severity", ""), alert_ids=(alert.id,))


def open_incident(turn: Turn, service: str, title: str, root: str, *, severity: str = "", alert_ids: tuple[str, ...] = ()) -> str:
    """A new incident; `root` is what it grew from, and gives it its id."""
    id_ = stable_id("incident", turn.group, service, root)
    turn.state.incidents[id_] = Incident(
        id=id_,
        group=turn.group,
        service=service,
        title=title,
        state=IncidentState.OPEN,
        opened_at_ms=turn.now_ms,
        at_ms=turn.now_ms,
        severity=severity,
        alert_ids=alert_ids,
    )
    note(turn, id_, "opened", root)
    return id_


def note(turn: Turn, incident_id: str, what: str, ref: str = "") -> None:
    """Add a line to the timeline."""
    incident = turn.state.incidents.get(incident_id)
    if incident is None:
        return
    timeline = (*incident.timeline, (turn.now_ms, what, ref))
    if len(timeline) > TIMELINE_KEPT:
        timeline = (*timeline[:20], *timeline[-TIMELINE_KEPT + 20 :])
    turn.state.incidents[incident_id] = replace(incident, timeline=timeline, at_ms=turn.now_ms)
    turn.touched[incident_id] = None


def happen(turn: Turn, incident_id: str, happening: Happening, what: str, ref: str = "") -> bool:
    """Move the incident along `TRANSITIONS`; False where the happening means nothing in its state (then nothing changes)."""
    incident = turn.state.incidents.get(incident_id)
    state = next_state(incident.state, happening) if incident else None
    if incident is None or state is None:
        return False
    resolved_at_ms = turn.now_ms if state is IncidentState.RESOLVED else 0
    turn.state.incidents[incident_id] = replace(incident, state=state, resolved_at_ms=resolved_at_ms)
    note(turn, incident_id, what, ref)
    return True


def acted(turn: Turn, incident_id: str, action_id: str, what: str) -> None:
    """An action of this incident was issued."""
    incident = turn.state.incidents.get(incident_id)
    if incident is not None and action_id not in incident.action_ids:
        turn.state.incidents[incident_id] = replace(incident, action_ids=(*incident.action_ids, action_id))
        happen(turn, incident_id, Happening.ACT, what, action_id)


def escalate(turn: Turn, incident_id: str, reason: Reason, text: str, *, policy: str = "") -> None:
    """Ask a person, once per incident and state."""
    incident = turn.state.incidents.get(incident_id)
    turn.decide(Verdict.NOTE, Reason.ESCALATED, text, {"because": reason}, incident_id=incident_id, policy=policy)
    title = f"{incident.title}: needs a person" if incident else f"{turn.group}: needs a person"
    turn.notice(title, text, incident_id=incident_id, severity=incident.severity if incident else "")
    happen(turn, incident_id, Happening.ESCALATE, f"escalated: {reason}", policy)


def busy(turn: Turn, incident_id: str) -> bool:
    """Whether a run that may change something works on it."""
    return any(run.incident_id == incident_id and run.phase != "shadow" for run in turn.state.runs.values())


def firing(turn: Turn, incident_id: str) -> list[AlertEntry]:
    """Its alerts that still fire."""
    return [entry for entry in turn.state.alerts.values() if entry.incident_id == incident_id and entry.alert.state is AlertState.FIRING]


def settle(turn: Turn, incident_id: str, *, verified: bool = False) -> None:
    """Resolve the incident where it is over; see the module's rule."""
    incident = turn.state.incidents.get(incident_id)
    if incident is None or incident.state is IncidentState.RESOLVED or not incident.alert_ids:
        return
    if firing(turn, incident_id) or busy(turn, incident_id):
        return
    ended = [entry.alert.ended for entry in turn.state.alerts.values() if entry.incident_id == incident_id]
    if all(ending is Ending.BY_VALUE for ending in ended):
        _resolve(turn, incident_id, Ending.BY_VALUE)
    elif verified or incident.ended == "verified":
        _resolve(turn, incident_id, "verified")
    elif Ending.BY_NODATA not in ended:
        _resolve(turn, incident_id, Ending.BY_RULE_CHANGE)


def verified(turn: Turn, incident_id: str) -> None:
    """A measured verification of this incident succeeded: from now on a vanishing alert is good news too."""
    incident = turn.state.incidents.get(incident_id)
    if incident is not None:
        turn.state.incidents[incident_id] = replace(incident, ended="verified")


def _resolve(turn: Turn, incident_id: str, how: str) -> None:
    turn.state.incidents[incident_id] = replace(turn.state.incidents[incident_id], ended=str(how))
    happen(turn, incident_id, Happening.RESOLVE, f"resolved: {how}")
    for key in [key for key, want in turn.state.wants.items() if want.incident_id == incident_id]:
        del turn.state.wants[key]


def blind_due_at_ms(turn: Turn, incident: Incident) -> int | None:
    """When a person is asked about an incident whose alerts vanished without data; None: not in that situation."""
    entries = [entry for entry in turn.state.alerts.values() if entry.incident_id == incident.id]
    waiting = incident.state in {IncidentState.OPEN, IncidentState.SUPPRESSED} and entries and not busy(turn, incident.id)
    if not waiting or any(entry.alert.state is AlertState.FIRING for entry in entries):
        return None
    return max(entry.heard_at_ms for entry in entries) + BLIND_MS


def due_at_ms(turn: Turn, incident: Incident) -> int | None:
    """When time alone changes something about the incident."""
    if incident.state is IncidentState.RESOLVED:
        return incident.resolved_at_ms + KEPT_MS + 1
    return blind_due_at_ms(turn, incident)


def advance(turn: Turn) -> None:
    """Let time pass: ask about blind incidents, forget old ones."""
    for incident in list(turn.state.incidents.values()):
        due = blind_due_at_ms(turn, incident)
        if due is not None and due <= turn.now_ms:
            escalate(
                turn,
                incident.id,
                Reason.RESOLVED_BY_NODATA,
                f"{incident.title}: its alerts vanished without data, so nobody knows whether it is over.",
            )
        if incident.state is IncidentState.RESOLVED and turn.now_ms - incident.resolved_at_ms > KEPT_MS:
            _forget(turn, incident)


def _forget(turn: Turn, incident: Incident) -> None:
    del turn.state.incidents[incident.id]
    gone = {id_ for id_, entry in turn.state.alerts.items() if entry.incident_id == incident.id}
    for alert_id in gone:
        del turn.state.alerts[alert_id]
    for key in [key for key in turn.state.said if key.rpartition(":")[2] in gone]:
        del turn.state.said[key]


def flush(turn: Turn) -> None:
    """Emit each incident that changed in this step, once, with the next revision."""
    for incident_id in turn.touched:
        incident = turn.state.incidents.get(incident_id)
        if incident is not None:
            grown = replace(incident, revision=incident.revision + 1, at_ms=turn.now_ms)
            turn.state.incidents[incident_id] = grown
            turn.effects.append(grown)
    turn.touched.clear()

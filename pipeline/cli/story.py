"""The story of an incident, an alert or an action, gathered from the record store: what fired, what was considered, what held, what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from pipeline.ports.record import RecordStore

_LIMIT: Final = 500

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Story:
    """Everything on record about one subject, each list oldest first. `subject` says what the id was found to name."""

    subject: str
    incidents: Sequence[Body]
    alerts: Sequence[Body]
    decisions: Sequence[Body]
    actions: Sequence[Body]
    outcomes: Sequence[Body]

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return asdict(self)


async def find(store: RecordStore, subject: str) -> Story | None:
    """The story behind an incident id, alert id, action id, or the name of an alert, policy, rule or service (its latest); None: nothing known.

    `last` means the latest incident.
    """
    if subject == "last":
        latest = (await store.search("incidents", limit=1)).documents
        return await _of_incident(store, latest[0].body) if latest else None
    incident = await store.get("incidents", subject)
    if incident is not None:
        return await _of_incident(store, incident.body)
    for kind in ("alerts", "actions", "decisions"):
        document = await store.get(kind, subject)
        if document is not None:
            return await _around(store, kind, document.body)
    return await _by_name(store, subject)


async def _of_incident(store: RecordStore, incident: Body) -> Story:
    decisions = await _all(store, "decisions", {"incident_id": incident["id"]})
    alert_ids = [*incident.get("alert_ids", ()), *(decision["alert_id"] for decision in decisions if decision.get("alert_id"))]
    actions = await _all(store, "actions", {"incident_id": incident["id"]})
    return Story(
        f"incident {incident['id']}",
        [incident],
        await _each(store, "alerts", alert_ids),
        decisions,
        actions,
        await _all(store, "outcomes", {"action_id": [action["id"] for action in actions]}) if actions else [],
    )


async def _around(store: RecordStore, kind: str, body: Body) -> Story:
    if body.get("incident_id"):
        incident = await store.get("incidents", body["incident_id"])
        if incident is not None:
            return await _of_incident(store, incident.body)
    field = {"alerts": "alert_id", "actions": "action_id", "decisions": "id"}[kind]
    decisions = await _all(store, "decisions", {field: body["id"]})
    of_incident = next((decision["incident_id"] for decision in decisions if decision.get("incident_id")), "")
    incident = await store.get("incidents", of_incident) if of_incident else None
    if incident is not None:
        return await _of_incident(store, incident.body)
    actions = [body] if kind == "actions" else []
    outcomes = await _all(store, "outcomes", {"action_id": body["id"]}) if actions else []
    return Story(f"{kind.removesuffix('s')} {body['id']}", [], [body] if kind == "alerts" else [], decisions, actions, outcomes)


async def _by_name(store: RecordStore, name: str) -> Story | None:
    incidents = await _all(store, "incidents", {"service": name}, limit=1)
    if incidents:
        story = await _of_incident(store, incidents[0])
        seen = {decision["id"] for decision in story.decisions}
        others = [decision for decision in await _all(store, "decisions", {"group": name}, limit=50) if decision["id"] not in seen]
        return Story(
            f"service {name}: its latest incident", story.incidents, story.alerts, [*story.decisions, *others], story.actions, story.outcomes
        )
    for field in ("policy", "group"):
        decisions = await _all(store, "decisions", {field: name}, limit=50)
        if decisions:
            actions = await _each(store, "actions", [decision["action_id"] for decision in decisions if decision.get("action_id")])
            outcomes = await _all(store, "outcomes", {"action_id": [action["id"] for action in actions]}) if actions else []
            return Story(f"{field} {name}", [], [], decisions, actions, outcomes)
    for field in ("name", "rule_id"):
        alerts = await _all(store, "alerts", {field: name}, limit=1)
        if alerts:
            return await _around(store, "alerts", alerts[0])
    return None


async def _all(store: RecordStore, kind: str, where: Mapping[str, Any], limit: int = _LIMIT) -> list[Body]:
    page = await store.search(kind, where=where, limit=limit)
    return [document.body for document in reversed(page.documents)]


async def _each(store: RecordStore, kind: str, ids: Sequence[str]) -> list[Body]:
    documents = [await store.get(kind, id_) for id_ in dict.fromkeys(ids)]
    return [document.body for document in documents if document is not None]

"""The story of an incident, an alert or an action, gathered from the record store: what fired, what was considered, what held, what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from pipeline.cli.output import when
from pipeline.ports.record import RecordStore

_LIMIT: Final = 500
_STYLE: Final = {
    "act": "bold green",
    "hold": "yellow",
    "drop": "magenta",
    "fail": "red",
    "note": "dim",
    "applied": "bold green",
    "firing": "bold red",
}

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
    """The story behind an incident id, alert id, action id, or the name of an alert, policy or service (its latest); None when nothing is known.

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
    alerts = await _all(store, "alerts", {"name": name}, limit=1)
    return await _around(store, "alerts", alerts[0]) if alerts else None


async def _all(store: RecordStore, kind: str, where: Mapping[str, Any], limit: int = _LIMIT) -> list[Body]:
    page = await store.search(kind, where=where, limit=limit)
    return [document.body for document in reversed(page.documents)]


async def _each(store: RecordStore, kind: str, ids: Sequence[str]) -> list[Body]:
    documents = [await store.get(kind, id_) for id_ in dict.fromkeys(ids)]
    return [document.body for document in documents if document is not None]


def render(story: Story) -> RenderableType:
    """The story as a tree for a person at 3 a.m."""
    tree = Tree(Text(story.subject, style="bold"))
    for incident in story.incidents:
        ended = f", ended {when(incident['resolved_at_ms'])} ({incident.get('ended') or incident['state']})" if incident.get("resolved_at_ms") else ""
        tree.add(f"{incident['title']}: [bold]{incident['state']}[/bold], opened {when(incident['opened_at_ms'])}{ended}")
    _branch(tree, "what fired", story.alerts, _alert)
    _branch(tree, "what was decided, and why", story.decisions, _decision)
    outcomes = {outcome["action_id"]: outcome for outcome in story.outcomes}
    _branch(tree, "what was done", story.actions, lambda action: _action(action, outcomes.get(action["id"])))
    return Group(tree)


def _branch(tree: Tree, title: str, items: Sequence[Body], render_one: Any) -> None:
    branch = tree.add(Text(title if items else f"{title}: nothing on record", style="cyan"))
    for item in items:
        branch.add(render_one(item))


def _alert(alert: Body) -> Text:
    labels = ", ".join(f"{name}={value}" for name, value in alert["labels"].items() if name != "alertname")
    ended = f", {alert['ended']} at {when(alert['resolved_at_ms'])}" if alert.get("ended") else ""
    text = Text(f"{alert['name']} ({labels}) value {alert['value']}, active {when(alert['active_at_ms'])}, fired {when(alert['fired_at_ms'])}{ended}")
    summary = alert["annotations"].get("summary") or alert["annotations"].get("description")
    return text.append(f"\n  {summary}", style="dim") if summary else text


def _decision(decision: Body) -> Text:
    text = Text(f"{when(decision['at_ms'])[11:]} ").append(f"{decision['verdict']} {decision['reason']}", style=_STYLE.get(decision["verdict"], ""))
    text.append(f": {decision['text']}")
    if decision.get("evidence"):
        text.append("\n  " + ", ".join(f"{name}={value}" for name, value in decision["evidence"].items()), style="dim")
    return text


def _action(action: Body, outcome: Body | None) -> Text:
    what = f"{action['verb']} {action['target']} -> {action['desired']}"
    text = Text(f"{when(action['at_ms'])[11:]} {what} (policy {action['policy'] or '-'}, id {action['id']})")
    if outcome is None:
        return text.append("\n  no outcome yet", style="yellow")
    text.append(f"\n  {outcome['status']}", style=_STYLE.get(outcome["status"], "yellow"))
    return text.append(f" {outcome['summary'] or outcome['error']}")

"""A story as a person reads it at 3 a.m.: what fired, what was decided and why, what was done, each with its clock and how long after the beginning.

Guarantee: what came from outside (labels, log lines) is shown as text alone: no markup of it is obeyed, no control character reaches the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.text import Text
from rich.tree import Tree

from pipeline.cli.output import printable, when
from pipeline.cli.story import Body, Story
from pipeline.model.duration import format_duration

_STYLE: Final = {
    "act": "bold green",
    "hold": "yellow",
    "drop": "magenta",
    "fail": "red",
    "note": "dim",
    "applied": "bold green",
    "firing": "bold red",
}
_FIRST_INSTANT_MS: Final = 10**12  # 2001: above is an instant, below a duration (of 31 years)
_ENDLESS: Final = 100_000
_LONG: Final = 80  # characters of one value
_MANY: Final = 5  # members of a nested value
_INSTANTS_OF: Final = {"incidents": "opened_at_ms", "alerts": "active_at_ms", "decisions": "at_ms", "actions": "at_ms"}


def tell(story: Story) -> None:
    """Print the story: wrapped where there is a terminal, else a line as long as it is, for `grep` and for files."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _ENDLESS
    console.print(render(story))


def render(story: Story) -> RenderableType:
    """The story as a tree."""
    since_ms = _beginning(story)
    tree = Tree(_plain(story.subject, "bold"))
    tree.add(Text(f"times: clock, and time since the beginning at {when(since_ms)}", style="dim"))
    for incident in story.incidents:
        tree.add(_incident(incident, since_ms))
    _branch(tree, "what fired", [_alert(alert, since_ms) for alert in story.alerts])
    _branch(tree, "what was decided, and why", [_decisions(same, since_ms) for same in _repeated(story.decisions)])
    outcomes = {outcome["action_id"]: outcome for outcome in story.outcomes}
    _branch(tree, "what was done", [_action(action, outcomes.get(action["id"]), since_ms) for action in story.actions])
    return tree


def offset(at_ms: int, since_ms: int) -> str:
    """`03:14:15.926 +1.250s`: the clock, and how long after the beginning."""
    distance = at_ms - since_ms
    sign, size = "-" if distance < 0 else "+", abs(distance)
    shown = f"{size}ms" if size < 1000 else f"{size / 1000:.3f}s" if size < 60_000 else format_duration(size // 1000 * 1000)
    return f"{when(at_ms)[11:]} {sign + shown:<8}"


def _beginning(story: Story) -> int:
    times = [body[name] for kind, name in _INSTANTS_OF.items() for body in getattr(story, kind) if body.get(name)]
    return min(times, default=0)


def _branch(tree: Tree, title: str, items: Sequence[Text]) -> None:
    branch = tree.add(Text(title if items else f"{title}: nothing on record", style="cyan"))
    for item in items:
        branch.add(item)


def _incident(incident: Body, since_ms: int) -> Text:
    text = _plain(incident["title"]).append(": ").append(incident["state"], style="bold")
    text.append(f", opened {offset(incident['opened_at_ms'], since_ms).rstrip()}")
    if incident.get("resolved_at_ms"):
        text.append(f", ended {offset(incident['resolved_at_ms'], since_ms).rstrip()} ({incident.get('ended') or incident['state']})")
    return text


def _alert(alert: Body, since_ms: int) -> Text:
    labels = ", ".join(f"{name}={value}" for name, value in alert["labels"].items() if name != "alertname")
    text = Text(f"{offset(alert['active_at_ms'], since_ms)} ").append_text(_plain(alert["name"], "bold")).append_text(_plain(f" ({labels})"))
    text.append(f" value {value_text(alert['value'])}" if alert["value"] is not None else "")
    text.append(f", fired {offset(alert['fired_at_ms'], since_ms).rstrip()}" if alert["fired_at_ms"] else f", {alert['state']}: it has not fired")
    if alert.get("ended"):
        text.append(f", {alert['ended']} {offset(alert['resolved_at_ms'], since_ms).rstrip()}")
    for line in dict.fromkeys((alert["annotations"].get("summary") or alert["annotations"].get("description"), *alert.get("evidence", ()))):
        if line:
            text.append_text(_plain(f"\n  {_cut(line, 2 * _LONG)}", "dim"))
    return text


def _repeated(decisions: Sequence[Body]) -> list[list[Body]]:
    """Decisions that say the same one after the other, together: a scaler that holds says so at every interval."""
    return [
        list(same)
        for _, same in groupby(decisions, key=lambda one: tuple(one.get(name) for name in ("verdict", "reason", "policy", "verb", "target")))
    ]


def _decisions(same: Sequence[Body], since_ms: int) -> Text:
    first, last = same[0], same[-1]
    text = Text(f"{offset(first['at_ms'], since_ms)} ").append(f"{first['verdict']:<4} {first['reason']}", style=_STYLE.get(first["verdict"], ""))
    text.append_text(_plain(f": {last['text']}"))
    if len(same) > 1:
        text.append(f"  ({len(same)} times, last {offset(last['at_ms'], since_ms).rstrip()})", style="dim")
    about = [f"policy {first['policy']}"] if first.get("policy") else []
    details = about + [f"{name}={value_text(value, name)}" for name, value in (last.get("evidence") or {}).items() if not _empty(value, name)]
    return text.append_text(_plain("\n  " + ", ".join(details), "dim")) if details else text


def _action(action: Body, outcome: Body | None, since_ms: int) -> Text:
    text = Text(f"{offset(action['at_ms'], since_ms)} ").append_text(_plain(f"{action['verb']} {action['target']}", "bold"))
    text.append_text(_plain(f" -> {value_text(action['desired'])} (policy {action['policy'] or '-'}, id {action['id']})"))
    if outcome is None:
        return text.append("\n  no outcome yet", style="yellow")
    applied = f" {offset(outcome['applied_at_ms'], since_ms).rstrip()}" if outcome.get("applied_at_ms") else ""
    text.append(f"\n  {outcome['status']}{applied}", style=_STYLE.get(outcome["status"], "yellow"))
    if applied and action.get("caused_at_ms"):
        text.append(f", {format_duration(outcome['applied_at_ms'] - action['caused_at_ms'])} after the signal that caused it")
    return text.append_text(_plain(f": {outcome['summary'] or outcome['error']}"))


def value_text(value: Any, name: str = "") -> str:
    """A value in few words: instants as clocks, durations with their unit, numbers with four digits, nested values without their insides."""
    if isinstance(value, int) and not isinstance(value, bool) and name.endswith("_ms"):
        return when(value)[11:] if value >= _FIRST_INSTANT_MS else format_duration(value)
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e6 else f"{value:g}"
    if isinstance(value, Mapping):
        return "{" + _few(f"{key}: {_inner(inner, key)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + _few(map(_inner, value)) + "]"
    return _cut(str(value), _LONG)


def _empty(value: Any, name: str) -> bool:
    return value is None or value in ("", [], {}) or (value == 0 and name.endswith("_at_ms"))


def _inner(value: Any, name: str = "") -> str:
    nested = isinstance(value, Mapping | list | tuple) and len(str(value)) > _LONG // 2
    return f"({len(value)} more)" if nested else value_text(value, name)


def _few(parts: Iterable[str]) -> str:
    shown = list(parts)
    return ", ".join(shown[:_MANY]) + (f", ... {len(shown) - _MANY} more" if len(shown) > _MANY else "")


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 1] + "…"


def _plain(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style)

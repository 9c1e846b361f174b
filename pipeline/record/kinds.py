"""The kinds of documents: which change after they were written, how long each is kept, and where its ECS fields come from.

One table drives both stores; a new kind is a new row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Kind:
    """`ecs`: ECS field -> dotted path in the body. `constants`: ECS fields with a fixed value. `fields_at`: the key of the body whose flat ECS names
    are lifted to the top. `is_mutable`: has revisions. `keep_while_zero`: retention spares a document whose body says 0 there (still in force).
    """

    keep_days: int
    constants: Mapping[str, str | list[str]]
    ecs: Mapping[str, str] = field(default_factory=dict)
    fields_at: str = ""
    is_mutable: bool = False
    keep_while_zero: str = ""


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "incidents": Kind(
            keep_days=365,
            constants={"event.kind": "event"},
            ecs={
                "message": "title",
                "service.name": "service",
                "event.action": "state",
                "event.start": "opened_at_ms",
                "event.end": "resolved_at_ms",
            },
            is_mutable=True,
            keep_while_zero="resolved_at_ms",
        ),
        "alerts": Kind(
            keep_days=90,
            constants={"event.kind": "alert"},
            ecs={
                "rule.id": "rule_id",
                "rule.name": "name",
                "rule.version": "rule_version",
                "event.provider": "source",
                "event.action": "state",
                "event.start": "fired_at_ms",
                "event.end": "resolved_at_ms",
                "service.name": "labels.service",
                "message": "annotations.summary",
            },
            is_mutable=True,
        ),
        "actions": Kind(
            keep_days=365,
            constants={"event.kind": "event", "event.category": ["configuration"], "event.type": ["change"]},
            ecs={"event.action": "verb", "event.reason": "reason", "user.name": "identity", "rule.ruleset": "policy"},
        ),
        "outcomes": Kind(
            keep_days=365,
            constants={"event.kind": "event", "event.category": ["configuration"], "event.type": ["change"]},
            ecs={"message": "summary", "event.action": "status", "event.outcome": "status", "event.reason": "reason", "error.message": "error"},
        ),
        "decisions": Kind(
            keep_days=90,
            constants={"event.kind": "event"},
            ecs={"message": "text", "event.action": "verdict", "event.reason": "reason", "rule.ruleset": "policy"},
        ),
        "overrides": Kind(
            keep_days=365,
            constants={"event.kind": "state"},
            ecs={"event.action": "verb", "user.name": "owner", "event.start": "at_ms", "event.end": "released_at_ms"},
            is_mutable=True,
            keep_while_zero="released_at_ms",
        ),
        "notices": Kind(keep_days=90, constants={"event.kind": "event", "event.action": "notify"}, ecs={"message": "title"}),
        "findings": Kind(
            keep_days=365,
            constants={"event.kind": "alert", "event.category": ["intrusion_detection"]},
            ecs={"message": "title", "rule.id": "rule_id", "rule.name": "title", "rule.author": "author", "event.severity": "level"},
            fields_at="fields",
        ),
        "logs": Kind(keep_days=7, constants={"event.kind": "event"}, ecs={"message": "message"}, fields_at="fields"),
        "audit": Kind(
            keep_days=730,
            constants={"event.kind": "event", "event.category": ["configuration"], "event.type": ["admin"]},
            ecs={"event.action": "what", "user.name": "identity", "message": "result"},
        ),
    }
)


def keep_after_ms(kind: str, now_ms: int, keep_days: Mapping[str, int]) -> int:
    """The instant before which documents of `kind` may go; `keep_days` overrides the table."""
    return now_ms - keep_days.get(kind, KINDS[kind].keep_days) * DAY_MS

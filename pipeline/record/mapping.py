"""The shape of documents in Elasticsearch: index names, index templates, and the source that a document becomes. Pure.

Index per kind: `<prefix>-<kind>-YYYY.MM.DD` by the document's time where documents never change, so that retention drops whole indices;
`<prefix>-<kind>-all` where they have revisions, so that one id is one document whatever its time says. `<prefix>-<kind>` is the alias to read.
The body is kept whole under `reflexarc.body` (type flattened: every leaf can be searched, no field explosion, no conflict of types); what ECS has a
name for is lifted to the top, so that dashboards made for ECS work. What does not fit a field's type is left out there, never refused.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from pipeline.record.documents import MAX_AT_MS, Checked, lookup
from pipeline.record.kinds import KINDS

TEMPLATE_VERSION: Final = 1
ECS_VERSION: Final = "8.17.0"
_PRIORITY: Final = 300
_MAX_KEYWORD: Final = 1024

_KEYWORDS: Final = (
    "client.address", "cloud.region", "container.id", "container.image.name", "container.name", "destination.address", "ecs.version", "error.code",
    "error.type", "event.action", "event.category", "event.code", "event.dataset", "event.id", "event.kind", "event.module", "event.outcome",
    "event.provider", "event.reason", "event.type", "file.path", "host.hostname", "host.name", "http.request.id", "http.request.method",
    "http.version", "log.file.path", "log.level", "log.logger", "network.protocol", "network.transport", "process.executable", "process.name",
    "rule.author", "rule.id", "rule.name", "rule.ruleset", "rule.version", "server.address", "service.environment", "service.name", "service.version",
    "source.address", "span.id", "trace.id", "url.domain", "url.full", "url.original", "url.path", "url.query", "user.domain", "user.id", "user.name",
    "user_agent.original",
)  # fmt: skip
_LONGS: Final = (
    "client.port", "destination.port", "event.duration", "event.severity", "http.request.body.bytes", "http.response.body.bytes",
    "http.response.status_code", "process.exit_code", "process.pid", "server.port", "source.bytes", "source.port",
)  # fmt: skip
_IPS: Final = ("client.ip", "destination.ip", "host.ip", "server.ip", "source.ip")
_DATES: Final = ("event.start", "event.end")
_TEXTS: Final = ("message", "error.message")

ECS_TYPES: Final[Mapping[str, str]] = {
    **dict.fromkeys(_KEYWORDS, "keyword"),
    **dict.fromkeys(_LONGS, "long"),
    **dict.fromkeys(_IPS, "ip"),
    **dict.fromkeys(_DATES, "date"),
    **dict.fromkeys(_TEXTS, "text"),
}
_PROPERTIES: Final[Mapping[str, Mapping[str, Any]]] = {
    "keyword": {"type": "keyword", "ignore_above": _MAX_KEYWORD},
    "long": {"type": "long", "ignore_malformed": True},
    "ip": {"type": "ip", "ignore_malformed": True},
    "date": {"type": "date", "ignore_malformed": True},
    "text": {"type": "text"},
}
_OUTCOMES: Final = {"applied": "success", "already_there": "success", "planned": "success", "unknown": "unknown"}
_SEVERITIES: Final = {"informational": 10, "low": 21, "medium": 47, "high": 73, "critical": 99}


def alias(prefix: str, kind: str) -> str:
    """What readers search."""
    return f"{prefix}-{kind}"


def index(prefix: str, kind: str, at_ms: int) -> str:
    """Where a document of that kind and time is written."""
    return f"{prefix}-{kind}-all" if KINDS[kind].is_mutable else f"{prefix}-{kind}-{_instant(at_ms):%Y.%m.%d}"


def day_end_ms(prefix: str, kind: str, index_name: str) -> int | None:
    """The first instant after the day that a dated index holds; None for any other index."""
    start = f"{prefix}-{kind}-"
    try:
        day = datetime.strptime(index_name.removeprefix(start) + " +0000", "%Y.%m.%d %z")
    except ValueError:
        return None
    return int(day.timestamp() * 1000) + 86_400_000 if index_name.startswith(start) else None


def template(prefix: str, kind: str) -> dict[str, Any]:
    """The composable index template of a kind, as keywords for the client."""
    own = {
        "kind": {"type": "keyword"},
        "id": {"type": "keyword"},
        "at_ms": {"type": "long"},
        "revision": {"type": "long"},
        "body": {"type": "flattened", "ignore_above": _MAX_KEYWORD, "depth_limit": 64},
    }
    properties = {name: _PROPERTIES[ecs_type] for name, ecs_type in ECS_TYPES.items()}
    return {
        "index_patterns": [f"{prefix}-{kind}-*"],
        "priority": _PRIORITY,
        "version": TEMPLATE_VERSION,
        "template": {
            "aliases": {alias(prefix, kind): {}},
            "settings": {"number_of_shards": 1, "auto_expand_replicas": "0-1", "codec": "best_compression"},
            "mappings": {
                "dynamic": False,
                "properties": {
                    "@timestamp": {"type": "date"},
                    "labels": {"type": "flattened", "ignore_above": _MAX_KEYWORD},
                    **properties,
                    "reflexarc": {"properties": own},
                },
            },
        },
        "meta": {"description": f"reflexarc: {kind}"},
    }


def source(item: Checked) -> bytes:
    """The `_source` of a document, as JSON."""
    document, body_json = item
    own = {"kind": document.kind, "id": document.id, "at_ms": document.at_ms, "revision": document.revision, "body": msgspec.Raw(body_json)}
    return msgspec.json.encode({"@timestamp": _iso(document.at_ms), **ecs_fields(document.kind, document.body), "reflexarc": own})


def ecs_fields(kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The ECS fields of a body, flat: `{"rule.name": ...}`. Only values that fit their field."""
    row = KINDS[kind]
    found: dict[str, Any] = {"ecs.version": ECS_VERSION, "event.dataset": f"reflexarc.{kind}", **row.constants}
    candidates = {name: _translated(name, kind, lookup(body, path)) for name, path in row.ecs.items()}
    lifted = lookup(body, row.fields_at) if row.fields_at else None
    for name, value in {**candidates, **(lifted if isinstance(lifted, Mapping) else {})}.items():
        fitting = _fit(ECS_TYPES.get(name, ""), value)
        if fitting is not None:
            found[name] = fitting
    labels = body.get("labels")
    if isinstance(labels, Mapping) and labels:
        found["labels"] = {str(name): str(value) for name, value in labels.items()}
    return found


def _translated(name: str, kind: str, value: Any) -> Any:
    """Our words in ECS' words, where ECS has a closed list."""
    if name == "event.outcome" and kind == "outcomes":
        return _OUTCOMES.get(value, "failure")
    if name == "event.severity":
        return _SEVERITIES.get(value)
    return value


def _fit(ecs_type: str, value: Any) -> Any:
    """The value as that type takes it, None where it does not fit. Lists keep what fits."""
    fitter = _FITTERS.get(ecs_type)
    if fitter is None or value is None or value == "" or isinstance(value, Mapping):
        return None
    if isinstance(value, list | tuple):
        return [fitting for part in value if not isinstance(part, list | tuple) and (fitting := _fit(ecs_type, part)) is not None] or None
    return fitter(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _whole(value: Any) -> int | None:
    if isinstance(value, str) and len(value) < 19 and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def _ip(value: Any) -> str | None:
    if not isinstance(value, str) or "%" in value:  # Elasticsearch knows no zones
        return None
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return None
    return value


def _date(value: Any) -> str | None:
    return _iso(value) if isinstance(value, int) and 0 < value < MAX_AT_MS else None


def _instant(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms // 1000, UTC)


def _iso(at_ms: int) -> str:
    return f"{_instant(at_ms):%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03}Z"


_FITTERS: Final[Mapping[str, Callable[[Any], Any]]] = {"keyword": _text, "text": _text, "long": _whole, "ip": _ip, "date": _date}

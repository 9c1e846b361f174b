"""A planned change as plain data, for the intent log, and what is in force compared with what was wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.model.target import Target
from pipeline.ports.connector import Change, Connector, ConnectorError, Observed


def to_mapping(change: Change) -> dict[str, Any]:
    """JSON-ready."""
    return {
        "target": str(change.target),
        "verb": change.verb,
        "before": dict(change.before),
        "after": dict(change.after),
        "summary": change.summary,
        "version": change.version,
        "inverse": None if change.inverse is None else dict(change.inverse),
    }


def from_mapping(stored: Mapping[str, Any]) -> Change:
    """The opposite of `to_mapping`."""
    return Change(
        target=Target.parse(stored["target"]),
        verb=stored["verb"],
        before=stored["before"],
        after=stored["after"],
        summary=stored["summary"],
        version=stored.get("version", ""),
        inverse=stored.get("inverse"),
    )


def is_in_force(connector: Connector, target: Target, verb: str, observed: Observed, wanted: Mapping[str, Any]) -> bool:
    """Whether `wanted` is what the target has: literally, or because the connector would plan nothing to get there.

    An empty `wanted` is never in force: a system that cannot be read proves nothing.
    """
    if not wanted:
        return False
    if all(key in observed.value and observed.value[key] == value for key, value in wanted.items()):
        return True
    try:
        return connector.plan(target, verb, observed, wanted) is None
    except ConnectorError:
        return False

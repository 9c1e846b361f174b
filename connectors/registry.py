"""Which kinds of connector there are, and how a configured one is built.

Built-in kinds are listed here, sorted; others come from the entry point group `reflexarc.connectors` (name = kind, value = `module:Class`).
A module is imported when its kind is asked for, so an optional dependency of one never hurts the others. A built-in name cannot be replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final, Protocol, cast

from pipeline.ports.clock import Clock
from pipeline.ports.connector import Connector, ConnectorInfo

GROUP: Final = "reflexarc.connectors"

BUILT_IN: Final[Mapping[str, str]] = {
    "envoy": "connectors.envoy:Envoy",
    "file": "connectors.file:File",
    "process": "connectors.process:Process",
    "webhook": "connectors.webhook:Webhook",
}


class UnknownKindError(ValueError):
    """No connector of that kind; the message lists those there are."""


class ConnectorClass(Protocol):
    """What an entry names: a class with static `INFO`, made from the configured name, its validated settings and the clock."""

    INFO: ConnectorInfo

    def __call__(self, name: str, config: Any, *, clock: Clock) -> Connector:
        """Build it. No I/O before the first call."""
        ...


def kinds() -> list[str]:
    """Every kind, sorted."""
    return sorted({*BUILT_IN, *(entry.name for entry in entry_points(group=GROUP))})


def load(kind: str) -> ConnectorClass:
    """Import the class of a kind.

    Raises:
        UnknownKindError: there is none.
    """
    if kind in BUILT_IN:
        module, _, name = BUILT_IN[kind].partition(":")
        return cast("ConnectorClass", getattr(import_module(module), name))
    for entry in entry_points(group=GROUP, name=kind):
        return cast("ConnectorClass", entry.load())
    raise UnknownKindError(f"no connector of kind {kind!r}; there are: {', '.join(kinds())}")


def info(kind: str) -> ConnectorInfo:
    """The static description of a kind."""
    return load(kind).INFO


def build(name: str, kind: str, settings: Mapping[str, Any], *, clock: Clock) -> Connector:
    """A connector called `name` from its settings (without `kind`).

    Raises:
        UnknownKindError: no such kind.
        pydantic.ValidationError: a wrong, missing or unknown setting.
    """
    found = load(kind)
    return found(name, found.INFO.config_model.model_validate(dict(settings)), clock=clock)

"""The connector contract: read, plan, apply. Guarantees the executor relies on, and the errors it acts upon.

ConnectorError
├── Permanent     will not work by trying again (bad request, forbidden, gone)
├── Temporary     may work after `retry_after_ms`
├── Conflict      the value in force is neither `before` nor `after`: somebody else owns it
└── Unknown       sent, no answer: read back before anything else
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel

from pipeline.model.target import Target


class ConnectorError(Exception):
    """Base; the message says what, on which target, and what to do."""


class Permanent(ConnectorError):
    """Trying again is pointless."""


class Temporary(ConnectorError):
    """Trying again may help."""

    def __init__(self, message: str, *, retry_after_ms: int = 200) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class Conflict(ConnectorError):
    """Someone else changed the value; `observed` is what is there now."""

    def __init__(self, message: str, *, observed: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.observed = observed


class Unknown(ConnectorError):
    """The change was sent and no answer came."""


class Fence(StrEnum):
    """How a stale executor is kept out."""

    ENFORCED = "enforced"  # the target checks a version or token
    BEST_EFFORT = "best_effort"  # the value is read again right before and after the write


@dataclass(frozen=True, slots=True)
class ConnectorInfo:
    """Static facts, from which docs, schema and permission lists are made.

    `verbs` maps each verb to the target kinds it works on. `invertible`: verbs whose Change has an inverse. `crash`: what a crash between
    write and answer can do, per verb where it is more than "nothing, the value is read first".
    """

    name: str
    summary: str
    verbs: Mapping[str, tuple[str, ...]]
    invertible: frozenset[str]
    fence: Fence
    permissions: tuple[str, ...]
    config_model: type[BaseModel]
    crash: str = "nothing: the value is read before it is written"
    stability: str = "beta"


@dataclass(frozen=True, slots=True)
class Observed:
    """What is there now. `version`: the target's own version or token for compare-and-set, empty where it has none.

    `value` per kind of target (keys absent when the system does not say): workload {replicas, ready, version, previous_version};
    route {weights}; sites {sites}; blocklist {blocked: {address: until_ms}}.
    """

    value: Mapping[str, Any]
    version: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """A planned write: `before` and `after` in the vocabulary of `Action.desired`. `inverse` is what would undo it, None where nothing can."""

    target: Target
    verb: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    summary: str  # one line for a person: "weights v2 20 -> 0, v1 80 -> 100"
    version: str = ""
    inverse: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Discovered:
    """Something a connector found: a target with what it read and the labels that tie it to a service."""

    target: Target
    labels: Mapping[str, str] = field(default_factory=dict)
    observed: Mapping[str, Any] = field(default_factory=dict)


class Connector(Protocol):
    """One configured instance of an outside system."""

    @property
    def info(self) -> ConnectorInfo:
        """Static description."""
        ...

    async def read(self, target: Target) -> Observed:
        """What is in force now. Raises ConnectorError."""
        ...

    def plan(self, target: Target, verb: str, observed: Observed, desired: Mapping[str, Any]) -> Change | None:
        """The write that leads from `observed` to `desired`; None: already there. Pure. Raises Permanent for a wish that makes no sense there."""
        ...

    async def apply(self, change: Change, *, key: str, fence: int, deadline_ms: int) -> Observed:
        """Write, wait until it is in force (or `deadline_ms` milliseconds passed: Unknown), return what is there then.

        `key`: idempotency key (the action's id). `fence`: grows with every change of ownership of the group. The same change twice is harmless.
        """
        ...

    async def discover(self) -> Sequence[Discovered]:
        """What there is. Empty where the system cannot tell."""
        ...

    async def close(self) -> None:
        """Release everything; what was started outside (processes, routes) stays. Idempotent."""
        ...


@runtime_checkable
class Following(Protocol):
    """Optional: a connector that must keep something up to date while the pipeline runs (endpoints, expiries)."""

    async def follow(self) -> None:
        """Run until cancelled."""
        ...

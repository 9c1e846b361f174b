"""What is wanted of a workload and which instances there are, as kept on disk. Pure: values and their changes.

`generation` grows with every change of what is wanted: it is the version that `apply` compares and sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One process. `pid` 0: noted, but the start was not confirmed. `birth` tells it from a later process with the same pid."""

    name: str
    port: int
    version: str
    created_at_ms: int
    restart_key: str = ""
    pid: int = 0
    birth: str = ""
    ready: bool = False
    was_ready: bool = False
    draining_at_ms: int = 0
    terminated_at_ms: int = 0


class State(msgspec.Struct, frozen=True, kw_only=True):
    """`history` ends with the wanted version; the one before it is where `previous` leads."""

    schema_version: int = 1
    generation: int = 1
    fence: int = 0
    replicas: int
    history: tuple[str, ...]
    restart_key: str = ""
    serial: int = 0
    instances: tuple[Instance, ...] = ()

    @property
    def version(self) -> str:
        """The wanted version."""
        return self.history[-1]

    def is_wanted(self, instance: Instance) -> bool:
        """Whether an instance is of the wanted kind and stays."""
        return not instance.draining_at_ms and instance.version == self.version and instance.restart_key == self.restart_key

    def value(self) -> dict[str, Any]:
        """The state in the vocabulary of observations."""
        value = {
            "replicas": self.replicas,
            "ready": sum(instance.ready for instance in self.instances if self.is_wanted(instance)),
            "version": self.version,
            "restart_key": self.restart_key,
        }
        return value | ({"previous_version": self.history[-2]} if len(self.history) > 1 else {})

    def holds(self, wanted: Mapping[str, Any]) -> bool:
        """Whether what is wanted here is this."""
        mine = {"replicas": self.replicas, "version": self.version, "restart_key": self.restart_key}
        return all(mine[key] == value for key, value in wanted.items())

    def wanting(self, verb: str, wanted: Mapping[str, Any]) -> State:
        """This state with another wish, one generation on. Instances are not touched."""
        return msgspec.structs.replace(
            self,
            generation=self.generation + 1,
            replicas=wanted.get("replicas", self.replicas),
            restart_key=wanted.get("restart_key", self.restart_key),
            history=_history(self.history, verb, wanted.get("version", self.version)),
        )

    def wanting_as(self, other: State) -> State:
        """This state with the wish of another, one generation on."""
        return msgspec.structs.replace(
            self, generation=self.generation + 1, replicas=other.replicas, restart_key=other.restart_key, history=other.history
        )

    def fenced(self, fence: int) -> State:
        """This state with the fence of whoever changed it."""
        return msgspec.structs.replace(self, fence=fence)

    def with_instance(self, changed: Instance) -> State:
        """This state with one instance replaced or added."""
        kept = tuple(changed if instance.name == changed.name else instance for instance in self.instances)
        return msgspec.structs.replace(self, instances=kept if changed in kept else (*self.instances, changed))


class Todo(msgspec.Struct, frozen=True):
    """What leads from the instances there are to those wanted."""

    start: int
    drain: tuple[Instance, ...]


def todo(state: State) -> Todo:
    """Start what is missing first; outdated instances go only when enough wanted ones are ready, surplus ones at once (unready and newest first)."""
    serving = [instance for instance in state.instances if not instance.draining_at_ms]
    wanted = sorted((instance for instance in serving if state.is_wanted(instance)), key=lambda one: (not one.ready, one.created_at_ms, one.name))
    keep, surplus = wanted[: state.replicas], wanted[state.replicas :]
    outdated = [instance for instance in serving if not state.is_wanted(instance)]
    replaced = len(keep) == state.replicas and all(instance.ready for instance in keep)
    return Todo(max(0, state.replicas - len(wanted)), (*surplus, *(outdated if replaced else ())))


def is_settled(state: State) -> bool:
    """Whether exactly the wanted instances serve, all ready; those draining do not count."""
    left = todo(state)
    return (
        not left.start
        and not left.drain
        and all(instance.ready and state.is_wanted(instance) for instance in state.instances if not instance.draining_at_ms)
    )


def _history(history: tuple[str, ...], verb: str, version: str) -> tuple[str, ...]:
    if verb == "roll_back" and version in history:
        # What was rolled back is forgotten, so that `previous` never leads to it again.
        last = len(history) - 1 - history[::-1].index(version)
        return history[: last + 1]
    return (*(one for one in history if one != version), version)[-20:]

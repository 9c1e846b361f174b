"""From a verb and what is desired to what a workload should hold: checked, concrete, absolute. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.model.target import Target
from pipeline.ports.connector import Permanent

_KEYS = {"scale": "replicas", "deploy": "version", "roll_back": "version", "restart": "restart_key"}


def wish(target: Target, verb: str, observed: Mapping[str, Any], desired: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is wanted, `previous` made concrete; None: already there.

    Raises:
        Permanent: the wish makes no sense.
    """
    key = _KEYS[verb]
    value = desired.get(key)
    if key == "replicas":
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise Permanent(f"{target}: replicas must be a whole number of at least 0, got {value!r}")
    elif not isinstance(value, str) or not value:
        raise Permanent(f"{target}: {verb} needs {key} as text, got {value!r}")
    if key == "version":
        value = _version(target, verb, observed, desired)
    return None if value is None or observed.get(key) == value else {key: value}


def _version(target: Target, verb: str, observed: Mapping[str, Any], desired: Mapping[str, Any]) -> str | None:
    wanted, bad, running = str(desired["version"]), desired.get("from"), observed["version"]
    if verb == "roll_back" and bad is not None and bad != running:
        return None  # the bad version is not in force any more
    if wanted != "previous" or verb == "deploy":
        return wanted
    if "previous_version" not in observed:
        raise Permanent(f"{target}: there is no version before {running} to roll back to")
    return str(observed["previous_version"])


def inverse(verb: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any] | None:
    """What undoes a change, in the vocabulary of the same verb; a restart cannot be undone."""
    if verb == "restart":
        return None
    return {**before, "from": after["version"]} if verb == "roll_back" else dict(before)

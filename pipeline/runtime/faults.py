"""Named fault points: a test arms one by environment, and its n-th passage kills the process as a power cut would.

`REFLEXARC_FAULT=name` or `name:n`. It happens once per data directory: a marker file, durable before the blow, disarms it after the restart.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pipeline.ports.execution import FaultPoint

VARIABLE: Final = "REFLEXARC_FAULT"
POINTS: Final = (
    "after_decode",
    "before_facts",
    "after_facts",
    "before_proposals",
    "after_proposals",
    "before_grants",
    "after_grants",
    "before_actions",
    "after_actions",
    "after_intent",
    "after_apply",
    "after_outcome",
    "before_record",
    "after_record",
)


class FaultError(ValueError):
    """The variable names no fault point."""


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class ArmedFault:
    """Kills the process at the `passage`-th call with `name`."""

    def __init__(self, name: str, passage: int, marker: Path, die: Callable[[], None] = _die) -> None:
        self._name, self._left, self._marker, self._die = name, passage, marker, die

    def __call__(self, name: str) -> None:
        """Pass a fault point."""
        if name != self._name or self._left <= 0:
            return
        self._left -= 1
        if self._left == 0:
            self._mark()
            self._die()

    def _mark(self) -> None:
        with self._marker.open("x") as file:
            file.flush()
            os.fsync(file.fileno())


def _pass(_name: str) -> None:
    """No fault is armed."""


def fault_point(spec: str, data_dir: Path) -> FaultPoint:
    """The function to call at every fault point. `spec`: the variable's value, empty for none.

    Raises:
        FaultError: an unknown name or a passage that is not a positive number.
    """
    if not spec:
        return _pass
    name, _, passage = spec.partition(":")
    if name not in POINTS:
        raise FaultError(f"{VARIABLE}: no fault point {name!r}; there are {', '.join(POINTS)}")
    if passage and (not passage.isdigit() or int(passage) < 1):
        raise FaultError(f"{VARIABLE}: {passage!r} is not a passage number (write for example {name}:3)")
    marker = data_dir / f"fault.{name}"
    return _pass if marker.exists() else ArmedFault(name, int(passage or 1), marker)

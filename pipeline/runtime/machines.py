"""What the stages ask of the pure machines: the shapes of detector, remediator and governor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pipeline.model.records import Command, Effect, Grant, Outcome, Proposal, RemediatorInput, Tick, Watch
from pipeline.model.signals import SignalBatch
from pipeline.rulebook.book import RuleBook


class DetectorLike(Protocol):
    """`pipeline.detect.Detector`."""

    @property
    def lookback_ms(self) -> int:
        """The longest window."""
        ...

    def feed(self, batch: SignalBatch, now_ms: int) -> list[Any]:
        """Signals in, facts and findings out."""
        ...

    def advance(self, now_ms: int) -> list[Any]:
        """Timers."""
        ...

    def watch(self, watch: Watch, now_ms: int) -> None:
        """Start, replace or cancel a standing expression."""
        ...

    def due_at_ms(self) -> int | None:
        """When `advance` is wanted."""
        ...

    def reload(self, rules: RuleBook, now_ms: int) -> tuple[Any, list[Any]]:
        """Swap the rules: a report, and what ended by it."""
        ...

    def rewind(self, batch: SignalBatch) -> None:
        """Fill the windows silently."""
        ...

    def snapshot(self) -> bytes:
        """Alert and watch states."""
        ...

    def restore(self, data: bytes) -> None:
        """The opposite."""
        ...


class RemediatorLike(Protocol):
    """`pipeline.remediate.Remediator`."""

    def step(self, event: RemediatorInput, now_ms: int) -> list[Effect]:
        """One event in, effects out."""
        ...

    def due_at_ms(self) -> int | None:
        """When a `Tick` is wanted."""
        ...

    def reload(self, rules: RuleBook, now_ms: int) -> list[Effect]:
        """Swap the rules."""
        ...

    def snapshot(self) -> bytes:
        """The whole state."""
        ...

    def restore(self, data: bytes) -> None:
        """The opposite."""
        ...


class GovernorLike(Protocol):
    """`pipeline.remediate.Governor`."""

    def step(self, event: Proposal | Outcome | Command | Tick, now_ms: int) -> list[Grant]:
        """One event in, answers out."""
        ...

    def snapshot(self) -> bytes:
        """The whole state."""
        ...

    def restore(self, data: bytes) -> None:
        """The opposite."""
        ...


NewRemediator = Callable[[str, RuleBook], RemediatorLike]

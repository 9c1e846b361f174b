"""A stage: a pure machine with the topics it reads, as both runtimes drive it.

The runtime owns durability. Embedded: outputs, states and input offsets are committed in one SQLite transaction. Kafka: the state record carries
the input offsets it includes and the outputs it caused (an outbox), is acknowledged first, then the outputs are published, then the offset is
committed; after a crash the outbox is published again with the same ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from pipeline.ports.bus import BusRecord, OutRecord


class StepResult(NamedTuple):
    """What a step caused: records to publish and the states that changed (None: forget that key)."""

    outputs: list[OutRecord]
    states: dict[str, bytes | None]


class Stage(Protocol):
    """Deterministic, no I/O, no clock."""

    name: str
    inputs: tuple[str, ...]

    def load(self, states: Mapping[str, bytes]) -> None:
        """Restore from stored states; called once, before anything else."""
        ...

    def handle(self, records: Sequence[BusRecord], now_ms: int) -> StepResult:
        """Take records of one or more input topics, in order. Never raises for bad content: that becomes a dead letter in the outputs."""
        ...

    def tick(self, now_ms: int) -> StepResult:
        """Let time pass."""
        ...

    def due_at_ms(self) -> int | None:
        """When `tick` is wanted next; None: no timer runs."""
        ...


@runtime_checkable
class Rewinding(Protocol):
    """A stage with windows that are not stored, but read again from the inputs after a start."""

    lookback_ms: int

    def rewind(self, records: Sequence[BusRecord]) -> None:
        """Take records from before the committed offset, silently."""
        ...

"""The bus: ordered, durable topics. SQLite when embedded, Kafka when distributed; one conformance suite holds both to this."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol


class OutRecord(NamedTuple):
    """A record to publish. `key` decides the partition, inside which order is kept. `topic` is the bare name; the bus adds its prefix."""

    topic: str
    key: str
    value: bytes


class BusRecord(NamedTuple):
    """A record as read. `appended_at_ms` is the broker's time, the base of every TTL."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    appended_at_ms: int


class Bus(Protocol):
    """What gateway, command line and tests use; the stages inside a runtime use the runtime's own, faster way."""

    async def publish(self, records: Sequence[OutRecord]) -> None:
        """Return once all are durable (embedded: committed; Kafka: acks=all). May deliver twice after an error: ids are deterministic."""
        ...

    def read(self, topic: str, *, from_start: bool = True) -> AsyncIterator[BusRecord]:
        """Every record of the topic in order per partition, then those still to come. Commits nothing."""
        ...

    async def close(self) -> None:
        """Release everything. Idempotent."""
        ...


# Topic names without prefix; inputs are named by the configuration.
FACTS = "facts"
PROPOSALS = "proposals"
GRANTS = "grants"
ACTIONS = "actions"
OUTCOMES = "outcomes"
COMMANDS = "commands"
WATCHES = "watches"
RECORDS = "records"
DEAD_LETTERS = "dead-letters"

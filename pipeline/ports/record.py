"""The record store: what people query later. SQLite when embedded, Elasticsearch when configured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class Document(NamedTuple):
    """One stored document.

    `kind`: incidents, alerts, actions, outcomes, decisions, overrides, notices, findings, logs, audit. `revision` 0: written once, a second
    copy is ignored; greater: the highest revision wins whatever the order of arrival.
    """

    kind: str
    id: str
    at_ms: int
    body: Mapping[str, Any]
    revision: int = 0


class Page(NamedTuple):
    """A page of results, and the cursor of the next (None: that was all)."""

    documents: list[Document]
    cursor: str | None


class Rejected(NamedTuple):
    """A document the store refused for its content."""

    document: Document
    reason: str


class RecordStore(Protocol):
    """Durable, idempotent by (kind, id)."""

    async def write(self, documents: Sequence[Document]) -> list[Rejected]:
        """Return once all are durable, waiting out an absent server with own back-off; only refused documents come back."""
        ...

    async def get(self, kind: str, id: str) -> Document | None:  # noqa: A002 - the field's name everywhere
        """One document, None when there is none."""
        ...

    async def search(
        self, kind: str, *, where: Mapping[str, Any] | None = None, since_ms: int = 0, until_ms: int = 0, limit: int = 100, cursor: str | None = None
    ) -> Page:
        """Newest first. `where`: equality on fields of the body (dotted names); a list means any of."""
        ...

    async def expire(self, now_ms: int, keep_days: Mapping[str, int] | None = None) -> int:
        """Drop what is older than its kind is kept (`keep_days`: days per kind, where other than the default); return how much."""
        ...

    async def close(self) -> None:
        """Flush and release. Idempotent."""
        ...

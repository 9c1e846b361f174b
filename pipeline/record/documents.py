"""Documents at the door of every store: from records, checked once for all stores, and the cursor that walks through results.

Guarantee: what passes `checked` can be stored by each store, and reads back equal except that NaN and infinities are null (JSON has neither).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from pipeline.model import records, wire
from pipeline.ports.record import Document, Rejected
from pipeline.record.kinds import KINDS

_MAX_ID_BYTES: Final = 512
_MAX_REVISION: Final = 2**62
MAX_AT_MS: Final = 253_402_300_800_000  # the year 10000


class Checked(NamedTuple):
    """A document that a store can take, with its body as JSON."""

    document: Document
    body: bytes


def checked(documents: Sequence[Document]) -> tuple[list[Checked], list[Rejected]]:
    """Sort documents into those that can be stored and those that cannot, with the reason."""
    good: list[Checked] = []
    bad: list[Rejected] = []
    for document in documents:
        reason = _fault_of_head(document)
        if not reason:
            try:
                good.append(Checked(document, msgspec.json.encode(document.body)))
                continue
            except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
                reason = f"the body is not JSON: {error}"
        bad.append(Rejected(document, reason))
    return good, bad


def _fault_of_head(document: Document) -> str:
    if document.kind not in KINDS:
        return f"unknown kind {document.kind!r} (known: {', '.join(KINDS)})"
    if not 1 <= len(document.id.encode("utf-8", "ignore")) <= _MAX_ID_BYTES or not document.id.isprintable():
        return f"the id must have 1 to {_MAX_ID_BYTES} bytes of printable text"
    if not 0 <= document.at_ms < MAX_AT_MS:
        return f"at_ms {document.at_ms} is not between the years 1970 and 9999"
    if not 0 <= document.revision <= _MAX_REVISION:
        return f"revision {document.revision} is not between 0 and {_MAX_REVISION}"
    return ""


def lookup(body: Any, path: str) -> Any:
    """The value at a dotted path, None where there is none."""
    for name in path.split("."):
        body = body.get(name) if isinstance(body, dict) else None
    return body


class Cursor(NamedTuple):
    """The last document of a page. Results are ordered by `at_ms` downwards, then by id upwards, so this is a unique place."""

    at_ms: int
    id: str

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read what `str` wrote.

        Raises:
            ValueError: it is not a cursor.
        """
        at_ms, colon, last_id = text.partition(":")
        if not colon or not at_ms.isdecimal():
            raise ValueError(f"not a cursor: {text!r} (pass the `cursor` of the page before)")
        return cls(int(at_ms), last_id)

    def __str__(self) -> str:
        return f"{self.at_ms}:{self.id}"


_KIND_OF: Final[Mapping[type[records.Value], tuple[str, str]]] = {
    records.Incident: ("incidents", "opened_at_ms"),
    records.Alert: ("alerts", "active_at_ms"),
    records.Action: ("actions", "at_ms"),
    records.Outcome: ("outcomes", "at_ms"),
    records.Decision: ("decisions", "at_ms"),
    records.Override: ("overrides", "at_ms"),
    records.Notice: ("notices", "at_ms"),
    records.Finding: ("findings", "at_ms"),
    records.LogDocument: ("logs", "at_ms"),
    records.Audit: ("audit", "at_ms"),
}


def document_of(record: records.AnyRecord) -> Document | None:
    """The document that a record becomes; None for records that are not stored.

    `at_ms` is the instant by which people look for it and does not move with revisions: an incident's is its opening, an alert's its beginning.
    """
    value: Any = record.alert if isinstance(record, records.AlertFact) else record
    if type(value) not in _KIND_OF:
        return None
    kind, instant = _KIND_OF[type(value)]
    return Document(kind, value.id, getattr(value, instant), wire.to_document(value), getattr(value, "revision", 0))

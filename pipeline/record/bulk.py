"""Bulk requests without I/O: which operation a document becomes, how documents are cut into requests, and what each answer means.

Revision 0 is a `create` (409: it is there already, which is fine). A higher one is an `index` under the external version revision + 1, so that
Elasticsearch itself refuses to go back; the + 1 because a `create` leaves version 1 behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import Any, Final, NamedTuple

import msgspec

from pipeline.record import mapping
from pipeline.record.documents import Checked

_MAX_DOCUMENTS: Final = 2000
_MAX_BYTES: Final = 5_000_000
_MAX_FAULTS: Final = 8  # so often may the server break on one document before it counts as refused

_GOOD: Final = frozenset({200, 201, 409})
_AWAY: Final = frozenset({401, 408, 429, 502, 503, 504})


class Item(NamedTuple):
    """One document on its way. `faults`: answers so far that blame the server (500)."""

    document: Checked
    destination: str
    lines: bytes
    faults: int = 0


class Verdict(Enum):
    """What to do with an item after an answer."""

    DONE = auto()
    AGAIN = auto()  # the server cannot now
    BROKE = auto()  # the server failed on it; maybe it will not next time
    NO_INDEX = auto()  # the index is not there and the server does not make it by itself
    REFUSED = auto()  # it never will


class Judgement(NamedTuple):
    """A verdict and why, for everything but DONE."""

    verdict: Verdict
    reason: str = ""


def item(prefix: str, checked: Checked) -> Item:
    """The bulk lines of a document."""
    document = checked.document
    name = mapping.index(prefix, document.kind, document.at_ms)
    head: dict[str, Any] = {"_index": name, "_id": document.id}
    if document.revision:
        action = {"index": {**head, "version": document.revision + 1, "version_type": "external"}}
    else:
        action = {"create": head}
    return Item(checked, name, msgspec.json.encode(action) + b"\n" + mapping.source(checked) + b"\n")


def chunks(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Cut into requests of bounded size, keeping the order."""
    chunk: list[Item] = []
    size = 0
    for one in items:
        if chunk and (len(chunk) == _MAX_DOCUMENTS or size + len(one.lines) > _MAX_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(one)
        size += len(one.lines)
    if chunk:
        yield chunk


def judge(one: Item, answer: Mapping[str, Any]) -> Judgement:
    """What one entry of a bulk answer's `items` means."""
    result: Mapping[str, Any] = next(iter(answer.values()))
    status = int(result.get("status", 500))
    if status in _GOOD:
        return Judgement(Verdict.DONE)
    error = result.get("error") or {}
    kind = error.get("type", "") if isinstance(error, Mapping) else ""
    reason = f"{status} {explanation(error)}"
    if kind == "index_not_found_exception":
        return Judgement(Verdict.NO_INDEX, reason)
    # A block on the index (flood stage, read-only) is lifted again; so is a missing permission, by a person. Neither is the document's fault.
    if status in _AWAY or status == 403 or kind == "cluster_block_exception":
        return Judgement(Verdict.AGAIN, reason)
    if status >= 500:
        return Judgement(Verdict.BROKE if one.faults + 1 < _MAX_FAULTS else Verdict.REFUSED, reason)
    return Judgement(Verdict.REFUSED, reason)


def explanation(error: Any) -> str:
    """Elasticsearch's error object in one line: outermost and innermost cause."""
    if not isinstance(error, Mapping):
        return str(error)
    text = f"{error.get('type', 'error')}: {error.get('reason', '')}"
    cause = error.get("caused_by")
    while isinstance(cause, Mapping) and isinstance(cause.get("caused_by"), Mapping):
        cause = cause["caused_by"]
    return f"{text} ({cause.get('type')}: {cause.get('reason')})"[:1000] if isinstance(cause, Mapping) else text[:1000]

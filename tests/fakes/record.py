"""`FakeStore`: a record store in memory, for tests of everything else. Passes the conformance suite of the real ones."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.ports.record import Document, Page, Rejected
from pipeline.record.documents import Cursor, checked
from pipeline.record.kinds import KINDS, keep_after_ms


class FakeStore:
    """`documents` may be looked at directly: (kind, id) -> document."""

    def __init__(self) -> None:
        self.documents: dict[tuple[str, str], Document] = {}

    async def write(self, documents: Sequence[Document]) -> list[Rejected]:
        good, bad = checked(documents)
        for document, body in good:
            known = self.documents.get((document.kind, document.id))
            if known is None or document.revision > known.revision:
                self.documents[document.kind, document.id] = document._replace(body=json.loads(body))
        return bad

    async def get(self, kind: str, id: str) -> Document | None:  # noqa: A002 - the field's name everywhere
        return self.documents.get((kind, id))

    async def search(
        self, kind: str, *, where: Mapping[str, Any] | None = None, since_ms: int = 0, until_ms: int = 0, limit: int = 100, cursor: str | None = None
    ) -> Page:
        after = Cursor.parse(cursor) if cursor is not None else None
        found = sorted((doc for doc in self.documents.values() if doc.kind == kind), key=_order)
        found = [doc for doc in found if since_ms <= doc.at_ms and (not until_ms or doc.at_ms < until_ms)]
        found = [doc for doc in found if after is None or _order(doc) > (-after.at_ms, after.id)]
        found = [doc for doc in found if all(_matches(doc.body, name, wanted) for name, wanted in (where or {}).items())]
        page = found[:limit]
        return Page(page, str(Cursor(page[-1].at_ms, page[-1].id)) if len(found) > limit and page else None)

    async def expire(self, now_ms: int, keep_days: Mapping[str, int] | None = None) -> int:
        old = [key for key, doc in self.documents.items() if doc.at_ms < keep_after_ms(doc.kind, now_ms, keep_days or {}) and not _in_force(doc)]
        for key in old:
            del self.documents[key]
        return len(old)

    async def close(self) -> None:
        pass


def _order(document: Document) -> tuple[int, str]:
    return -document.at_ms, document.id


def _in_force(document: Document) -> bool:
    name = KINDS[document.kind].keep_while_zero
    return bool(name) and document.body.get(name) == 0


def _matches(body: Mapping[str, Any], name: str, wanted: Any) -> bool:
    options = wanted if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
    leaves = itertools.chain.from_iterable(value if isinstance(value, list) else [value] for value in _values(body, name))
    return any(leaf == option and isinstance(leaf, bool) == isinstance(option, bool) for leaf in leaves for option in options)


def _values(body: Any, name: str) -> Iterator[Any]:
    """Every value that a dotted name may mean, keys with dots inside included."""
    if not isinstance(body, dict):
        return
    for key, value in body.items():
        if key == name:
            yield value
        elif name.startswith(f"{key}."):
            yield from _values(value, name[len(key) + 1 :])

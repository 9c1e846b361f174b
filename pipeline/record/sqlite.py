"""`SQLiteStore`: the record store of the embedded runtime, one table in one file.

Guarantee: `write` returns after a commit that survives a power cut (WAL, synchronous=FULL). Other processes may read the file meanwhile. All calls
go through one thread, in order.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from pipeline.ports.record import Document, Page, Rejected
from pipeline.record.documents import Checked, Cursor, checked
from pipeline.record.errors import StoreError
from pipeline.record.kinds import KINDS, keep_after_ms

T = TypeVar("T")

_SCHEMA_VERSION: Final = 1
_BUSY_TIMEOUT_S: Final = 30.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS documents (
  kind TEXT NOT NULL,
  id TEXT NOT NULL,
  at_ms INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  incident_id TEXT,
  "group" TEXT,
  body TEXT NOT NULL,
  PRIMARY KEY (kind, id)
);
CREATE INDEX IF NOT EXISTS by_time ON documents (kind, at_ms DESC, id);
CREATE INDEX IF NOT EXISTS by_incident ON documents (kind, incident_id, at_ms DESC) WHERE incident_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS by_group ON documents (kind, "group", at_ms DESC) WHERE "group" IS NOT NULL;
"""
_UPSERT: Final = """
INSERT INTO documents (kind, id, at_ms, revision, incident_id, "group", body) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (kind, id) DO UPDATE SET
  at_ms = excluded.at_ms, revision = excluded.revision, incident_id = excluded.incident_id, "group" = excluded."group", body = excluded.body
WHERE excluded.revision > documents.revision
"""
_SELECT: Final = "SELECT kind, id, at_ms, body, revision FROM documents WHERE "
_DELETE: Final = "DELETE FROM documents WHERE kind = ? AND at_ms < ? AND coalesce(json_extract(body, ?), 1) != 0"
# json_each gives one row for a scalar and one per element for a list: "equals" and "contains" in one. The members of an object do not count.
_HAS: Final = "(json_type(body, ?) != 'object' AND EXISTS (SELECT 1 FROM json_each(body, ?) AS field WHERE {}))"
_COLUMNS: Final = {"incident_id": "incident_id", "group": '"group"'}
_MAX_DOTS: Final = 6


class SQLiteStore:
    """A `RecordStore` in the file `path`, which is made when it is not there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="record-store")
        self._connection: sqlite3.Connection | None = None

    async def write(self, documents: Sequence[Document]) -> list[Rejected]:
        """Store all that can be stored, in one transaction; the others come back. Raises StoreError when the file cannot be written."""
        good, bad = checked(documents)
        await self._call(lambda connection: _insert(connection, good))
        return bad

    async def get(self, kind: str, id: str) -> Document | None:  # noqa: A002 - the field's name everywhere
        """One document, None when there is none."""
        rows = await self._call(lambda connection: connection.execute(f"{_SELECT} kind = ? AND id = ?", (kind, id)).fetchall())
        return _document(rows[0]) if rows else None

    async def search(
        self, kind: str, *, where: Mapping[str, Any] | None = None, since_ms: int = 0, until_ms: int = 0, limit: int = 100, cursor: str | None = None
    ) -> Page:
        """Newest first, from `since_ms` (inclusive) to `until_ms` (exclusive; 0: open). A field that is a list matches by any of its elements."""
        clauses, values = _condition(kind, where or {}, since_ms, until_ms, cursor)
        query = f"{_SELECT} {' AND '.join(clauses)} ORDER BY at_ms DESC, id LIMIT ?"
        rows = await self._call(lambda connection: connection.execute(query, [*values, limit + 1]).fetchall())
        found = [_document(row) for row in rows[:limit]]
        return Page(found, str(Cursor(found[-1].at_ms, found[-1].id)) if len(rows) > limit and found else None)

    async def expire(self, now_ms: int, keep_days: Mapping[str, int] | None = None) -> int:
        """Delete what is older than its kind is kept, sparing what is still in force; return how many."""
        return await self._call(lambda connection: _expire(connection, now_ms, keep_days or {}))

    async def close(self) -> None:
        """Release the file. Idempotent."""
        if self._connection is not None:
            await self._call(sqlite3.Connection.close)
            self._connection = None
        self._thread.shutdown(wait=True)

    async def _call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = _open(self._path)
            return work(self._connection)
        except sqlite3.Error as error:
            raise StoreError(
                f"record store {self._path}: {error} (is the disk full, the folder writable, the file a database of reflexarc?)"
            ) from error


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        _refuse_newer(path, connection.execute("PRAGMA user_version").fetchone()[0])
        connection.executescript(_SCHEMA)
        connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_newer(path: Path, found: int) -> None:
    if found > _SCHEMA_VERSION:
        raise StoreError(f"record store {path} has schema version {found}; this version reads up to {_SCHEMA_VERSION}: update reflexarc first")


def _insert(connection: sqlite3.Connection, documents: Sequence[Checked]) -> None:
    rows = [
        (doc.kind, doc.id, doc.at_ms, doc.revision, _text(doc.body.get("incident_id")), _text(doc.body.get("group")), body.decode())
        for doc, body in documents
    ]
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany(_UPSERT, rows)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _expire(connection: sqlite3.Connection, now_ms: int, keep_days: Mapping[str, int]) -> int:
    deleted = 0
    for kind, row in KINDS.items():
        in_force = f"$.{row.keep_while_zero}" if row.keep_while_zero else None
        deleted += connection.execute(_DELETE, (kind, keep_after_ms(kind, now_ms, keep_days), in_force)).rowcount
    return deleted


def _document(row: tuple[str, str, int, str, int]) -> Document:
    kind, document_id, at_ms, body, revision = row
    return Document(kind, document_id, at_ms, msgspec.json.decode(body), revision)


def _condition(kind: str, where: Mapping[str, Any], since_ms: int, until_ms: int, cursor: str | None) -> tuple[list[str], list[Any]]:
    clauses, values = ["kind = ?", "at_ms >= ?"], [kind, since_ms]
    if until_ms:
        clauses.append("at_ms < ?")
        values.append(until_ms)
    if cursor is not None:
        at_ms, last_id = Cursor.parse(cursor)
        clauses.append("(at_ms < ? OR (at_ms = ? AND id > ?))")
        values += [at_ms, at_ms, last_id]
    for name, wanted in where.items():
        clause, more = _equals(name, wanted)
        clauses.append(clause)
        values += more
    return clauses, values


def _equals(name: str, wanted: Any) -> tuple[str, list[Any]]:
    options = wanted if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
    if name in _COLUMNS and all(isinstance(option, str) for option in options):
        return f"{_COLUMNS[name]} IN ({', '.join('?' * len(options))})", list(options)
    tests, values = [], []
    for path in _paths(name):
        for option in options:
            test, more = _same(option)
            tests.append(_HAS.format(test))
            values += [path, path, *more]
    return f"({' OR '.join(tests) or 'FALSE'})", values


def _same(option: Any) -> tuple[str, list[Any]]:
    if isinstance(option, bool):
        return f"field.type = '{'true' if option else 'false'}'", []
    if isinstance(option, int | float):
        return "field.type IN ('integer', 'real') AND field.value = ?", [option]
    return "field.type = 'text' AND field.value = ?", [str(option)]


def _paths(name: str) -> Iterator[str]:
    """JSON paths that a dotted name may mean: `fields.source.ip` is `fields` -> `source.ip` as well as `fields` -> `source` -> `ip`."""
    parts = name.split(".")
    if '"' in name or len(parts) - 1 > _MAX_DOTS:
        raise ValueError(f"not a field name: {name!r} (dotted names without quotes, at most {_MAX_DOTS} dots)")
    for joints in itertools.product((True, False), repeat=len(parts) - 1):
        keys = [parts[0]]
        for part, splits in zip(parts[1:], joints, strict=True):
            if splits:
                keys.append(part)
            else:
                keys[-1] += "." + part
        yield "$" + "".join(f'."{key}"' for key in keys)

"""The embedded log: topics, consumer positions, stage states and intents in one SQLite file.

Guarantees:
- one `commit` is one transaction: outputs, states, position and intents become visible together or not at all (exactly once inside);
- offsets grow over all topics and are never used twice, so a position is one number and the order between topics is the order of commits;
- with `durability: process` (default; WAL, synchronous=NORMAL) a commit survives the death of the process; `full` also a power cut.

Synchronous on purpose: a commit takes some 50 us, less than handing it to a thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from pipeline.ports.bus import BusRecord, OutRecord
from pipeline.ports.clock import Clock

Durability = Literal["process", "full"]
PARTITION: Final = 0
SCHEMA_VERSION: Final = 1
_BUSY_MS: Final = 10_000
_TRIM_ROWS: Final = 1000

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS topics (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS log (
  offset INTEGER PRIMARY KEY AUTOINCREMENT, topic INTEGER NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, appended_at_ms INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS log_by_topic ON log (topic, offset);
CREATE TABLE IF NOT EXISTS positions (consumer TEXT PRIMARY KEY, offset INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS states (stage TEXT, key TEXT, value BLOB NOT NULL, PRIMARY KEY (stage, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS intents (
  action_id TEXT PRIMARY KEY, accepted_at_ms INTEGER NOT NULL, finished INTEGER NOT NULL, body BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS intents_open ON intents (accepted_at_ms) WHERE finished = 0;
"""


class NewerFileError(Exception):
    """The file holds what this version cannot read."""


class SqliteLog:
    """One connection to the file. Used from one thread; other processes may have their own."""

    def __init__(self, path: Path, clock: Clock, *, durability: Durability = "process") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        self.path = path
        self._db = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_MS / 1000)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(f"PRAGMA synchronous={'FULL' if durability == 'full' else 'NORMAL'}")
        self._check_version()
        self._db.executescript(_SCHEMA)
        self._topic_ids: dict[str, int] = {}

    def _check_version(self) -> None:
        found = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if found > SCHEMA_VERSION:
            self._db.close()
            raise NewerFileError(f"{self.path} was written by a newer version (schema {found}): update this one first")
        if found < SCHEMA_VERSION:
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    # --- writing ---------------------------------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing. Taken as a writer from the start, so that a read inside cannot grow stale."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def commit(
        self,
        outputs: Sequence[OutRecord] = (),
        *,
        stage: str = "",
        states: Mapping[str, bytes | None] | None = None,
        position: tuple[str, int] | None = None,
    ) -> None:
        """Append, store states of `stage` (None forgets a key) and move a consumer's position, in one transaction."""
        with self.transaction():
            self.append(outputs)
            for key, value in (states or {}).items():
                self._set_state(stage, key, value)
            if position is not None:
                self.move(*position)

    def append(self, outputs: Sequence[OutRecord]) -> None:
        """Add records; inside a transaction."""
        if not outputs:
            return
        now_ms = self._clock.now_ms()
        rows = [(self._topic_id(topic), key, value, now_ms) for topic, key, value in outputs]
        self._db.executemany("INSERT INTO log (topic, key, value, appended_at_ms) VALUES (?, ?, ?, ?)", rows)

    def move(self, consumer: str, offset: int) -> None:
        """Set a consumer's position to the last offset it has dealt with; inside a transaction."""
        self._db.execute("INSERT INTO positions VALUES (?, ?) ON CONFLICT (consumer) DO UPDATE SET offset = excluded.offset", (consumer, offset))

    def _set_state(self, stage: str, key: str, value: bytes | None) -> None:
        if value is None:
            self._db.execute("DELETE FROM states WHERE stage = ? AND key = ?", (stage, key))
        else:
            self._db.execute("INSERT INTO states VALUES (?, ?, ?) ON CONFLICT (stage, key) DO UPDATE SET value = excluded.value", (stage, key, value))

    # --- reading ---------------------------------------------------------------------------------------------------------------------

    def position(self, consumer: str) -> int:
        """The last offset a consumer has dealt with; 0 at the very start."""
        row = self._db.execute("SELECT offset FROM positions WHERE consumer = ?", (consumer,)).fetchone()
        return int(row[0]) if row else 0

    def states(self, stage: str) -> dict[str, bytes]:
        """Everything a stage has stored."""
        return dict(self._db.execute("SELECT key, value FROM states WHERE stage = ?", (stage,)).fetchall())

    def fetch(self, topics: Iterable[str], after: int, limit: int) -> list[BusRecord]:
        """Up to `limit` records of the topics beyond offset `after`, in the order they were appended."""
        found: list[BusRecord] = []
        asked = 0
        for topic in topics:
            asked += 1
            rows = self._db.execute(
                "SELECT offset, key, value, appended_at_ms FROM log WHERE topic = ? AND offset > ? ORDER BY offset LIMIT ?",
                (self._topic_id(topic), after, limit),
            )
            found.extend(BusRecord(topic, PARTITION, *row) for row in rows)
        if asked > 1:
            found.sort(key=lambda record: record.offset)
        return found[:limit]

    def offset_at(self, topic: str, at_ms: int) -> int:
        """The offset before the first record of the topic appended at or after `at_ms` (all of them when none is)."""
        row = self._db.execute(
            "SELECT offset FROM log WHERE topic = ? AND appended_at_ms < ? ORDER BY offset DESC LIMIT 1", (self._topic_id(topic), at_ms)
        ).fetchone()
        return int(row[0]) if row else 0

    def appended_at_ms(self, topic: str, offset: int) -> int | None:
        """When the newest record of the topic at or before `offset` was appended; None: there is none."""
        row = self._db.execute(
            "SELECT appended_at_ms FROM log WHERE topic = ? AND offset <= ? ORDER BY offset DESC LIMIT 1", (self._topic_id(topic), offset)
        ).fetchone()
        return int(row[0]) if row else None

    def end(self) -> int:
        """The newest offset of all."""
        row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'log'").fetchone()
        return int(row[0]) if row else 0

    def backlog(self, topics: Iterable[str], after: int) -> int:
        """How many records of the topics lie beyond `after`, counted up to 100,000 each."""
        count = "SELECT count(*) FROM (SELECT 1 FROM log WHERE topic = ? AND offset > ? LIMIT 100000)"
        return sum(int(self._db.execute(count, (self._topic_id(topic), after)).fetchone()[0]) for topic in topics)

    def data_version(self) -> int:
        """Changes when another connection has committed."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def _topic_id(self, name: str) -> int:
        known = self._topic_ids.get(name)
        if known is None:
            self._db.execute("INSERT OR IGNORE INTO topics (name) VALUES (?)", (name,))
            known = self._topic_ids[name] = int(self._db.execute("SELECT id FROM topics WHERE name = ?", (name,)).fetchone()[0])
        return known

    # --- upkeep ----------------------------------------------------------------------------------------------------------------------

    def trim(self, topic: str, *, before_ms: int, up_to: int) -> int:
        """Delete some records of a topic that are older than `before_ms` and not beyond offset `up_to`; how many went (call again while > 0)."""
        oldest = "SELECT offset, appended_at_ms FROM log WHERE topic = ? AND offset <= ? ORDER BY offset LIMIT ?"
        topic_id = self._topic_id(topic)
        first = self._db.execute(oldest, (topic_id, up_to, 1)).fetchone()
        if first is None or first[1] >= before_ms:
            return 0
        old = [(offset,) for offset, at_ms in self._db.execute(oldest, (topic_id, up_to, _TRIM_ROWS)).fetchall() if at_ms < before_ms]
        with self.transaction():
            self._db.executemany("DELETE FROM log WHERE offset = ?", old)
        return len(old)

    def trim_intents(self, *, before_ms: int) -> None:
        """Forget finished intents accepted before `before_ms`."""
        with self.transaction():
            self._db.execute("DELETE FROM intents WHERE finished = 1 AND accepted_at_ms < ?", (before_ms,))

    def close(self) -> None:
        """Release the file. Idempotent."""
        self._db.close()


def checkpoint(path: Path) -> None:
    """Move the write-ahead log into the file, from a connection and thread of its own: its fsync must not hold up the loop."""
    db = sqlite3.connect(path, timeout=1)
    try:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")
    finally:
        db.close()

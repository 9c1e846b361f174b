"""The embedded intent log: in the same SQLite file as the bus, so that an outcome is published and its intent closed in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pipeline.model import wire
from pipeline.model.records import Action, Outcome
from pipeline.ports import bus
from pipeline.ports.bus import OutRecord
from pipeline.ports.clock import Clock
from pipeline.ports.execution import Intent
from pipeline.runtime.sqlite_bus import SqliteBus

_NULL: Final = msgspec.Raw(b"null")


class _Stored(msgspec.Struct):
    """An intent as bytes: its records in their wire form."""

    action: msgspec.Raw
    change: dict[str, Any] | None = None
    outcome: msgspec.Raw = _NULL  # not a union: msgspec cannot tell raw bytes from null


_DECODER: Final = msgspec.json.Decoder(_Stored)


def encode_intent(intent: Intent) -> bytes:
    """An intent for a store."""
    outcome = _NULL if intent.outcome is None else msgspec.Raw(wire.encode(intent.outcome))
    return msgspec.json.encode(_Stored(msgspec.Raw(wire.encode(intent.action)), dict(intent.change) if intent.change is not None else None, outcome))


def decode_intent(data: bytes) -> Intent:
    """The opposite.

    Raises:
        WireError: written by a newer version.
    """
    stored = _DECODER.decode(data)
    outcome = None if bytes(stored.outcome) == b"null" else wire.decode_as(Outcome, bytes(stored.outcome))
    return Intent(action=wire.decode_as(Action, bytes(stored.action)), change=stored.change, outcome=outcome)


class SqliteIntents:
    """The intent log port on the embedded bus."""

    def __init__(self, on: SqliteBus, clock: Clock) -> None:
        self._bus, self._clock = on, clock

    async def accept(self, action: Action) -> bool:
        """Store a new intent; False when this action id is known."""
        body = encode_intent(Intent(action=action))
        with self._bus.log.transaction() as db:
            done = db.execute("INSERT OR IGNORE INTO intents VALUES (?, ?, 0, ?)", (action.id, self._clock.now_ms(), body))
        return done.rowcount == 1

    async def planned(self, action_id: str, change: Mapping[str, Any]) -> None:
        """Store the concrete change."""
        with self._bus.log.transaction() as db:
            row = db.execute("SELECT body FROM intents WHERE action_id = ?", (action_id,)).fetchone()
            intent = msgspec.structs.replace(decode_intent(row[0]), change=change)
            db.execute("UPDATE intents SET body = ? WHERE action_id = ?", (encode_intent(intent), action_id))

    async def finish(self, outcome: Outcome) -> None:
        """Publish the outcome and close the intent, in one transaction; a second outcome of the same action changes nothing."""
        with self._bus.log.transaction() as db:
            row = db.execute("SELECT body FROM intents WHERE action_id = ? AND finished = 0", (outcome.action_id,)).fetchone()
            if row is None:
                return
            intent = msgspec.structs.replace(decode_intent(row[0]), outcome=outcome)
            db.execute("UPDATE intents SET body = ?, finished = 1 WHERE action_id = ?", (encode_intent(intent), outcome.action_id))
            self._bus.log.append([OutRecord(bus.OUTCOMES, outcome.group, wire.encode(outcome))])
        self._bus.woke({bus.OUTCOMES})

    async def unfinished(self) -> list[Intent]:
        """Intents without an outcome, oldest first."""
        with self._bus.log.transaction() as db:
            rows = db.execute("SELECT body FROM intents WHERE finished = 0 ORDER BY accepted_at_ms, action_id").fetchall()
        return [decode_intent(row[0]) for row in rows]

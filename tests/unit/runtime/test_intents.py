"""Intents and the log's upkeep, in the same file as the bus."""

import sqlite3
from pathlib import Path

import pytest

from pipeline.model import wire
from pipeline.model.records import Outcome, OutcomeStatus
from pipeline.ports import bus
from pipeline.ports.bus import OutRecord
from pipeline.ports.execution import Intent
from pipeline.runtime.intents import SqliteIntents, decode_intent, encode_intent
from pipeline.runtime.sqlite_bus import SqliteBus
from pipeline.runtime.sqlite_log import NewerFileError, SqliteLog
from tests.fakes.clock import FakeClock
from tests.fakes.machines import action


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def log(tmp_path: Path, clock: FakeClock) -> SqliteLog:
    return SqliteLog(tmp_path / "bus.sqlite", clock)


def outcome(action_id: str, id_: str = "o1") -> Outcome:
    return Outcome(id=id_, action_id=action_id, group="checkout", status=OutcomeStatus.APPLIED, at_ms=1)


async def test_an_action_is_accepted_once_even_after_it_is_finished(log: SqliteLog, clock: FakeClock):
    intents = SqliteIntents(SqliteBus(log), clock)
    one = action("a", "checkout", 1)
    assert await intents.accept(one)
    assert not await intents.accept(one)
    await intents.finish(outcome(one.id))
    assert not await intents.accept(one)


async def test_unfinished_ones_come_back_with_their_plan_oldest_first(log: SqliteLog, clock: FakeClock):
    intents = SqliteIntents(SqliteBus(log), clock)
    for name in ("b", "a", "c"):
        await intents.accept(action(name, "checkout", 1))
        clock.advance(1)
    await intents.planned("action-a", {"before": {"replicas": 1}, "after": {"replicas": 3}})
    await intents.finish(outcome("action-c"))
    left = await intents.unfinished()
    assert [one.action.id for one in left] == ["action-b", "action-a"]
    assert left[1].change == {"before": {"replicas": 1}, "after": {"replicas": 3}}
    assert left[0].action == action("b", "checkout", 1)


async def test_the_outcome_is_published_with_the_closing_and_only_once(log: SqliteLog, clock: FakeClock):
    intents = SqliteIntents(SqliteBus(log), clock)
    await intents.accept(action("a", "checkout", 1))
    await intents.finish(outcome("action-a"))
    await intents.finish(outcome("action-a", "o2"))
    assert [wire.decode(one.value) for one in log.fetch([bus.OUTCOMES], 0, 10)] == [outcome("action-a")]


def test_only_old_records_that_were_read_are_trimmed(log: SqliteLog, clock: FakeClock):
    log.commit([OutRecord("t", "", b"old read")])
    read = log.end()
    log.commit([OutRecord("t", "", b"old unread")])
    clock.advance(10_000)
    log.commit([OutRecord("t", "", b"new")])
    assert log.trim("t", before_ms=clock.now_ms() - 5000, up_to=read) == 1
    assert [one.value for one in log.fetch(["t"], 0, 10)] == [b"old unread", b"new"]


def test_offsets_are_never_used_twice_even_when_everything_was_trimmed(log: SqliteLog, clock: FakeClock):
    log.commit([OutRecord("t", "", b"one")])
    last = log.end()
    clock.advance(10)
    log.trim("t", before_ms=clock.now_ms(), up_to=last)
    log.commit([OutRecord("t", "", b"two")])
    assert [one.offset for one in log.fetch(["t"], 0, 10)] == [last + 1]


def test_a_finished_intent_reads_back_whole():
    """`msgspec.Raw | None` decodes only null: the Kafka executor could not start again once an action had ended."""
    one = action("a", "checkout", 1)
    for intent in (Intent(action=one), Intent(action=one, change={"after": {"replicas": 2}}), Intent(action=one, outcome=outcome(one.id))):
        assert decode_intent(encode_intent(intent)) == intent


def test_a_file_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path, clock: FakeClock):
    path = tmp_path / "newer.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(NewerFileError, match="newer version"):
        SqliteLog(path, clock)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)

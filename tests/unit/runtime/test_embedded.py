"""The parts of the embedded runtime: supervision, upkeep, and what is kept for whom."""

import asyncio
from pathlib import Path

import pytest

from pipeline.ports import bus
from pipeline.ports.bus import OutRecord
from pipeline.runtime import parts
from pipeline.runtime.embedded import HOUR_MS, Embedded
from pipeline.runtime.lock import AlreadyRunningError, RoleLocks
from pipeline.runtime.sqlite_bus import SqliteBus
from pipeline.runtime.sqlite_log import SqliteLog
from pipeline.runtime.stages import GovernStage
from tests.fakes.clock import FakeClock
from tests.fakes.machines import FakeGovernor

DAY_MS = 24 * HOUR_MS


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def embedded(tmp_path: Path, clock: FakeClock) -> Embedded:
    made = Embedded(SqliteBus(SqliteLog(tmp_path / "bus.sqlite", clock)), clock, fault=lambda _name: None)
    made.add_stage(lambda _owns: GovernStage(FakeGovernor()))
    return made


def values(embedded: Embedded, topic: str) -> list[bytes]:
    return [one.value for one in embedded.bus.log.fetch([topic], 0, 100)]


async def test_what_was_read_goes_after_some_hours_and_what_was_not_stays(embedded: Embedded, clock: FakeClock):
    log = embedded.bus.log
    log.commit([OutRecord(bus.PROPOSALS, "", b"read")])
    log.commit(position=("govern", log.end()))
    log.commit([OutRecord(bus.PROPOSALS, "", b"unread")])
    clock.advance(HOUR_MS)
    await embedded.trim()
    assert values(embedded, bus.PROPOSALS) == [b"read", b"unread"]
    clock.advance(DAY_MS)
    await embedded.trim()
    assert values(embedded, bus.PROPOSALS) == [b"unread"]


async def test_topics_of_other_processes_are_left_to_them_and_dead_letters_kept_a_week(embedded: Embedded, clock: FakeClock):
    embedded.bus.log.commit([OutRecord(bus.FACTS, "", b"fact"), OutRecord(bus.DEAD_LETTERS, "", b"letter")])
    clock.advance(2 * DAY_MS)
    await embedded.trim()
    assert values(embedded, bus.DEAD_LETTERS) == [b"letter"]
    clock.advance(10 * DAY_MS)
    await embedded.trim()
    assert values(embedded, bus.FACTS) == [b"fact"]
    assert values(embedded, bus.DEAD_LETTERS) == []


async def test_a_part_that_fails_is_started_again_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts, "_FIRST_PAUSE_S", 0)
    lives = 0
    up = asyncio.Event()

    async def shaky() -> None:
        nonlocal lives
        lives += 1
        if lives < 3:
            raise OSError("not yet")
        up.set()

    running = parts.Parts()
    running.add("shaky", shaky)
    running.start()
    await asyncio.wait_for(up.wait(), 5)
    await running.stop()
    assert lives == 3


def test_a_role_runs_once_per_data_directory(tmp_path: Path):
    first = RoleLocks(tmp_path, ["detect", "record"])
    RoleLocks(tmp_path, ["execute"]).release()
    with pytest.raises(AlreadyRunningError, match="role record already runs"):
        RoleLocks(tmp_path, ["record"])
    first.release()
    RoleLocks(tmp_path, ["record"]).release()

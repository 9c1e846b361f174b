"""A growing file as input: every whole line once, whatever happens to the file or to us."""

import os
from pathlib import Path

import pytest

from pipeline.runtime.sqlite_bus import SqliteBus
from pipeline.runtime.sqlite_log import SqliteLog
from pipeline.runtime.tail import FilePlaces, FileTail, SqlitePlaces
from tests.fakes.clock import FakeClock


class Rig:
    """One file, one bus; `start` is a new life of the process."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "access.log"
        self.log = SqliteLog(folder / "bus.sqlite", FakeClock())
        self.start()

    def start(self) -> None:
        self.tail = FileTail(SqlitePlaces(SqliteBus(self.log)), self.path, "access")
        self.tail.restore()

    def write(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)

    async def read(self) -> list[str]:
        while await self.tail.read_once():
            pass
        await self.tail.read_once()
        while await self.tail.read_once():
            pass
        return [record.value.decode() for record in self.log.fetch(["access"], 0, 1000)]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def test_a_file_that_is_not_there_yet_is_waited_for(rig: Rig):
    assert await rig.read() == []
    rig.write("one\n")
    assert await rig.read() == ["one"]


async def test_a_line_without_its_end_waits_for_the_rest(rig: Rig):
    rig.write("one\ntw")
    assert await rig.read() == ["one"]
    rig.write("o\n")
    assert await rig.read() == ["one", "two"]


async def test_after_a_restart_it_goes_on_where_it_was(rig: Rig):
    rig.write("one\n")
    await rig.read()
    rig.start()
    rig.write("two\n")
    assert await rig.read() == ["one", "two"]


async def test_a_cut_file_is_read_anew(rig: Rig):
    rig.write("a long first line\n")
    await rig.read()
    os.truncate(rig.path, 0)
    rig.write("new\n")
    assert await rig.read() == ["a long first line", "new"]


async def test_a_rotated_file_is_read_to_its_end_first(rig: Rig):
    rig.write("one\n")
    await rig.read()
    rig.write("two\n")
    rig.path.rename(rig.path.with_suffix(".log.1"))
    rig.write("three\n")
    assert await rig.read() == ["one", "two", "three"]


async def test_a_file_rotated_while_we_were_away_is_read_to_its_end_first(rig: Rig):
    rig.write("one\n")
    await rig.read()
    rig.write("two\n")
    rig.path.rename(rig.path.with_suffix(".log.1"))
    rig.write("three\n")
    rig.start()
    assert await rig.read() == ["one", "two", "three"]
    rig.start()
    assert await rig.read() == ["one", "two", "three"]


async def test_lines_read_together_can_travel_as_one_message(rig: Rig):
    rig.tail = FileTail(SqlitePlaces(SqliteBus(rig.log)), rig.path, "access", batch=True)
    rig.write("one\ntwo\nthr")
    assert await rig.read() == ["one\ntwo\n"]


async def test_empty_lines_are_nothing(rig: Rig):
    rig.write("\n\none\n  \n")
    assert await rig.read() == ["one"]


async def test_a_very_long_line_comes_whole(rig: Rig):
    line = "x" * 3_000_000
    rig.write(line + "\nshort\n")
    assert await rig.read() == [line, "short"]


async def test_on_another_bus_the_place_follows_the_lines(rig: Rig, tmp_path: Path):
    bus = SqliteBus(rig.log)
    for text in ("one\n", "two\n"):
        rig.write(text)
        rig.tail = FileTail(FilePlaces(bus, tmp_path / "places"), rig.path, "access")
        rig.tail.restore()
        await rig.read()
    assert await rig.read() == ["one", "two"]

"""A growing file as input: every whole line once, whatever happens to the file or to us."""

import os
from pathlib import Path

import pytest

from pipeline.runtime.sqlite_bus import SqliteBus
from pipeline.runtime.sqlite_log import SqliteLog
from pipeline.runtime.tail import FileTail
from tests.fakes.clock import FakeClock


class Rig:
    """One file, one bus; `start` is a new life of the process."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "access.log"
        self.log = SqliteLog(folder / "bus.sqlite", FakeClock())
        self.start()

    def start(self) -> None:
        self.tail = FileTail(SqliteBus(self.log), self.path, "access")
        self.tail.restore()

    def write(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)

    def read(self) -> list[str]:
        while self.tail.read_once():
            pass
        self.tail.read_once()
        while self.tail.read_once():
            pass
        return [record.value.decode() for record in self.log.fetch(["access"], 0, 1000)]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_a_file_that_is_not_there_yet_is_waited_for(rig: Rig):
    assert rig.read() == []
    rig.write("one\n")
    assert rig.read() == ["one"]


def test_a_line_without_its_end_waits_for_the_rest(rig: Rig):
    rig.write("one\ntw")
    assert rig.read() == ["one"]
    rig.write("o\n")
    assert rig.read() == ["one", "two"]


def test_after_a_restart_it_goes_on_where_it_was(rig: Rig):
    rig.write("one\n")
    rig.read()
    rig.start()
    rig.write("two\n")
    assert rig.read() == ["one", "two"]


def test_a_cut_file_is_read_anew(rig: Rig):
    rig.write("a long first line\n")
    rig.read()
    os.truncate(rig.path, 0)
    rig.write("new\n")
    assert rig.read() == ["a long first line", "new"]


def test_a_rotated_file_is_read_to_its_end_first(rig: Rig):
    rig.write("one\n")
    rig.read()
    rig.write("two\n")
    rig.path.rename(rig.path.with_suffix(".log.1"))
    rig.write("three\n")
    assert rig.read() == ["one", "two", "three"]


def test_a_file_rotated_while_we_were_away_is_read_to_its_end_first(rig: Rig):
    rig.write("one\n")
    rig.read()
    rig.write("two\n")
    rig.path.rename(rig.path.with_suffix(".log.1"))
    rig.write("three\n")
    rig.start()
    assert rig.read() == ["one", "two", "three"]
    rig.start()
    assert rig.read() == ["one", "two", "three"]


def test_lines_read_together_can_travel_as_one_message(rig: Rig):
    rig.tail = FileTail(SqliteBus(rig.log), rig.path, "access", batch=True)
    rig.write("one\ntwo\nthr")
    assert rig.read() == ["one\ntwo\n"]


def test_empty_lines_are_nothing(rig: Rig):
    rig.write("\n\none\n  \n")
    assert rig.read() == ["one"]


def test_a_very_long_line_comes_whole(rig: Rig):
    line = "x" * 3_000_000
    rig.write(line + "\nshort\n")
    assert rig.read() == [line, "short"]

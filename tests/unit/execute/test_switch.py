"""The kill switch: in force at once, survives everything, and unknown means paused."""

import json
from pathlib import Path

import pytest

from pipeline.execute.switch import FileSwitch, Pause, pause, pause_in_force, resume


def test_without_a_file_nothing_is_paused(tmp_path: Path) -> None:
    assert FileSwitch(tmp_path).paused() == ""
    assert pause_in_force(tmp_path) is None


def test_a_pause_is_in_force_at_once_and_says_who_and_why(tmp_path: Path) -> None:
    switch = FileSwitch(tmp_path)
    pause(tmp_path, by="ann", why="migration", at_ms=5)
    assert switch.paused() == "by ann: migration"
    assert pause_in_force(tmp_path) == Pause(by="ann", at_ms=5, why="migration")
    assert json.loads((tmp_path / "paused").read_text()) == {"by": "ann", "at_ms": 5, "why": "migration"}


def test_resume_takes_it_away_and_says_whether_there_was_one(tmp_path: Path) -> None:
    pause(tmp_path, by="ann", why="", at_ms=5)
    assert FileSwitch(tmp_path).paused() == "by ann: no reason given"
    assert resume(tmp_path)
    assert not resume(tmp_path)
    assert FileSwitch(tmp_path).paused() == ""


def test_a_pause_works_before_anything_ever_ran_here(tmp_path: Path) -> None:
    pause(tmp_path / "new", by="ann", why="", at_ms=5)
    assert FileSwitch(tmp_path / "new").paused()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"by": 3}', b"\xff"])
def test_a_file_that_says_something_else_means_paused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "paused").write_bytes(content)
    assert FileSwitch(tmp_path).paused().startswith("unknown means paused")


def test_a_file_that_cannot_be_read_means_paused(tmp_path: Path) -> None:
    (tmp_path / "paused").mkdir()
    assert FileSwitch(tmp_path).paused().startswith("unknown means paused")


def test_a_data_directory_that_is_gone_means_paused(tmp_path: Path) -> None:
    assert "is not there" in FileSwitch(tmp_path / "gone").paused()

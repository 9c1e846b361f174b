"""The kill switch: a file in the data directory. It needs no bus and no running process, and what it cannot read means paused."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

NAME = "paused"


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """Who paused, when and why."""

    by: str
    at_ms: int
    why: str = ""


def pause(data_dir: Path, *, by: str, why: str, at_ms: int) -> None:
    """Nothing is applied from now on (a write that is under way ends). Durable when this returns."""
    path = data_dir / NAME
    data_dir.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{NAME}.{os.getpid()}.new")
    with new.open("wb") as file:
        file.write(msgspec.json.encode(Pause(by=by, at_ms=at_ms, why=why)))
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def resume(data_dir: Path) -> bool:
    """Take the pause away; whether there was one."""
    try:
        (data_dir / NAME).unlink()
    except FileNotFoundError:
        return False
    return True


def pause_in_force(data_dir: Path) -> Pause | None:
    """The pause with its story, None when there is none. An unreadable one has an empty `by`."""
    try:
        content = (data_dir / NAME).read_bytes()
    except FileNotFoundError:
        # A data directory that is not there at all is not a permission to go on.
        return None if data_dir.is_dir() else Pause(by="", at_ms=0, why=f"the data directory {data_dir} is not there")
    except OSError as error:
        return Pause(by="", at_ms=0, why=f"the pause file cannot be read: {error.strerror}")
    with contextlib.suppress(msgspec.MsgspecError):
        return msgspec.json.decode(content, type=Pause)
    return Pause(by="", at_ms=0, why="the pause file cannot be read: not what `reflexarc pause` writes")


class FileSwitch:
    """`KillSwitch` on that file; read at every question, a few microseconds."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def paused(self) -> str:
        """Why nothing may be applied now; empty when it may."""
        found = pause_in_force(self._data_dir)
        if found is None:
            return ""
        return f"by {found.by}: {found.why or 'no reason given'}" if found.by else f"unknown means paused: {found.why}"

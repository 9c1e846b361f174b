"""`FileTail`: a growing file as an input topic.

Guarantee: each whole line is published once on the embedded bus, kill -9 included, because the place in the file is stored in the same transaction as
the lines; on another bus at least once.
A line without its end waits for the rest; a file that was replaced (rotation) is read to its end first, one that was cut is read anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import msgspec

from pipeline.model.records import stable_id
from pipeline.ports.bus import Bus, OutRecord
from pipeline.runtime.sqlite_bus import SqliteBus

LOG: Final = logging.getLogger(__name__)
STAGE: Final = "tail"
_POLL_MS: Final = 10
_CHUNK_BYTES: Final = 1 << 20
_MAX_LINE_BYTES: Final = 4 << 20


class Place(msgspec.Struct, frozen=True):
    """Where reading goes on: which file, and how many of its bytes are published."""

    inode: int
    offset: int


class Places(Protocol):
    """Publishes lines, and remembers the place in the file that they lead to."""

    def load(self, key: str) -> bytes | None:
        """The place of a former life."""
        ...

    async def publish(self, outputs: Sequence[OutRecord], key: str, place: bytes) -> None:
        """Durable when it returns."""
        ...


class SqlitePlaces:
    """Lines and place in one transaction: exactly once."""

    def __init__(self, bus: SqliteBus) -> None:
        self._bus = bus

    def load(self, key: str) -> bytes | None:
        """The place of a former life."""
        return self._bus.log.states(STAGE).get(key)

    async def publish(self, outputs: Sequence[OutRecord], key: str, place: bytes) -> None:
        """Durable when it returns."""
        self._bus.log.commit(outputs, stage=STAGE, states={key: place})
        self._bus.woke({output.topic for output in outputs})


class FilePlaces:
    """For a bus elsewhere: lines first, then the place, moved into a small file. At least once."""

    def __init__(self, bus: Bus, folder: Path) -> None:
        self._bus, self._folder = bus, folder

    def load(self, key: str) -> bytes | None:
        """The place of a former life."""
        try:
            return self._file(key).read_bytes()
        except FileNotFoundError:
            return None

    async def publish(self, outputs: Sequence[OutRecord], key: str, place: bytes) -> None:
        """Durable when it returns."""
        await self._bus.publish(outputs)
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._file(key).with_suffix(".draft")
        draft.write_bytes(place)
        draft.replace(self._file(key))

    def _file(self, key: str) -> Path:
        return self._folder / f"{stable_id(key)}.json"


class FileTail:
    """Follows one path. `batch`: the lines read together travel as one message (they are one atomic batch), else one message a line."""

    def __init__(self, places: Places, path: Path, topic: str, *, batch: bool = False, poll_ms: int = _POLL_MS) -> None:
        self._places, self._path, self._topic, self._batch, self._poll_ms = places, path, topic, batch, poll_ms
        self._key = f"{topic}:{path}"
        self._file: BinaryIO | None = None
        self._place: Place | None = None

    async def run(self) -> None:
        """Follow until cancelled."""
        self.restore()
        try:
            while True:
                if not await self.read_once():
                    await asyncio.sleep(self._poll_ms / 1000)
                else:
                    await asyncio.sleep(0)
        finally:
            self._close()

    def restore(self) -> None:
        """Go on where a former life stopped."""
        stored = self._places.load(self._key)
        self._place = msgspec.json.decode(stored, type=Place) if stored else None

    async def read_once(self) -> bool:
        """Publish what is there now; whether there was anything."""
        file = self._opened()
        if file is None or self._place is None:
            return False
        size = os.fstat(file.fileno()).st_size
        if size < self._place.offset:
            LOG.warning("input_file_cut", extra={"path": str(self._path), "size": size, "read": self._place.offset})
            self._place = Place(self._place.inode, 0)
        file.seek(self._place.offset)
        data = file.read(_CHUNK_BYTES)
        while data and b"\n" not in data and len(data) < _MAX_LINE_BYTES and (more := file.read(_CHUNK_BYTES)):
            data += more
        whole = data.rfind(b"\n") + 1
        if not whole and len(data) >= _MAX_LINE_BYTES:
            whole = len(data)  # a line without an end in sight: the decoder says what it thinks of it
        if whole:
            await self._publish(data[:whole])
            return True
        self._follow_rotation()
        return False

    async def _publish(self, data: bytes) -> None:
        assert self._place is not None  # noqa: S101 - read_once has a place
        place = Place(self._place.inode, self._place.offset + len(data))
        lines = [data] if self._batch else [line for line in data.splitlines() if line.strip()]
        outputs = [OutRecord(self._topic, "", line) for line in lines]
        await self._places.publish(outputs, self._key, msgspec.json.encode(place))
        self._place = place

    def _opened(self) -> BinaryIO | None:
        if self._file is None:
            with contextlib.suppress(FileNotFoundError):
                self._file = self._left_behind() or self._path.open("rb")
        if self._file is not None and self._place is None:
            self._place = Place(os.fstat(self._file.fileno()).st_ino, 0)
        return self._file

    def _left_behind(self) -> BinaryIO | None:
        """The file that was being read when its name was given to another; it may have lines left. None: gone, or never was."""
        if self._place is None or _inode(self._path) == self._place.inode:
            return None
        for sibling in self._path.parent.glob(f"{self._path.name}*"):
            if _inode(sibling) == self._place.inode:
                return sibling.open("rb")
        self._place = None
        return None

    def _follow_rotation(self) -> None:
        """At the end of the file: has its name been given to another one?"""
        inode = _inode(self._path)
        if self._place is not None and inode is not None and inode != self._place.inode:
            self._close()
            self._place = None

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None

"""One process per role and data directory: two would each believe that they are the only one."""

from __future__ import annotations

import fcntl
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO


class AlreadyRunningError(Exception):
    """Another process holds the role here."""


class RoleLocks:
    """Held until `release` or the end of the process."""

    def __init__(self, data_dir: Path, roles: Iterable[str]) -> None:
        self._held: list[BinaryIO] = []
        data_dir.mkdir(parents=True, exist_ok=True)
        for role in roles:
            file = (data_dir / f"role.{role}.lock").open("ab")
            self._held.append(file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self.release()
                raise AlreadyRunningError(f"role {role} already runs on {data_dir}; stop it first, or give this one a data_dir of its own") from error

    def release(self) -> None:
        """Let others have the roles. Idempotent."""
        for file in self._held:
            file.close()
        self._held.clear()

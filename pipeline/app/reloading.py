"""Rules that change while the pipeline runs: seen within a second, checked as a whole, taken over or refused as a whole."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pipeline.app.settings import Settings, check_rules
from pipeline.rulebook.book import RuleBook
from pipeline.runtime.rule_files import UnreadableError

LOG: Final = logging.getLogger(__name__)
_EVERY_S: Final = 1.0

Mark = tuple[tuple[str, int, int], ...]


class RuleWatch:
    """Calls `take` with each new rule book, `refuse` where the files are wrong."""

    def __init__(self, settings: Settings, take: Callable[[RuleBook], None], refuse: Callable[[], None]) -> None:
        self._settings, self._take, self._refuse = settings, take, refuse
        self._mark = self._look()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_S)
            mark = await asyncio.to_thread(self._look)
            if mark != self._mark:
                self._mark = mark
                await self.reload()

    async def reload(self) -> bool:
        """Load now; False when the files are refused and the running rules stay."""
        try:
            result = await asyncio.to_thread(check_rules, self._settings)
        except UnreadableError as error:
            problems = [str(error)]
        else:
            if result.book is not None:
                self._take(result.book)
                LOG.info("rules_reloaded", extra={"version": result.book.version})
                return True
            problems = [str(problem) for problem in result.errors]
        self._refuse()
        LOG.error("rules_refused", extra={"problems": problems})
        return False

    def _look(self) -> Mark:
        """What the files look like from outside: paths, times, sizes."""
        files = (file for path in self._settings.rule_paths for file in _below(path))
        return tuple(sorted(seen for file in files if (seen := _seen(file)) is not None))


def _below(path: Path) -> list[Path]:
    return [path, *path.rglob("*.y*ml")] if path.is_dir() else [path]


def _seen(file: Path) -> tuple[str, int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return (str(file), stat.st_mtime_ns, stat.st_size)

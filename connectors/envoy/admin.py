"""What Envoy itself says through its admin API: which version of each file it has taken, and what it refused."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import aiohttp

from pipeline.ports.connector import Temporary

_LINE = re.compile(
    r"(?:cluster\.(?P<cluster>.+)|http\..+?\.rds\.(?P<route>.+))\.(?P<what>version_text|update_rejected|update_failure): (?P<value>.*)"
)
_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Report:
    """Per file: versions in force (one per listener that uses it; none: not configured in this Envoy) and how many were refused so far."""

    versions: Mapping[str, frozenset[str]]
    refused: Mapping[str, int]

    def has_taken(self, file: str, version: str) -> bool:
        """Whether every user of the file runs that version."""
        return self.versions[file] == {version}


class Admin:
    """The admin API of one Envoy."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def report(self, files: Collection[str]) -> Report:
        """What it says about these files.

        Raises:
            Temporary: it does not answer.
        """
        names = [re.escape(file.removesuffix(".json").partition("-")[2]) for file in files]
        pattern = rf"^(cluster|http\..*\.rds)\.({'|'.join(names)})\.(version_text|update_rejected|update_failure)$"
        text = await self._get("/stats", {"filter": pattern})
        versions: dict[str, set[str]] = {file: set() for file in files}
        refused = dict.fromkeys(files, 0)
        for line in text.splitlines():
            match = _LINE.fullmatch(line)
            file = "" if match is None else f"eds-{match['cluster']}.json" if match["cluster"] is not None else f"rds-{match['route']}.json"
            if match is None or file not in versions:
                continue
            if match["what"] == "version_text":
                versions[file].add(match["value"].strip('"'))
            else:
                refused[file] += int(match["value"])
        return Report({file: frozenset(found) for file, found in versions.items()}, refused)

    async def close(self) -> None:
        """Release the connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _get(self, path: str, query: Mapping[str, str]) -> str:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        try:
            async with asyncio.timeout(_TIMEOUT_S), self._session.get(self._url + path, params=query) as response:
                response.raise_for_status()
                return await response.text()
        except (aiohttp.ClientError, OSError) as error:
            raise Temporary(f"Envoy's admin API at {self._url} does not answer: {error or type(error).__name__}") from error

"""`Envoy`: shares of traffic over backends and sites, and blocked addresses, of the services behind one proxy.

Guarantees: what is wanted changes only by compare-and-set of its revision under a lock (an older fence is refused, somebody else's route file is
a Conflict); files are validated before they are moved and never written in place; `apply` returns when Envoy says that it runs the new version, and
puts the old one back when Envoy refuses it; blocks expire.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from connectors.envoy.admin import Admin, Report
from connectors.envoy.desk import Desk
from connectors.envoy.settings import EnvoySettings
from connectors.envoy.state import State
from connectors.envoy.wishes import wish
from connectors.settings import require_target, require_verb
from pipeline.model.target import Target
from pipeline.ports.clock import Clock
from pipeline.ports.connector import Change, ConnectorError, ConnectorInfo, Discovered, Fence, Observed, Permanent, Temporary, Unknown

_LOG = logging.getLogger("reflexarc.connectors.envoy")
_POLL_S: Final = 0.002
_CATCH_UP_S: Final = 1.0  # how long a read waits for Envoy to take a file that is just being moved
_REPAIR_S: Final = 1.0

_INFO = ConnectorInfo(
    name="envoy",
    summary="Envoy: weights, shares by site and blocked addresses through watched files",
    verbs={"shift_traffic": ("route",), "fail_over": ("sites",), "fail_back": ("sites",), "block": ("blocklist",)},
    invertible=frozenset({"shift_traffic", "fail_over", "fail_back", "block"}),
    fence=Fence.ENFORCED,
    permissions=("write dir", "read endpoints_file", "GET /stats on the admin API"),
    config_model=EnvoySettings,
)


class Envoy:
    """One proxy. Targets: `<name>://route/<route>`, `sites/<route>`, `blocklist/<route>`."""

    INFO: Final = _INFO

    def __init__(self, name: str, config: EnvoySettings, *, clock: Clock) -> None:
        self._name, self._config = name, config
        self._desk, self._admin = Desk(config, clock), Admin(config.admin)
        self._clock = clock

    @property
    def info(self) -> ConnectorInfo:
        """Static description."""
        return _INFO

    def prepare(self) -> None:
        """Write the files, so that an Envoy that starts now finds them."""
        self._desk.refresh()

    async def read(self, target: Target) -> Observed:
        """What Envoy runs."""
        self._require(target)
        async with asyncio.timeout(_CATCH_UP_S + 5):
            await self._caught_up(target)
        return self._observed(target, self._desk.load())

    def plan(self, target: Target, verb: str, observed: Observed, desired: Mapping[str, Any]) -> Change | None:
        """The change that leads there; None: already there."""
        route = self._config.routes[self._require(target)]
        require_verb(_INFO, verb, target)
        found = wish(target, route, observed.value, desired)
        if found is None:
            return None
        before, after, summary = found
        return Change(target, verb, before, after, summary, observed.version, inverse=before)

    async def apply(self, change: Change, *, key: str, fence: int, deadline_ms: int) -> Observed:
        """Move the files, and return when Envoy runs them."""
        target = change.target
        self._require(target)
        files = self._desk.files_of(target)
        report = await self._admin.report(files)  # before anything is written: an Envoy that is away is only a Temporary
        _require_configured(target, report)
        before, after = self._desk.want(change, fence=fence)
        _LOG.info("proxy_wanted", extra={"target": str(target), "change": change.summary, "key": key})
        try:
            async with asyncio.timeout(deadline_ms / 1000):
                refused = await self._taken(files, report)
        except TimeoutError as error:
            raise Unknown(f"{target}: {change.summary}: Envoy has not taken it after {deadline_ms} ms") from error
        if refused:
            self._desk.restore(target, before, after)
            raise Permanent(f"{target}: {change.summary}: Envoy refused {', '.join(refused)} (its log says why); the old one is back")
        return self._observed(target, self._desk.load())

    async def discover(self) -> Sequence[Discovered]:
        """Every configured route with its block list and, where it has any, its sites."""
        state, found = self._desk.load(), []
        for name, route in self._config.routes.items():
            for kind in ("route", "blocklist", *(("sites",) if route.sites else ())):
                target = Target(self._name, kind, name)
                found.append(Discovered(target, {"service": route.service or name}, self._observed(target, state).value))
        return found

    async def follow(self) -> None:
        """Keep the endpoints of the clusters and the block list true. Until cancelled."""
        seen, repair_at, loop = None, 0.0, asyncio.get_running_loop()
        while True:
            stamp, expiry = _stamp(self._config.endpoints_file), self._desk.next_expiry_ms
            if stamp != seen or loop.time() >= repair_at or (expiry is not None and expiry <= self._clock.now_ms()):
                try:
                    written = self._desk.refresh()
                    if written:
                        _LOG.info("proxy_files_moved", extra={"files": written})
                    seen = stamp
                except (OSError, ConnectorError) as error:
                    _LOG.warning("proxy_refresh_failed", extra={"error": str(error)})
                repair_at = loop.time() + _REPAIR_S
            await asyncio.sleep(self._config.poll_ms / 1000)

    async def close(self) -> None:
        """Release the connection; routes stay."""
        await self._admin.close()

    def _require(self, target: Target) -> str:
        sited = [name for name, route in self._config.routes.items() if route.sites]
        kind = target.kind if target.kind in {"route", "sites", "blocklist"} else "route"
        return require_target(target, connector=self._name, kind=kind, known=sited if kind == "sites" else self._config.routes)

    def _observed(self, target: Target, state: State) -> Observed:
        service = state.services[target.path]
        return Observed(service.value(target.kind), service.revision(target.kind))

    async def _taken(self, files: Sequence[str], start: Report) -> list[str]:
        """Wait until Envoy runs what is in place; the files that it refused instead."""
        while True:
            try:
                report = await self._admin.report(files)
            except Temporary:
                await asyncio.sleep(_POLL_S * 10)
                continue
            late = [file for file in files if not report.has_taken(file, self._desk.version_in_place(file))]
            if not late:
                return []
            if refused := [file for file in late if report.refused[file] > start.refused[file]]:
                return refused
            await asyncio.sleep(_POLL_S)

    async def _caught_up(self, target: Target) -> None:
        files, loop = self._desk.files_of(target), asyncio.get_running_loop()
        give_up_at = loop.time() + _CATCH_UP_S
        while True:
            self._desk.require_ours(target, self._desk.load())
            report = await self._admin.report(files)
            _require_configured(target, report)
            if all(report.has_taken(file, self._desk.version_in_place(file)) for file in files):
                return
            if loop.time() >= give_up_at:
                raise Temporary(f"{target}: Envoy does not run what is in {self._config.dir} (its log says why)")
            try:
                self._desk.refresh()
            except OSError as error:
                raise Permanent(f"{target}: {self._config.dir} cannot be written: {error.strerror}") from error
            await asyncio.sleep(_POLL_S * 10)


def _require_configured(target: Target, report: Report) -> None:
    if missing := [file for file, versions in report.versions.items() if not versions]:
        raise Permanent(f"{target}: this Envoy does not read {', '.join(missing)}; its bootstrap has no such route config or cluster")


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    try:
        found = os.stat(path)  # noqa: PTH116 - every 25 ms
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size

"""`Desk`: the state and the discovery files in Envoy's directory, changed together under one lock.

The state is on disk before a file is moved, so a crash between the two leaves work that the next `refresh` finishes. A route file that is neither
what we wrote last nor what we wrote before belongs to somebody else: it is reported and never overwritten. Endpoint files follow the endpoints file;
while that is missing or broken, the last good content stays in force.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from connectors.endpoints import Endpoint, EndpointsError, read_endpoints
from connectors.envoy.render import Rendered, eds_name, endpoint_files, rds_name, route_files
from connectors.envoy.settings import EnvoySettings
from connectors.envoy.state import ServiceState, State, started, without_expired
from connectors.statefile import content_of, locked, replace
from pipeline.model.target import Target
from pipeline.ports.clock import Clock
from pipeline.ports.connector import Change, Conflict, Permanent

_LOG = logging.getLogger("reflexarc.connectors.envoy")
_STATE: Final = ".reflexarc-state.json"
_LOCK: Final = ".reflexarc-lock"
_DECODER = msgspec.json.Decoder(State)


class _Head(msgspec.Struct):
    version_info: str = ""


_HEAD = msgspec.json.Decoder(_Head)


class Desk:
    """One directory."""

    def __init__(self, settings: EnvoySettings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._folder = settings.dir.absolute()
        self._endpoints: tuple[Endpoint, ...] | None = None
        self.next_expiry_ms: int | None = None

    def load(self) -> State:
        """What should be in force now: state on disk, settings, and expiries taken together."""
        path = self._folder / _STATE
        try:
            content = content_of(path)
            known = State() if content is None else _DECODER.decode(content)
        except (OSError, msgspec.MsgspecError) as error:
            raise Permanent(f"{path} cannot be read: {error}") from error
        state = without_expired(started(known, self._settings), self._clock.now_ms())
        self.next_expiry_ms = min((until for service in state.services.values() for until in service.blocked.values()), default=None)
        return state

    def files_of(self, target: Target) -> list[str]:
        """The files that carry what a target holds."""
        route = self._settings.routes[target.path]
        return [eds_name(cluster) for cluster in route.clusters.values()] if target.kind == "sites" else [rds_name(route.route_config_name)]

    def version_in_place(self, file: str) -> str:
        """The version that the file in the directory carries; empty when it has none."""
        try:
            return _HEAD.decode(content_of(self._folder / file) or b"{}").version_info
        except msgspec.MsgspecError:
            return ""

    def require_ours(self, target: Target, state: State) -> None:
        """Raise Conflict where somebody else wrote the target's route file."""
        for file in self.files_of(target):
            if self._is_foreign(file, state):
                path = self._folder / file
                raise Conflict(f"{target}: {path} was changed by somebody else; remove it to let this connector write it again", observed=None)

    def want(self, change: Change, *, fence: int) -> tuple[ServiceState, ServiceState]:
        """Compare, set, and move the files; what the service held before and holds now.

        Raises:
            Conflict: changed meanwhile, an older fence than the last one, or somebody else's file.
        """
        target, kind = change.target, change.target.kind
        with locked(self._folder / _LOCK):
            state = self.load()
            before = state.services[target.path]
            self.require_ours(target, state)
            if fence < before.fences.get(kind, 0):
                raise Conflict(f"{target}: a newer owner (fence {before.fences[kind]}) has it, ours is {fence}", observed=before.value(kind))
            if before.holds(kind, change.after):
                self._put(state)
                return before, before
            if change.version not in {"", before.revision(kind)}:
                text = f"{target}: revision is {before.revision(kind)}, planned on {change.version}"
                raise Conflict(text, observed=before.value(kind))
            after = before.with_change(kind, change.after, fence=fence)
            self._put(state.with_service(target.path, after))
            return before, after

    def restore(self, target: Target, before: ServiceState, rejected: ServiceState) -> None:
        """Put back what a rejected change replaced, unless somebody changed it since."""
        kind = target.kind
        with locked(self._folder / _LOCK):
            state = self.load()
            service = state.services[target.path]
            if service.revision(kind) == rejected.revision(kind) != before.revision(kind):
                revisions = service.revisions | {kind: service.revisions[kind] + 1}
                old = msgspec.structs.replace(before, revisions=before.revisions | revisions, fences=service.fences)
                self._put(state.with_service(target.path, old))

    def refresh(self) -> list[str]:
        """Bring every file to what should be in force now; the names of those that were written."""
        with locked(self._folder / _LOCK):
            return self._put(self.load())

    def _put(self, state: State) -> list[str]:
        """Write state, then files. Under the lock."""
        wanted = [file for file in route_files(self._settings, state) if not self._is_foreign(file.name, state)]
        endpoints = self._current_endpoints()
        if endpoints is not None:
            wanted += endpoint_files(self._settings, state, endpoints)
        changed = [file for file in wanted if content_of(self._folder / file.name) != file.content]
        content = msgspec.json.encode(msgspec.structs.replace(state, files=state.files | _digests(state.files, changed)))
        if content_of(self._folder / _STATE) != content:
            replace(self._folder / _STATE, content, durable=True)
        for file in changed:
            replace(self._folder / file.name, file.content)
        return [file.name for file in changed]

    def _is_foreign(self, file: str, state: State) -> bool:
        if not file.startswith("rds-"):
            return False
        content = content_of(self._folder / file)
        return content is not None and _digest(content) not in state.files.get(file, ())

    def _current_endpoints(self) -> tuple[Endpoint, ...] | None:
        path = self._settings.endpoints_file
        if path is None:
            return None
        try:
            found = read_endpoints(path)
        except EndpointsError as error:
            _LOG.warning("endpoints_unreadable", extra={"error": str(error)})
            found = None
        if found is not None:
            self._endpoints = found
        if self._endpoints is None and not self._has_endpoint_files():
            return ()  # nobody serves yet; Envoy needs the files to be there
        return self._endpoints

    def _has_endpoint_files(self) -> bool:
        return any(_exists(self._folder / eds_name(cluster)) for route in self._settings.routes.values() for cluster in route.clusters.values())


def _exists(path: Path) -> bool:
    return path.exists()


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _digests(known: Mapping[str, tuple[str, ...]], changed: list[Rendered]) -> dict[str, Any]:
    return {file.name: (_digest(file.content), *known.get(file.name, ())[:1]) for file in changed if file.name.startswith("rds-")}

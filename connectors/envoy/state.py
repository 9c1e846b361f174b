"""What should be in force at the proxy, as kept on disk beside its files. Pure: values and their changes.

Each target of a service (route, sites, blocklist) has a revision of its own: the version that `apply` compares and sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from connectors.envoy.settings import EnvoySettings, RouteSettings

KINDS = {"route": "weights", "sites": "sites", "blocklist": "blocked"}
"""Kind of target -> what it holds."""


class ServiceState(msgspec.Struct, frozen=True, kw_only=True):
    """Shares in percent; `blocked`: address -> until (Unix ms). `revisions` and `fences` per kind of target."""

    weights: dict[str, int]
    sites: dict[str, int] = {}
    blocked: dict[str, int] = {}
    revisions: dict[str, int] = {}
    fences: dict[str, int] = {}

    def value(self, kind: str) -> dict[str, Any]:
        """What a target of this kind holds, in the vocabulary of observations."""
        key = KINDS[kind]
        return {key: dict(getattr(self, key))}

    def revision(self, kind: str) -> str:
        """For compare-and-set."""
        return str(self.revisions.get(kind, 0))

    def holds(self, kind: str, after: Mapping[str, Any]) -> bool:
        """Whether this is wanted already."""
        if kind == "blocklist":
            return bool(self.blocked.get(after["address"], 0) == after["blocked_until_ms"])
        return bool(getattr(self, KINDS[kind]) == after[KINDS[kind]])

    def with_change(self, kind: str, after: Mapping[str, Any], *, fence: int) -> ServiceState:
        """This state with what `after` says, one revision on."""
        if kind == "blocklist":
            blocked = {address: until for address, until in self.blocked.items() if address != after["address"]}
            fields: dict[str, Any] = {"blocked": blocked | ({after["address"]: after["blocked_until_ms"]} if after["blocked_until_ms"] else {})}
        else:
            fields = {KINDS[kind]: dict(after[KINDS[kind]])}
        revisions = self.revisions | {kind: self.revisions.get(kind, 0) + 1}
        return msgspec.structs.replace(self, **fields, revisions=revisions, fences=self.fences | {kind: fence})


class State(msgspec.Struct, frozen=True, kw_only=True):
    """`files`: name -> digests of what we wrote last and before (a crash may leave either)."""

    schema_version: int = 1
    services: dict[str, ServiceState] = {}
    files: dict[str, tuple[str, ...]] = {}

    def with_service(self, name: str, service: ServiceState) -> State:
        """This state with one service replaced."""
        return msgspec.structs.replace(self, services=self.services | {name: service})


def started(state: State, settings: EnvoySettings) -> State:
    """`state` brought in line with the configuration: new services at their start, shares of backends and sites that are gone begin anew."""
    services = {name: _service(state.services.get(name), route) for name, route in settings.routes.items()}
    return msgspec.structs.replace(state, services=services)


def without_expired(state: State, now_ms: int) -> State:
    """`state` without blocks whose time is over."""
    services = {}
    for name, service in state.services.items():
        kept = {address: until for address, until in service.blocked.items() if until > now_ms}
        services[name] = service if kept == service.blocked else msgspec.structs.replace(service, blocked=kept)
    return msgspec.structs.replace(state, services=services)


def _service(known: ServiceState | None, route: RouteSettings) -> ServiceState:
    weights = {backend: route.weights.get(backend, 0) for backend in sorted(route.clusters)}
    sites = dict(sorted(route.sites.items()))
    if known is None:
        return ServiceState(weights=weights, sites=sites)
    return msgspec.structs.replace(
        known,
        weights=known.weights if known.weights.keys() == weights.keys() else weights,
        sites=known.sites if known.sites.keys() == sites.keys() else sites,
    )

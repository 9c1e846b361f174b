"""From a verb and what is desired to what a target should hold: checked, complete, absolute. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from connectors.envoy.settings import RouteSettings
from connectors.envoy.state import KINDS
from pipeline.model.duration import format_instant
from pipeline.model.target import Target
from pipeline.ports.connector import Permanent


def wish(
    target: Target, route: RouteSettings, observed: Mapping[str, Any], desired: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], str] | None:
    """What is there (before), what is wanted (after), and one line that says it; None: already there.

    Raises:
        Permanent: the wish makes no sense.
    """
    if target.kind == "blocklist":
        return _block(target, route, observed["blocked"], desired)
    key = KINDS[target.kind]
    before = observed[key]
    after = _shares(target, key, desired.get(key), route.clusters if key == "weights" else before)
    if before == after:
        return None
    moved = ", ".join(f"{name} {before.get(name, 0)} -> {share}" for name, share in after.items() if before.get(name, 0) != share)
    return {key: dict(before)}, {key: after}, f"{key} {moved}"


def _shares(target: Target, key: str, wanted: Any, known: Collection[str]) -> dict[str, int]:
    if not isinstance(wanted, Mapping) or not wanted:
        raise Permanent(f"{target}: needs {key} as a mapping of percents, got {wanted!r}")
    if unknown := sorted(set(wanted) - set(known)):
        raise Permanent(
            f"{target}: unknown in {key}: {', '.join(unknown)}; there are: {', '.join(sorted(known)) or 'none (see sites in the settings)'}"
        )
    for name, share in wanted.items():
        if isinstance(share, bool) or not isinstance(share, int) or not 0 <= share <= 100:
            raise Permanent(f"{target}: {key} of {name} must be a whole percent, got {share!r}")
    if sum(wanted.values()) != 100:
        raise Permanent(f"{target}: {key} sum to {sum(wanted.values())}, not 100")
    return {name: wanted.get(name, 0) for name in sorted(known)}


def _block(
    target: Target, route: RouteSettings, blocked: Mapping[str, int], desired: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], str] | None:
    until = desired.get("blocked_until_ms")
    if isinstance(until, bool) or not isinstance(until, int) or until < 0:
        raise Permanent(f"{target}: blocked_until_ms must be a time in ms (0: not blocked), got {until!r}")
    try:
        address = ip_address(str(desired.get("address")))
    except ValueError as error:
        raise Permanent(f"{target}: not an address: {desired.get('address')!r}") from error
    text, now = str(address), blocked.get(str(address), 0)
    if until == now:
        return None
    if until and any(address in ip_network(network) for network in route.never_block):
        raise Permanent(f"{target}: {text} is in never_block")
    if until and not now and len(blocked) >= route.max_blocked:
        raise Permanent(f"{target}: {len(blocked)} addresses are blocked, max_blocked allows no more")
    summary = f"block {text} until {format_instant(until)}" if until else f"unblock {text}"
    return {"address": text, "blocked_until_ms": now}, {"address": text, "blocked_until_ms": until}, summary

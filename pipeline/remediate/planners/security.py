"""Planner for blocks: an address is refused at the edge, for a while, and never one that must not be."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from pipeline.model.reasons import Reason
from pipeline.model.target import Target
from pipeline.remediate.planners.base import Case, Plan, Refusal, unknown_target
from pipeline.remediate.templates import render
from pipeline.rulebook.spec import Block

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def block(case: Case) -> tuple[Plan, ...] | Refusal:
    """Refuse one address until now + `for`; held when it is protected, no address, or when too many are blocked."""
    spec: Block = case.spec
    named = case.named()
    if isinstance(named, Refusal):
        return named
    target = named.target if named else next((place.target for place in case.places("blocklist")), None)
    if target is None:
        return unknown_target(f"Service {case.service.name} has no blocklist in the catalogue.")
    text = render(spec.address, case.names)
    address = parse_address(text)
    if address is None:
        return Refusal(Reason.TEMPLATE, f"{text!r} is not an IP address, so nothing is blocked.", {"address": text})
    protected = next((cidr for cidr in spec.never_block if _inside(address, cidr)), None)
    if protected:
        return Refusal(
            Reason.NEVER_BLOCK, f"{address} lies in {protected}, which must never be blocked.", {"address": str(address), "never_block": protected}
        )
    return _within_limits(case, target, str(address))


def _within_limits(case: Case, target: Target, address: str) -> tuple[Plan, ...] | Refusal:
    until_ms = case.now_ms + case.spec.duration_ms
    blocked = blocked_now(case, target)
    if blocked.get(address, 0) - case.now_ms >= case.spec.duration_ms / 2:  # renewed only when the end comes near
        return Refusal(Reason.ALREADY_THERE, f"{address} is blocked already.", {"blocked_until_ms": blocked[address]})
    if address not in blocked and len(blocked) >= case.spec.max_blocked:
        evidence = {"blocked": len(blocked), "max_blocked": case.spec.max_blocked}
        return Refusal(
            Reason.LIMIT, f"{len(blocked)} addresses are blocked on {target}, and no more than {case.spec.max_blocked} may be.", evidence, retry=True
        )
    return (Plan(target, {"address": address, "blocked_until_ms": until_ms}, override_until_ms=until_ms),)


def blocked_now(case: Case, target: Target) -> dict[str, int]:
    """The addresses that are blocked and not expired."""
    seen = case.seen(target).get("blocked")
    found = {str(address): int(until_ms) for address, until_ms in seen.items()} if isinstance(seen, Mapping) else {}
    return {address: until_ms for address, until_ms in found.items() if until_ms > case.now_ms}


def parse_address(text: str) -> Address | None:
    """The address; an IPv4 one dressed as IPv6 counts as IPv4, so that it cannot slip past `never_block`."""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _inside(address: Address, cidr: str) -> bool:
    try:
        network = ipaddress.ip_network(cidr, strict=False)
    except ValueError:
        return True  # an unreadable protection protects everything; the loader refuses such a file
    return address.version == network.version and address in network

"""What a failover sees and can wish for: truths with their age, shares, replicas, headroom, and the drafts that follow from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipeline.model.reasons import Reason
from pipeline.model.records import Truth
from pipeline.model.target import Target
from pipeline.remediate import guards
from pipeline.remediate.catalogue import Place
from pipeline.remediate.dispatch import Draft
from pipeline.remediate.planners.base import shares
from pipeline.remediate.planners.capacity import clamp
from pipeline.remediate.state import FailoverState
from pipeline.remediate.turn import Hold, Turn
from pipeline.rulebook.spec import Failover, Service

STALE_MS: Final = 5000


def too_old_ms(spec: Failover) -> int:
    """An answer older than this is none."""
    return max(3 * spec.interval_ms, STALE_MS)


@dataclass(frozen=True, slots=True)
class View:
    """One failover at one step."""

    turn: Turn
    spec: Failover
    service: Service
    state: FailoverState

    @property
    def owner(self) -> str:
        """Its name in arbitration."""
        return f"failover:{self.spec.name}"

    @property
    def mode(self) -> str:
        """What it may do here."""
        return guards.effective_mode(self.turn, self.spec.mode)

    def say(self, hold: Hold) -> None:
        """Record a hold once."""
        self.turn.decide_once(self.owner, hold, incident_id=self.state.incident_id, policy=self.spec.name, mode=self.mode)

    # --- conditions

    def truth(self, key: str) -> Truth:
        """The newest answer, NODATA when it is too old."""
        heard_ms = self.state.heard_ms.get(key)
        if heard_ms is None or self.turn.now_ms - heard_ms > too_old_ms(self.spec):
            return Truth.NODATA
        return Truth(self.state.truths.get(key, Truth.NODATA))

    def held(self, key: str, for_ms: int) -> bool:
        """Whether the answer has been TRUE for so long."""
        return self.truth(key) is Truth.TRUE and self.state.heard_ms[key] - self.state.since_ms[key] >= for_ms

    def fresh_after(self, key: str, at_ms: int) -> bool:
        """Whether something was heard after a moment."""
        return self.state.heard_ms.get(key, 0) > at_ms

    def heard_all(self) -> bool:
        """Whether every site was heard of at least once."""
        return all(f"unhealthy:{site}" in self.state.heard_ms for site in self.spec.priority)

    # --- the world

    def _places(self, kind: str, site: str = "") -> list[Place]:
        return [place for place in self.turn.scope.places_of[self.service.name] if place.kind == kind and (not site or place.site == site)]

    def _seen(self, target: Target) -> Mapping[str, Any]:
        seen = self.turn.state.observed.get(str(target))
        return (seen.value if seen else None) or {}

    def share(self, site: str) -> int:
        """Percent of the traffic that the site gets; before anything was read, all goes to the first of the priority list."""
        target = next((place.target for place in self._places("sites")), None)
        known = self._seen(target).get("sites") if target else None
        if isinstance(known, Mapping) and known:
            return int(known.get(site, 0))
        return 100 if site == self.spec.priority[0] else 0

    def ready(self, site: str) -> int | None:
        """Ready replicas of a site; None: not known."""
        values = [self._seen(place.target).get("ready") for place in self._places("workload", site)]
        known = [value for value in values if value is not None]
        return sum(known) if known else None

    def replicas(self, site: str) -> int | None:
        """Replicas asked for at a site; None: not known."""
        place = next(iter(self._places("workload", site)), None)
        return self._seen(place.target).get("replicas") if place else None

    def usable(self, site: str) -> bool:
        """Whether traffic may be sent there: nothing speaks against it, and it is seen healthy or ready."""
        if self.truth(f"unhealthy:{site}") is Truth.TRUE or self.truth(f"healthy:{site}") is Truth.FALSE:
            return False
        alive = self.ready(site)
        return self.truth(f"healthy:{site}") is Truth.TRUE if alive is None else alive > 0

    def capacity(self, site: str) -> float | None:
        """Requests/s that one replica of the site can carry."""
        return next((entry.capacity_per_replica for entry in self.service.sites if entry.name == site), None)

    # --- wishes

    def capacity_draft(self, site: str, needed: int) -> Draft | None:
        """More replicas for a site; None: there are as many already, or nobody knows."""
        place, current = next(iter(self._places("workload", site)), None), self.replicas(site)
        wish = clamp(self.service, needed)
        if place is None or current is None or wish <= current:
            return None
        return self._draft("scale", place.target, {"replicas": wish}, Reason.FAILOVER_CAPACITY, direction="up")

    def give_back_draft(self, target_text: str, replicas: int) -> Draft | None:
        """Fewer replicas where capacity had led traffic; None: a scaler keeps that workload, or there are not more."""
        target = Target.parse(target_text)
        current = self._seen(target).get("replicas")
        kept = any(
            scaler.target == target_text or self._scaler_target(scaler.service, scaler.site) == target_text for scaler, _ in self.turn.scope.scalers
        )
        if kept or current is None or current <= replicas:
            return None
        self.state.serial += 1
        return self._draft("scale", target, {"replicas": clamp(self.service, replicas)}, Reason.RELEASED, direction="down")

    def _scaler_target(self, service: str, site: str | None) -> str:
        if service != self.service.name:
            return ""
        return next((str(place.target) for place in self._places("workload", site or "")), "")

    def traffic_draft(self, verb: str, sites: Mapping[str, int], reason: Reason) -> Draft | None:
        """Other shares of the sites; None: the service has no target for them."""
        target = next((place.target for place in self._places("sites")), None)
        return None if target is None else self._draft(verb, target, {"sites": dict(sites)}, reason)

    def _draft(self, verb: str, target: Target, desired: Mapping[str, Any], reason: Reason, *, direction: str = "") -> Draft:
        state = self.state
        return Draft(
            owner=self.owner,
            service=self.service.name,
            verb=verb,
            target=target,
            desired=desired,
            ttl_ms=self.spec.guard.ttl_ms,
            direction=direction,
            mode=self.mode,
            policy=self.spec.name,
            incident_id=state.incident_id,
            serial=state.serial,
            reason=reason,
            caused_at_ms=state.since_ms.get(f"unhealthy:{state.away}", 0),
            evidence={
                "demand": state.demand,
                "needed": state.needed,
                "away": state.away,
                "to": state.to,
                "ready": {site: self.ready(site) for site in self.spec.priority},
                "unhealthy_since_ms": state.since_ms.get(f"unhealthy:{state.away}"),
            },
        )

    def _all_sites(self) -> list[str]:
        names = [site.name for site in self.service.sites]
        return [*names, *(site for site in self.spec.priority if site not in names)]

    def shares_without(self, away: str, to: str, room: int) -> dict[str, int] | None:
        """The shares when `to` takes over what it has room for; None: it has room for nothing more."""
        has, leaving = self.share(to), self.share(away)
        takes = min(has + leaving, room)
        if takes <= has:
            return None
        wish = {site: self.share(site) for site in self._all_sites()}
        wish[to], wish[away] = takes, has + leaving - takes
        return shares({site: float(share) for site, share in wish.items()}, 100)

    def shares_home(self, away: str, to: str, share: int) -> dict[str, int]:
        """The shares when `share` percent of what the two sites have is home again."""
        both = self.share(away) + self.share(to)
        wish = {site: self.share(site) for site in self._all_sites()}
        wish[away] = both * share // 100
        wish[to] = both - wish[away]
        return shares({site: float(value) for site, value in wish.items()}, 100)


def needed_replicas(view: View, site: str, share: int) -> int:
    """Ready replicas that the site needs for `share` percent of the demand; where capacity is not stated, as many as the site that is left has."""
    capacity, demand = view.capacity(site), view.state.demand
    if capacity is None or demand is None:
        return max(view.ready(view.state.away) or 0, view.replicas(view.state.away) or 0, 1)
    return max(1, math.ceil(demand * share / 100 / capacity))


def room_percent(view: View, site: str) -> int:
    """Percent of the whole demand that the ready replicas of a site can carry; 100 where that cannot be measured but the site is ready."""
    capacity, demand, ready = view.capacity(site), view.state.demand, view.ready(site)
    if ready is None or capacity is None or not demand:
        return 100 if view.usable(site) else 0
    return min(100, math.floor(100 * ready * capacity / demand))

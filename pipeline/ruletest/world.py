"""`World`: the outside as actions meet it in a test. Values per target; applying is setting them, and the answer is an `Outcome`.

Guarantee: what the test says nothing about is as the catalogue says: weights of the backends, equal shares of the sites, the fewest replicas allowed,
all of them ready, each backend's workload running the version of its name, nothing blocked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pipeline.model.records import Action, Outcome, OutcomeStatus, stable_id
from pipeline.rulebook.spec import Service
from pipeline.ruletest.suite import Case, Ending

_TELLS_NOTHING: Final = frozenset({"notify", "call"})

Value = dict[str, Any]


class World:
    """All targets of the catalogue. `outcomes` are used up as actions come."""

    def __init__(self, case: Case, services: Iterable[Service]) -> None:
        self.groups: dict[str, str] = {}
        self._values: dict[str, Value] = {}
        for service in services:
            for target, value in _assumed(service):
                self._values.setdefault(target, value)
                self.groups.setdefault(target, service.group_name)
        for target, given in case.world.items():
            self._values[target] = {**self._values.get(target, {}), **given}
        self._endings, self._used = case.outcomes, Counter[int]()

    def value(self, target: str) -> Value:
        """What is there."""
        return dict(self._values.get(target, {}))

    def ending(self, action: Action) -> Ending:
        """How this action is to end."""
        for number, ending in enumerate(self._endings):
            if ending.verb not in {"", action.verb} or ending.target not in {"", str(action.target)}:
                continue
            if ending.times and self._used[number] >= ending.times:
                continue
            self._used[number] += 1
            return ending
        return Ending()

    def carry_out(self, action: Action, ending: Ending, now_ms: int) -> Outcome:
        """Apply (unless it is to end otherwise), and say how it went."""
        status, before, after = self._status(action, ending), self._before(action), None
        if status is OutcomeStatus.APPLIED:
            after = self._apply(action)
        elif status in {OutcomeStatus.CONFLICT, OutcomeStatus.ALREADY_THERE}:
            after = self.value(str(action.target))
        return Outcome(
            id=stable_id(action.id, "outcome"),
            action_id=action.id,
            group=action.group,
            status=status,
            at_ms=now_ms,
            applied_at_ms=now_ms if status is OutcomeStatus.APPLIED else 0,
            before=before,
            after=after if after is not None else (dict(action.desired) if status is OutcomeStatus.PLANNED else None),
            error=ending.error,
        )

    def _status(self, action: Action, ending: Ending) -> OutcomeStatus:
        wanted = OutcomeStatus(ending.status)
        if wanted is not OutcomeStatus.APPLIED or action.verb in _TELLS_NOTHING:
            return wanted
        if action.mode == "observe":
            return OutcomeStatus.PLANNED
        here = self.value(str(action.target))
        if action.expected is not None and any(here.get(name) != value for name, value in action.expected.items() if name in here):
            return OutcomeStatus.CONFLICT
        return OutcomeStatus.ALREADY_THERE if _is_there(here, action) else wanted

    def _before(self, action: Action) -> Value:
        here = self.value(str(action.target))
        if action.verb == "block":
            address = str(action.desired.get("address"))
            return {"address": address, "blocked_until_ms": here.get("blocked", {}).get(address, 0)}
        return {name: here[name] for name in action.desired if name in here}

    def _apply(self, action: Action) -> Value:
        here, wish = self._values.setdefault(str(action.target), {}), dict(action.desired)
        if action.verb == "block":
            here["blocked"] = {**here.get("blocked", {}), str(wish.get("address")): wish.get("blocked_until_ms", 0)}
            return wish
        wish.pop("from", None)
        if "version" in wish:
            wish["version"] = here.get("previous_version", "previous") if wish["version"] == "previous" else wish["version"]
            here["previous_version"] = here.get("version", "")
        if "replicas" in wish:
            here["ready"] = wish["replicas"]
        here.update(wish)
        return wish


def _is_there(here: Mapping[str, Any], action: Action) -> bool:
    if action.verb in {"block", "restart", "call"}:
        return False
    if action.verb == "roll_back" and here.get("version") != action.desired.get("from", here.get("version")):
        return True
    wish = {name: value for name, value in action.desired.items() if name != "from"}
    return bool(wish) and all(here.get(name) == value for name, value in wish.items())


def _assumed(service: Service) -> Iterable[tuple[str, Value]]:
    if service.route:
        yield service.route, _weights(service)
    if service.sites_target:
        count = max(1, len(service.sites))
        shares = [100 // count + (number < 100 % count) for number in range(count)]
        yield service.sites_target, {"sites": {site.name: share for site, share in zip(service.sites, shares, strict=False)}}
    if service.blocklist:
        yield service.blocklist, {"blocked": {}}
    replicas = service.limits.replicas.min if service.limits.replicas else 1
    for backend in service.backends:
        if backend.workload:
            yield backend.workload, {"replicas": replicas, "ready": replicas, "version": backend.name}
    for site in service.sites:
        if site.route:
            yield site.route, _weights(service)
        if site.workload:
            yield site.workload, {"replicas": replicas, "ready": replicas}


def _weights(service: Service) -> Value:
    return {"weights": {backend.name: backend.weight for backend in service.backends}}

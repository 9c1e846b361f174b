"""What a planner is given and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.model.reasons import Reason
from pipeline.model.target import Target
from pipeline.remediate.catalogue import Place, place_of, places
from pipeline.remediate.state import Seen
from pipeline.rulebook.spec import Service


@dataclass(frozen=True, slots=True)
class Plan:
    """One absolute wish on one target."""

    target: Target
    desired: Mapping[str, Any]
    direction: str = ""  # scale: up | down; shift_traffic: drain
    override_until_ms: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is nothing to wish for. `retry`: it may be possible later, without a change of rules."""

    reason: Reason
    text: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    retry: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """What a planner looks at. `names` fill templates; `observed`: last read, by target text; `key`: unique per attempt.

    `as_ill`: versions and backends of which the same alert says as much, so that going there is no cure.
    """

    service: Service
    spec: Any
    names: Mapping[str, str]
    observed: Mapping[str, Seen]
    now_ms: int
    key: str
    as_ill: frozenset[str] = frozenset()

    def seen(self, target: Target) -> Mapping[str, Any]:
        """What was last read of the target; empty where nothing was."""
        entry = self.observed.get(str(target))
        return (entry.value if entry else None) or {}

    def places(self, kind: str) -> list[Place]:
        """The service's own targets of one kind."""
        return [place for place in places(self.service) if place.kind == kind]

    def named(self) -> Place | Refusal | None:
        """The place of the step's own `target`; a Refusal when it is not in the catalogue; None when the step names none."""
        if not self.spec.target:
            return None
        target = Target.parse(self.spec.target)
        place = place_of([self.service], target)
        return place or unknown_target(f"{target} is not a target of service {self.service.name} in the catalogue.")


def unknown_target(text: str) -> Refusal:
    """Targets come only from the catalogue."""
    return Refusal(Reason.UNKNOWN_TARGET, text)


def is_dead(value: Mapping[str, Any]) -> bool:
    """Whether what was read says that nothing of the workload is ready. Not knowing is not dead."""
    return value.get("ready") == 0


def shares(weights: Mapping[str, float], total: int) -> dict[str, int]:
    """Integers that sum to `total`, in proportion to `weights` (largest remainder; ties by order); equal parts where all weights are zero."""
    if not weights:
        return {}
    whole = sum(weights.values())
    exact = {name: total * (weight / whole if whole else 1 / len(weights)) for name, weight in weights.items()}
    floors = {name: int(value) for name, value in exact.items()}
    rest = total - sum(floors.values())
    by_remainder = sorted(exact, key=lambda name: floors[name] - exact[name])  # stable: the first listed wins a tie
    for name in by_remainder[:rest]:
        floors[name] += 1
    return floors

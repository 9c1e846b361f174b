"""How fast a recommendation may be followed: HPA v2 stabilization windows, rate policies and bounds, as pure functions.

Guarantee: the same numbers and reason words as Kubernetes' controller. Times are ages in milliseconds, counted back from now; a recommendation or
event takes part in a window while its age is smaller than the window.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pipeline.rulebook.spec import Behavior, ScalingPolicy, ScalingRules

DOWNSCALE_WINDOW_MS: Final = 300_000
INT_MAX: Final = 2**31 - 1
WITHIN: Final = "DesiredWithinRange"
LEGACY_FACTOR: Final = 2.0
LEGACY_MINIMUM: Final = 4


class Aged(NamedTuple):
    """A number and how long ago it was."""

    value: int
    age_ms: int


class Limited(NamedTuple):
    """A wish inside the bounds, and which bound held it, if any."""

    replicas: int
    reason: str


class Stabilized(NamedTuple):
    """A wish after the stabilization windows; `reason` is empty where nothing was held."""

    replicas: int
    reason: str


@dataclass(frozen=True, slots=True)
class Rules:
    """One direction, defaults filled in."""

    policies: tuple[ScalingPolicy, ...]
    select_policy: str = "Max"
    window_ms: int = 0

    @property
    def longest_ms(self) -> int:
        """The longest period of its policies: older events never count again."""
        return max((policy.period_ms for policy in self.policies), default=0)


@dataclass(frozen=True, slots=True)
class History:
    """What happened lately: recommendations before stabilization, and changes made in each direction (positive counts)."""

    recommendations: Sequence[Aged] = ()
    up: Sequence[Aged] = ()
    down: Sequence[Aged] = ()


@dataclass(frozen=True, slots=True)
class Normalized:
    """The whole answer of one control step."""

    replicas: int
    able_to_scale: str
    limited: bool
    limit_reason: str
    stabilized: int = field(default=0)


def _policy(kind: str, value: int) -> ScalingPolicy:
    return ScalingPolicy.model_validate({"type": kind, "value": value, "period": "15s"})


DEFAULT_UP: Final = (_policy("Pods", 4), _policy("Percent", 100))
DEFAULT_DOWN: Final = (_policy("Percent", 100),)


def rules_of(behavior: Behavior, *, downscale_window_ms: int = DOWNSCALE_WINDOW_MS) -> tuple[Rules, Rules]:
    """Both directions (up, down) with Kubernetes' defaults for what is absent."""
    up, down = behavior.scale_up, behavior.scale_down
    return (
        Rules(up.policies or DEFAULT_UP, up.select_policy, _window_ms(up, 0)),
        Rules(down.policies or DEFAULT_DOWN, down.select_policy, _window_ms(down, downscale_window_ms)),
    )


def _window_ms(rules: ScalingRules, default_ms: int) -> int:
    return default_ms if rules.stabilization_ms is None else rules.stabilization_ms


# --- stabilization -------------------------------------------------------------------------------------------------------------------


def stabilize(current: int, desired: int, recommendations: Iterable[Aged], up_window_ms: int, down_window_ms: int) -> Stabilized:
    """Up only to the lowest, down only to the highest recommendation of the respective window."""
    kept = list(recommendations)
    lowest = min([desired, *(rec.value for rec in kept if rec.age_ms < up_window_ms)])
    highest = max([desired, *(rec.value for rec in kept if rec.age_ms < down_window_ms)])
    replicas = min(max(current, lowest), highest)
    if replicas == desired:
        return Stabilized(replicas, "")
    return Stabilized(replicas, "ScaleUpStabilized" if desired >= current else "ScaleDownStabilized")


def stabilize_legacy(desired: int, recommendations: Iterable[Aged], window_ms: int) -> int:
    """Without behaviour: the highest recommendation of the window."""
    return max([desired, *(rec.value for rec in recommendations if rec.age_ms <= window_ms)])


def remember(stored: Sequence[Aged], desired: int, longest_ms: int) -> list[Aged]:
    """The recommendations after this one: it takes the place of an expired one (the last such), else it is appended."""
    fresh = Aged(desired, 0)
    expired = [index for index, rec in enumerate(stored) if rec.age_ms > longest_ms]
    if expired:
        return [*stored[: expired[-1]], fresh, *stored[expired[-1] + 1 :]]
    return [*stored, fresh]


# --- rates and bounds ----------------------------------------------------------------------------------------------------------------


def changed(events: Iterable[Aged], period_ms: int) -> int:
    """Replicas changed within the period."""
    return sum(event.value for event in events if event.age_ms < period_ms)


def up_limit(current: int, history: History, rules: Rules) -> int:
    """The most that the policies allow now."""
    if rules.select_policy == "Disabled":
        return current
    proposals = []
    for policy in rules.policies:
        start = current - changed(history.up, policy.period_ms) + changed(history.down, policy.period_ms)
        proposals.append(start + policy.value if policy.type == "Pods" else math.ceil(start * (1 + policy.value / 100)))
    chosen = min(proposals, default=INT_MAX) if rules.select_policy == "Min" else max(proposals, default=current)
    return max(chosen, current)


def down_limit(current: int, history: History, rules: Rules) -> int:
    """The least that the policies allow now."""
    if rules.select_policy == "Disabled":
        return current
    proposals = []
    for policy in rules.policies:
        start = current - changed(history.up, policy.period_ms) + changed(history.down, policy.period_ms)
        proposals.append(start - policy.value if policy.type == "Pods" else int(start * (1 - policy.value / 100)))
    chosen = max(proposals, default=0) if rules.select_policy == "Min" else min(proposals, default=current)
    return min(chosen, current)


def limit_rate(current: int, desired: int, bounds: tuple[int, int], history: History, rules: tuple[Rules, Rules]) -> Limited:
    """The wish inside the bounds and the rate policies of its direction."""
    (low, high), (up, down) = bounds, rules
    if desired > current:
        ceiling = up_limit(current, history, up)
        allowed, reason = (ceiling, "ScaleUpLimit") if high > ceiling else (high, "TooManyReplicas")
        return Limited(allowed, reason) if desired > allowed else Limited(desired, WITHIN)
    if desired < current:
        floor = down_limit(current, history, down)
        allowed, reason = (floor, "ScaleDownLimit") if low < floor else (low, "TooFewReplicas")
        return Limited(allowed, reason) if desired < allowed else Limited(desired, WITHIN)
    return Limited(desired, WITHIN)


def limit_legacy(current: int, desired: int, bounds: tuple[int, int], *, factor: float = LEGACY_FACTOR, minimum: int = LEGACY_MINIMUM) -> Limited:
    """Without behaviour: bounds, and at most `factor` times the current number (or `minimum`) at once."""
    low, high = bounds
    ceiling = int(max(factor * current, minimum))
    allowed, reason = (ceiling, "ScaleUpLimit") if high > ceiling else (high, "TooManyReplicas")
    if desired < low:
        return Limited(low, "TooFewReplicas")
    return Limited(allowed, reason) if desired > allowed else Limited(desired, WITHIN)


def store_event(events: Sequence[Aged], change: int, longest_ms: int) -> list[Aged]:
    """The events after a change: it takes the place of one that is older than every period (the last such), else it is appended."""
    return remember(events, change, longest_ms)


# --- everything together -------------------------------------------------------------------------------------------------------------


def normalize(current: int, desired: int, bounds: tuple[int, int], history: History, rules: tuple[Rules, Rules]) -> Normalized:
    """One control step with behaviour: stabilize, then rates and bounds."""
    up, down = rules
    held = stabilize(current, desired, history.recommendations, up.window_ms, down.window_ms)
    limited = limit_rate(current, held.replicas, bounds, history, rules)
    able = held.reason or "ReadyForNewScale"
    return Normalized(limited.replicas, able, limited.replicas != held.replicas, limited.reason, held.replicas)


def normalize_legacy(
    current: int, desired: int, bounds: tuple[int, int], history: History, *, window_ms: int = DOWNSCALE_WINDOW_MS, factor: float = LEGACY_FACTOR
) -> Normalized:
    """One control step without behaviour."""
    held = stabilize_legacy(desired, history.recommendations, window_ms)
    limited = limit_legacy(current, held, bounds, factor=factor)
    able = "ReadyForNewScale" if held == desired else "ScaleDownStabilized"
    return Normalized(limited.replicas, able, limited.replicas != held, limited.reason, held)

"""How many replicas a metric asks for: the replica formulas of Kubernetes' horizontal pod autoscaler, as pure functions.

Guarantee: the same numbers as the HPA (v1.37) gives, in its integer units (thousandths). A metric that cannot be judged raises `Undecidable`: the
caller must not take that for "few". Bounds and rates are not applied here; see `hpa_behavior`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

MAX_REPLICAS: Final = 2**31 - 1
MAX_TOTAL: Final = 2**63 - 1


class Undecidable(ValueError):
    """The metric says nothing about how many replicas there should be."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far from 1 a ratio may be before anything changes."""

    down: float = 0.1
    up: float = 0.1

    def holds(self, ratio: float) -> bool:
        """Whether the ratio is close enough to 1."""
        return 1.0 - self.down <= ratio <= 1.0 + self.up


class Recommendation(NamedTuple):
    """What a metric asks for, with the usage it rests on (per replica, or utilization percent)."""

    replicas: int
    usage_milli: int
    utilization_percent: int | None = None


@dataclass(frozen=True, slots=True)
class Pod:
    """One instance as the formula sees it. Ages count back from now; `usage_milli` None: no sample."""

    name: str
    usage_milli: int | None = None
    request_milli: int | None = None
    phase: str = "Running"
    deleting: bool = False
    ready: bool | None = True  # the Ready condition; None: there is none
    ready_changed_age_s: float | None = None
    start_age_s: float | None = None
    sample_age_s: float | None = None
    sample_window_s: float = 0.0


class Grouped(NamedTuple):
    """Pods by what their sample is worth."""

    ready: int
    unready: frozenset[str]
    missing: frozenset[str]
    ignored: frozenset[str]


def group_pods(pods: Iterable[Pod], *, cpu: bool, cpu_initialization_s: float = 300.0, initial_readiness_delay_s: float = 30.0) -> Grouped:
    """Sort pods into ready, unready (sample does not count yet), missing (no sample) and ignored (going away)."""
    ready, unready, missing, ignored = 0, set(), set(), set()
    for pod in pods:
        if pod.deleting or pod.phase == "Failed":
            ignored.add(pod.name)
        elif pod.phase == "Pending":
            unready.add(pod.name)
        elif pod.usage_milli is None:
            missing.add(pod.name)
        elif cpu and _too_young(pod, cpu_initialization_s, initial_readiness_delay_s):
            unready.add(pod.name)
        else:
            ready += 1
    return Grouped(ready, frozenset(unready), frozenset(missing), frozenset(ignored))


def _too_young(pod: Pod, initialization_s: float, readiness_delay_s: float) -> bool:
    if pod.ready is None or pod.start_age_s is None:
        return True
    changed_age_s = math.inf if pod.ready_changed_age_s is None else pod.ready_changed_age_s
    if pod.start_age_s < initialization_s:
        sample_age_s = math.inf if pod.sample_age_s is None else pod.sample_age_s
        return not pod.ready or sample_age_s > changed_age_s - pod.sample_window_s
    return not pod.ready and pod.start_age_s - readiness_delay_s < changed_age_s


def ceil_replicas(value: float) -> int:
    """The next whole number of replicas, saturating."""
    return MAX_REPLICAS if value >= MAX_REPLICAS else math.ceil(value)


# --- per pod -------------------------------------------------------------------------------------------------------------------------


def resource_utilization(
    pods: Sequence[Pod], grouped: Grouped, current: int, target_percent: int, tolerance: Tolerance, extra: Mapping[str, int] | None = None
) -> Recommendation:
    """Replicas so that usage is `target_percent` of requests on average.

    Missing pods count as fully used when that prevents a scale-down and as idle when it prevents a scale-up; unready ones as idle on the way up.

    Raises:
        Undecidable: no usable sample, or a pod without a request.
    """
    if any(pod.request_milli is None for pod in pods):
        raise Undecidable("a pod has no request for this resource")
    requests = {pod.name: pod.request_milli or 0 for pod in pods}
    samples = _samples(pods, grouped, extra)
    ratio, percent, average = _utilization(samples, requests, target_percent)
    fallback = {name: requests[name] * max(100, target_percent) // 100 for name in grouped.missing}

    def again(filled: Mapping[str, int]) -> float:
        return _utilization(filled, requests, target_percent)[0]

    replicas = _replicas(samples, grouped, current, ratio, tolerance, fallback, again)
    return Recommendation(replicas, average, percent)


def pods_average(
    pods: Sequence[Pod], grouped: Grouped, current: int, target_milli: int, tolerance: Tolerance, extra: Mapping[str, int] | None = None
) -> Recommendation:
    """Replicas so that the average over pods is `target_milli`.

    Raises:
        Undecidable: no usable sample.
    """
    samples = _samples(pods, grouped, extra)

    def ratio_of(values: Mapping[str, int]) -> float:
        return sum(values.values()) // len(values) / target_milli

    usage = sum(samples.values()) // len(samples)
    fallback = dict.fromkeys(grouped.missing, target_milli)
    replicas = _replicas(samples, grouped, current, ratio_of(samples), tolerance, fallback, ratio_of)
    return Recommendation(replicas, usage)


def _samples(pods: Sequence[Pod], grouped: Grouped, extra: Mapping[str, int] | None) -> dict[str, int]:
    if not pods:
        raise Undecidable("there are no pods")
    samples = {pod.name: pod.usage_milli for pod in pods if pod.usage_milli is not None} | dict(extra or {})
    samples = {name: value for name, value in samples.items() if name not in grouped.ignored and name not in grouped.unready}
    if not samples:
        raise Undecidable("no pod has a sample that counts")
    return samples


def _utilization(samples: Mapping[str, int], requests: Mapping[str, int], target_percent: int) -> tuple[float, int, int]:
    known = [name for name in samples if name in requests]
    requested = sum(requests[name] for name in known)
    if not requested:
        raise Undecidable("no sample belongs to a known pod")
    used = sum(samples[name] for name in known)
    percent = used * 100 // requested
    return percent / target_percent, percent, used // len(known)


def _replicas(
    samples: dict[str, int],
    grouped: Grouped,
    current: int,
    ratio: float,
    tolerance: Tolerance,
    fallback: Mapping[str, int],
    again: Callable[[Mapping[str, int]], float],
) -> int:
    counting_unready = bool(grouped.unready) and ratio > 1.0
    if not counting_unready and not grouped.missing:
        return current if tolerance.holds(ratio) else ceil_replicas(ratio * grouped.ready)
    filled = dict(samples)
    if ratio < 1.0:
        filled |= fallback
    elif ratio > 1.0:
        filled |= dict.fromkeys(grouped.missing, 0)
    if counting_unready:
        filled |= dict.fromkeys(grouped.unready, 0)
    new_ratio = again(filled)
    if tolerance.holds(new_ratio) or (ratio < 1.0 < new_ratio) or (new_ratio < 1.0 < ratio):
        return current
    replicas = ceil_replicas(new_ratio * len(filled))
    turned = (new_ratio < 1.0 and replicas > current) or (new_ratio > 1.0 and replicas < current)
    return current if turned else replicas


# --- one number for the whole workload -----------------------------------------------------------------------------------------------


def ready_count(pods: Iterable[Pod]) -> int:
    """Pods that run and say that they are ready."""
    return sum(1 for pod in pods if pod.phase == "Running" and pod.ready)


def total_value(usage: float, target: float, current: int, ready: int, tolerance: Tolerance) -> int:
    """Replicas so that a total that grows with load comes to `target`; `ready` replicas carry it now."""
    ratio = usage / target
    if current == 0:
        return ceil_replicas(ratio)
    return current if tolerance.holds(ratio) else ceil_replicas(ratio * ready)


def average_value(usage: float, target: float, current: int, tolerance: Tolerance) -> int:
    """Replicas so that each carries `target` of a total."""
    if current and tolerance.holds(usage / (target * current)):
        return current
    return ceil_replicas(usage / target)


def saturating_sum(values: Iterable[int]) -> int:
    """A sum of series that cannot overflow."""
    return min(sum(values), MAX_TOTAL)

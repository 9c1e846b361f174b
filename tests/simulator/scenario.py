"""What happens in one run: everything that is drawn from the seed, and nothing that depends on what the engine does.

Times are ms since the start of the run. A scenario is a base (sites, replicas, load), one main fault, up to two twists, and a policy variant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import ceil
from random import Random

FAULTS = (
    "bad_version", "bad_version", "bad_version", "partly_bad", "flapping_version", "blip", "all_versions",
    "slow_site", "slow_site", "dead_site", "dead_node", "surge", "surge", "spike", "flapping_site", "nothing",
)  # fmt: skip
TWISTS = (
    "late_metrics", "missing_metrics", "frozen_demand", "partial_demand", "false_errors", "false_slow", "false_health", "noisy_errors",
    "outcome_lost", "outcome_doubled", "outcome_late", "outcome_stale",
    "connector_temporary", "connector_unknown_before", "connector_unknown_after", "connector_late", "connector_hangs", "connector_blind",
    "operator_weights", "operator_replicas", "clock_forward", "clock_back", "restart", "restart", "restart_long", "second_fault",
)  # fmt: skip
VARIANTS = ("standard", "standard", "standard", "standard", "wrong_restart", "wrong_scale", "wrong_weights", "half_shift")
LYING = frozenset({"frozen_demand"})  # a single witness that lies cannot be told from a truthful one
CURABLE = frozenset({"bad_version", "slow_site", "dead_site", "surge"})
HARMLESS_TWISTS = frozenset({"outcome_doubled", "outcome_stale", "restart", "noisy_errors"})


@dataclass(frozen=True)
class Span:
    """A stretch of time with a number to it."""

    from_ms: int
    to_ms: int
    value: float = 1.0

    def holds(self, at_ms: float) -> bool:
        return self.from_ms <= at_ms < self.to_ms


@dataclass(frozen=True)
class Happening:
    """Something that happens once: what, to whom, with which number."""

    at_ms: int
    what: str
    subject: str = ""
    value: float = 0.0


@dataclass(frozen=True)
class Scenario:
    """All that a run needs. Spans of one kind may overlap; the strongest counts."""

    seed: int
    length_ms: int
    rate: float
    least: int  # replicas below which nothing may go: what the service runs with, or 1 where load never rises and removing is the matter
    replicas: dict[str, int]
    canary_percent: int
    start_ms: int  # how long a replica takes to be ready
    waits_ready: bool  # whether the connector answers only when what it started is ready
    apply_ms: int
    scrape_ms: int
    variant: str
    fault: str
    twists: tuple[str, ...] = ()
    load: tuple[Span, ...] = ()  # factors on the rate
    errors: dict[str, tuple[Span, ...]] = field(default_factory=dict)  # version or "*" -> ratio
    slow: dict[str, tuple[Span, ...]] = field(default_factory=dict)  # site -> factor on service time
    dead: dict[str, tuple[Span, ...]] = field(default_factory=dict)  # pool -> replicas that are down (999: all of the site)
    metrics: dict[str, tuple[Span, ...]] = field(default_factory=dict)  # "late:proxy", "missing:services", "frozen:services", "false_errors", ...
    connector: dict[str, tuple[Span, ...]] = field(default_factory=dict)  # kind of trouble -> probability
    outcomes: dict[str, tuple[Span, ...]] = field(default_factory=dict)  # lost | doubled | late | stale -> probability or ms
    happenings: tuple[Happening, ...] = ()

    @property
    def curable(self) -> bool:
        """Whether the policies can heal it and nothing that blinds or binds the engine is in the way."""
        return self.fault in CURABLE and HARMLESS_TWISTS.issuperset(self.twists) and self.variant in {"standard", "half_shift"}


def scenario(seed: int) -> Scenario:
    """The scenario of a seed."""
    rng = Random(seed * 7919 + 17)
    rate = rng.choice((60.0, 100.0, 120.0, 150.0, 200.0))
    percent = rng.choice((10, 20, 20, 40, 50))
    needed = max(1, round(rate / 60))
    made = Scenario(
        seed=seed,
        length_ms=60_000,
        rate=rate,
        least=1,
        replicas={"a": min(6, needed + rng.randint(0, 1)), "canary": ceil(rate * percent / 6000) + rng.randint(0, 1), "b": rng.randint(1, 3)},
        canary_percent=percent,
        start_ms=rng.choice((500, 1500, 4000, 8000)),
        waits_ready=rng.random() < 0.5,
        apply_ms=rng.choice((5, 30, 150)),
        scrape_ms=rng.choice((500, 1000)),
        variant=rng.choice(VARIANTS),
        fault=rng.choice(FAULTS),
    )
    begin = rng.randint(9000, 16_000)
    made = FAULT_MAKERS[made.fault](rng, made, begin)
    for _ in range(rng.choice((0, 1, 1, 2))):
        twist = rng.choice(TWISTS)
        if twist not in made.twists:
            made = TWIST_MAKERS[twist](rng, replace(made, twists=(*made.twists, twist)), rng.randint(7000, 35_000))
    steady = not made.load and not LYING.intersection(made.twists)
    return made if steady and rng.random() < 0.3 else replace(made, least=made.replicas["a"])


def _with(made: Scenario, name: str, key: str, *spans: Span) -> Scenario:
    table = dict(getattr(made, name))
    table[key] = (*table.get(key, ()), *spans)
    return replace(made, **{name: table})


# --- faults --------------------------------------------------------------------------------------------------------------------------


def _bad_version(rng: Random, made: Scenario, at: int) -> Scenario:
    return _with(made, "errors", "v2", Span(at, made.length_ms, rng.choice((0.2, 0.5, 1.0, 1.0))))


def _partly_bad(rng: Random, made: Scenario, at: int) -> Scenario:
    return _with(made, "errors", "v2", Span(at, made.length_ms, rng.choice((0.04, 0.06, 0.08))))


def _flapping_version(rng: Random, made: Scenario, at: int) -> Scenario:
    half = rng.choice((2000, 4000, 7000))
    spans = [Span(start, start + half, rng.choice((0.3, 1.0))) for start in range(at, 48_000, 2 * half)]
    return _with(made, "errors", "v2", *spans)


def _blip(rng: Random, made: Scenario, at: int) -> Scenario:
    return _with(made, "errors", "v2", Span(at, at + rng.randint(1000, 8000), rng.choice((0.3, 1.0))))


def _all_versions(rng: Random, made: Scenario, at: int) -> Scenario:
    return _with(made, "errors", "*", Span(at, at + rng.randint(10_000, 40_000), rng.choice((0.1, 0.5, 0.9))))


def _slow_site(rng: Random, made: Scenario, at: int) -> Scenario:
    return _with(made, "slow", rng.choice("aaab"), Span(at, at + rng.randint(15_000, 40_000), rng.choice((4.0, 8.0, 15.0))))


def _flapping_site(rng: Random, made: Scenario, at: int) -> Scenario:
    half = rng.choice((3000, 6000))
    return _with(made, "slow", "a", *(Span(start, start + half, 8.0) for start in range(at, 48_000, 2 * half)))


def _dead_site(rng: Random, made: Scenario, at: int) -> Scenario:
    end = at + rng.randint(15_000, 40_000)
    for pool in ("a", "canary"):
        made = _with(made, "dead", pool, Span(at, end, 999))
    return made


def _dead_node(rng: Random, made: Scenario, at: int) -> Scenario:
    return _with(made, "dead", rng.choice(("a", "a", "canary", "b")), Span(at, at + rng.randint(8000, 40_000), 1))


def _surge(rng: Random, made: Scenario, at: int) -> Scenario:
    factor = min(rng.choice((1.8, 2.5, 3.0)), 400 / made.rate)
    return replace(made, load=(*made.load, Span(at, at + rng.randint(15_000, 40_000), factor)))


def _spike(rng: Random, made: Scenario, at: int) -> Scenario:
    spans = [Span(start, start + rng.randint(2000, 6000), rng.choice((2.0, 3.0))) for start in range(at, 48_000, rng.choice((10_000, 16_000)))]
    return replace(made, load=(*made.load, *spans))


def _nothing(rng: Random, made: Scenario, at: int) -> Scenario:
    return made


FAULT_MAKERS: dict[str, Callable[[Random, Scenario, int], Scenario]] = {
    "bad_version": _bad_version,
    "partly_bad": _partly_bad,
    "flapping_version": _flapping_version,
    "blip": _blip,
    "all_versions": _all_versions,
    "slow_site": _slow_site,
    "flapping_site": _flapping_site,
    "dead_site": _dead_site,
    "dead_node": _dead_node,
    "surge": _surge,
    "spike": _spike,
    "nothing": _nothing,
}

# --- twists --------------------------------------------------------------------------------------------------------------------------


def _metrics(key: Callable[[Random], str], value: Callable[[Random], float] = lambda rng: 1.0):
    def make(rng: Random, made: Scenario, at: int) -> Scenario:
        return _with(made, "metrics", key(rng), Span(at, at + rng.randint(4000, 30_000), value(rng)))

    return make


def _trouble(table: str, key: str, *values: float):
    def make(rng: Random, made: Scenario, at: int) -> Scenario:
        return _with(made, table, key, Span(rng.choice((0, at)), made.length_ms, rng.choice(values)))

    return make


def _happens(what: str, subject: Callable[[Random], str] = lambda rng: "", value: Callable[[Random], float] = lambda rng: 0.0):
    def make(rng: Random, made: Scenario, at: int) -> Scenario:
        return replace(made, happenings=(*made.happenings, Happening(at, what, subject(rng), value(rng))))

    return make


def _second_fault(rng: Random, made: Scenario, at: int) -> Scenario:
    return FAULT_MAKERS[rng.choice([fault for fault in FAULTS if fault != made.fault])](rng, made, at)


SOURCES = ("proxy", "services", "probes")
TWIST_MAKERS: dict[str, Callable[[Random, Scenario, int], Scenario]] = {
    "late_metrics": _metrics(lambda rng: f"late:{rng.choice(SOURCES)}", lambda rng: rng.choice((800, 2500, 6000))),
    "missing_metrics": _metrics(lambda rng: f"missing:{rng.choice(SOURCES)}"),
    "frozen_demand": _metrics(lambda rng: "frozen:services"),
    "partial_demand": _metrics(lambda rng: f"partial:{rng.choice('ab')}"),
    "false_errors": _metrics(lambda rng: f"errors:{rng.choice(('v1', 'v2'))}", lambda rng: rng.choice((0.1, 0.5, 1.0))),
    "false_slow": _metrics(lambda rng: f"slow:{rng.choice('ab')}"),
    "false_health": _metrics(lambda rng: f"{rng.choice(('healthy', 'sick'))}:{rng.choice('ab')}"),
    "noisy_errors": _metrics(lambda rng: "noise", lambda rng: rng.choice((0.04, 0.08))),
    "outcome_lost": _trouble("outcomes", "lost", 0.5, 1.0),
    "outcome_doubled": _trouble("outcomes", "doubled", 1.0),
    "outcome_late": _trouble("outcomes", "late", 3000, 20_000),
    "outcome_stale": _trouble("outcomes", "stale", 1.0),
    "connector_temporary": _trouble("connector", "temporary", 0.5, 1.0),
    "connector_unknown_before": _trouble("connector", "unknown_before", 0.5, 1.0),
    "connector_unknown_after": _trouble("connector", "unknown_after", 0.5, 1.0),
    "connector_late": _trouble("connector", "late", 3000, 8000),
    "connector_hangs": _trouble("connector", "hangs", 0.5, 1.0),
    "connector_blind": _trouble("connector", "blind", 0.5, 1.0),
    "operator_weights": _happens("weights", value=lambda rng: rng.choice((0, 30, 60))),
    "operator_replicas": _happens("replicas", lambda rng: rng.choice(("a", "b")), lambda rng: rng.choice((3, 5, 6))),
    "clock_forward": _happens("clock", value=lambda rng: rng.choice((2000, 15_000, 90_000))),
    "clock_back": _happens("clock", value=lambda rng: -rng.choice((1500, 5000, 60_000))),
    "restart": _happens("restart", value=lambda rng: rng.choice((300, 1500))),
    "restart_long": _happens("restart", value=lambda rng: rng.choice((8000, 20_000))),
    "second_fault": _second_fault,
}

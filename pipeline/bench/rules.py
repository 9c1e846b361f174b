"""How fast rules are: storing decoded batches, evaluating a mix of rules, one large aggregation, memory of an idle series, and what rule files cost.

Everything is measured on the store and graph that the detector uses, in this process. Times are CPU times of one core.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final

from pipeline.model.labels import Labels
from pipeline.promql import Compiled, Graph, PromQLError, compile_expr
from pipeline.series import SeriesStore

START_MS: Final = 1_700_000_000_000
SCRAPE_MS: Final = 15_000
_BATCH: Final = 500
_METRICS: Final = 20
_COUNTERS: Final = (
    "sum by (service) (rate({m}[{w}])) > 100",
    'sum by (service) (rate({m}{{code=~"5.."}}[{w}])) / sum by (service) (rate({m}[{w}])) > 0.05',
    "increase({m}[{w}]) > 100000",
    "histogram_quantile(0.99, sum by (service, le) (rate({m}[{w}]))) > 1",
    'absent({m}{{service="nowhere"}})',
)
_GAUGES: Final = (
    "avg_over_time({m}[{w}]) > 0.9",
    "max_over_time({m}[{w}]) > 0.9999",
    "{m} > on (service) group_left () (3 * avg by (service) ({m}))",
    "count by (service) ({m} > 0.9) / count by (service) ({m}) > 0.5 and on (service) max by (service) ({m}) > 0.9",
    "changes({m}[{w}]) > 1000 unless min_over_time({m}[{w}]) < 0.1",
)
_RARE: Final = "stddev_over_time({m}[{w}]) > 1"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    series: int = 10_000
    rules: int = 100
    other_rules: int = 2_000
    rounds: int = 20


@dataclass(slots=True)
class Figures:
    """What was measured. `rounds`: by setting, what storing and evaluating one scrape of all series took."""

    rounds: dict[str, dict[str, float]] = field(default_factory=dict)
    full_ms: dict[str, float] = field(default_factory=dict)
    memory_bytes: dict[str, float] = field(default_factory=dict)
    files: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def measure(plan: Plan, expressions: Sequence[str] = ()) -> Figures:
    """Measure everything; `expressions` are those of rule files, if any."""
    figures = Figures()
    for name, window, others in (
        ("window 1m", "1m", 0),
        ("window 5m", "5m", 0),
        ("window 1h", "1h", 0),
        ("window 5m, other rules", "5m", plan.other_rules),
    ):
        figures.rounds[name] = _rounds(plan, window, others)
    figures.full_ms = _full(plan.series)
    figures.memory_bytes = _memory(plan.series)
    if expressions:
        figures.files = _files(expressions)
    return figures


def _labels(count: int) -> list[Labels]:
    """Series of counters (also with `le`) and gauges, spread over the metrics."""
    found = []
    for number in range(count):
        metric, instance = number % _METRICS, number // _METRICS
        name = f"requests_{metric}_total" if metric % 2 == 0 else f"usage_{metric}_ratio"
        code = "500" if instance % 7 == 0 else "200"
        found.append(
            Labels.of(__name__=name, service=f"service-{instance % 50}", instance=f"10.0.0.{instance}:9100", code=code, le=_BOUNDS[instance % 4])
        )
    return sorted(found, key=lambda labels: labels["instance"])


_BOUNDS: Final = ("0.1", "0.5", "1", "+Inf")


def rules(count: int, window: str, prefix: str = "") -> Iterator[str]:
    """A mix of rules over the metrics; `prefix` makes them about metrics that nobody sends."""
    for number in range(count):
        metric = number % _METRICS
        shapes = _COUNTERS if metric % 2 == 0 else _GAUGES
        name = f"{prefix}requests_{metric}_total" if metric % 2 == 0 else f"{prefix}usage_{metric}_ratio"
        shape = _RARE if number == _METRICS - 1 else shapes[number // _METRICS % len(shapes)]
        yield shape.format(m=name, w=window)


class _Feed:
    """Scrapes of all series, one after the other: counters rise by whole numbers, gauges wander by fractions."""

    def __init__(self, labels: list[Labels]) -> None:
        self._labels = labels
        self._scrape = 0

    def batches(self) -> tuple[int, list[tuple[list[Labels], list[int], list[float]]]]:
        """The next scrape: its instant and its decoded batches."""
        self._scrape += 1
        at_ms, scrape = START_MS + self._scrape * SCRAPE_MS, self._scrape
        values = [
            float(scrape * (place % 97)) if "requests" in labels.metric_name else ((place * 31 + scrape * 17) % 1000) / 1000
            for place, labels in enumerate(self._labels)
        ]
        starts = range(0, len(values), _BATCH)
        return at_ms, [(self._labels[at : at + _BATCH], [at_ms] * len(values[at : at + _BATCH]), values[at : at + _BATCH]) for at in starts]


def _rounds(plan: Plan, window: str, others: int) -> dict[str, float]:
    """Fill the window, then measure rounds of one scrape and one evaluation of all rules."""
    store, graph, feed = SeriesStore(), Graph(), _Feed(_labels(plan.series))
    compiled = [compile_expr(text, graph=graph) for text in (*rules(plan.rules, window), *rules(others, window, "other_"))]
    kept_ms = max(one.lookback_ms for one in compiled) + 30_000
    for _ in range(kept_ms // SCRAPE_MS + 2):
        at_ms, batches = feed.batches()
        for batch in batches:
            store.extend(*batch)
        store.evict(at_ms - kept_ms)
    own, rest = compiled[: plan.rules], compiled[plan.rules :]
    storing, evaluating, idle = [], [], []
    for number in range(plan.rounds + 2):
        at_ms, batches = feed.batches()
        begun = time.process_time()
        for batch in batches:
            store.extend(*batch)
        store.evict(at_ms - kept_ms)
        stored = time.process_time()
        _evaluate(own, store, at_ms)
        evaluated = time.process_time()
        _evaluate(rest, store, at_ms)
        if number > 1:  # the first rounds build what is kept
            storing.append(stored - begun)
            evaluating.append(evaluated - stored)
            idle.append(time.process_time() - evaluated)
    store_s, evaluate_s = sum(storing) / plan.rounds, sum(evaluating) / plan.rounds
    return {
        "rules": len(compiled),
        "stored_samples_per_s": round(plan.series / store_s),
        "samples_per_s_with_evaluation": round(plan.series / (store_s + evaluate_s)),
        "store_us_per_sample": round(store_s / plan.series * 1e6, 3),
        "evaluate_rules_ms": round(evaluate_s * 1000, 2),
        "evaluate_other_rules_ms": round(sum(idle) / plan.rounds * 1000, 2) if rest else 0.0,
    }


def _evaluate(compiled: Sequence[Compiled], store: SeriesStore, at_ms: int) -> None:
    for one in compiled:
        one.eval(store, at_ms)


def _full(count: int) -> dict[str, float]:
    """`sum by (service) (rate(m[5m]))` over all series: median of single evaluations, each at another instant."""
    store = SeriesStore()
    labels = [Labels.of(__name__="m_total", service=f"service-{number % 100}", instance=f"i-{number}") for number in range(count)]
    for scrape in range(22):
        store.extend(labels, [START_MS + scrape * SCRAPE_MS] * count, [scrape * (number % 97) * 0.1 for number in range(count)])
    compiled = compile_expr("sum by (service) (rate(m_total[5m]))", graph=Graph())
    return {
        "graph": _median_ms(lambda number: compiled.eval(store, START_MS + 21 * SCRAPE_MS + number), 20),
        "evaluator": _median_ms(lambda number: compiled.evaluate(store, START_MS + 21 * SCRAPE_MS + number), 5),
    }


def _median_ms(action: Any, times: int) -> float:
    taken = []
    for number in range(times + 1):
        begun = time.process_time()
        action(number)
        taken.append(time.process_time() - begun)
    return round(median(taken[1:]) * 1000, 3)


def _memory(count: int) -> dict[str, float]:
    """Bytes per series that holds the samples of one 5 m window at 15 s and is read by one rule; with its label set, and without."""
    gc.collect()
    tracemalloc.start()
    labels = [Labels.of(__name__="m_total", service=f"service-{number % 100}", instance=f"i-{number}", job="j") for number in range(count)]
    of_labels = tracemalloc.get_traced_memory()[0]
    store = SeriesStore()
    for scrape in range(40):
        at_ms = START_MS + scrape * SCRAPE_MS
        store.extend(labels, [at_ms] * count, [float(scrape)] * count)
        store.evict(at_ms - 300_000)
    gc.collect()
    of_store = tracemalloc.get_traced_memory()[0] - of_labels
    compiled = compile_expr("rate(m_total[5m]) > 1", graph=Graph())
    compiled.eval(store, START_MS + 39 * SCRAPE_MS)
    gc.collect()
    whole = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return {
        "label_set": round(of_labels / count),
        "samples_and_look_up": round(of_store / count),
        "one_rule": round((whole - of_labels - of_store) / count),
        "total": round(whole / count),
    }


def _files(expressions: Sequence[str]) -> dict[str, Any]:
    """Compile the expressions of rule files: time, and how many are incremental."""
    graph, compiled, refused = Graph(), [], 0
    begun = time.process_time()
    for text in expressions:
        try:
            compiled.append(compile_expr(text, graph=graph))
        except PromQLError:
            refused += 1
    taken = time.process_time() - begun
    reasons: dict[str, int] = {}
    for one in compiled:
        if not one.incremental:
            reasons[one.cost.reason] = reasons.get(one.cost.reason, 0) + 1
    return {
        "expressions": len(expressions),
        "refused": refused,
        "compile_s": round(taken, 3),
        "incremental_percent": round(100 * (1 - sum(reasons.values()) / max(len(compiled), 1)), 2),
        "fallback_reasons": dict(sorted(reasons.items(), key=lambda item: -item[1])),
    }

"""`Telemetry`: the pipeline's own metrics, in a registry of its own. Names are `pipeline_<noun>_<unit>[_total]` and are part of the public surface.

Guarantee: no label takes more than `MAX_VALUES` values (the rest counts as `other`), so that input cannot blow up our own /metrics.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from pipeline.ports.clock import Clock

MAX_VALUES: Final = 200
FAST: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_PLACE: Final = re.compile(r"^(?:(?:line|element|alert) \d+: )+")
_CREATED: Final = re.compile(rb"(?:# (?:HELP|TYPE) )?pipeline_\w+_created[ {]")
_VARYING: Final = re.compile(r"\d+|'[^']*'?|\"[^\"]*\"?")
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Telemetry:
    """Typed methods for everything that is counted. Cheap enough for every batch; hot loops call with sums, not per signal."""

    def __init__(self, registry: CollectorRegistry | None = None, *, version: str = "") -> None:
        self.registry = registry or CollectorRegistry()
        self._seen: dict[str, set[str]] = {}
        self._input_metrics()
        self._core_metrics()
        self._edge_metrics()
        self._gauge("pipeline_build_info", "Version of this process.", ("version",)).labels(version).set(1)

    def _input_metrics(self) -> None:
        self._signals = self._counter("pipeline_signals_total", "Signals decoded.", ("input", "kind"))
        self._late = self._counter("pipeline_signals_late_total", "Signals dropped because they came too late.", ("input",))
        self._dead = self._counter("pipeline_dead_letters_total", "Records sent to the dead letters.", ("input", "reason"))
        self._lag = self._gauge("pipeline_input_lag_records", "Records not read yet.", ("input", "partition"))
        self._behind = self._gauge("pipeline_watermark_lag_seconds", "Now minus the newest event time.", ("input",))
        self._skew = self._gauge("pipeline_source_skew_seconds", "Newest event time minus the broker's time of that record.", ("input",))

    def _core_metrics(self) -> None:
        self._series = self._gauge("pipeline_series", "Series held in memory.", ())
        self._evaluations = self._counter("pipeline_evaluations_total", "Rule evaluations.", ("track",))
        self._evaluating = self._counter("pipeline_evaluation_seconds_total", "Time spent evaluating rules.", ())
        self._facts = self._counter("pipeline_facts_total", "Facts.", ("type", "state"))
        self._decisions = self._counter("pipeline_decisions_total", "Decisions.", ("verdict", "reason"))
        self._actions = self._counter("pipeline_actions_total", "Actions by how they ended.", ("verb", "outcome"))
        self._findings = self._counter("pipeline_findings_total", "Security findings.", ("level",))
        self._reaction = self._histogram("pipeline_reaction_seconds", "From one step of the way to the next.", ("stage",))
        self._incidents = self._gauge("pipeline_incidents", "Incidents by state.", ("state",))
        self._paused = self._gauge("pipeline_paused", "1 while the kill switch holds everything back.", ())

    def _edge_metrics(self) -> None:
        self._calls = self._histogram("pipeline_connector_call_seconds", "Calls of connectors.", ("connector", "call", "result"))
        self._writes = self._counter("pipeline_store_documents_total", "Documents given to the record store.", ("kind", "result"))
        self._writing = self._histogram("pipeline_store_write_seconds", "One bulk write, retries included.", ())
        self._requests = self._histogram("pipeline_gateway_request_seconds", "Requests to the gateway.", ("path", "code"))
        self._reloads = self._counter("pipeline_reloads_total", "Loads of the rule book.", ("result",))
        self._rules = self._gauge("pipeline_rules", "Rules in force.", ("kind",))

    # --- in -------------------------------------------------------------------------------------------------------------------------

    def signals(self, source: str, *, samples: int = 0, logs: int = 0, events: int = 0) -> None:
        """Count decoded signals of one input."""
        for kind, count in (("sample", samples), ("log", logs), ("event", events)):
            if count:
                self._signals.labels(self._value("input", source), kind).inc(count)

    def late(self, source: str, count: int = 1) -> None:
        """Count signals dropped as too late."""
        self._late.labels(self._value("input", source)).inc(count)

    def dead_letter(self, source: str, reason: str) -> None:
        """Count one dead letter by a short form of its reason: without place, numbers and quotations."""
        short = _VARYING.sub("N", _PLACE.sub("", reason).partition(":")[0])[:60].strip()
        self._dead.labels(self._value("input", source), self._value("dead_reason", short)).inc()

    def lag(self, source: str, partition: int, records: int) -> None:
        """How many records of a partition are unread."""
        self._lag.labels(self._value("input", source), str(partition)).set(records)

    def watermark(self, source: str, *, behind_ms: int, skew_ms: int = 0) -> None:
        """How old the newest event time is, and how far it is from the broker's time."""
        self._behind.labels(self._value("input", source)).set(behind_ms / 1000)
        self._skew.labels(self._value("input", source)).set(skew_ms / 1000)

    # --- core -----------------------------------------------------------------------------------------------------------------------

    def evaluations(self, track: str, count: int, *, seconds: float = 0.0) -> None:
        """Count rule evaluations of a track (grid, early, sigma) and the time they took."""
        self._evaluations.labels(track).inc(count)
        if seconds > 0:
            self._evaluating.inc(seconds)

    def series(self, count: int) -> None:
        """How many series are held."""
        self._series.set(count)

    def fact(self, kind: str, state: str) -> None:
        """Count one fact."""
        self._facts.labels(kind, state).inc()

    def decision(self, verdict: str, reason: str) -> None:
        """Count one decision."""
        self._decisions.labels(verdict, reason).inc()

    def action(self, verb: str, outcome: str) -> None:
        """Count one action's end."""
        self._actions.labels(verb, outcome).inc()

    def finding(self, level: str) -> None:
        """Count one security finding."""
        self._findings.labels(self._value("level", level)).inc()

    def reaction(self, stage: str, duration_ms: float) -> None:
        """One step of the way: cause_to_firing, firing_to_applied, cause_to_applied, applied_to_verified."""
        self._reaction.labels(stage).observe(max(0.0, duration_ms) / 1000)

    def incidents(self, state: str, count: int) -> None:
        """How many incidents are in a state."""
        self._incidents.labels(state).set(count)

    def paused(self, paused: bool) -> None:
        """Whether the kill switch is on."""
        self._paused.set(1 if paused else 0)

    # --- edges ----------------------------------------------------------------------------------------------------------------------

    def connector_call(self, connector: str, call: str, result: str, seconds: float) -> None:
        """One call of a connector: `result` is ok, or the error's class name."""
        self._calls.labels(self._value("connector", connector), call, result).observe(seconds)

    @contextmanager
    def timed_call(self, connector: str, call: str, clock: Clock) -> Iterator[None]:
        """Measure the block as a connector's call; an exception is counted by its class and goes on."""
        started_ms, result = clock.now_ms(), "ok"
        try:
            yield
        except Exception as error:
            result = type(error).__name__
            raise
        finally:
            self.connector_call(connector, call, result, (clock.now_ms() - started_ms) / 1000)

    def store_write(self, kind: str, *, written: int, rejected: int = 0) -> None:
        """Count documents of one kind in one write."""
        if written:
            self._writes.labels(kind, "written").inc(written)
        if rejected:
            self._writes.labels(kind, "rejected").inc(rejected)

    def store_wrote(self, seconds: float) -> None:
        """How long one bulk write took."""
        self._writing.observe(seconds)

    def gateway_request(self, path: str, code: int, seconds: float) -> None:
        """One request; `path` is the route's pattern, never the client's text."""
        self._requests.labels(path, str(code)).observe(seconds)

    def reload(self, result: str, **rules: int) -> None:
        """One load of the rule book (ok, refused), and how many rules of each kind are in force."""
        self._reloads.labels(result).inc()
        for kind, count in rules.items():
            self._rules.labels(kind).set(count)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes, without the client's `_created` series: they double the count and say nothing here."""
        lines = generate_latest(self.registry).splitlines(keepends=True)
        return b"".join(line for line in lines if not _CREATED.match(line))

    # --- inside ---------------------------------------------------------------------------------------------------------------------

    def _value(self, label: str, value: str) -> str:
        seen = self._seen.setdefault(label, set())
        if value in seen or len(seen) < MAX_VALUES:
            seen.add(value)
            return value
        return "other"

    def _counter(self, name: str, text: str, labels: Sequence[str]) -> Any:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Sequence[str]) -> Any:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, labels: Sequence[str]) -> Any:
        return Histogram(name, text, labels, registry=self.registry, buckets=FAST)

"""`Engine`: evaluates rules over the store and turns what changed into facts.

Guarantees: the grid writes what Prometheus would write (ALERTS, ALERTS_FOR_STATE, recorded series, stale markers where one vanished), visible to the
rules after it; the early track writes nothing. A rule that fails keeps its alerts, and says so once per kind of failure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pipeline.detect.facts import Detected, DetectOptions, Origin, Rejection, alert_of, fact_of
from pipeline.detect.gotmpl import Scope
from pipeline.detect.intake import Intake
from pipeline.detect.lives import Life
from pipeline.detect.programs import ALERTNAME, AlertProgram, RecordProgram, rows_of
from pipeline.detect.ruleset import Chain, GroupPrograms
from pipeline.model.labels import METRIC_NAME, Labels
from pipeline.model.records import Alert, AlertState, Ending
from pipeline.promql import Compiled, EvalError, PromQLError, Row, compile_expr
from pipeline.series import STALE_NAN

_MAX_COMPILED = 1000


class Engine:
    """Evaluation of one rule book over one store."""

    def __init__(self, intake: Intake, options: DetectOptions, *, group_of: Callable[[Labels], str]) -> None:
        self._store = intake.store
        self._options = options
        self._newest_ms: Mapping[str, int] = intake.newest_ms
        self._counts = intake.counts
        self.started_ms = 0  # when the windows began to fill; 0: long ago
        self._group_of = group_of
        self._failures: dict[str, Rejection] = {}
        self._queries: dict[str, Compiled] = {}

    @property
    def failures(self) -> Mapping[str, Rejection]:
        """Rules whose last evaluation failed, by rule id; `count` is how often it failed in a row."""
        return self._failures

    def remember(self, failures: Sequence[Rejection]) -> None:
        """Failures of a stored state: they were told."""
        self._failures = {failure.rule_id: failure for failure in failures}

    def tick(self, group: GroupPrograms, at_ms: int) -> list[Detected]:
        """Evaluate a group at a grid tick, in order."""
        out: list[Detected] = []
        read_ms = at_ms - group.group.query_offset_ms
        self._counts.grid_evaluations += len(group.programs)
        for program in group.programs:
            try:
                if isinstance(program, AlertProgram):
                    self._alert(program, at_ms, read_ms, out)
                else:
                    self._record(program, read_ms)
                self._failures.pop(program.rule.rule_id, None)
            except PromQLError as error:
                out += self._failed(program, error, at_ms)
        return out

    def early(self, program: AlertProgram, chain: Chain, at_ms: int) -> list[Detected]:
        """Evaluate one rule at an event time between ticks."""
        self._counts.early_evaluations += 1
        try:
            view = chain.over(self._store, at_ms)
            held = program.held(view, at_ms, self.scope(at_ms))
        except PromQLError as error:
            return self._failed(program, error, at_ms)
        if not held and not program.lives.by_labels:
            return []
        lives = program.lives.on_early(at_ms, held, warming=lambda life: program.is_warming(life, view, at_ms, started_ms=self.started_ms))
        return [self.fact(program, life, at_ms, at_ms) for life in lives]

    def end(self, program: AlertProgram, at_ms: int, ending: Ending) -> list[Detected]:
        """End all alerts of a rule."""
        return [self.fact(program, life, at_ms, self._caused_ms(program, at_ms)) for life in program.lives.end_all(at_ms, ending)]

    def fact(self, program: AlertProgram, life: Life, at_ms: int, caused_at_ms: int) -> Detected:
        """The fact about a life as it is."""
        return fact_of(self.alert(program, life), group=self._group_of(life.labels), at_ms=at_ms, caused_at_ms=caused_at_ms)

    def alert(self, program: AlertProgram, life: Life) -> Alert:
        """A life as others see it."""
        return alert_of(program.origin, life, program.annotations_of(life, self.scope(life.held_at_ms)))

    def end_orphan(self, rule_id: str, lives: Sequence[Life], at_ms: int, version: str) -> list[Detected]:
        """End the lives of a rule that is gone; its annotations went with it."""
        out: list[Detected] = []
        for life in lives:
            if life.said is None:
                continue
            life.state, life.resolved_at_ms, life.ended, life.revision = AlertState.RESOLVED, at_ms, Ending.BY_RULE_CHANGE, life.revision + 1
            alert = alert_of(Origin(life.labels.get(ALERTNAME, ""), rule_id, version), life, {})
            out.append(fact_of(alert, group=self._group_of(life.labels), at_ms=at_ms, caused_at_ms=at_ms))
        return out

    def record_silently(self, program: RecordProgram, read_ms: int, before: set[Labels]) -> set[Labels]:
        """Write what a recording rule gave at a past instant, and end what it gave before. A failure there was told when it happened."""
        try:
            return self._write(program.results(self._store, read_ms), before, read_ms)
        except PromQLError:
            return before

    def write_alerts(self, program: AlertProgram, read_ms: int) -> None:
        """Write the alerts as they are, at the tick that made them so."""
        self._write(_alert_series(program), set(), read_ms)

    def forget(self, written: set[Labels], at_ms: int) -> None:
        """End series that nobody writes any more."""
        for labels in sorted(written):
            self._store.append(labels, at_ms, STALE_NAN)

    def scope(self, at_ms: int) -> Scope:
        """What templates see at an instant; they may query the store."""
        return Scope(self._options.external_labels, self._options.external_url, lambda text: self._query(text, at_ms), at_ms=at_ms)

    def _query(self, text: str, at_ms: int) -> Sequence[Row]:
        compiled = self._queries.get(text)
        if compiled is None:
            if len(self._queries) >= _MAX_COMPILED:
                self._queries.clear()
            compiled = self._queries[text] = compile_expr(text, compat=self._options.promql.compat, options=self._options.promql)
        return rows_of(compiled, self._store, at_ms)

    def _alert(self, program: AlertProgram, at_ms: int, read_ms: int, out: list[Detected]) -> None:
        store, lives = self._store, program.lives
        held = program.held(store, read_ms, self.scope(at_ms))
        limit = program.group.limit
        if limit and (active := lives.active_with(at_ms, held)) > limit:
            out += self.end(program, at_ms, Ending.BY_NODATA)
            raise EvalError(f"exceeded limit of {limit} with {active} alerts")
        changed = lives.on_grid(
            at_ms,
            held,
            judge=lambda life: program.ending(life, store, read_ms),
            warming=lambda life: program.is_warming(life, store, read_ms, started_ms=self.started_ms),
        )
        if program.written or lives.by_labels:
            program.written = self._write(_alert_series(program), program.written, read_ms)
        caused_ms = self._caused_ms(program, at_ms) if changed else 0
        out += [self.fact(program, life, at_ms, caused_ms) for life in changed]

    def _record(self, program: RecordProgram, read_ms: int) -> None:
        results = program.results(self._store, read_ms)
        limit = program.group.limit
        if limit and len(results) > limit:
            raise EvalError(f"exceeded limit of {limit} with {len(results)} series")
        program.written = self._write(results, program.written, read_ms)

    def _write(self, results: Mapping[Labels, float], before: set[Labels], at_ms: int) -> set[Labels]:
        for labels, value in results.items():
            self._store.append(labels, at_ms, value)
        for labels in sorted(before - results.keys()):
            self._store.append(labels, at_ms, STALE_NAN)
        return set(results)

    def _caused_ms(self, program: AlertProgram, at_ms: int) -> int:
        names = program.base.metric_names if program.base else ()
        newest = max((self._newest_ms.get(name, 0) for name in names), default=0)
        return min(newest, at_ms) or at_ms

    def _failed(self, program: AlertProgram | RecordProgram, error: PromQLError, at_ms: int) -> list[Detected]:
        self._counts.rule_errors += 1
        rule_id, text = program.rule.rule_id, f"{program.rule.name} ({program.rule.where}): {error}"
        before = self._failures.get(rule_id)
        count = before.count + 1 if before else 1
        self._failures[rule_id] = Rejection("rule_error", text, count, at_ms, rule_id=rule_id)
        return [] if before and before.text == text else [self._failures[rule_id]]


def _alert_series(program: AlertProgram) -> dict[Labels, float]:
    """ALERTS and ALERTS_FOR_STATE of the rule as the grid sees them."""
    series: dict[Labels, float] = {}
    for life in program.lives.grid:
        state = "firing" if life.grid_firing else "pending"
        series[Labels.of(life.labels, **{METRIC_NAME: "ALERTS", ALERTNAME: program.rule.name, "alertstate": state})] = 1.0
        since_ms = life.grid_since_ms or 0
        series[Labels.of(life.labels, **{METRIC_NAME: "ALERTS_FOR_STATE", ALERTNAME: program.rule.name})] = float(since_ms // 1000)
    return series

"""`Runner`: the tests of one file against rules, on a clock that the test moves.

The rules run in the detector's own engine: its programs, alert states, recording rules and templates. Guarantee: evaluation order, what is visible at
which time and how results are compared are promtool's; a test cannot see samples of its own future.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pipeline.detect.engine import Engine
from pipeline.detect.facts import DetectOptions
from pipeline.detect.intake import Intake
from pipeline.detect.lives import Life
from pipeline.detect.programs import AlertProgram, rows_of
from pipeline.detect.ruleset import GroupPrograms, Program, RuleSet
from pipeline.model.duration import format_duration
from pipeline.model.labels import Labels
from pipeline.promql import Compat, Compiled, Options, PromQLError, compile_expr
from pipeline.rulebook.book import RuleBook
from pipeline.ruletest.compare import Alert, Observation, compare
from pipeline.ruletest.inputs import AppendOnly, Feed, RefusedError
from pipeline.ruletest.notation import Pairs
from pipeline.ruletest.report import CaseReport
from pipeline.ruletest.suite import Case, ExpectedSample, ExprTest, Suite

MAX_TICKS = 5_000_000


class Runner:
    """Runs the cases of one suite; rules are compiled once, each case starts with none of them active."""

    def __init__(self, suite: Suite, book: RuleBook, *, compat: Compat = "v3") -> None:
        """Compile the rules.

        Raises:
            PromQLError: an expression is not valid (a loaded rule book has none).
        """
        self._suite = suite
        self._options = Options(compat=compat, default_step_ms=suite.interval_ms)
        self._rules = RuleSet(book, self._options)
        self._queries: dict[str, Compiled] = {}
        order = {name: number for number, name in enumerate(suite.group_order)}
        groups = sorted(self._rules.groups, key=lambda group: order.get(group.group.name, 0))
        self._steps = [GroupPrograms(group.group, (program,)) for group in groups for program in group.programs]

    def problems(self) -> list[str]:
        """Label and annotation templates that cannot be parsed."""
        return [
            f"{program.rule.where}: error: {what} {name} of alert {program.rule.name}: {text.problem}"
            for program in self._rules.alerts
            for what, texts in (("label", program.labels), ("annotation", program.annotations))
            for name, text in texts
            if text.problem
        ]

    def run(self, case: Case) -> CaseReport:
        """All checks of one case."""
        report = compare(case, self.observe(case), fuzzy=self._suite.fuzzy)
        if not case.actions:
            return report
        from pipeline.ruletest.judge import judge  # with remediation behind it, which most test files do not need

        failures = (*report.failures, *judge(case, self._rules.book, self._options))
        return replace(report, checks=report.checks + len(case.actions), failures=failures)

    def observe(self, case: Case) -> Observation:
        """What the questions of one case are answered, whatever it expects."""
        for step in self._steps:
            _reset(step.programs[0])
        return _Run(self, case).observe()

    @property
    def suite(self) -> Suite:
        """The file that is being run."""
        return self._suite

    @property
    def options(self) -> Options:
        """How expressions are evaluated."""
        return self._options

    @property
    def steps(self) -> Sequence[GroupPrograms]:
        """Every rule in the order of evaluation, with its group."""
        return self._steps

    def compiled(self, text: str) -> Compiled:
        """An expression of a test, compiled once."""
        if text not in self._queries:
            self._queries[text] = compile_expr(text, compat=self._options.compat, options=self._options)
        return self._queries[text]


class _Run:
    """One case being run."""

    def __init__(self, runner: Runner, case: Case) -> None:
        self.runner, self.case = runner, case
        self.store = AppendOnly()
        options = DetectOptions(external_labels=case.external_labels, external_url=case.external_url, promql=runner.options)
        self.engine = Engine(Intake(self.store, max_future_ms=0), options, group_of=lambda _labels: "")
        self.feed = Feed(case)
        self.tests: dict[int, list[int]] = defaultdict(list)
        for number, test in sorted(enumerate(case.alerts), key=lambda pair: pair[1].eval_ms):
            self.tests[test.eval_ms // runner.suite.interval_ms].append(number)
        self.asked = {test.alertname for test in case.alerts}
        self.kept: dict[tuple[int, Labels], Pairs] = {}
        self.seen = Observation()

    def observe(self) -> Observation:
        if self._ticked():
            for number, test in enumerate(self.case.exprs):
                self.seen.samples[number] = self._samples(test)
        return self.seen

    def _ticked(self) -> bool:
        """Evaluate up to the last time asked for; False where a rule failed, which ends the test."""
        interval_ms = self.runner.suite.interval_ms
        ticks = self.case.end_ms // interval_ms + 1
        if ticks > MAX_TICKS:
            return self._stop(f"{ticks} evaluations, the limit is {MAX_TICKS}: a shorter eval_time or a longer evaluation_interval is needed")
        for tick in range(ticks):
            at_ms = self.case.start_ms + tick * interval_ms
            try:
                self.feed.until(at_ms, self.store)
            except RefusedError as error:
                return self._stop(str(error))
            if not self._evaluated(at_ms):
                return False
            for number in self.tests.get(tick, ()):
                self.seen.alerts[number] = sorted(self._firing(self.case.alerts[number].alertname))
        return True

    def _evaluated(self, at_ms: int) -> bool:
        for number, step in enumerate(self.runner.steps):
            program = step.programs[0]
            self.engine.tick(step, at_ms)
            failure = self.engine.failures.get(program.rule.rule_id)
            if failure is not None:
                title = f"rule {program.rule.name} at {format_duration(at_ms - self.case.start_ms)}"
                self.seen.errors.append((title, failure.text))
            elif isinstance(program, AlertProgram) and program.rule.name in self.asked:
                self._keep(number, program, at_ms)
        return not self.seen.errors

    def _keep(self, number: int, program: AlertProgram, at_ms: int) -> None:
        """Expand now what a template would see otherwise later: its queries also find what later rules record."""
        if any("query" in text.source for _, text in program.annotations):
            for life in program.lives.grid:
                if life.held_at_ms == at_ms:
                    self.kept[number, life.labels] = self._annotations(program, life)

    def _annotations(self, program: AlertProgram, life: Life) -> Pairs:
        return tuple(sorted(program.annotations_of(life, self.engine.scope(life.held_at_ms)).items()))

    def _firing(self, alertname: str) -> Iterator[Alert]:
        for number, step in enumerate(self.runner.steps):
            program = step.programs[0]
            if isinstance(program, AlertProgram) and program.rule.name == alertname:
                for life in program.lives.grid:
                    if life.grid_firing:
                        kept = self.kept.get((number, life.labels))
                        yield life.labels.pairs, self._annotations(program, life) if kept is None else kept

    def _samples(self, test: ExprTest) -> list[ExpectedSample] | str:
        try:
            rows = rows_of(self.runner.compiled(test.expr), self.store, self.case.start_ms + test.eval_ms)
        except PromQLError as error:
            return str(error)
        return sorted((ExpectedSample(row.labels.pairs, row.value) for row in rows), key=lambda one: one.labels)

    def _stop(self, error: str) -> bool:
        self.seen.errors.append(("the test could not be run", error))
        return False


def _reset(program: Program) -> None:
    program.written = set()
    if isinstance(program, AlertProgram):
        program.lives = replace(program.lives, by_labels={})

"""`read_suite`: the text of a test file to a `Suite`, as strictly as promtool reads it.

Guarantee: an unknown key, a wrong type, a bad duration, metric, value or expression is a problem with file, line and column; with one of them
there is no suite. All of a file's problems are found in one go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final, TypeVar

from pipeline.model.labels import Labels
from pipeline.rulebook.expressions import read_expr
from pipeline.rulebook.fields import Fields
from pipeline.rulebook.problems import START, Problem, SourceText
from pipeline.rulebook.yaml_source import Mapping, Node, Scalar, kind_of, read_documents
from pipeline.rulebook.yaml_values import at_offset, plain
from pipeline.ruletest.notation import NotationError, read_metric, read_values
from pipeline.ruletest.read_actions import ACTION_KEYS, ActionReader
from pipeline.ruletest.suite import AlertTest, Case, ExpectedAlert, ExpectedSample, ExprTest, InputSeries, Suite

T = TypeVar("T")

FILE_KEYS: Final = ("rule_files", "evaluation_interval", "group_eval_order", "fuzzy_compare", "tests")
CASE_KEYS: Final = (
    "name",
    "interval",
    "start_timestamp",
    "input_series",
    "alert_rule_test",
    "promql_expr_test",
    "external_labels",
    "external_url",
    *ACTION_KEYS,
)
_MINUTE_MS: Final = 60_000
_MAX_SECONDS: Final = 1e11


def read_suite(source: SourceText) -> tuple[Suite | None, list[Problem]]:
    """The suite, or None with what is wrong."""
    documents, problems = read_documents(source)
    if not problems and documents:
        if len(documents) > 1:
            problems.append(source.problem(documents[1].at, "a second YAML document in one file", suggestion="put it into a file of its own"))
        suite = _Reader(source, problems).suite(documents[0])
    elif not problems:
        problems.append(source.problem(START, "the file is empty", show=False))
    return (None if any(problem.fatal for problem in problems) else suite), problems


class _Reader:
    def __init__(self, source: SourceText, problems: list[Problem]) -> None:
        self.source, self.problems = source, problems

    def suite(self, root: Node) -> Suite:
        if not isinstance(root, Mapping):
            self.problems.append(self.source.problem(root.at, f"a test file should be a mapping, not {kind_of(root)}"))
            return Suite(self.source.file)
        fields = self._fields(root, "a test file", FILE_KEYS)
        interval_ms = fields.duration_ms("evaluation_interval") or _MINUTE_MS
        return Suite(
            file=self.source.file,
            rule_files=tuple(self._texts(fields, "rule_files")),
            interval_ms=interval_ms,
            group_order=self._group_order(fields),
            fuzzy=self._truth(fields, "fuzzy_compare"),
            cases=tuple(self._each(fields, "tests", "a test", CASE_KEYS, lambda found: self._case(found, interval_ms))),
        )

    def _case(self, fields: Fields, interval_ms: int) -> Case:
        return Case(
            line=fields.node.at.line,
            name=fields.text("name"),
            interval_ms=fields.duration_ms("interval") or interval_ms,
            start_ms=self._start_ms(fields),
            inputs=tuple(self._each(fields, "input_series", "an input series", ("series", "values"), self._input)),
            alerts=tuple(self._each(fields, "alert_rule_test", "an alert test", ("eval_time", "alertname", "exp_alerts"), self._alert)),
            exprs=tuple(self._each(fields, "promql_expr_test", "an expression test", ("expr", "eval_time", "exp_samples"), self._expr)),
            external_labels=Labels.of(_plain_texts(fields, "external_labels")),
            external_url=fields.text("external_url"),
            **ActionReader(self.source, self.problems).read(fields),
        )

    def _input(self, fields: Fields) -> InputSeries:
        labels = self._notation(fields, "series", read_metric)
        if labels is not None and not any(value for _, value in labels):
            fields.wrong(fields.node, "an input series needs a name or a label")
        if fields.value("series") is None:
            fields.wrong(fields.node, "an input series needs series")
        runs = self._notation(fields, "values", read_values) or ()
        return InputSeries(fields.node.at.line, Labels.of(labels or ()), runs)

    def _alert(self, fields: Fields) -> AlertTest:
        name = fields.text("alertname")
        if not name:
            fields.wrong(fields.node, "an alert test needs alertname")
        expected = self._each(fields, "exp_alerts", "an expected alert", ("exp_labels", "exp_annotations"), _expected_alert)
        return AlertTest(fields.node.at.line, fields.duration_ms("eval_time"), name, tuple(expected))

    def _expr(self, fields: Fields) -> ExprTest:
        text = ""
        node = fields.value("expr")
        if node is None:
            fields.wrong(fields.node, "an expression test needs expr")
        else:
            expr = read_expr(self.source, node, "expr")
            if isinstance(expr, Problem):
                self.problems.append(expr)
            else:
                text = expr.text
        expected = self._each(fields, "exp_samples", "an expected sample", ("labels", "value", "histogram"), self._sample)
        return ExprTest(fields.node.at.line, fields.duration_ms("eval_time"), text, tuple(expected))

    def _sample(self, fields: Fields) -> ExpectedSample:
        if (histogram := fields.value("histogram")) is not None:
            fields.wrong(histogram, "native histograms are not supported in tests")
        labels = self._notation(fields, "labels", read_metric) or ()
        return ExpectedSample(tuple(pair for pair in labels if pair[1]), self._number(fields, "value"))

    def _each(self, fields: Fields, key: str, what: str, keys: tuple[str, ...], read: Callable[[Fields], T]) -> Iterator[T]:
        for node in fields.items(key):
            if not isinstance(node, Mapping):
                fields.wrong(node, f"{what} should be a mapping, not {kind_of(node)}")
                continue
            yield read(self._fields(node, what, keys))

    def _fields(self, node: Mapping, what: str, keys: tuple[str, ...]) -> Fields:
        fields = Fields(self.source, node, self.problems, what)
        fields.only(keys)
        return fields

    def _notation(self, fields: Fields, key: str, read: Callable[[str], T]) -> T | None:
        node = fields.value(key)
        if node is not None and not isinstance(node, Scalar):
            fields.wrong(node, f"{key} should be a text, not {kind_of(node)}")
        if not isinstance(node, Scalar):
            return None
        try:
            return read(node.text)
        except NotationError as error:
            self.problems.append(self.source.problem(at_offset(self.source, node, error.offset), f"{key}: {error}"))
            return None

    def _texts(self, fields: Fields, key: str) -> Iterator[str]:
        for node in fields.items(key):
            if isinstance(node, Scalar):
                yield node.text
            else:
                fields.wrong(node, f"{key} should hold texts, not {kind_of(node)}")

    def _group_order(self, fields: Fields) -> tuple[str, ...]:
        names = list(self._texts(fields, "group_eval_order"))
        repeated = next((name for number, name in enumerate(names) if name in names[:number]), None)
        if repeated is not None:
            fields.wrong(fields.node.entries["group_eval_order"][1], f"group {repeated!r} stands twice in the evaluation order")
        return tuple(names)

    @staticmethod
    def _truth(fields: Fields, key: str) -> bool:
        node = fields.value(key)
        value = plain(node) if node is not None else False
        if node is not None and not isinstance(value, bool):
            fields.wrong(node, f"{key} should be true or false, not {kind_of(node)}")
        return value is True

    @staticmethod
    def _number(fields: Fields, key: str) -> float:
        node = fields.value(key)
        if node is None:
            return 0.0
        value = plain(node)
        if isinstance(value, bool) or not isinstance(value, int | float):
            hint = "write it without quotes" if isinstance(node, Scalar) and node.style else ""
            fields.wrong(node, f"{key} should be a number, not {kind_of(node)}", hint)
            return 0.0
        return float(value)

    @staticmethod
    def _start_ms(fields: Fields) -> int:
        text = fields.text("start_timestamp")
        if not text:
            return 0
        try:
            seconds = float(text)
        except ValueError:
            try:
                moment = datetime.fromisoformat(text)
            except ValueError:
                moment = None
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() if moment else math.nan
        if not abs(seconds) < _MAX_SECONDS:
            hint = "write for example 2026-01-31T12:00:00Z or 1769860800"
            fields.wrong(fields.node.entries["start_timestamp"][1], f"start_timestamp: {text[:40]!r} is not a time", hint)
            return 0
        return round(seconds * 1000)


def _plain_texts(fields: Fields, key: str) -> dict[str, str]:
    return {name: "" if value.is_null else value.text for name, (_, value) in fields.texts(key).items()}


def _expected_alert(fields: Fields) -> ExpectedAlert:
    return ExpectedAlert(_plain_texts(fields, "exp_labels"), _plain_texts(fields, "exp_annotations"))

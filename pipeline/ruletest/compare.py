"""What a case was answered against what it expects. Guarantee: equal means what promtool means: exact texts, exact floats, NaN equals nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.detect.programs import ALERTNAME
from pipeline.model.duration import format_duration
from pipeline.ruletest.notation import Pairs
from pipeline.ruletest.report import CaseReport, Failure, difference, shown_alert, shown_sample
from pipeline.ruletest.suite import AlertTest, Case, ExpectedSample, ExprTest

Alert = tuple[Pairs, Pairs]


@dataclass(slots=True)
class Observation:
    """The answers to one case: per alert test the firing alerts (labels, annotations), per expression test its samples or why there are none.

    `errors`: (what, why) of what ended the case before its end; questions after that have no answer.
    """

    alerts: dict[int, list[Alert]] = field(default_factory=dict)
    samples: dict[int, list[ExpectedSample] | str] = field(default_factory=dict)
    errors: list[tuple[str, str]] = field(default_factory=list)


def compare(case: Case, seen: Observation, *, fuzzy: bool) -> CaseReport:
    """Which checks failed."""
    failures = [Failure(case.line, title, error=error) for title, error in seen.errors]
    for number, got in sorted(seen.alerts.items()):
        failures += _alerts(case.alerts[number], got)
    for number, samples in sorted(seen.samples.items()):
        failures += _samples(case.exprs[number], samples, fuzzy=fuzzy)
    return CaseReport(case.name, case.line, len(case.alerts) + len(case.exprs), tuple(failures))


def _alerts(test: AlertTest, got: list[Alert]) -> Iterator[Failure]:
    expected = sorted((_pairs({**one.labels, ALERTNAME: test.alertname}), _pairs(one.annotations)) for one in test.expected)
    if got != expected:
        title = f"alert {test.alertname} at {format_duration(test.eval_ms)}"
        yield Failure(test.line, title, diff=difference(_lines(expected), _lines(got)))


def _samples(test: ExprTest, got: list[ExpectedSample] | str, *, fuzzy: bool) -> Iterator[Failure]:
    title = f"{' '.join(test.expr.split())} at {format_duration(test.eval_ms)}"
    if isinstance(got, str):
        yield Failure(test.line, title, error=got)
        return
    expected = sorted(test.expected, key=lambda one: one.labels)
    if not _same(expected, got, fuzzy=fuzzy):
        diff = difference([shown_sample(one.labels, one.value) for one in expected], [shown_sample(one.labels, one.value) for one in got])
        yield Failure(test.line, title, diff=diff)


def _same(expected: Sequence[ExpectedSample], got: Sequence[ExpectedSample], *, fuzzy: bool) -> bool:
    if [one.labels for one in expected] != [one.labels for one in got]:
        return False
    return all(_equal(one.value, other.value, fuzzy=fuzzy) for one, other in zip(expected, got, strict=True))


def _equal(left: float, right: float, *, fuzzy: bool) -> bool:
    return left == right or (fuzzy and right in {math.nextafter(left, -math.inf), math.nextafter(left, math.inf)})


def _pairs(texts: Mapping[str, str]) -> Pairs:
    return tuple(sorted(texts.items()))


def _lines(alerts: Sequence[Alert]) -> list[str]:
    return [line for labels, annotations in alerts for line in shown_alert(dict(labels), dict(annotations))]

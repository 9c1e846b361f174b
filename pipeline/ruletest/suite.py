"""What a test file says, as frozen values. Times are milliseconds from the test's start; `line` is where it stands in the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.model.labels import EMPTY, Labels
from pipeline.ruletest.notation import Pairs, Run


@dataclass(frozen=True, slots=True)
class InputSeries:
    """One series with its values, one per interval."""

    line: int
    labels: Labels
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class ExpectedAlert:
    """Labels and annotations of a firing alert, exactly; empty values count."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AlertTest:
    """Which alerts of a name fire at a time: these and no others."""

    line: int
    eval_ms: int
    alertname: str
    expected: tuple[ExpectedAlert, ...] = ()


@dataclass(frozen=True, slots=True)
class ExpectedSample:
    """One element of a result."""

    labels: Pairs
    value: float


@dataclass(frozen=True, slots=True)
class ExprTest:
    """What an expression gives at a time."""

    line: int
    eval_ms: int
    expr: str
    expected: tuple[ExpectedSample, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One entry under `tests:`."""

    line: int
    name: str
    interval_ms: int
    start_ms: int = 0
    inputs: tuple[InputSeries, ...] = ()
    alerts: tuple[AlertTest, ...] = ()
    exprs: tuple[ExprTest, ...] = ()
    external_labels: Labels = EMPTY
    external_url: str = ""

    @property
    def end_ms(self) -> int:
        """The latest time that a test asks for."""
        times = [test.eval_ms for test in self.alerts] + [test.eval_ms for test in self.exprs]
        return max(times, default=0)


@dataclass(frozen=True, slots=True)
class Suite:
    """One test file. `rule_files`: globs as written."""

    file: str
    rule_files: tuple[str, ...] = ()
    interval_ms: int = 60_000
    group_order: tuple[str, ...] = ()
    fuzzy: bool = False
    cases: tuple[Case, ...] = field(default=())

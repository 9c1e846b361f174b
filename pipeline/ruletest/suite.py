"""What a test file says, as frozen values. Times are milliseconds from the test's start; `line` is where it stands in the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.model.labels import EMPTY, Labels
from pipeline.rulebook.spec import GrantSpec
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
class Wanted:
    """An action, decision or incident as a test describes it: only what `keys` name is compared."""

    line: int
    keys: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ActionTest:
    """What policies and controllers have come to by a time, counted from the start of the case. None: not asked.

    `actions` and `incidents` are all there are, in order; `holds` are among the decisions, and an empty list says that nothing was held.
    """

    line: int
    eval_ms: int
    actions: tuple[Wanted, ...] | None = None
    holds: tuple[Wanted, ...] | None = None
    incidents: tuple[Wanted, ...] | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How the executor's answer to actions is simulated; the first that fits an action counts, `times` times (0: always)."""

    status: str = "applied"
    verb: str = ""
    target: str = ""
    delay_ms: int = 0
    times: int = 0
    error: str = ""


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
    actions: tuple[ActionTest, ...] = ()
    outcomes: tuple[Ending, ...] = ()
    world: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by target: what is there at the start
    grants: Mapping[str, GrantSpec] = field(default_factory=lambda: {"*": GrantSpec(mode="enforce")})

    @property
    def end_ms(self) -> int:
        """The latest time that a test of promtool's kind asks for."""
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

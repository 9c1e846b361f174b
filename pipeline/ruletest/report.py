"""What came of tests, and how expected and got are shown side by side. Guarantee: the same outcome gives the same text."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.model.labels import METRIC_NAME
from pipeline.promql.numeric import format_float
from pipeline.rulebook.problems import Problem

_MAX_LINES = 400


@dataclass(frozen=True, slots=True)
class Failure:
    """One check that failed: what was asked, and either why it could not be answered or the difference (`-` expected, `+` got)."""

    line: int
    title: str
    error: str = ""
    diff: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CaseReport:
    """One test of a file."""

    name: str
    line: int
    checks: int
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class FileReport:
    """One test file. `problems`: why it, or a rule file of it, could not be used; `warnings` do not fail it."""

    file: str
    cases: tuple[CaseReport, ...] = ()
    problems: tuple[str | Problem, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether everything in it held."""
        return not self.problems and not any(case.failures for case in self.cases)

    @property
    def checks(self) -> int:
        """How many questions its tests asked."""
        return sum(case.checks for case in self.cases)


def difference(expected: Sequence[str], got: Sequence[str]) -> tuple[str, ...]:
    """Both in one list of lines: `- ` only expected, `+ ` only got, `  ` both."""
    if len(expected) + len(got) > _MAX_LINES:
        only, more = sorted(set(expected) - set(got)), sorted(set(got) - set(expected))
        return tuple(_cut([f"- {line}" for line in only] + [f"+ {line}" for line in more]))
    lines: list[str] = []
    for kind, from_line, to_line, from_got, to_got in difflib.SequenceMatcher(None, expected, got, autojunk=False).get_opcodes():
        if kind == "equal":
            lines += [f"  {line}" for line in expected[from_line:to_line]]
            continue
        lines += [f"- {line}" for line in expected[from_line:to_line]]
        lines += [f"+ {line}" for line in got[from_got:to_got]]
    return tuple(lines or ["(the same text; the values differ, as NaN does from itself)"])


def shown_labels(labels: Mapping[str, str] | Iterable[tuple[str, str]]) -> str:
    """Labels as Prometheus writes them; empty values are kept."""
    pairs = dict(labels)
    name = pairs.pop(METRIC_NAME, "")
    inner = ", ".join(f'{key}="{_escaped(value)}"' for key, value in sorted(pairs.items()))
    return f"{name}{{{inner}}}" if inner or not name else name


def shown_alert(labels: Mapping[str, str], annotations: Mapping[str, str]) -> list[str]:
    """An alert, a line for its labels and one for each annotation."""
    return [shown_labels(labels), *(f'    {name}: "{_escaped(text)}"' for name, text in sorted(annotations.items()))]


def shown_sample(labels: Iterable[tuple[str, str]], value: float) -> str:
    """A sample in one line."""
    return f"{shown_labels(labels)} {format_float(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _cut(lines: list[str]) -> list[str]:
    return lines if len(lines) <= _MAX_LINES else [*lines[:_MAX_LINES], f"  ... {len(lines) - _MAX_LINES} more lines"]

"""Test reports as JUnit XML, as CI systems read it: one suite per file, one case per test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape, quoteattr

from pipeline.cli.rules_test import details, title_of
from pipeline.ruletest import CaseReport, FileReport


def junit(reports: Sequence[FileReport]) -> str:
    """The whole document."""
    tests = sum(len(report.cases) or 1 for report in reports)
    failed = sum(_failed(report) for report in reports)
    body = "".join(line for report in reports for line in _suite(report))
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites tests="{tests}" failures="{failed}">\n{body}</testsuites>\n'


def _suite(report: FileReport) -> Iterable[str]:
    name = quoteattr(_printable(report.file))
    yield f'  <testsuite name={name} tests="{len(report.cases) or 1}" failures="{_failed(report)}">\n'
    for number, case in enumerate(report.cases, 1):
        yield from _case(report, case, number)
    if report.problems:
        text = "\n".join(map(str, report.problems))
        yield f"    <testcase classname={name} name={name}>\n{_failure('the file could not be used', text)}    </testcase>\n"
    yield "  </testsuite>\n"


def _case(report: FileReport, case: CaseReport, number: int) -> Iterable[str]:
    title = case.name or title_of(case, number)
    yield f'    <testcase classname={quoteattr(_printable(report.file))} name={quoteattr(_printable(title))} line="{case.line}">\n'
    for failure in case.failures:
        text = "\n".join([f"{report.file}:{failure.line}", *details(failure)])
        yield _failure(failure.title, text)
    yield "    </testcase>\n"


def _failure(message: str, text: str) -> str:
    return f"      <failure message={quoteattr(_printable(message))}>{escape(_printable(text))}</failure>\n"


def _failed(report: FileReport) -> int:
    return sum(bool(case.failures) for case in report.cases) + bool(report.problems)


def _printable(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return "".join(char if char >= " " or char in "\n\t" else "?" for char in text)

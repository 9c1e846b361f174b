"""`reflexarc rules test`: unit tests of rules in promtool's format, several files at once."""

from __future__ import annotations

import argparse
import dataclasses
import glob
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.cli.output import fail, print_json
from pipeline.promql import Compat
from pipeline.rulebook.load import load_rulebook
from pipeline.rulebook.problems import Problem, SourceText
from pipeline.ruletest import CaseReport, Failure, FileReport, Runner, Suite, read_suite
from pipeline.runtime.rule_files import UnreadableError, read_text

EVERY_METRIC = ("*",)
ENDINGS = (".test.yaml", ".test.yml", "_test.yaml", "_test.yml")


def register_test(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rules test`."""
    parser = commands.add_parser("test", help="run unit tests of rules (promtool's files run unchanged); exit code 1 when one fails")
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help=f"test files, or folders that are searched for {', '.join('*' + ending for ending in ENDINGS)}"
    )
    parser.add_argument("--junit", metavar="FILE", help="also write a JUnit report")
    parser.add_argument("--promql-compat", choices=("v2", "v3"), default="v3", help="windows as in Prometheus 3 (default) or 2")
    parser.add_argument("--jobs", metavar="N", type=_jobs, default=os.cpu_count() or 1, help="files run at once (default: one per core)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=run_test)


def run_test(args: argparse.Namespace) -> int:
    """Run all files, print what came of each as soon as those before it are done."""
    reports = []
    files = [file for path in args.files for file in _test_files(path)]
    if not files:
        return fail(f"{', '.join(args.files)}: no test files there")
    for report in _reports(files, args.promql_compat, args.jobs):
        reports.append(report)
        if not args.json:
            print("\n".join(_shown(report)), flush=True)
    if args.junit:
        from pipeline.cli.junit import junit

        try:
            Path(args.junit).write_text(junit(reports), encoding="utf-8")
        except OSError as error:
            return fail(f"{args.junit}: {error.strerror or error}")
    failed = sum(not report.passed for report in reports)
    if args.json:
        print_json({"ok": not failed, "files": [_plain(report) for report in reports]})
    else:
        print(f"{len(reports)} files, {sum(report.checks for report in reports)} checks: {failed} files failed", file=sys.stderr)
    return int(bool(failed))


def run_file(path: str, compat: Compat) -> FileReport:
    """Read one test file and its rule files, and run it."""
    try:
        suite, problems = read_suite(SourceText(path, read_text(Path(path))))
        if suite is None:
            return FileReport(path, problems=tuple(problems))
        found, warnings = rule_files(suite, Path(path).parent)
        loaded = load_rulebook({file: read_text(Path(file)) for file in found}, known_metrics=EVERY_METRIC, default_interval_ms=suite.interval_ms)
    except UnreadableError as error:
        return FileReport(path, problems=(str(error),))
    if loaded.book is None:
        return FileReport(path, problems=loaded.errors, warnings=tuple(warnings))
    runner = Runner(suite, loaded.book, compat=compat)
    if bad := runner.problems():
        return FileReport(path, problems=tuple(bad), warnings=tuple(warnings))
    return FileReport(path, tuple(runner.run(case) for case in suite.cases), warnings=tuple(warnings))


def rule_files(suite: Suite, folder: Path) -> tuple[list[str], list[str]]:
    """The files that the suite's globs match, relative to its own folder, each once; and a warning for each glob that matches none."""
    found: dict[str, None] = {}
    warnings = []
    for pattern in suite.rule_files:
        matches = sorted(_matches(pattern, folder))
        if not matches:
            warnings.append(f"no file matches {pattern!r}")
        found.update(dict.fromkeys(map(os.path.normpath, matches)))
    return list(found), warnings


def _test_files(path: str) -> list[str]:
    """A file itself, whatever its name; below a folder those that are named like tests."""
    if not Path(path).is_dir():
        return [path]
    return sorted(str(file) for file in Path(path).rglob("*") if file.name.endswith(ENDINGS) and file.is_file())


def _matches(pattern: str, folder: Path) -> list[str]:
    """As Go's `filepath.Glob`: hidden files too, `[^...]` for all but these, no `**`."""
    if not pattern:
        return []
    whole = str(Path(glob.escape(str(folder))) / pattern)  # an absolute pattern stays as it is
    return glob.glob(whole.replace("[^", "[!"), include_hidden=True)  # noqa: PTH207 - Path.glob refuses absolute patterns


def _reports(files: Sequence[str], compat: Compat, jobs: int) -> Iterator[FileReport]:
    run = partial(run_file, compat=compat)
    if min(jobs, len(files)) == 1:
        yield from map(run, files)
        return
    with ProcessPoolExecutor(min(jobs, len(files))) as pool:
        yield from pool.map(run, files, chunksize=max(1, min(8, len(files) // (4 * jobs))))


def _shown(report: FileReport) -> Iterator[str]:
    cases = len(report.cases)
    counted = f"{cases} test{'' if cases == 1 else 's'}, {report.checks} check{'' if report.checks == 1 else 's'}"
    yield f"{'ok  ' if report.passed else 'FAIL'}  {report.file}" + (f" ({counted})" if cases else "")
    yield from (f"      warning: {text}" for text in report.warnings)
    for problem in report.problems:
        yield from (f"      {line}" for line in _text(problem).split("\n"))
    for number, case in enumerate(report.cases, 1):
        for failure in case.failures:
            yield f"      {report.file}:{failure.line}: {title_of(case, number)}: {failure.title}"
            yield from (f"          {line}" for line in details(failure))


def details(failure: Failure) -> list[str]:
    """Why a check failed, line by line."""
    return [failure.error] if failure.error else ["- expected, + got:", *failure.diff]


def title_of(case: CaseReport, number: int) -> str:
    """A test's name, or its number in the file where it has none."""
    return f'test "{case.name}"' if case.name else f"test {number}"


def _text(problem: str | Problem) -> str:
    return problem if isinstance(problem, str) else problem.pretty()


def _plain(report: FileReport) -> dict[str, Any]:
    plain = dataclasses.asdict(report)
    return {"file": report.file, "ok": report.passed, "checks": report.checks} | plain


def _jobs(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number

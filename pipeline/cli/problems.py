"""How `rules` and `config` print problems: compiler style, one per line; on a terminal with the offending line and a caret."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from typing import Any

from pipeline.cli.output import print_json
from pipeline.rulebook.problems import Problem


def report(problems: Iterable[Problem | str], *, as_json: bool, strict: bool, summary: str) -> int:
    """Print problems on stdout and the summary on stderr; the exit code: 1 for an error, or for a warning when `strict`."""
    found = list(problems)
    errors = sum(isinstance(problem, str) or problem.fatal for problem in found)
    bad = bool(errors or (strict and found))
    if as_json:
        print_json({"ok": not bad, "errors": errors, "warnings": len(found) - errors, "problems": [_plain(problem) for problem in found]})
        return int(bad)
    for problem in found:
        print(problem.pretty() if isinstance(problem, Problem) and sys.stdout.isatty() else problem)
    print(f"{summary}: {_counted(errors, 'error')}, {_counted(len(found) - errors, 'warning')}", file=sys.stderr)
    return int(bad)


def _plain(problem: Problem | str) -> dict[str, Any]:
    if isinstance(problem, str):
        return {"severity": "error", "message": problem}
    return dataclasses.asdict(problem)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"

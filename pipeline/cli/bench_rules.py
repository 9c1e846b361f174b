"""`reflexarc bench rules`: what storing samples and evaluating rules costs on this machine."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
from typing import Any

import numpy as np

from pipeline import __version__
from pipeline.cli.output import fail, print_json, print_table


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("rules", help="decoded batches -> store -> rules evaluated at each tick; memory per series; rule files")
    parser.add_argument("--series", type=int, default=10_000, help="series (default 10000)")
    parser.add_argument("--rules", type=int, default=100, help="rules of mixed shapes over them (default 100)")
    parser.add_argument("--other-rules", type=int, default=2_000, help="rules over metrics that nobody sends (default 2000)")
    parser.add_argument("--rounds", type=int, default=20, help="scrapes measured (default 20)")
    parser.add_argument("--files", metavar="PATH", nargs="+", default=[], help="rule files or folders: compile them, count what is incremental")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from pipeline.bench.rules import Plan, measure
    from pipeline.runtime.rule_files import UnreadableError

    if min(args.series, args.rules, args.rounds) < 1 or args.other_rules < 0:
        return fail("--series, --rules and --rounds must be at least 1, --other-rules at least 0")
    try:
        expressions = _expressions(args.files) if args.files else []
    except UnreadableError as error:
        return fail(str(error))
    figures = measure(Plan(args.series, args.rules, args.other_rules, args.rounds), expressions).to_json()
    if args.json:
        print_json(figures | _setting())
        return 0
    names = sorted({name for row in figures["rounds"].values() for name in row})
    print_table(("SETTING", *names), [(setting, *(row[name] for name in names)) for setting, row in figures["rounds"].items()])
    print(f"sum by (service) (rate(m_total[5m])) over {args.series} series, ms: {figures['full_ms']}")
    print(f"bytes per idle series, 5 m at 15 s: {figures['memory_bytes']}")
    for name, value in (figures["files"] | _setting()).items():
        print(f"  {name:<22} {value}")
    return 0


def _expressions(paths: list[str]) -> list[str]:
    """The expressions of all rules in these files."""
    from pipeline.rulebook.load import load_rulebook
    from pipeline.runtime.rule_files import read_rule_files

    found: list[str] = []
    for name, text in read_rule_files(paths).items():
        book = load_rulebook({name: text}, known_metrics=["*"]).book
        if book is None:
            print(f"{name}: cannot be used, see `reflexarc rules check`", file=sys.stderr)
            continue
        found += [rule.expr for group in book.groups for rule in group.rules]
    return found


def _setting() -> dict[str, Any]:
    return {
        "command": shlex.join(["reflexarc", *sys.argv[1:]]),
        "machine": f"{os.cpu_count()} x {platform.machine()}, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": f"reflexarc {__version__}, numpy {np.__version__}",
    }

"""`reflexarc demo`: a real system breaks, and heals."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from rich.console import Console

from pipeline.cli.output import fail

WIDTH = 150  # of the report where there is no terminal to ask
NEXT = """
next:
  reflexarc demo --play                break it yourself
  {explain}
  reflexarc rules check rules/demo     the rules that did it
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("demo", help="see it heal a real system: Envoy, local processes, load")
    parser.add_argument("--json", metavar="FILE", help="write the result as JSON (- for stdout)")
    parser.add_argument("--act", action="append", metavar="NAME", help="only this act (repeatable): bad-release, surge, slow-site, blind, break-in")
    parser.add_argument("--play", action="store_true", help="leave it running, with keys to break things")
    parser.add_argument("--keep", action="store_true", help="keep the demo's directory")
    parser.add_argument("--seed", type=int, default=7, help="seed of the load's jitter")
    parser.add_argument("--svg", metavar="FILE", help="write the last screen as a picture")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Play; 1 when an act did not end as told or a part is missing."""
    from pipeline.demo import play, report
    from pipeline.demo.world import WorldError

    console = Console(stderr=args.json == "-")
    if not console.is_terminal:
        console.width = WIDTH
    names = tuple(args.act or play.ACTS)
    if unknown := set(names) - set(play.ACTS):
        print(f"reflexarc demo: no act {', '.join(sorted(unknown))}; there are: {', '.join(play.ACTS)}", file=sys.stderr)
        return 2
    demo = play.Demo(console, names, live=console.is_terminal, seed=args.seed, keep=args.keep, picture=Path(args.svg) if args.svg else None)
    try:
        if args.play:
            asyncio.run(demo.leave_running())
            return 0
        acts = asyncio.run(demo.perform())
    except WorldError as problem:
        return fail(str(problem))
    result = report.to_json(acts)
    if args.json == "-":
        print(json.dumps(result, indent=2))
    elif args.json:
        Path(args.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    console.print(report.table(acts))
    explain = (
        f"reflexarc explain last --config {demo.kept}"
        if demo.kept
        else "reflexarc demo --keep                keep the records, for: reflexarc explain last"
    )
    console.print(NEXT.format(explain=explain), highlight=False, soft_wrap=True)
    return 0 if result["ok"] else 1

"""`reflexarc bench latency|rules`: figures of this machine, with what is needed to repeat them."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shlex
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.cli import bench_rules
from pipeline.cli.output import print_json

PACKAGES = ("aiokafka", "faust-streaming", "numpy", "msgspec")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("bench", help="measure latency and the cost of rules on this machine")
    commands = parser.add_subparsers(metavar="latency|rules", required=True)
    latency = commands.add_parser("latency", help="sample on the bus -> action applied in a local connector")
    latency.add_argument("--rate", type=int, default=1000, help="samples/s in the background (default 1000)")
    latency.add_argument("--faults", type=int, default=300, help="measurements (default 300)")
    latency.add_argument("--kafka", metavar="HOST:PORT", default="", help="through Kafka and Faust (default: embedded)")
    latency.add_argument("--json", action="store_true", help="print JSON")
    latency.set_defaults(handler=run)
    bench_rules.register(commands)


def run(args: argparse.Namespace) -> int:
    """Measure and print; 1 when a fault saw no action."""
    from pipeline.bench.latency import Plan, measure

    with tempfile.TemporaryDirectory(prefix="reflexarc-bench-") as directory:
        result = asyncio.run(measure(Plan(rate=args.rate, faults=args.faults, kafka=args.kafka), Path(directory)))
    figures = result.to_json()
    if args.json:
        print_json({"runtime": "kafka" if args.kafka else "embedded", **figures, **_setting()})
    else:
        print(f"sample on the bus -> action applied, {'Kafka + Faust' if args.kafka else 'embedded'}:")
        for name, value in (figures | _setting()).items():
            print(f"  {name:<14} {value}")
    return 1 if result.missing else 0


def _setting() -> dict[str, Any]:
    return {
        "command": shlex.join(["reflexarc", *sys.argv[1:]]),
        "machine": f"{os.cpu_count()} x {platform.machine()}, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": ", ".join([f"reflexarc {__version__}", *(f"{name} {version(name)}" for name in PACKAGES)]),
    }

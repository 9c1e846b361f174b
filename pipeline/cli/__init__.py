"""The command `reflexarc`: arguments in, text or JSON out.

Exit codes: 0 fine, 1 found problems (or the thing asked for is not there), 2 usage. Only the module of the command that was typed is imported.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final

from pipeline import __version__
from pipeline.cli.output import fail

COMMANDS: Final = {
    "demo": ("pipeline.cli.demo", "see it heal a real system: Envoy, local processes, load"),
    "run": ("pipeline.cli.run", "run the pipeline on a configuration"),
    "ship": ("pipeline.cli.ship", "send a file or stdin as signals"),
    "incidents": ("pipeline.cli.incidents", "list and show incidents"),
    "explain": ("pipeline.cli.explain", "why something was done, or was not"),
    "rules": ("pipeline.cli.rules", "check, list and export rules"),
    "query": ("pipeline.cli.query", "ask a PromQL question, of a running pipeline or of a file of samples"),
    "config": ("pipeline.cli.config", "check a configuration, print its JSON schema"),
    "connectors": ("pipeline.cli.connectors", "list connectors, check the configured ones"),
    "pause": ("pipeline.cli.control", "apply nothing from now on (works with everything else down)"),
    "resume": ("pipeline.cli.control", "end a pause"),
    "overrides": ("pipeline.cli.control", "list what of ours is in force, release it"),
    "bench": ("pipeline.cli.bench", "measure latency on this machine"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser(arguments)
    args = parser.parse_args(arguments)
    handler: Callable[[argparse.Namespace], int] | None = getattr(args, "handler", None)
    if handler is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        return handler(args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `reflexarc ... | head`
        sys.stderr.close()
        return 0
    except _foreseen() as error:  # evaluated only when something was raised
        return fail(str(error) or type(error).__name__)


def _foreseen() -> tuple[type[Exception], ...]:
    """What a person has to change or wait for: wrong files, a full disk, a store or bus that is away. Anything else is a bug, and shown whole."""
    import sqlite3

    from pipeline.app.settings import SettingsError
    from pipeline.ports.connector import ConnectorError
    from pipeline.record.errors import StoreError

    clients = sys.modules.get("aiokafka.errors")  # nobody raises Kafka's errors who has not loaded them
    kafka = (clients.KafkaError,) if clients else ()
    return (SettingsError, StoreError, ConnectorError, OSError, sqlite3.Error, *kafka)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reflexarc",
        description="Event-driven observability and auto-remediation. Start with: reflexarc demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n" + "\n".join(f"  {name:<11} {summary}" for name, (_, summary) in COMMANDS.items()),
    )
    parser.add_argument("--version", action="version", version=f"reflexarc {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", dest="command", help="see below")
    typed = next((word for word in arguments if not word.startswith("-")), None)
    modules = {COMMANDS[typed][0]} if typed in COMMANDS else {module for module, _ in COMMANDS.values()}
    for module in sorted(modules):
        import_module(module).register(subparsers)
    return parser

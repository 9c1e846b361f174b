"""`reflexarc run`: the pipeline itself."""

from __future__ import annotations

import argparse
import asyncio
from typing import Final

from pipeline.cli.output import DEFAULT_CONFIG, config_path

ROLES: Final = ("detect", "remediate", "execute", "record", "gateway")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("run", help="run the pipeline on a configuration")
    parser.add_argument("--config", metavar="FILE", help=f"configuration file (default: {DEFAULT_CONFIG})")
    parser.add_argument("--role", action="append", choices=ROLES, help="run only this role (repeatable; default: all)")
    parser.add_argument("--log-format", choices=("text", "json"), default="text")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; 1 when the configuration or the rules are refused."""
    from pipeline import app

    return asyncio.run(app.run(config_path(args.config), roles=args.role or ROLES, log_format=args.log_format))

"""`reflexarc connectors list|check`: what can be changed, and whether the configured systems answer."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from pipeline.cli.output import add_common, config_path, print_json, print_table
from pipeline.ports.connector import Connector, ConnectorError, ConnectorInfo


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    parser = subparsers.add_parser("connectors", help="list connectors, check the configured ones")
    commands = parser.add_subparsers(metavar="list|check", required=True)
    listing = commands.add_parser("list", help="every kind of connector, its verbs and how it keeps a stale executor out")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(handler=run_list)
    checking = commands.add_parser("check", help="read from every configured connector")
    add_common(checking)
    checking.set_defaults(handler=run_check)


def run_list(args: argparse.Namespace) -> int:
    """Print what each kind says of itself."""
    from connectors import registry

    infos = [registry.info(kind) for kind in registry.kinds()]
    if args.json:
        print_json([_info(info) for info in infos])
    else:
        print_table(
            ("KIND", "VERBS", "FENCE", "STABILITY", "WHAT"), [(i.name, ", ".join(i.verbs), i.fence.value, i.stability, i.summary) for i in infos]
        )
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Discover through each configured connector; 1 when one does not answer."""
    from pipeline.app import load_config, open_connectors

    async def check() -> list[dict[str, Any]]:
        opened = open_connectors(load_config(config_path(args.config)))
        try:
            return [await _check(name, connector) for name, connector in sorted(opened.items())]
        finally:
            for connector in opened.values():
                await connector.close()

    results = asyncio.run(check())
    if args.json:
        print_json(results)
    else:
        print_table(
            ("CONNECTOR", "KIND", "STATE", "FOUND"), [(r["name"], r["kind"], r["error"] or "ok", ", ".join(r["targets"]) or "-") for r in results]
        )
    return 1 if any(result["error"] for result in results) else 0


async def _check(name: str, connector: Connector) -> dict[str, Any]:
    targets, error = [], ""
    try:
        targets = [str(found.target) for found in await connector.discover()]
        for found in await connector.discover():
            await connector.read(found.target)
    except ConnectorError as problem:
        error = str(problem)
    return {"name": name, "kind": connector.info.name, "error": error, "targets": targets}


def _info(info: ConnectorInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "summary": info.summary,
        "verbs": {verb: list(kinds) for verb, kinds in info.verbs.items()},
        "invertible": sorted(info.invertible),
        "fence": info.fence.value,
        "permissions": list(info.permissions),
        "crash": info.crash,
        "stability": info.stability,
        "config_schema": info.config_model.model_json_schema(),
    }

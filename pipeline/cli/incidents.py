"""`reflexarc incidents list|show`."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from typing import Any

from pipeline.cli import story, telling
from pipeline.cli.output import add_common, fail, print_json, print_table, printable, when, with_store
from pipeline.ports.record import RecordStore

OPEN_STATES = ["open", "acting", "verifying", "escalated"]


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    parser = subparsers.add_parser("incidents", help="list and show incidents")
    commands = parser.add_subparsers(metavar="list|show", required=True)
    listing = commands.add_parser("list", help="newest first")
    listing.add_argument("--open", action="store_true", help="only those that have not ended")
    listing.add_argument("--service", help="only of this service")
    listing.add_argument("--limit", type=int, default=20)
    add_common(listing)
    listing.set_defaults(handler=run_list)
    showing = commands.add_parser("show", help="one incident with its timeline")
    showing.add_argument("id", help="incident id, or `last`")
    add_common(showing)
    showing.set_defaults(handler=run_show)


def run_list(args: argparse.Namespace) -> int:
    """Print a line each."""
    where: dict[str, Any] = ({"state": OPEN_STATES} if args.open else {}) | ({"service": args.service} if args.service else {})

    async def read(store: RecordStore) -> list[Mapping[str, Any]]:
        return [document.body for document in (await store.search("incidents", where=where, limit=args.limit)).documents]

    incidents = asyncio.run(with_store(args, read))
    if args.json:
        print_json(incidents)
    else:
        rows = [(i["id"], i["state"], i["service"], when(i["opened_at_ms"]), when(i["resolved_at_ms"]), i["title"]) for i in incidents]
        print_table(("ID", "STATE", "SERVICE", "OPENED", "ENDED", "TITLE"), rows)
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Print one; 1 when there is none."""

    async def read(store: RecordStore) -> story.Story | None:
        return await story.find(store, args.id)

    found = asyncio.run(with_store(args, read))
    if found is None or not found.incidents:
        return fail(f"no incident {args.id!r}; `reflexarc incidents list` shows what there is")
    if args.json:
        print_json(found.to_json())
        return 0
    incident = found.incidents[0]
    print(f"{printable(incident['title'])}  [{incident['state']}]  {incident['id']}  opened {when(incident['opened_at_ms'])}")
    opened_ms = incident["opened_at_ms"]
    print_table(("WHEN", "WHAT", "ID"), [(telling.offset(at_ms, opened_ms), what, id_) for at_ms, what, id_ in incident["timeline"]])
    telling.tell(found)
    return 0

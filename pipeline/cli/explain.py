"""`reflexarc explain ID`: why something was done, or was not."""

from __future__ import annotations

import argparse
import asyncio

from pipeline.cli import story, telling
from pipeline.cli.output import add_common, fail, print_json, with_store
from pipeline.ports.record import RecordStore


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("explain", help="why something was done, or was not")
    parser.add_argument(
        "subject",
        nargs="?",
        default="last",
        help="incident, alert or action id, or the name of a service, policy, alert or rule (default: the last incident)",
    )
    add_common(parser)
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Print the story; 1 when nothing is known of the subject."""

    async def read(store: RecordStore) -> story.Story | None:
        return await story.find(store, args.subject)

    found = asyncio.run(with_store(args, read))
    if found is None:
        return fail(f"nothing on record about {args.subject!r}; `reflexarc incidents list` shows what there is")
    if args.json:
        print_json(found.to_json())
    else:
        telling.tell(found)
    return 0

"""`reflexarc pause|resume` and `reflexarc overrides list|release`: an operator's hand on what the pipeline may do and has done."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import logging
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pipeline.cli.output import add_common, config_path, fail, print_json, print_table, when, with_store
from pipeline.model import wire
from pipeline.model.records import Command, stable_id
from pipeline.ports.bus import COMMANDS, OutRecord
from pipeline.ports.record import RecordStore

ANNOUNCE_SECONDS = 3.0
DATA_DIR: Final = ".reflexarc"  # the configuration's default; reading it from there would cost the kill switch a second


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    pausing = subparsers.add_parser("pause", help="apply nothing from now on (works with everything else down)")
    pausing.add_argument("--reason", default="", help="why, for those who find it paused")
    add_common(pausing)
    pausing.set_defaults(handler=run_pause)
    resuming = subparsers.add_parser("resume", help="end a pause")
    add_common(resuming)
    resuming.set_defaults(handler=run_resume)
    overrides = subparsers.add_parser("overrides", help="list what of ours is in force, release it")
    commands = overrides.add_subparsers(metavar="list|release", required=True)
    listing = commands.add_parser("list", help="every change of ours now in force")
    add_common(listing)
    listing.set_defaults(handler=run_list)
    releasing = commands.add_parser("release", help="undo one, if it is still what we wrote")
    releasing.add_argument("id", help="override id, from `overrides list`")
    add_common(releasing)
    releasing.set_defaults(handler=run_release)


def run_pause(args: argparse.Namespace) -> int:
    """Write the kill switch, then tell the bus if it can be reached."""
    from pipeline.execute.switch import pause

    pause(data_dir(config_path(args.config)), by=identity(), why=args.reason, at_ms=_now_ms())
    heard = _announce(args, "pause", {"reason": args.reason})
    return _report(
        args, {"paused": True, "announced": heard}, f"paused: nothing is applied from now on{_untold(heard)}; end it with `reflexarc resume`"
    )


def run_resume(args: argparse.Namespace) -> int:
    """Remove the kill switch; 1 when it was not set."""
    from pipeline.execute.switch import resume

    was_paused = resume(data_dir(config_path(args.config)))
    heard = _announce(args, "resume", {})
    code = _report(
        args, {"paused": False, "was_paused": was_paused, "announced": heard}, f"resumed{_untold(heard)}" if was_paused else "it was not paused"
    )
    return code if was_paused else 1


def run_list(args: argparse.Namespace) -> int:
    """Print overrides in force."""
    overrides = asyncio.run(with_store(args, _in_force))
    if args.json:
        print_json(overrides)
    else:
        rows = [(o["id"], o["target"], o["verb"], str(o["value"]), o["owner"], when(o["at_ms"]), when(o["expires_at_ms"])) for o in overrides]
        print_table(("ID", "TARGET", "VERB", "VALUE", "OWNER", "SINCE", "EXPIRES"), rows)
    return 0


def run_release(args: argparse.Namespace) -> int:
    """Order a release; the pipeline checks that the value is still ours before it undoes it."""
    override = next((o for o in asyncio.run(with_store(args, _in_force)) if o["id"] == args.id), None)
    if override is None:
        return fail(f"no override {args.id!r} in force; `reflexarc overrides list` shows those that are")
    if not _announce(args, "release", {"id": args.id}, group=override["group"]):
        return fail("the bus cannot be reached; is the configuration right?")
    return _report(args, {"ordered": True, "id": args.id}, f"release of {override['target']} ordered; follow it with `reflexarc explain {args.id}`")


async def _in_force(store: RecordStore) -> list[Mapping[str, Any]]:
    page = await store.search("overrides", where={"released_at_ms": 0}, limit=1000)
    now_ms = _now_ms()
    return [d.body for d in page.documents if not d.body["expires_at_ms"] or d.body["expires_at_ms"] > now_ms]


def data_dir(path: Path) -> Path:
    """Where the kill switch lies.

    Found without loading the pipeline, without secrets, and while other parts of the configuration are wrong: who pauses is in a hurry.
    """
    from pipeline.rulebook.problems import SourceText
    from pipeline.rulebook.yaml_source import Mapping as Node
    from pipeline.rulebook.yaml_source import Scalar, read_documents

    try:
        documents, _ = read_documents(SourceText(str(path), path.read_text(encoding="utf-8-sig")))
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(fail(f"{path}: {error}; name the configuration with --config")) from error
    root = documents[0] if documents else None
    written = root.get("data_dir") if isinstance(root, Node) else None
    if isinstance(root, Node) and (written is None or (isinstance(written, Scalar) and "${" not in written.text)):
        return path.parent / Path(written.text if isinstance(written, Scalar) else DATA_DIR).expanduser()
    from pipeline.app import SettingsError, load_config

    try:
        return load_config(path).data_dir
    except SettingsError as error:
        raise SystemExit(fail(str(error))) from error


def identity() -> str:
    """Who gives this order: user and host."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _announce(args: argparse.Namespace, kind: str, more: Mapping[str, Any], *, group: str = "") -> bool:
    """Publish the command for the record; False when the bus cannot be reached in time."""
    from pipeline.app import load_config, open_bus

    async def publish() -> None:
        bus = await open_bus(load_config(config_path(args.config)))
        try:
            at_ms = _now_ms()
            command = Command(id=stable_id(kind, identity(), at_ms), kind=kind, identity=identity(), at_ms=at_ms, group=group, args=more)
            await bus.publish([OutRecord(COMMANDS, group, wire.encode(command))])
        finally:
            await bus.close()

    logging.basicConfig(handlers=[logging.NullHandler()])  # what clients log about a bus that is away is summed up in one word
    try:
        asyncio.run(asyncio.wait_for(publish(), ANNOUNCE_SECONDS))
    except Exception:  # noqa: BLE001 - a wrong configuration or whatever the bus has: the answer is that nobody was told
        return False
    return True


def _untold(heard: bool) -> str:
    return "" if heard else " (the bus could not be told; the switch works without it)"


def _report(args: argparse.Namespace, value: Mapping[str, Any], text: str) -> int:
    if args.json:
        print_json(value)
    else:
        print(text)
    return 0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

"""How commands print: one JSON document with `--json`, else text; times as people read them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pipeline.ports.record import RecordStore

T = TypeVar("T")
DEFAULT_CONFIG = "reflexarc.yaml"


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A header and rows, columns as wide as their widest cell."""
    table = [list(columns), *([printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in table) for index in range(len(columns))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def printable(text: str) -> str:
    """The text without control characters: what came from outside must not steer the terminal of who reads it. Line ends stay."""
    return "".join(character if character.isprintable() or character == "\n" else "\N{REPLACEMENT CHARACTER}" for character in text)


def fail(message: str) -> int:
    """Say what is wrong on stderr; exit code 1."""
    print(f"reflexarc: {message}", file=sys.stderr)
    return 1


def when(at_ms: int) -> str:
    """Local time with milliseconds, `-` for never."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] if at_ms else "-"


def config_path(given: str | None) -> Path:
    """The configuration file: as given, else `reflexarc.yaml` here."""
    return Path(given or DEFAULT_CONFIG)


def add_common(parser: argparse.ArgumentParser) -> None:
    """The options of every command that reads what the pipeline stored."""
    parser.add_argument("--config", metavar="FILE", help=f"configuration file (default: {DEFAULT_CONFIG})")
    parser.add_argument("--json", action="store_true", help="print JSON")


async def with_store(args: argparse.Namespace, read: Callable[[RecordStore], Awaitable[T]]) -> T:
    """Open the configured record store, read, close. Ends the command with a sentence when the configuration is wrong or the store is away."""
    from pipeline.app import SettingsError, load_config, open_store
    from pipeline.record.errors import StoreError

    try:
        store = await open_store(load_config(config_path(args.config)))
    except SettingsError as error:
        raise SystemExit(fail(str(error))) from error
    try:
        return await read(store)
    except StoreError as error:
        raise SystemExit(fail(str(error))) from error
    finally:
        await store.close()

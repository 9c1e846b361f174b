"""How commands print: one JSON document with `--json`, else text; times as people read them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

DEFAULT_CONFIG = "reflexarc.yaml"


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as their widest cell; the header only on a terminal or when there are rows."""
    table = [list(columns), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in table) for index in range(len(columns))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


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

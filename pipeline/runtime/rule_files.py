"""Reading what users write from disk: rule files below paths, and the secrets that a configuration refers to.

Guarantees: files come sorted; below a folder, tests (`*.test.yaml`, `*_test.yml`), hidden files and `reflexarc.yaml` are left out; an unreadable
path is an error that names it, never a silently shorter rule book.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

_ENDINGS: Final = (".yaml", ".yml")
_TEST_ENDINGS: Final = (".test.yaml", ".test.yml", "_test.yaml", "_test.yml")
_CONFIGURATION: Final = frozenset({"reflexarc.yaml", "reflexarc.yml"})  # may lie beside the rules
_MAX_BYTES: Final = 16 * 1024 * 1024


class UnreadableError(Exception):
    """A path that cannot be read as text; the message names it and says why."""


def read_rule_files(paths: Iterable[str | Path]) -> Mapping[str, str]:
    """Texts of all rule files at the given files and below the given folders, by path.

    Raises:
        UnreadableError: a path that does not exist, may not be read, is too large or is not UTF-8.
    """
    found: dict[str, str] = {}
    for path in map(Path, paths):
        for file in _files(path):
            found[str(file)] = read_text(file)
    return dict(sorted(found.items()))


def read_text(path: Path) -> str:
    """One file's text.

    Raises:
        UnreadableError: as `read_rule_files`.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UnreadableError(f"{path}: larger than {_MAX_BYTES} bytes")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UnreadableError(f"{path}: not UTF-8 (byte {error.start})") from error


def secret_reader(base: Path) -> Callable[[str, str], str | None]:
    """Looks up `${env:NAME}` and `${file:PATH}` (relative to `base`, without the line end); None where there is nothing to be had."""

    def read(kind: str, name: str) -> str | None:
        if kind == "env":
            return os.environ.get(name)
        try:
            return read_text(base / Path(name).expanduser()).rstrip("\r\n")
        except UnreadableError:
            return None

    return read


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]  # named by the user: read whatever its ending
    return sorted(file for file in path.rglob("*") if _is_rule_file(file.relative_to(path)) and file.is_file())


def _is_rule_file(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and path.name not in _CONFIGURATION and path.name.endswith(_ENDINGS) and not path.name.endswith(_TEST_ENDINGS)

"""From YAML nodes to plain values, and from a value back to its place in the file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from collections.abc import Sequence as PySequence
from typing import Any, Final

from pipeline.rulebook.problems import Position, SourceText
from pipeline.rulebook.yaml_source import Mapping, Node, Scalar, Sequence

_INT: Final = re.compile(r"[-+]?(?:0x[0-9a-fA-F_]+|0o[0-7_]+|0b[01_]+|[0-9][0-9_]*)")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL: Final = {".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}
_BOOLS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_MAX_DIGITS: Final = 400
_BLANK_ESCAPES: Final = frozenset("tnvfr N_LP\t\n\r")  # those that stand for white space


def plain(node: Node) -> Any:
    """The node as dict, list, str, int, float, bool or None."""
    match node:
        case Mapping():
            return {name: plain(value) for name, (_, value) in node.entries.items()}
        case Sequence():
            return [plain(item) for item in node.items]
        case Scalar():
            return _scalar_value(node)


def integer(text: str) -> int | None:
    """The integer that a plain scalar means: decimal, 0x, 0o, 0b, and a leading 0 for octal; None where it means none."""
    if len(text) > _MAX_DIGITS or not _INT.fullmatch(text):
        return None
    body = text.replace("_", "")
    sign, digits = (-1, body[1:]) if body[0] == "-" else (1, body.lstrip("+"))
    base = {"0x": 16, "0o": 8, "0b": 2}.get(digits[:2].lower())
    if base is None:
        base = 8 if len(digits) > 1 and digits[0] == "0" and not set(digits) & {"8", "9"} else 10
    try:
        return sign * int(digits, base)
    except ValueError:
        return None


def _scalar_value(node: Scalar) -> Any:
    if node.is_null:
        return None
    if node.style or node.tag == "str":
        return node.text
    if node.text in _BOOLS:
        return _BOOLS[node.text]
    number = _number(node.text)
    return node.text if number is None else number


def _number(text: str) -> float | None:
    whole = integer(text)
    if whole is not None:
        return whole
    if text.lower() in _SPECIAL:
        return _SPECIAL[text.lower()]
    if len(text) <= _MAX_DIGITS and _FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    return None


def descend(node: Node, path: PySequence[str | int]) -> tuple[Node, Position, list[str | int]]:
    """Follow a path as far as it leads, skipping parts that are not in the file (pydantic names union members in its paths).

    Returns the node reached, the place to point at (its key, where it has one) and the path really taken.
    """
    at, taken = node.at, []
    for part in path:
        if isinstance(node, Mapping) and str(part) in node.entries:
            key, node = node.entries[str(part)]
            at = key.at
        elif isinstance(node, Sequence) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
            at = node.at
        else:
            continue
        taken.append(part)
    return node, at, taken


def at_offset(source: SourceText, node: Scalar, offset: int) -> Position:
    """The place in the file of a character of a scalar's text."""
    line_start = node.text.rfind("\n", 0, offset) + 1
    return inside(source, node, node.text.count("\n", 0, offset) + 1, offset - line_start + 1)


def inside(source: SourceText, node: Scalar, line: int, column: int) -> Position:
    """The place in the file of a place inside a scalar's text (1-based), whatever its style: block, folded, quoted or plain."""
    lines = node.text.split("\n")
    before = "\n".join([*lines[: line - 1], (lines[line - 1] if line <= len(lines) else "")[: max(column - 1, 0)]])
    wanted = sum(not char.isspace() for char in before)
    last: int | None = None
    for count, offset in enumerate(_ink(source, node)):
        last = offset
        if count == wanted:
            return source.position(offset)
    return source.position(last + 1) if last is not None else node.at


def _ink(source: SourceText, node: Scalar) -> Iterator[int]:
    """Offsets in the file of the characters of a scalar that are not white space, in order."""
    text, offset = source.text, source.offset(node.at)
    properties = re.compile(r"(?:[&!]\S*\s+)*").match(text, offset)
    offset = properties.end() if properties else offset
    if node.style in {"|", ">"}:
        offset = text.find("\n", offset) + 1
    elif node.style:
        offset += 1
    total = sum(not char.isspace() for char in node.text)
    while total and offset < len(text):
        if node.style == '"' and text[offset] == "\\":
            start, offset, visible = _escape(text, offset)
        else:
            start, visible = offset, not text[offset].isspace()
            offset += 2 if node.style == "'" and text.startswith("''", offset) else 1
        if visible:
            total -= 1
            yield start


def _escape(text: str, offset: int) -> tuple[int, int, bool]:
    """A double-quoted escape: its start, its end, and whether it stands for something visible."""
    code = text[offset + 1 : offset + 2]
    length = {"x": 4, "u": 6, "U": 10}.get(code, 2)
    if length == 2:
        return offset, offset + 2, code not in _BLANK_ESCAPES
    try:
        visible = not chr(int(text[offset + 2 : offset + length], 16)).isspace()
    except ValueError:
        visible = True
    return offset, offset + length, visible

"""fmt.Sprintf for the values that templates know.

Guarantee: never raises for a wrong verb or a missing argument; the text says so in Go's own way (`%!d(string=x)`). Width and precision are bounded.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.detect.gotmpl.values import shortest, shown, type_name

_VERB = re.compile(r"%(?P<flags>[-+# 0]*)(?P<width>\d+|\*)?(?:(?P<dot>\.)(?P<prec>\d+|\*)?)?(?P<verb>.)?", re.DOTALL)
_MAX_WIDTH = 1000


class _Spec(NamedTuple):
    flags: str
    width: int
    prec: int | None
    verb: str


def sprintf(text: str, args: Sequence[Any]) -> str:
    """Fill in a format."""
    out: list[str] = []
    position = used = 0
    while (start := text.find("%", position)) >= 0:
        out.append(text[position:start])
        found = _VERB.match(text, start)
        if found is None or found["verb"] is None:
            out.append("%!(NOVERB)")
            position = len(text)
            break
        position = found.end()
        if found["verb"] == "%":
            out.append("%")
            continue
        spec, used = _spec(found, args, used)
        if used >= len(args):
            out.append(f"%!{spec.verb}(MISSING)")
            continue
        out.append(_padded(spec, _formatted(spec, args[used]), args[used]))
        used += 1
    out.append(text[position:])
    if used < len(args):
        out.append("%!(EXTRA " + ", ".join(f"{type_name(arg)}={shown(arg)}" for arg in args[used:]) + ")")
    return "".join(out)


def _spec(found: re.Match[str], args: Sequence[Any], used: int) -> tuple[_Spec, int]:
    flags, width, prec = found["flags"], 0, None
    if found["width"] == "*":
        width, used = _star(args, used)
        flags, width = (flags + "-", -width) if width < 0 else (flags, width)
    elif found["width"]:
        width = int(found["width"])
    if found["dot"]:
        prec = 0
        if found["prec"] == "*":
            prec, used = _star(args, used)
        elif found["prec"]:
            prec = int(found["prec"])
    return _Spec(flags, min(width, _MAX_WIDTH), None if prec is None else min(prec, _MAX_WIDTH), found["verb"]), used


def _star(args: Sequence[Any], used: int) -> tuple[int, int]:
    if used < len(args) and isinstance(args[used], int):
        return int(args[used]), used + 1
    return 0, used + 1


def _formatted(spec: _Spec, value: Any) -> str:
    if spec.verb == "v":
        return _number(spec, shown(value), value) if isinstance(value, int | float) else shown(value)
    if spec.verb == "T":
        return type_name(value)
    if isinstance(value, bool):
        text = shown(value) if spec.verb == "t" else None
    elif isinstance(value, str):
        text = _string(spec, value)
    elif isinstance(value, int):
        text = _integer(spec, value)
    elif isinstance(value, float):
        text = _float(spec, value)
    else:
        text = shown(value) if spec.verb == "s" else None
    return f"%!{spec.verb}({type_name(value)}={shown(value)})" if text is None else text


def _string(spec: _Spec, value: str) -> str | None:
    match spec.verb:
        case "s":
            return value if spec.prec is None else value[: spec.prec]
        case "q":
            return f"`{value}`" if "#" in spec.flags and "`" not in value else json.dumps(value, ensure_ascii=False)
        case "x":
            return value.encode().hex()
        case "X":
            return value.encode().hex().upper()
        case _:
            return None


def _integer(spec: _Spec, value: int) -> str | None:
    match spec.verb:
        case "d":
            return _number(spec, str(value), value)
        case "x" | "X" | "o" | "b":
            digits = format(abs(value), spec.verb)
            prefix = {"x": "0x", "X": "0X", "o": "0", "b": "0b"}[spec.verb] if "#" in spec.flags else ""
            return _number(spec, ("-" if value < 0 else "") + prefix + digits, value)
        case "c":
            return chr(value) if 0 <= value <= 0x10FFFF else "\ufffd"
        case "q":
            return f"'{chr(value)}'" if 0 <= value <= 0x10FFFF else "'\ufffd'"
        case "U":
            return f"U+{value:04X}"
        case _:
            return None


def _float(spec: _Spec, value: float) -> str | None:
    if spec.verb not in "eEfFgG":
        return None
    if not math.isfinite(value):
        return _number(spec, shortest(value).lstrip("+"), value)
    if spec.verb in "gG" and spec.prec is None:
        return _number(spec, shortest(value, upper=spec.verb == "G"), value)
    alternate = "#" if "#" in spec.flags else ""
    precision = 6 if spec.prec is None else spec.prec
    return _number(spec, format(value, f"{alternate}.{precision}{spec.verb}"), value)


def _number(spec: _Spec, text: str, value: float) -> str:
    """Sign flags."""
    if math.isinf(value) and value > 0 and not text.startswith("+"):
        return "+" + text
    if text.startswith(("-", "+")) or math.isnan(value):
        return text
    return ("+" if "+" in spec.flags else " " if " " in spec.flags else "") + text


def _padded(spec: _Spec, text: str, value: Any) -> str:
    missing = spec.width - len(text)
    if missing <= 0:
        return text
    if "-" in spec.flags:
        return text + " " * missing
    if "0" in spec.flags and not (isinstance(value, float) and not math.isfinite(value)):
        sign = text[0] if isinstance(value, int | float) and text[0] in "+-" else ""
        return sign + "0" * missing + text[len(sign) :]
    return " " * missing + text

"""A light scan of expression text before the parser sees it.

Owns the limits that keep hostile text from the (recursive, native) parser, and what the parser library loses: the instants of `@`.
Guarantee: `scan` raises ExprError instead of letting text through that could exhaust a stack.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from pipeline.promql.errors import ExprError

MAX_LENGTH: Final = 65_536
MAX_TOKENS: Final = 2_000
MAX_NESTING: Final = 60
MAX_OPERATORS: Final = 300  # nesting and operators together bound the depth of the tree; the library was seen to overflow 1 MiB of stack above 500

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
      |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)
      |(?P<word>[A-Za-z_:][\w:]*)
      |(?P<number>0[xX][0-9a-fA-F_]+|(?:\d[\d_]*\.?[\d_]*|\.\d+)(?:[eE][+-]?\d+)?(?:(?:ms|[smhdwy])(?:\d+(?:ms|[smhdwy]))*)?)
      |(?P<op>==|!=|>=|<=|=~|!~|[-+*/%^<>=@,:(){}\[\]])
      |(?P<bad>.)""",
    re.VERBOSE | re.DOTALL,
)
_BYTE_ESCAPE: Final = re.compile(r"(?<!\\)(?:\\\\)*(\\x[89a-fA-F][0-9a-fA-F]|\\[23][0-7]{2})")
_OPERATORS: Final = frozenset({"+", "-", "*", "/", "%", "^", "==", ">", "<", ">=", "<=", "!=", "and", "or", "unless", "atan2"})
_OPEN: Final = {"(": ")", "[": "]", "{": "}"}
_CLOSE: Final = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True, slots=True)
class Token:
    """One token of the text; `kind` is string, word, number, op or bad."""

    kind: str
    text: str
    start: int


def position(text: str, index: int) -> tuple[int, int]:
    """1-based line and column of a place in the text."""
    line_start = text.rfind("\n", 0, index) + 1
    return text.count("\n", 0, index) + 1, index - line_start + 1


def error_at(message: str, text: str, index: int) -> ExprError:
    """An ExprError that names the place."""
    line, column = position(text, index)
    return ExprError(message, line=line, column=column)


def scan(text: str) -> list[Token]:
    """The tokens of an expression, after its limits are checked.

    Raises:
        ExprError: empty, too long, too deeply nested, brackets that do not match, an unfinished string.
    """
    if len(text) > MAX_LENGTH:
        raise ExprError(f"expression is longer than {MAX_LENGTH} characters")
    tokens = [Token(match.lastgroup or "bad", match.group(), match.start()) for match in _TOKEN.finditer(text) if match.lastgroup != "space"]
    if not tokens:
        raise ExprError("expression is empty")
    if len(tokens) > MAX_TOKENS:
        raise error_at(f"expression has more than {MAX_TOKENS} tokens", text, tokens[MAX_TOKENS].start)
    _check_strings(text, tokens)
    _check_brackets(text, tokens)
    _check_operators(text, tokens)
    return tokens


def _check_operators(text: str, tokens: list[Token]) -> None:
    operators = [token for token in tokens if token.text in _OPERATORS]
    if len(operators) > MAX_OPERATORS:
        raise error_at(f"expression has more than {MAX_OPERATORS} operators", text, operators[MAX_OPERATORS].start)


def _check_strings(text: str, tokens: list[Token]) -> None:
    """Refuse byte escapes above 0x7f: the parser reads them as code points, Prometheus as bytes of UTF-8."""
    for token in tokens:
        if token.kind == "string" and token.text[0] != "`":
            escape = _BYTE_ESCAPE.search(token.text)
            if escape is not None:
                raise error_at(f"{escape[0]!r} is not valid UTF-8 by itself; write the character, or \\u and its code point", text, token.start)


def _check_brackets(text: str, tokens: list[Token]) -> None:
    opened: list[Token] = []
    for token in tokens:
        if token.kind == "bad":
            what = "unfinished string" if token.text in {'"', "'", "`"} else f"unexpected character {token.text!r}"
            raise error_at(what, text, token.start)
        if token.kind != "op":
            continue
        if token.text in _OPEN:
            opened.append(token)
            if len(opened) > MAX_NESTING:
                raise error_at(f"expression is nested deeper than {MAX_NESTING} levels", text, token.start)
        elif token.text in _CLOSE and (not opened or opened.pop().text != _CLOSE[token.text]):
            raise error_at(f"unexpected {token.text!r}", text, token.start)
    if opened:
        raise error_at(f"{opened[-1].text!r} is never closed", text, opened[-1].start)


def at_instants(text: str, tokens: list[Token]) -> list[int | None]:
    """The instants (ms) of all `@` modifiers in order of the text; None for `@ start()` and `@ end()`."""
    found: list[int | None] = []
    for index, token in enumerate(tokens):
        if token.kind != "op" or token.text != "@":
            continue
        sign, rest = 1.0, tokens[index + 1 : index + 3]
        if rest and rest[0].kind == "op" and rest[0].text in {"-", "+"}:
            sign, rest = (-1.0 if rest[0].text == "-" else 1.0), rest[1:]
        if rest and rest[0].kind == "number":
            found.append(_instant_ms(sign * _number(rest[0].text), text, token.start))
        elif rest and rest[0].text.lower() in {"inf", "nan"}:
            raise error_at("timestamp of @ is out of bounds", text, token.start)
        else:
            found.append(None)
    return found


def _instant_ms(seconds: float, text: str, index: int) -> int:
    if not math.isfinite(seconds) or abs(seconds) >= 2**53:
        raise error_at("timestamp of @ is out of bounds", text, index)
    return math.floor(seconds * 1000 + 0.5) if seconds >= 0 else -math.floor(-seconds * 1000 + 0.5)


def _number(text: str) -> float:
    clean = text.replace("_", "")
    if clean[:2].lower() == "0x":
        return float(int(clean, 16))
    try:
        return float(clean)
    except ValueError:
        from pipeline.model.duration import parse_duration_ms

        return parse_duration_ms(clean) / 1000

"""Where a syntax error is. The parser library only says that there is one.

A text is wrong at the first token after which no continuation would be accepted. That is searched for by completing prefixes in a
few ways and asking the parser again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from pipeline.promql.errors import ExprError
from pipeline.promql.lexer import Token, error_at

SYNTAX_ERROR: Final = "invalid promql query"
_CLOSING: Final = {"(": ")", "[": "]", "{": "}"}
_FILLS: Final = ("", " x", " 5m", '"x"', '="x"', "(x)", " 1", "5m:")
_TAILS: Final = ("", " x", "(x)", " (x) x", "(x)(x)")


def syntax_error(text: str, tokens: Sequence[Token], is_grammatical: Callable[[str], bool]) -> ExprError:
    """The error for a text that is not grammatical, with its place."""
    good, bad = 0, len(tokens)  # the first `good` tokens can be continued, the first `bad` cannot
    while bad - good > 1:
        middle = (good + bad) // 2
        if _can_continue(text, tokens[:middle], is_grammatical):
            good = middle
        else:
            bad = middle
    if _can_continue(text, tokens[:bad], is_grammatical):
        last = tokens[-1]
        return error_at("syntax error: the expression is not finished", text, last.start + len(last.text))
    culprit = tokens[bad - 1]
    return error_at(f"syntax error: {culprit.text!r} is not expected here", text, culprit.start)


def _can_continue(text: str, tokens: Sequence[Token], is_grammatical: Callable[[str], bool]) -> bool:
    if not tokens:
        return True
    prefix = text[: tokens[-1].start + len(tokens[-1].text)]
    closers = _closers(tokens)
    return any(is_grammatical(prefix + fill + closers + tail) for fill in _FILLS for tail in _TAILS)


def _closers(tokens: Sequence[Token]) -> str:
    opened: list[str] = []
    for token in tokens:
        if token.kind != "op":
            continue
        if token.text in _CLOSING:
            opened.append(_CLOSING[token.text])
        elif opened and token.text == opened[-1]:
            opened.pop()
    return "".join(reversed(opened))

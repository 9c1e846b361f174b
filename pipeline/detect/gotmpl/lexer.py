"""Template text to tokens: plain text, and the words of each action.

Guarantee: trim markers and comments are dealt with here; every token knows its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.detect.gotmpl.errors import TemplateError

_SPACE = " \t\r\n"
_WORD = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    |(?P<string>"(?:[^"\\\n]|\\.)*")
    |(?P<raw>`[^`]*`)
    |(?P<char>'(?:[^'\\\n]|\\.)+')
    |(?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|(?:[0-9][0-9_]*)?\.?[0-9][0-9_]*\.?(?:[eE][+-]?[0-9]+)?))
    |(?P<variable>\$\w*)
    |(?P<field>\.[^\W\d]\w*)
    |(?P<dot>\.)
    |(?P<name>[^\W\d]\w*)
    |(?P<declare>:=)
    |(?P<assign>=)
    |(?P<pipe>\|)
    |(?P<open>\()
    |(?P<close>\))
    |(?P<comma>,)""",
    re.VERBOSE,
)


class Token(NamedTuple):
    """One piece. Kinds: `text`, `begin`, `end` (of an action), and those of `_WORD`."""

    kind: str
    text: str
    line: int


def tokens(source: str) -> Iterator[Token]:
    """All tokens of a template.

    Raises:
        TemplateError: an action that does not end, or a character that has no meaning.
    """
    position, trim_next, line = 0, False, 1
    while True:
        start = source.find("{{", position)
        text = source[position:] if start < 0 else source[position:start]
        plain = text.lstrip(_SPACE) if trim_next else text
        if start < 0:
            yield Token("text", plain, line)
            return
        trim_before = source[start + 2 : start + 3] == "-" and source[start + 3 : start + 4] in set(_SPACE)
        yield Token("text", plain.rstrip(_SPACE) if trim_before else plain, line)
        line += text.count("\n")
        inner = start + (3 if trim_before else 2)
        comment = inner + len(source[inner:]) - len(source[inner:].lstrip(_SPACE)) if trim_before else inner
        if source.startswith("/*", comment):
            position, trim_next = _comment_end(source, comment, line)
        else:
            end, words = _action(source, inner, line)
            yield Token("begin", "{{", line)
            yield from words
            yield Token("end", "}}", line)
            position, trim_next = end
        line += source.count("\n", start, position)


def _comment_end(source: str, start: int, line: int) -> tuple[int, bool]:
    stop = source.find("*/", start)
    if stop < 0:
        raise TemplateError("unclosed comment", line=line)
    rest = source[stop + 2 :]
    if rest.startswith("}}"):
        return stop + 4, False
    stripped = rest.lstrip(_SPACE)
    if rest != stripped and stripped.startswith("-}}"):
        return len(source) - len(stripped) + 3, True
    raise TemplateError("comment ends before closing delimiter", line=line)


def _action(source: str, position: int, line: int) -> tuple[tuple[int, bool], list[Token]]:
    words: list[Token] = []
    while True:
        if source.startswith("}}", position):
            return (position + 2, False), words
        if source.startswith("-}}", position) and source[position - 1] in _SPACE:
            return (position + 3, True), words
        found = _WORD.match(source, position)
        if found is None:
            if position >= len(source):
                raise TemplateError("unclosed action", line=line)
            raise TemplateError(f"unexpected {source[position]!r} in action", line=line)
        words.append(Token(found.lastgroup or "", found[0], line))
        line += found[0].count("\n")
        position = found.end()

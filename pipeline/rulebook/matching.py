"""Alertmanager matchers as far as a check needs them: are they well formed, and which labels do they fix."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from pipeline.series import BadMatcherError, Matcher, MatchOp

_SHAPE: Final = re.compile(
    r'\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*))\s*(?P<op>=~|!~|!=|=)\s*(?P<value>.*?)\s*', re.DOTALL
)
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)


def matcher_problem(text: str) -> str:
    """What is wrong with a matcher text; empty where nothing is."""
    found = _SHAPE.fullmatch(text)
    if found is None:
        return f'not a matcher: {text!r} (write label="value", with = != =~ or !~)'
    value = _unquoted(found["value"])
    if value is None:
        return f"not a matcher: {text!r} (a quote is not closed)"
    try:
        Matcher(found["name"] or found["quoted"], MatchOp(found["op"]), value)
    except BadMatcherError as error:
        return str(error)
    return ""


def equalities(spec: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    """The labels that a block of matchers fixes to one value."""
    if isinstance(spec, Mapping):
        return dict(spec)
    fixed = {}
    for text in spec:
        found = _SHAPE.fullmatch(text)
        value = _unquoted(found["value"]) if found is not None and found["op"] == "=" else None
        if found is not None and value is not None:
            fixed[found["name"] or found["quoted"]] = value
    return fixed


def _unquoted(text: str) -> str | None:
    """A value without its quotes; None where only one is there."""
    if not text.startswith('"'):
        return text
    found = _QUOTED.fullmatch(text)
    return None if found is None else found[1].replace('\\"', '"').replace("\\\\", "\\")

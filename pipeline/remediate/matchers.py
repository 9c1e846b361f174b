"""Alertmanager's matchers: which label sets a policy, silence or inhibition speaks of.

Guarantee: `=~` and `!~` are anchored at both ends and run on RE2 (linear time); a label that is absent has the empty value; all matchers must hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import re2

_SHAPE: Final = re.compile(r'\s*(?P<name>"(?:[^"\\]|\\.)*"|[a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?P<op>=~|!~|!=|=)\s*(?P<value>"(?:[^"\\]|\\.)*"|.*?)\s*')
_ESCAPES: Final = {'\\"': '"', "\\\\": "\\", "\\n": "\n"}


class MatcherError(ValueError):
    """A text that is not a matcher; the message says what would be."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label. `op`: = != =~ !~."""

    name: str
    op: str
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the label's value (absent: empty) satisfies this."""
        actual = labels.get(self.name, "")
        if self.op in {"=", "!="}:
            return (actual == self.value) == (self.op == "=")
        return (_pattern(self.value).fullmatch(actual) is not None) == (self.op == "=~")


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re2._Regexp:
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True  # Go's (?s) in Alertmanager: a value may hold line breaks
    try:
        return re2.compile(f"^(?:{text})$", options)
    except re2.error as error:
        raise MatcherError(f"not a regular expression: {text!r} ({error})") from error


def _unquote(text: str) -> str:
    if not text.startswith('"'):
        return text
    return re.sub(r'\\["\\n]', lambda found: _ESCAPES[found.group()], text[1:-1])


@lru_cache(maxsize=4096)
def parse(text: str) -> Matcher:
    r"""Read one matcher: `severity="critical"`, `service=~"check.*"`, `site!=a`.

    Raises:
        MatcherError: another shape, or a bad regular expression.
    """
    found = _SHAPE.fullmatch(text)
    if found is None:
        raise MatcherError(f'not a matcher: {text!r} (write label="value", with = != =~ or !~)')
    matcher = Matcher(_unquote(found["name"]), found["op"], _unquote(found["value"]))
    if matcher.op in {"=~", "!~"}:
        _pattern(matcher.value)
    return matcher


def of(spec: Mapping[str, str] | Sequence[str]) -> tuple[Matcher, ...]:
    """The matchers of a `when`/`match` block: a mapping means equality, a list holds matcher texts.

    Raises:
        MatcherError: a text that is not a matcher.
    """
    if isinstance(spec, Mapping):
        return tuple(Matcher(name, "=", value) for name, value in spec.items())
    return tuple(parse(text) for text in spec)


def all_match(spec: Mapping[str, str] | Sequence[str], labels: Mapping[str, str]) -> bool:
    """Whether every matcher of the block holds for the labels."""
    return all(matcher.matches(labels) for matcher in of(spec))

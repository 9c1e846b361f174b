"""Label matchers and selectors as PromQL has them: `=`, `!=`, `=~`, `!~`; a missing label matches as the empty string.

Guarantee: regular expressions run on RE2 (linear time) and are anchored at both ends; a dot also matches a newline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final

import re2

from pipeline.model.labels import METRIC_NAME, Labels

_SPECIAL: Final = frozenset("\\.+*?()|[]{}^$")


class BadMatcherError(ValueError):
    """A regular expression that RE2 refuses; the message says why."""


class MatchOp(Enum):
    """How a matcher compares."""

    EQUAL = "="
    NOT_EQUAL = "!="
    REGEX = "=~"
    NOT_REGEX = "!~"


class Matcher:
    """One condition on one label. Immutable; equal by name, operator and text."""

    __slots__ = ("_hash", "_test", "name", "op", "value")

    def __init__(self, name: str, op: MatchOp, value: str) -> None:
        """Raises BadMatcherError for a bad regular expression."""
        self.name = name
        self.op = op
        self.value = value
        self._test = _test(op, value)
        self._hash = hash((name, op, value))

    def matches(self, value: str) -> bool:
        """Whether a label with this value (empty: absent) satisfies the matcher."""
        return self._test(value)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Matcher) and (self.name, self.op, self.value) == (other.name, other.op, other.value)

    def __str__(self) -> str:
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.name}{self.op.value}"{escaped}"'

    def __repr__(self) -> str:
        return f"Matcher({self})"


class Selector:
    """All matchers of one selector; a series is selected if each one matches. Immutable and hashable: stores keep standing look-ups by it."""

    __slots__ = ("_hash", "matchers", "metric_name")

    def __init__(self, matchers: Iterable[Matcher]) -> None:
        self.matchers = tuple(matchers)
        self.metric_name: str | None = next((m.value for m in self.matchers if m.name == METRIC_NAME and m.op is MatchOp.EQUAL), None)
        """The one metric that can match, or None where the name is not fixed by an equality."""
        self._hash = hash(self.matchers)

    def accepts(self, labels: Labels) -> bool:
        """Whether a series with these labels is selected."""
        get = labels.get
        return all(matcher.matches(get(matcher.name, "")) for matcher in self.matchers)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selector) and self.matchers == other.matchers

    def __str__(self) -> str:
        rest = [m for m in self.matchers if not (m.name == METRIC_NAME and m.op is MatchOp.EQUAL and m.value == self.metric_name)]
        inner = "{" + ", ".join(map(str, rest)) + "}" if rest or not self.metric_name else ""
        return f"{self.metric_name or ''}{inner}"

    def __repr__(self) -> str:
        return f"Selector({self})"


def anchored_regex(text: str) -> re2._Regexp:
    """A compiled RE2 program for the whole of a value; use its `fullmatch`.

    Raises:
        BadMatcherError: RE2 cannot compile it.
    """
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    try:
        return re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "invalid"
        reason = reason.decode("utf8", "replace") if isinstance(reason, bytes) else str(reason)
        raise BadMatcherError(f"bad regular expression {text!r}: {reason}") from None


def _test(op: MatchOp, value: str) -> Callable[[str], bool]:
    if op is MatchOp.EQUAL:
        return value.__eq__
    if op is MatchOp.NOT_EQUAL:
        return value.__ne__
    positive = _regex_test(value)
    return positive if op is MatchOp.REGEX else lambda text: not positive(text)


def _regex_test(pattern: str) -> Callable[[str], bool]:
    """The cheapest test for a pattern: alternatives of plain words are a set, `.*` is everything."""
    program = anchored_regex(pattern)
    if pattern == ".*":
        return lambda _text: True
    if pattern == ".+":
        return bool
    words = pattern.split("|")
    if not any(_SPECIAL & set(word) for word in words):
        return frozenset(words).__contains__
    return lambda text: program.fullmatch(text) is not None

"""One Sigma value to one predicate on a field's value.

Rules of the specification: strings compare without case unless `cased`; `*` and `?` are wildcards; regular expressions search, with case unless `i`,
on RE2; numbers equal numbers and their text; null means absent; a list in the record matches when one of its elements does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from operator import ge, gt, le, lt, ne
from typing import Any, Final

import re2
from sigma import types

from pipeline.sigma.errors import SigmaError
from pipeline.signals.errors import DecodeError
from pipeline.signals.instants import instant_ms

Predicate = Callable[[Any], bool]
TextTest = Callable[[str], bool]

_COMPARE: Final = {"LT": lt, "LTE": le, "GT": gt, "GTE": ge, "NEQ": ne}
_FLAGS: Final = {"IGNORECASE": "i", "MULTILINE": "m", "DOTALL": "s"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def predicate(value: Any, *, keyword: bool = False) -> Predicate:
    """The test for `value`, on a field's value (or, as a keyword, on a whole text, where a plain string is contained).

    Raises:
        SigmaError: a value of a kind this engine does not know (placeholders, query expressions).
    """
    if isinstance(value, types.SigmaExpansion):
        parts = [predicate(part, keyword=keyword) for part in value.values]
        return lambda found: any(part(found) for part in parts)
    if isinstance(value, types.SigmaNull):
        return _absent
    if isinstance(value, types.SigmaExists):
        return _present if value.exists else _absent
    return _on_elements(_scalar(value, keyword=keyword))


def _scalar(value: Any, *, keyword: bool) -> Predicate:
    if isinstance(value, types.SigmaString):
        return _on_text(text_test(value, contained=keyword))
    if isinstance(value, types.SigmaRegularExpression):
        return _on_text(_regex(value))
    for kind, build in _KINDS:
        if isinstance(value, kind):
            return build(value)
    raise SigmaError(f"values of kind {type(value).__name__} are not supported")


def text_test(value: Any, *, contained: bool = False) -> TextTest:
    """The test of a Sigma string with its wildcards; `contained`: anywhere in the text.

    Raises:
        SigmaError: a placeholder, which only a backend's pipeline could replace.
    """
    parts = list(value.s)
    if any(isinstance(part, types.Placeholder) for part in parts):
        raise SigmaError("placeholders (modifier expand) are not supported: write the values out")
    star = types.SpecialChars.WILDCARD_MULTI
    if contained:
        parts = [star, *parts, star]
    cased = isinstance(value, types.SigmaCasedString)
    if types.SpecialChars.WILDCARD_SINGLE in parts:
        return _wildcard_regex(parts, cased=cased)
    test = _pieces(parts, star) if cased else _pieces([part if part is star else part.lower() for part in parts], star)
    return test if cased else lambda text: test(text.lower())


def _pieces(parts: Sequence[Any], star: Any) -> TextTest:
    """Literals between `*`: equality, prefix, suffix, containment, or all of them in order."""
    literals = [part for part in parts if part is not star]
    starts, ends = bool(parts) and parts[0] is star, bool(parts) and parts[-1] is star
    if len(literals) == 0:
        return (lambda _text: True) if starts else (lambda text: not text)
    if len(literals) == 1 and len(parts) <= 3:
        return _one_literal(literals[0], open_start=starts, open_end=ends)
    head = "" if starts else literals.pop(0)
    tail = "" if ends else literals.pop()

    def ordered(text: str) -> bool:
        if len(text) < len(head) + len(tail) or not text.startswith(head) or not text.endswith(tail):
            return False
        position, end = len(head), len(text) - len(tail)
        for literal in literals:
            found = text.find(literal, position, end)
            if found < 0:
                return False
            position = found + len(literal)
        return True

    return ordered


def _one_literal(literal: str, *, open_start: bool, open_end: bool) -> TextTest:
    if open_start and open_end:
        return lambda text: literal in text
    if open_start:
        return lambda text: text.endswith(literal)
    if open_end:
        return lambda text: text.startswith(literal)
    return lambda text: text == literal


def _wildcard_regex(parts: Sequence[Any], *, cased: bool) -> TextTest:
    pieces = {types.SpecialChars.WILDCARD_MULTI: ".*", types.SpecialChars.WILDCARD_SINGLE: "."}
    pattern = "".join(pieces[part] if isinstance(part, types.SpecialChars) else re2.escape(part) for part in parts)
    return _found_by(re2.compile(f"(?{'s' if cased else 'is'}){pattern}").fullmatch)


def _regex(value: Any) -> TextTest:
    flags = "".join(sorted(_FLAGS[flag.name] for flag in value.flags))
    pattern = f"(?{flags}){value.regexp}" if flags else str(value.regexp)
    try:
        return _found_by(re2.compile(pattern).search)
    except re2.error as error:
        raise SigmaError(f"regular expression {str(value.regexp)!r}: {error} (RE2 syntax: no look-around, no back-references)") from error


def _found_by(match: Callable[[str], Any]) -> TextTest:
    def found(text: str) -> bool:
        try:
            return match(text) is not None
        except UnicodeEncodeError:  # half a surrogate pair: no text that RE2 could read
            return False

    return found


def any_literal(literals: Iterable[str]) -> TextTest:
    """Whether one of the literals may be in a text, in one pass; always true where that would take too much memory."""
    options = re2.Options()
    options.log_errors, options.max_mem = False, 64 << 20
    try:
        search = re2.compile("|".join(map(re2.escape, literals)), options).search
    except re2.error:
        return lambda _text: True

    def found(text: str) -> bool:
        try:
            return search(text) is not None
        except UnicodeEncodeError:
            return True

    return found


def _number(value: Any) -> Predicate:
    wanted, text = value.number, str(value.number)

    def equal(found: Any) -> bool:
        if isinstance(found, str):
            return found == text or _as_number(found) == wanted
        return not isinstance(found, bool) and bool(found == wanted)

    return equal


def _bool(value: Any) -> Predicate:
    wanted, text = value.boolean, "true" if value.boolean else "false"
    return lambda found: found is wanted or (isinstance(found, str) and found.lower() == text)


def _compare(value: Any) -> Predicate:
    test, bound = _COMPARE[value.op.name], value.number.number

    def compared(found: Any) -> bool:
        number = _as_number(found)
        return number is not None and bool(test(number, bound))

    return compared


def _cidr(value: Any) -> Predicate:
    network = value.network

    def inside(found: Any) -> bool:
        address = _address(found) if isinstance(found, str) else None
        return address is not None and address.version == network.version and address in network

    return inside


def _timestamp_part(value: Any) -> Predicate:
    wanted, part = value.number, value.timestamp_part.name.lower()

    def matches(found: Any) -> bool:
        try:
            moment = _EPOCH + timedelta(milliseconds=instant_ms(found))
        except (DecodeError, OverflowError):
            return False
        return bool((moment.isocalendar().week if part == "week" else getattr(moment, part)) == wanted)

    return matches


_KINDS: Final[tuple[tuple[Any, Callable[[Any], Predicate]], ...]] = (
    (types.SigmaTimestampPart, _timestamp_part),  # is a SigmaNumber too, so it comes first
    (types.SigmaNumber, _number),
    (types.SigmaBool, _bool),
    (types.SigmaCompareExpression, _compare),
    (types.SigmaCIDRExpression, _cidr),
)


def field_reference(value: Any) -> Callable[[Any, Any], bool]:
    """The comparison of two fields' values: equal, or one starting or ending with the other (`fieldref` with its modifiers), without case."""
    starts, ends = bool(value.starts_with), bool(value.ends_with)

    def compared(found: Any, other: Any) -> bool:
        if found is None or other is None:
            return False
        left, right = as_text(found).lower(), as_text(other).lower()
        if starts and ends:
            return right in left
        if starts or ends:
            return left.startswith(right) if starts else left.endswith(right)
        return left == right

    return compared


def as_text(value: Any) -> str:
    """A field's value as the text that string tests see."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _on_text(test: TextTest) -> Predicate:
    return lambda found: test(found if isinstance(found, str) else as_text(found))


def _on_elements(test: Predicate) -> Predicate:
    def applied(found: Any) -> bool:
        if found is None:
            return False
        if isinstance(found, list):
            return any(test(element) for element in found if element is not None)
        return test(found)

    return applied


def _present(found: Any) -> bool:
    return found is not None


def _absent(found: Any) -> bool:
    return found is None


def _as_number(found: Any) -> float | None:
    if isinstance(found, bool) or not isinstance(found, int | float | str):
        return None
    try:
        number = float(found)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


@lru_cache(maxsize=4096)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None

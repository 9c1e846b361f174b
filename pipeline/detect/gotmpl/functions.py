"""The functions of templates: Go's own and Prometheus'.

Guarantee: wrong arguments are TemplateErrors; regular expressions run on RE2.
"""

from __future__ import annotations

import html
import ipaddress
import math
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

import re2

from pipeline.detect.gotmpl import compare
from pipeline.detect.gotmpl.errors import TemplateError
from pipeline.detect.gotmpl.printf import sprintf
from pipeline.detect.gotmpl.scope import Scope
from pipeline.detect.gotmpl.values import GoDuration, Sample, Time, is_true, shortest, shown, to_float, type_name
from pipeline.model.duration import parse_duration_ms
from pipeline.model.labels import Labels
from pipeline.promql import PromQLError

Call = Callable[..., Any]

_LARGE, _LARGE_1024 = ("k", "M", "G", "T", "P", "E", "Z", "Y"), ("ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi")
_SMALL = ("m", "u", "n", "p", "f", "a", "z", "y")
_WORD = re.compile(r"\w+(?:['’.:·]\w+)*")
_EXPAND = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})")
_MAX_NS = 1 << 63


def _scaled(value: float, base: float, prefixes: tuple[str, ...]) -> tuple[float, str]:
    prefix = ""
    for candidate in prefixes:
        if abs(value) < base:
            break
        prefix, value = candidate, value / base
    return value, prefix


def _raised(value: float) -> tuple[float, str]:
    prefix = ""
    for candidate in _SMALL:
        if abs(value) >= 1:
            break
        prefix, value = candidate, value * 1000
    return value, prefix


def _g4(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else shortest(value)


def humanize(number: Any) -> str:
    """With SI prefixes."""
    value = to_float(number)
    if value == 0 or not math.isfinite(value):
        return _g4(value)
    value, prefix = _scaled(value, 1000, _LARGE) if abs(value) >= 1 else _raised(value)
    return f"{_g4(value)}{prefix}"


def humanize_1024(number: Any) -> str:
    """With binary prefixes."""
    value = to_float(number)
    if abs(value) <= 1 or not math.isfinite(value):
        return _g4(value)
    value, prefix = _scaled(value, 1024, _LARGE_1024)
    return f"{_g4(value)}{prefix}"


def humanize_duration(number: Any) -> str:
    """Seconds as days, hours, minutes, seconds."""
    value = to_float(number)
    if not math.isfinite(value):
        return _g4(value)
    if value == 0:
        return "0s"
    if abs(value) < 1:
        value, prefix = _raised(value)
        return f"{_g4(value)}{prefix}s"
    sign, value = ("-", -value) if value < 0 else ("", value)
    minutes, seconds = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{sign}{days}d {hours}h {minutes}m {seconds}s"
    if hours:
        return f"{sign}{hours}h {minutes}m {seconds}s"
    return f"{sign}{minutes}m {seconds}s" if minutes else f"{sign}{_g4(value)}s"


def humanize_percentage(number: Any) -> str:
    """A ratio as percent."""
    return f"{_g4(to_float(number) * 100)}%"


def _to_time(number: Any) -> Time:
    value = to_float(number)
    if not math.isfinite(value):
        raise TemplateError("value is NaN or Inf")
    if abs(value) * 1e9 >= _MAX_NS:
        raise TemplateError(f"{shortest(value)} cannot be represented as a nanoseconds timestamp since it overflows int64")
    return Time(int(value * 1e9))


def humanize_timestamp(number: Any) -> str:
    """Unix seconds as a point in time."""
    value = to_float(number)
    return str(_to_time(value)) if math.isfinite(value) else _g4(value)


def _to_duration(number: Any) -> GoDuration:
    value = to_float(number)
    if not math.isfinite(value) or abs(value) * 1e9 >= _MAX_NS:
        raise TemplateError(f"{shortest(value)} cannot be a duration")
    return GoDuration(int(value * 1e9))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TemplateError(f"wrong type for value; expected string; got {type_name(value)}")
    return value


def _sample(value: Any) -> Sample:
    if not isinstance(value, Sample):
        raise TemplateError(f"wrong type for value; expected *template.sample; got {type_name(value)}")
    return value


def _samples(value: Any) -> list[Sample]:
    if not isinstance(value, list):
        raise TemplateError(f"wrong type for value; expected template.queryResult; got {type_name(value)}")
    return value


def _first(samples: Any) -> Sample:
    if not _samples(samples):
        raise TemplateError("error calling first: first() called on vector with no elements")
    return _samples(samples)[0]


def _program(pattern: Any) -> Any:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(_text(pattern), options)
    except re2.error:
        raise TemplateError(f"error parsing regexp: {pattern}") from None


def _replace_all(pattern: Any, replacement: Any, text: Any) -> str:
    """regexp.ReplaceAllString: `$1`, `${1}` and `$name` stand for groups; an unknown one is empty."""
    program, template = _program(pattern), _text(replacement)

    def expand(found: Any) -> str:
        def group(reference: re.Match[str]) -> str:
            name = reference[1] or reference[2]
            if name is None:
                return "$"
            try:
                return found.group(int(name) if name.isdigit() else name) or ""
            except (IndexError, KeyError, re2.error):
                return ""

        return _EXPAND.sub(group, template)

    return str(program.sub(expand, _text(text)))


def _matches(pattern: Any, text: Any) -> bool:
    return _program(pattern).search(_text(text)) is not None


def _title(text: Any) -> str:
    def one(found: re.Match[str]) -> str:
        word = found[0]
        at = next((index for index, letter in enumerate(word) if letter.isalpha()), 0)
        return word[:at] + word[at : at + 1].title() + word[at + 1 :]

    return _WORD.sub(one, _text(text))


def _host_port(text: str) -> tuple[str, str] | None:
    """net.SplitHostPort, or None where it would fail."""
    host, colon, port = text.rpartition(":")
    if not colon:
        return None
    if host.startswith("["):
        return (host[1:-1], port) if host.endswith("]") else None
    return None if ":" in host else (host, port)


def _strip_port(text: Any) -> str:
    split = _host_port(_text(text))
    return split[0] if split else _text(text)


def _strip_domain(text: Any) -> str:
    host, port = _host_port(_text(text)) or (_text(text), "")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        name = host.split(".", maxsplit=1)[0]
        return f"{name}:{port}" if port else name
    return _text(text)


def _parse_duration(text: Any) -> float:
    try:
        return parse_duration_ms(_text(text)) / 1000
    except ValueError:
        raise TemplateError(f'error calling parseDuration: not a valid duration string: "{text}"') from None


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, dict | list):
        return len(value)
    raise TemplateError(f"error calling len: len of type {type_name(value)}")


def _index(item: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(item, dict):
            item = item.get(_text(key), "")
        elif isinstance(item, list) and isinstance(key, int) and not isinstance(key, bool):
            if not 0 <= key < len(item):
                raise TemplateError(f"error calling index: reflect: slice index out of range: {key}")
            item = item[key]
        else:
            raise TemplateError(f"error calling index: can't index item of type {type_name(item)}")
    return item


def _slice(item: Any, *bounds: Any) -> Any:
    if not isinstance(item, str | list) or any(not isinstance(bound, int) or isinstance(bound, bool) for bound in bounds):
        raise TemplateError(f"error calling slice: can't slice item of type {type_name(item)}")
    start, end = (*bounds, 0, len(item))[0] if bounds else 0, bounds[1] if len(bounds) > 1 else len(item)
    if not 0 <= start <= end <= len(item):
        raise TemplateError("error calling slice: index out of range")
    return item[start:end]


def _print(*args: Any) -> str:
    """fmt.Sprint: a space between operands when neither is a string."""
    out = ""
    for position, arg in enumerate(args):
        gap = position > 0 and not isinstance(arg, str) and not isinstance(args[position - 1], str)
        out += (" " if gap else "") + shown(arg)
    return out


def _query(scope: Scope, text: Any) -> list[Sample]:
    try:
        rows = scope.query(_text(text))
    except PromQLError as error:
        raise TemplateError(f"error calling query: {error}") from None
    return [Sample(dict(row.labels.pairs), row.value) for row in rows]


def as_map(labels: Labels) -> dict[str, str]:
    """Labels as templates index them."""
    return dict(labels.pairs)


PURE: dict[str, Call] = {
    "html": lambda *args: html.escape(_print(*args)).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),
    "index": _index,
    "len": _length,
    "not": lambda value: not is_true(value),
    "print": _print,
    "printf": lambda text, *args: sprintf(_text(text), args),
    "println": lambda *args: " ".join(map(shown, args)) + "\n",
    "slice": _slice,
    "urlquery": lambda *args: quote_plus(_print(*args), safe=""),
    **compare.FUNCTIONS,
    "args": lambda *args: {f"arg{number}": arg for number, arg in enumerate(args)},
    "first": _first,
    "graphLink": lambda expr: f"/graph?g0.expr={quote_plus(_text(expr), safe='')}&g0.tab=0",
    "humanize": humanize,
    "humanize1024": humanize_1024,
    "humanizeDuration": humanize_duration,
    "humanizePercentage": humanize_percentage,
    "humanizeTimestamp": humanize_timestamp,
    "label": lambda name, sample: _sample(sample).Labels.get(_text(name), ""),
    "match": _matches,
    "parseDuration": _parse_duration,
    "reReplaceAll": _replace_all,
    "safeHtml": _text,
    "sortByLabel": lambda name, samples: sorted(_samples(samples), key=lambda one: one.Labels.get(_text(name), "")),
    "stripDomain": _strip_domain,
    "stripPort": _strip_port,
    "strvalue": lambda sample: _sample(sample).Labels.get("__value__", ""),
    "tableLink": lambda expr: f"/graph?g0.expr={quote_plus(_text(expr), safe='')}&g0.tab=1",
    "title": _title,
    "toDuration": _to_duration,
    "toLower": lambda text: _text(text).lower(),
    "toTime": _to_time,
    "toUpper": lambda text: _text(text).upper(),
    "urlQueryEscape": lambda text: quote_plus(_text(text), safe=""),
    "value": lambda sample: _sample(sample).Value,
}

# Those that look at the scope.
SCOPED: dict[str, Call] = {
    "externalURL": lambda scope: scope.external_url,
    "now": lambda scope: scope.at_ms / 1000,
    "pathPrefix": lambda scope: quote(urlsplit(scope.external_url).path),
    "query": _query,
}

# `and` and `or` stop early, `tmpl` runs another template: the executor does them itself.
SPECIAL = frozenset({"and", "or", "tmpl"})
NAMES = frozenset(PURE) | frozenset(SCOPED) | SPECIAL

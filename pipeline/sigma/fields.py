"""How a rule's field name finds its value in a log record, and which records a rule is meant for.

A name is looked up as written, then under the ECS names that mean the same, then as Windows event data (`winlog.event_data.<name>`). The first that
is there counts. Sigma's own log source is compared only where the record says it (`logsource.category`, `logsource.product`, `logsource.service`):
a record that says nothing about its source is tried against every rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

Fields = Mapping[str, Any]
Getter = Callable[[Fields], Any]

ECS_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "EventID": ("winlog.event_id", "event.code"),
    "Channel": ("winlog.channel",),
    "Provider_Name": ("winlog.provider_name", "event.provider"),
    "Computer": ("winlog.computer_name", "host.name"),
    "Image": ("process.executable",),
    "CommandLine": ("process.command_line",),
    "ParentImage": ("process.parent.executable",),
    "ParentCommandLine": ("process.parent.command_line",),
    "User": ("user.name",),
    "TargetFilename": ("file.path",),
    "SourceIp": ("source.ip",),
    "DestinationIp": ("destination.ip",),
    "DestinationPort": ("destination.port",),
    "DestinationHostname": ("destination.domain",),
    "QueryName": ("dns.question.name",),
    "c-ip": ("source.ip",),
    "src_ip": ("source.ip",),
    "dst_ip": ("destination.ip",),
    "cs-method": ("http.request.method",),
    "cs-uri": ("url.original", "url.path"),
    "cs-uri-stem": ("url.path",),
    "cs-uri-query": ("url.query",),
    "cs-host": ("url.domain",),
    "c-useragent": ("user_agent.original",),
    "cs-user-agent": ("user_agent.original",),
    "sc-status": ("http.response.status_code",),
}
_EVENT_DATA: Final = "winlog.event_data."
SOURCE_PARTS: Final = ("category", "product", "service")


def getter(name: str) -> Getter:
    """A function from a record's fields to the value of `name`; None where it is missing."""
    names = names_of(name)

    def get(fields: Fields) -> Any:
        for candidate in names:
            value = fields.get(candidate)
            if value is not None:
                return value
        return None

    return get


def names_of(name: str) -> tuple[str, ...]:
    """Where the value of `name` may stand, in order of precedence."""
    return (name, *ECS_NAMES.get(name, ()), _EVENT_DATA + name)


def source_of(fields: Fields) -> tuple[str | None, ...]:
    """What a record says about its log source, part by part."""
    return tuple(fields.get(f"logsource.{part}") for part in SOURCE_PARTS)


def fits(wanted: tuple[str | None, ...], given: tuple[str | None, ...]) -> bool:
    """Whether a rule for `wanted` is meant for a record of source `given`."""
    return all(want is None or have is None or want == have for want, have in zip(wanted, given, strict=True))

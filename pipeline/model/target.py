"""`Target`: the address of a thing that can be changed, `<connector>://<kind>/<path>`."""

from __future__ import annotations

import re
from typing import Final

_PATTERN: Final = re.compile(r"(?P<connector>[a-z0-9][a-z0-9._-]*)://(?P<kind>[a-z0-9_-]+)/(?P<path>[^\s?#]+)")


class Target:
    """Connector instance name (from the configuration), kind (the connector's word), path (inside that system). Immutable, hashable.

    A plain class, so that it travels as its text: see `wire`.
    """

    __slots__ = ("connector", "kind", "path")
    connector: str
    kind: str
    path: str

    def __init__(self, connector: str, kind: str, path: str) -> None:
        self.connector, self.kind, self.path = connector, kind, path

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read `prod://deployment/shop/checkout`.

        Raises:
            ValueError: the text has another shape.
        """
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise ValueError(f"not a target: {text!r} (write <connector>://<kind>/<path>, for example prod://deployment/shop/checkout)")
        return cls(**match.groupdict())

    def __str__(self) -> str:
        return f"{self.connector}://{self.kind}/{self.path}"

    def __repr__(self) -> str:
        return f"Target({self})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Target) and str(self) == str(other)

    def __lt__(self, other: Target) -> bool:
        return str(self) < str(other)

    def __hash__(self) -> int:
        return hash(str(self))

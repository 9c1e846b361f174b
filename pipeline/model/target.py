"""`Target`: the address of a thing that can be changed, `<connector>://<kind>/<path>`."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_PATTERN: Final = re.compile(r"(?P<connector>[a-z0-9][a-z0-9._-]*)://(?P<kind>[a-z0-9_-]+)/(?P<path>[^\s?#]+)")


class Target(NamedTuple):
    """Connector instance name (from the configuration), kind (the connector's word), path (inside that system)."""

    connector: str
    kind: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read `prod://deployment/shop/checkout`.

        Raises:
            ValueError: the text has another shape.
        """
        match = _PATTERN.fullmatch(text)
        if match is None:
            msg = f"not a target: {text!r} (write <connector>://<kind>/<path>, for example prod://deployment/shop/checkout)"
            raise ValueError(msg)
        return cls(**match.groupdict())

    def __str__(self) -> str:
        return f"{self.connector}://{self.kind}/{self.path}"

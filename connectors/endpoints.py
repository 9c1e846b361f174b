"""The endpoints file: who serves what, where. Written by the connector that runs instances, read by the one that sends traffic.

`[{"workload", "service", "site", "version", "address", "port", "ready"}]`, replaced as a whole; the neutral contract between the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from connectors.statefile import content_of, replace


class Endpoint(msgspec.Struct, frozen=True, order=True):
    """One instance of a service that may get traffic while it is ready."""

    workload: str
    service: str
    site: str
    version: str
    address: str
    port: int
    ready: bool


_DECODER = msgspec.json.Decoder(tuple[Endpoint, ...])


class EndpointsError(ValueError):
    """The file holds something else."""


def read_endpoints(path: Path) -> tuple[Endpoint, ...] | None:
    """What the file says, None when there is none.

    Raises:
        EndpointsError: it is not a list of endpoints.
    """
    content = content_of(path)
    if content is None:
        return None
    try:
        return _DECODER.decode(content)
    except msgspec.MsgspecError as error:
        raise EndpointsError(f"{path} is not an endpoints file: {error}") from error


def write_endpoints(path: Path, endpoints: Iterable[Endpoint]) -> bool:
    """Replace the file where its content differs; whether it did."""
    content = msgspec.json.format(msgspec.json.encode(sorted(endpoints)), indent=1) + b"\n"
    if content_of(path) == content:
        return False
    replace(path, content)
    return True

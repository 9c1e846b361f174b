"""The settings of the process connector."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator, model_validator

from connectors.settings import DurationMs, Settings

_FIELDS = frozenset({"port", "version", "instance", "workload", "service", "site"})


def _port_range(text: str) -> str:
    first, dash, last = text.partition("-")
    if not (dash and first.isdigit() and last.isdigit() and 0 < int(first) <= int(last) < 65536):
        raise ValueError(f"not a range of ports: {text!r} (write for example 20000-20099)")
    return text


PortRange = Annotated[str, AfterValidator(_port_range), Field(examples=["20000-20099"])]


class Health(Settings):
    """When an instance counts as ready: `GET path` answers 2xx, or, without a path, its port accepts a connection.

    `failures` checks in a row make a ready instance unready; it keeps running.
    """

    path: str | None = None
    interval_ms: DurationMs = Field(default=1000, alias="interval", gt=0)
    timeout_ms: DurationMs = Field(default=1000, alias="timeout", gt=0)
    failures: int = Field(default=2, ge=1)


class WorkloadSettings(Settings):
    """One workload. `version` and `replicas` are where it starts; from then on the state on disk says what is wanted.

    `command` is a list of words with `{port} {version} {instance} {workload} {service} {site}` filled in; no shell. It must be the server itself
    (a wrapper has to `exec` it): signals go to that one process.
    """

    service: str
    site: str = ""
    command: tuple[str, ...] = Field(min_length=1)
    version: str
    versions: tuple[str, ...] = ()  # those that may run, oldest first (what stands before `version` is what it replaced); empty: any
    replicas: int = Field(default=1, ge=0)
    ports: PortRange
    address: str = "127.0.0.1"
    health: Health = Health()
    env: dict[str, str] = Field(default_factory=dict)
    cwd: Path | None = None

    @field_validator("command")
    @classmethod
    def _known_fields(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        for word in words:
            unknown = {name for _, name, _, _ in string.Formatter().parse(word) if name is not None} - _FIELDS
            if unknown:
                raise ValueError(f"{word!r} uses {', '.join(sorted(unknown)) or 'an empty field'}; known: {', '.join(sorted(_FIELDS))}")
        return words

    @model_validator(mode="after")
    def _fits(self) -> WorkloadSettings:
        if self.versions and self.version not in self.versions:
            raise ValueError(f"version {self.version} is not among versions {', '.join(self.versions)}")
        if self.replicas > len(self.port_range):
            raise ValueError(f"replicas {self.replicas} need more than the {len(self.port_range)} ports of {self.ports}")
        return self

    @property
    def history(self) -> tuple[str, ...]:
        """The versions up to the one that it starts with."""
        return self.versions[: self.versions.index(self.version) + 1] if self.versions else (self.version,)

    @property
    def port_range(self) -> range:
        """The ports its instances may use."""
        first, _, last = self.ports.partition("-")
        return range(int(first), int(last) + 1)


class ProcessSettings(Settings):
    """`state_dir` belongs to this connector. `drain`: how long an instance that left the endpoints file goes on serving before SIGTERM;
    `stop`: how long after SIGTERM it is killed.
    """  # fmt: skip

    state_dir: Path
    endpoints_file: Path | None = None
    workloads: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")], WorkloadSettings] = Field(min_length=1)
    drain_ms: DurationMs = Field(default=500, alias="drain")
    stop_ms: DurationMs = Field(default=5000, alias="stop")

"""The shape of `reflexarc.yaml`: what comes in, where rules lie, what may be changed, who may do what. Unknown keys are errors.

Durations are written as `5m` and held as `*_ms`; secrets are `SecretStr`, which never print.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from pathlib import PurePath
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from pipeline.rulebook.spec import DurationMs, GrantSpec, Spec
from pipeline.signals.access_aggregator import DURATION, REQUESTS

Format = Literal["json", "json-batch", "prometheus-remote-write", "envoy-access", "ecs", "alertmanager"]


_BRINGS: Final = {"envoy-access": (REQUESTS, *(f"{DURATION}_{part}" for part in ("bucket", "sum", "count")))}


def brought_by(formats: Iterable[str]) -> tuple[str, ...]:
    """The metrics that inputs of these formats always make."""
    return tuple(name for kind in dict.fromkeys(formats) for name in _BRINGS.get(kind, ()))


def _listen(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"not an address to listen on: {value!r} (write host:port, for example 127.0.0.1:8480)")
    return value


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; a name other than localhost counts as reachable from outside."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


Listen = Annotated[str, BeforeValidator(_listen)]


class Input(Spec):
    """One source of signals: a topic, or a file that grows (followed over rotation). `name` is what `sources` and records call it."""

    topic: str = ""
    file: str = ""
    format: Format
    name: str = ""

    @model_validator(mode="after")
    def _one_origin(self) -> Input:
        if not self.topic and not self.file:
            raise ValueError("write topic (a Kafka or embedded topic) or file (a growing file)")
        return self

    @property
    def topic_name(self) -> str:
        """The topic that its messages travel on: as written, else made from the file's name."""
        return self.topic or f"file-{PurePath(self.file).name.replace('.', '-')}"

    @property
    def source_name(self) -> str:
        """What `sources` and records call it."""
        return self.name or self.topic_name


class Tls(Spec):
    """Certificate and key in PEM files."""

    cert: str
    key: str
    client_ca: str | None = None


class Tokens(Spec):
    """A token per role; each role may do what the ones before it may."""

    viewer: SecretStr | None = None
    operator: SecretStr | None = None
    admin: SecretStr | None = None


class Gateway(Spec):
    """The HTTP side: signals in, metrics and health out. Beyond loopback a token is demanded."""

    listen: Listen = "127.0.0.1:8480"
    token: SecretStr | None = None
    tokens: Tokens = Tokens()
    tls: Tls | None = None
    max_body_bytes: int = Field(default=16 << 20, gt=0)

    @model_validator(mode="after")
    def _guarded(self) -> Gateway:
        some = self.token or self.tokens.viewer or self.tokens.operator or self.tokens.admin
        if not some and not is_loopback(self.host):
            raise ValueError(f"listening on {self.listen} is beyond loopback: a token is needed (token: ${{env:REFLEXARC_TOKEN}})")
        return self

    @property
    def host(self) -> str:
        """The host part of `listen`."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port part of `listen`; 0 lets the system choose."""
        return int(self.listen.rpartition(":")[2])


class ConnectorConfig(BaseModel):
    """One connector: its kind, and the settings that the kind's own model describes (checked when the models are given)."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str

    @property
    def settings(self) -> dict[str, Any]:
        """All but `kind`, with secrets filled in."""
        return dict(self.model_extra or {})

    def __repr_args__(self) -> list[tuple[str, Any]]:  # settings may hold secrets
        return [("kind", self.kind), ("settings", sorted(self.model_extra or {}))]


class KafkaSecurity(Spec):
    """How to reach a guarded broker."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username: str | None = None
    password: SecretStr | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> KafkaSecurity:
        if self.protocol.startswith("SASL") and (self.username is None or self.password is None or self.sasl_mechanism is None):
            raise ValueError(f"{self.protocol} needs sasl_mechanism, username and password")
        return self


def _servers(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class Kafka(Spec):
    """The brokers; absent: the embedded bus. `prefix` stands before every topic of ours, inputs keep their names."""

    bootstrap: Annotated[tuple[str, ...], BeforeValidator(_servers)] = Field(min_length=1)
    prefix: str = "reflexarc."
    security: KafkaSecurity = KafkaSecurity()
    partitions: int = Field(default=4, ge=1)
    replication: int = Field(default=1, ge=1)
    instance_id: str = ""


class ElasticSearch(Spec):
    """The store; absent: SQLite. An API key or a name with a password. `retention`: older indices are dropped
    (default: by kind; incidents a year, logs a week or so).
    """

    hosts: Annotated[tuple[str, ...], BeforeValidator(_servers)] = Field(min_length=1)
    api_key: SecretStr | None = None
    username: str | None = None
    password: SecretStr | None = None
    ca_file: str | None = None
    verify_certs: bool = True
    prefix: str = "reflexarc"
    retention_ms: DurationMs | None = Field(default=None, alias="retention", gt=0)

    @model_validator(mode="after")
    def _one_way_in(self) -> ElasticSearch:
        if self.api_key is not None and self.username is not None:
            raise ValueError("write api_key or username and password, not both")
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together")
        return self


class WebhookReceiver(Spec):
    """POSTs notices as JSON."""

    url: SecretStr  # often holds a token
    token: SecretStr | None = None


def _webhook(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


class LogReceiver(Spec):
    """Writes notices to the log."""


class Receiver(Spec):
    """Where notices go: exactly one way."""

    webhook: Annotated[WebhookReceiver | None, BeforeValidator(_webhook)] = None
    log: LogReceiver | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Receiver:
        if (self.webhook is None) == (self.log is None):
            raise ValueError("write exactly one of webhook: URL and log: {}")
        return self


class SourceSpec(Spec):
    """What an input may speak for: services by name (all when absent)."""

    services: tuple[str, ...] | None = None


class Defaults(Spec):
    """What rule files need not say. Prometheus evaluates every minute unless told otherwise."""

    evaluation_interval_ms: DurationMs = Field(default=60_000, alias="evaluation_interval", gt=0)


class Detect(Spec):
    """Time as detection sees it. `compat`: windows as in Prometheus 3 (left-open) or 2 (closed)."""

    allowed_lateness_ms: DurationMs = Field(default=60_000, alias="allowed_lateness")
    max_future_ms: DurationMs = Field(default=10_000, alias="max_future")
    settle_ms: DurationMs = Field(default=200, alias="settle")
    grid_delay_ms: DurationMs = Field(default=200, alias="grid_delay")
    promql_compat: Literal["v3", "v2"] = "v3"
    max_series: int = Field(default=1_000_000, ge=1)
    external_labels: dict[str, str] = Field(default_factory=dict)
    external_url: str = ""


class Config(Spec):
    """The whole file. Paths are relative to its folder."""

    inputs: tuple[Input, ...] = ()
    gateway: Gateway | None = None
    rules: tuple[str, ...] = ()
    connectors: dict[str, ConnectorConfig] = Field(default_factory=dict)
    grants: dict[str, GrantSpec] = Field(default_factory=dict)
    sources: dict[str, SourceSpec] = Field(default_factory=dict)
    kafka: Kafka | None = None
    elasticsearch: ElasticSearch | None = None
    data_dir: str = ".reflexarc"
    durability: Literal["process", "full"] = "process"  # of the embedded bus: survives kill -9, or a power cut too
    receivers: dict[str, Receiver] = Field(default_factory=dict)
    defaults: Defaults = Defaults()
    detect: Detect = Detect()
    metrics: tuple[str, ...] = ()
    observe_interval_ms: DurationMs = Field(default=30_000, alias="observe_interval", gt=0)

    @property
    def known_metrics(self) -> tuple[str, ...]:
        """What inputs bring: as listed, and what their formats always make."""
        return (*self.metrics, *brought_by(one.format for one in self.inputs))

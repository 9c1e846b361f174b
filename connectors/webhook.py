"""`Webhook`: POSTs JSON to somebody else's service, for the verbs `call` and `notify`; `WebhookNotifier`: the same for receivers of notices.

A webhook cannot be read back. Every request carries `Idempotency-Key`: the action's (or notice's) id. By default an unanswered request is reported as
unknown and never repeated; with `resend: true` it is, for receivers that honour the key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiohttp
import msgspec
from pydantic import Field, SecretStr, field_validator

from connectors.settings import DurationMs, Settings, require_target, require_verb
from pipeline.model import wire
from pipeline.model.records import Notice
from pipeline.model.target import Target
from pipeline.ports.clock import Clock
from pipeline.ports.connector import Change, ConnectorInfo, Discovered, Fence, Observed, Permanent, Temporary, Unknown

KIND: Final = "hook"
_CONNECT_S: Final = 2.0
_SHOWN: Final = 200  # characters of an answer that an error quotes


class WebhookSettings(Settings):
    """`hooks`: name -> URL; a target is `<name>://hook/<hook>`. `headers` may hold secrets: they are never shown."""

    hooks: dict[str, str] = Field(min_length=1)
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    resend: bool = False

    @field_validator("hooks")
    @classmethod
    def _urls(cls, hooks: dict[str, str]) -> dict[str, str]:
        for name, url in hooks.items():
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"hook {name}: not an http(s) URL")
        return hooks


class NotifierSettings(Settings):
    """One receiver of notices."""

    url: str = Field(pattern=r"^https?://")
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    timeout_ms: DurationMs = Field(default=5000, alias="timeout", gt=0)


_INFO = ConnectorInfo(
    name="webhook",
    summary="POST JSON to a URL, with an idempotency key",
    verbs={"call": (KIND,), "notify": (KIND,)},
    invertible=frozenset(),
    fence=Fence.BEST_EFFORT,
    permissions=("POST to the configured URLs",),
    config_model=WebhookSettings,
    crash="between sending and the answer: the outcome is unknown and nothing is sent again; with `resend: true` sent again with the same key",
)


class Webhook:
    """Some hooks with the same headers."""

    INFO: Final = _INFO

    def __init__(self, name: str, config: WebhookSettings, *, clock: Clock) -> None:
        del clock  # nothing here depends on the time
        self._name, self._config = name, config
        self._post = _Post(config.headers)

    @property
    def info(self) -> ConnectorInfo:
        """Static description."""
        return _INFO

    async def read(self, target: Target) -> Observed:
        """Nothing: a hook has no state that can be seen."""
        self._url(target)
        return Observed({})

    def plan(self, target: Target, verb: str, observed: Observed, desired: Mapping[str, Any]) -> Change | None:
        """A request is always something to do. With `resend` the plan says "not delivered yet" is what is there, so that it may be repeated."""
        url_shown = f"{self._name} hook {self._hook(target)}"
        require_verb(_INFO, verb, target)
        if desired == {"delivered": False}:
            return None
        payload = desired.get("payload")
        if not isinstance(payload, Mapping):
            raise Permanent(f"{target}: {verb} needs a payload (a mapping), got {payload!r}")
        before = {"delivered": False} if self._config.resend else {}
        return Change(target, verb, before, {"payload": dict(payload)}, f"{verb} {url_shown}", observed.version)

    async def apply(self, change: Change, *, key: str, fence: int, deadline_ms: int) -> Observed:
        """Send it."""
        body = {"id": key, "verb": change.verb, "fence": fence, "payload": change.after["payload"]}
        await self._post.send(str(change.target), self._url(change.target), body, key=key, timeout_ms=deadline_ms)
        return Observed({})

    async def discover(self) -> Sequence[Discovered]:
        """The configured hooks."""
        return [Discovered(Target(self._name, KIND, hook)) for hook in sorted(self._config.hooks)]

    async def close(self) -> None:
        """Release the connections."""
        await self._post.close()

    def _hook(self, target: Target) -> str:
        return require_target(target, connector=self._name, kind=KIND, known=self._config.hooks)

    def _url(self, target: Target) -> str:
        return self._config.hooks[self._hook(target)]


class WebhookNotifier:
    """A receiver: each notice is one POST of its record."""

    def __init__(self, name: str, config: NotifierSettings) -> None:
        self._name, self._config = name, config
        self._post = _Post(config.headers)

    async def send(self, notice: Notice) -> None:
        """Deliver. An unanswered request counts as Temporary: telling twice (with the same key) is better than not at all."""
        what = f"receiver {self._name}"
        try:
            await self._post.send(what, self._config.url, wire.to_document(notice), key=notice.id, timeout_ms=self._config.timeout_ms)
        except Unknown as error:
            raise Temporary(str(error)) from error

    async def close(self) -> None:
        """Release the connections."""
        await self._post.close()


class _Post:
    """JSON out, an error of the contract back."""

    def __init__(self, headers: Mapping[str, SecretStr]) -> None:
        self._headers = headers
        self._session: aiohttp.ClientSession | None = None

    async def send(self, what: str, url: str, body: Mapping[str, Any], *, key: str, timeout_ms: int) -> None:
        """Raises Permanent, Temporary or Unknown where the receiver did not say yes. `what` names it without its URL, which may hold a secret."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S))
        headers = {name: value.get_secret_value() for name, value in self._headers.items()}
        headers |= {"Content-Type": "application/json", "Idempotency-Key": key}
        try:
            async with (
                asyncio.timeout(timeout_ms / 1000),
                self._session.post(url, data=msgspec.json.encode(body), headers=headers, allow_redirects=False) as response,
            ):
                _judge(what, response, (await response.text(errors="replace"))[:_SHOWN])
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Temporary(f"{what}: cannot connect") from error  # nothing was sent
        except TimeoutError as error:
            raise Unknown(f"{what}: no answer within {timeout_ms} ms") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unknown(f"{what}: the connection broke before the answer ({type(error).__name__})") from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


def _judge(what: str, response: aiohttp.ClientResponse, text: str) -> None:
    if 200 <= response.status < 300:
        return
    answer = f"{what}: answered {response.status}" + (f": {text}" if text else "")
    if response.status == 429 or response.status >= 500:
        raise Temporary(answer, retry_after_ms=_retry_after_ms(response.headers.get("Retry-After", "")))
    raise Permanent(answer)


def _retry_after_ms(header: str) -> int:
    return int(header) * 1000 if header.isdigit() else 200

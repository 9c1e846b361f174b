"""Receivers of notices: the log, and webhooks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import aiohttp

from pipeline.model import wire
from pipeline.model.records import Notice
from pipeline.ports.connector import Permanent, Temporary
from pipeline.ports.notifier import Notifier
from pipeline.rulebook.config_spec import Receiver
from pipeline.runtime.recording import DEFAULT_RECEIVER

LOG: Final = logging.getLogger("reflexarc.notices")
_TIMEOUT_S: Final = 10.0
_RETRY_MS: Final = 1000


class LogReceiver:
    """Writes notices to the log."""

    async def send(self, notice: Notice) -> None:
        """One line."""
        LOG.warning(
            "notice", extra={"title": notice.title, "text": notice.text, "group": notice.group, "incident_id": notice.incident_id, "id": notice.id}
        )


class WebhookReceiver:
    """POSTs the notice as JSON; its id is the idempotency key."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url
        self._token = token

    async def send(self, notice: Notice) -> None:
        """Deliver, or say whether trying again may help. The URL stands in no message: it often holds a secret."""
        headers = {"Idempotency-Key": notice.id}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session,
                session.post(self._url, json=wire.to_document(notice), headers=headers) as answer,
            ):
                status = answer.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Temporary(f"no answer: {type(error).__name__}", retry_after_ms=_RETRY_MS) from error
        if status >= 500 or status in {408, 429}:
            raise Temporary(f"answered {status}", retry_after_ms=_RETRY_MS)
        if status >= 300:
            raise Permanent(f"answered {status}")


def receivers_of(configured: Mapping[str, Receiver]) -> dict[str, Notifier]:
    """By name; the log stands in for `default` where nothing else is configured under that name."""
    found: dict[str, Notifier] = {DEFAULT_RECEIVER: LogReceiver()}
    for name, receiver in configured.items():
        if receiver.webhook is None:
            found[name] = LogReceiver()
        else:
            token = receiver.webhook.token
            found[name] = WebhookReceiver(receiver.webhook.url.get_secret_value(), token.get_secret_value() if token else None)
    return found

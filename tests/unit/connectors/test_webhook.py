"""Webhooks against a real receiver: what each answer means, and what never shows."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from connectors import registry
from connectors.webhook import NotifierSettings, Webhook, WebhookNotifier
from pipeline.execute.changes import is_in_force
from pipeline.execute.executor import Executor
from pipeline.model.records import Action, Notice, OutcomeStatus
from pipeline.model.target import Target
from pipeline.ports.connector import Permanent, Temporary, Unknown
from pipeline.runtime.clock import SystemClock
from tests.fakes.execution import FakeGrants, FakeSwitch, MemoryIntents

HOOK = Target.parse("ops://hook/page")


class Receiver:
    """Answers with `answers`, first come first; then 200. 0 means: never."""

    def __init__(self) -> None:
        self.answers: list[int | str] = []
        self.headers: dict[str, str] = {}
        self.requests: list[tuple[dict[str, str], Any]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append((dict(request.headers), await request.json()))
        answer = self.answers.pop(0) if self.answers else 200
        if answer == 0:
            await asyncio.sleep(30)
        if answer == "break":
            assert request.transport is not None
            request.transport.close()
        return web.Response(status=int(answer) if answer != "break" else 200, text="said so", headers=self.headers)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_post("/hook", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook?token=s3cret"
    yield made
    await runner.cleanup()


def webhook(url: str, **more: Any) -> Webhook:
    made = registry.build("ops", "webhook", {"hooks": {"page": url}, "headers": {"Authorization": "Bearer s3cret"}} | more, clock=SystemClock())
    assert isinstance(made, Webhook)
    return made


async def call(connector: Webhook, *, deadline_ms: int = 3000) -> None:
    change = connector.plan(HOOK, "call", await connector.read(HOOK), {"payload": {"a": 1}})
    assert change is not None
    try:
        await connector.apply(change, key="a1", fence=3, deadline_ms=deadline_ms)
    finally:
        await connector.close()


async def test_the_request_carries_key_payload_and_headers(receiver: Receiver) -> None:
    await call(webhook(receiver.url))
    ((headers, body),) = receiver.requests
    assert headers["Idempotency-Key"] == "a1"
    assert headers["Authorization"] == "Bearer s3cret"
    assert body == {"id": "a1", "verb": "call", "fence": 3, "payload": {"a": 1}}


@pytest.mark.parametrize(
    ("answer", "error"),
    [(400, Permanent), (404, Permanent), (302, Permanent), (429, Temporary), (500, Temporary), (503, Temporary), (0, Unknown), ("break", Unknown)],
)
async def test_each_answer_has_its_meaning_and_no_error_shows_a_secret(receiver: Receiver, answer: int | str, error: type[Exception]) -> None:
    receiver.answers = [answer]
    with pytest.raises(error) as raised:
        await call(webhook(receiver.url), deadline_ms=200)
    assert "s3cret" not in str(raised.value)
    assert str(raised.value).startswith("ops://hook/page: ")


async def test_the_pause_that_the_receiver_asks_for_is_passed_on(receiver: Receiver) -> None:
    receiver.answers, receiver.headers = [429], {"Retry-After": "7"}
    with pytest.raises(Temporary) as raised:
        await call(webhook(receiver.url))
    assert raised.value.retry_after_ms == 7000


async def test_nobody_listening_is_temporary(receiver: Receiver) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(Temporary, match="cannot connect"):
        await call(webhook(f"http://127.0.0.1:{port}/"))


@pytest.mark.parametrize(
    ("resend", "status", "count"),
    [pytest.param(False, OutcomeStatus.UNKNOWN, 1, id="sent once"), pytest.param(True, OutcomeStatus.APPLIED, 2, id="sent again with the same key")],
)
async def test_an_unanswered_call_is_repeated_only_where_the_receiver_can_tell(
    receiver: Receiver, resend: bool, status: OutcomeStatus, count: int
) -> None:
    receiver.answers = ["break"]
    connector, intents, clock = webhook(receiver.url, resend=resend), MemoryIntents(), SystemClock()
    executor = Executor({"ops": connector}, intents, FakeSwitch(), clock, lambda _group: FakeGrants())
    now = clock.now_ms()
    await executor.accept(Action(id="a1", group="g", verb="call", target=HOOK, desired={"payload": {}}, at_ms=now, expires_at_ms=now + 60_000))
    assert await executor.drain(10_000)
    assert [outcome.status for outcome in intents.outcomes] == [status]
    assert [headers["Idempotency-Key"] for headers, _ in receiver.requests] == ["a1"] * count
    await connector.close()


async def test_a_hook_never_looks_delivered() -> None:
    connector = webhook("http://127.0.0.1:9/", resend=True)
    observed = await connector.read(HOOK)
    assert not is_in_force(connector, HOOK, "call", observed, {"payload": {}})
    assert is_in_force(connector, HOOK, "call", observed, {"delivered": False})


@pytest.mark.parametrize(
    "settings", [{"hooks": {}}, {"hooks": {"page": "ftp://x"}}, {"hooks": {"page": "file:///etc/passwd"}}, {"hooks": {"p": "http://x"}, "retry": 1}]
)
def test_wrong_settings_are_errors(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        registry.build("ops", "webhook", settings, clock=SystemClock())


def test_settings_do_not_show_secrets() -> None:
    connector = webhook("http://127.0.0.1:9/")
    assert "s3cret" not in repr(connector._config)


async def test_a_payload_is_needed() -> None:
    connector = webhook("http://127.0.0.1:9/")
    with pytest.raises(Permanent, match="needs a payload"):
        connector.plan(HOOK, "call", await connector.read(HOOK), {})


NOTICE = Notice(id="n1", group="shop", at_ms=5, to="oncall", title="it burns", text="shop is down")


async def test_a_notice_is_delivered_with_its_key(receiver: Receiver) -> None:
    notifier = WebhookNotifier("oncall", NotifierSettings.model_validate({"url": receiver.url}))
    await notifier.send(NOTICE)
    ((headers, body),) = receiver.requests
    assert headers["Idempotency-Key"] == "n1"
    assert (body["type"], body["title"], body["text"]) == ("Notice", "it burns", "shop is down")
    await notifier.close()


@pytest.mark.parametrize(("answer", "error"), [(400, Permanent), (500, Temporary), (0, Temporary), ("break", Temporary)])
async def test_a_notice_that_may_not_have_arrived_is_told_again(receiver: Receiver, answer: int | str, error: type[Exception]) -> None:
    receiver.answers = [answer]
    notifier = WebhookNotifier("oncall", NotifierSettings.model_validate({"url": receiver.url, "timeout": "200ms"}))
    with pytest.raises(error):
        await notifier.send(NOTICE)
    await notifier.close()

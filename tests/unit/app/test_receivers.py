"""Receivers of notices."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from pipeline.app.receivers import LogReceiver, WebhookReceiver, receivers_of
from pipeline.model.records import Notice
from pipeline.ports.connector import Permanent, Temporary
from pipeline.rulebook.config_spec import Receiver

NOTICE = Notice(id="n1", group="checkout", at_ms=1, to="oncall", title="t", text="x")


class Hook:
    """A server that answers as told."""

    status = 200
    url = ""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], object]] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append((dict(request.headers), await request.json()))
        return web.Response(status=self.status)


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    made = Hook()
    app = web.Application()
    app.router.add_post("/secret-path", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/secret-path"
    yield made
    await runner.cleanup()


async def test_a_webhook_gets_the_notice_with_its_id_as_idempotency_key(hook: Hook):
    await WebhookReceiver(hook.url, "token").send(NOTICE)
    [(headers, body)] = hook.requests
    assert (headers["Idempotency-Key"], headers["Authorization"]) == ("n1", "Bearer token")
    assert isinstance(body, dict)
    assert body["title"] == "t"


@pytest.mark.parametrize(("status", "error"), [(500, Temporary), (429, Temporary), (404, Permanent)])
async def test_an_answer_says_whether_trying_again_may_help(hook: Hook, status: int, error: type[Exception]):
    hook.status = status
    with pytest.raises(error, match=str(status)):
        await WebhookReceiver(hook.url, None).send(NOTICE)


async def test_an_unreachable_hook_is_temporary_and_its_address_stays_secret():
    with pytest.raises(Temporary) as caught:
        await WebhookReceiver("http://127.0.0.1:1/secret-path", None).send(NOTICE)
    assert "secret-path" not in str(caught.value)


def test_the_log_stands_in_for_a_default_that_is_not_configured():
    assert isinstance(receivers_of({})["default"], LogReceiver)
    found = receivers_of({"oncall": Receiver.model_validate({"webhook": "http://127.0.0.1:1/x"}), "default": Receiver.model_validate({"log": {}})})
    assert isinstance(found["oncall"], WebhookReceiver)

"""Answers that a healthy node does not give on demand: refused credentials, other versions, limits of a proxy, nonsense. A small server gives them."""

import asyncio
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pipeline.ports.record import Document
from pipeline.record.elastic import ElasticStore
from pipeline.record.errors import StoreError, StoreUnavailableError

T0 = 1_790_000_000_000
PRODUCT = {"X-Elastic-Product": "Elasticsearch", "Content-Type": "application/vnd.elasticsearch+json;compatible-with=9"}


class InstantClock:
    """Sleeping takes no time and is written down."""

    def __init__(self):
        self.slept = []

    def now_ms(self):
        return T0

    async def sleep_ms(self, duration_ms):
        self.slept.append(duration_ms)
        await asyncio.sleep(0)


class Server:
    """Answers bulk requests with what `answers` says (a status and body, or a function of the ids), then as a good node would; keeps what it stored."""

    def __init__(self):
        self.answers = []
        self.stored = []

    async def handle(self, request):
        if request.path.startswith("/_index_template"):
            return self.say(404 if request.method == "GET" else 200, {})
        lines = (await request.read()).splitlines()
        ids = [next(iter(json.loads(line).values()))["_id"] for line in lines[::2]]
        answer = self.answers.pop(0) if self.answers else (200, None)
        status, body = answer(ids) if callable(answer) else answer
        if status == 200 and body is None:
            self.stored += ids
            body = {"errors": False, "items": [{"create": {"status": 201}} for _ in ids]}
        return self.say(status, body)

    @staticmethod
    def say(status, body):
        if isinstance(body, str):
            return web.Response(status=status, text=body, content_type="text/html")
        return web.Response(status=status, body=json.dumps(body).encode(), headers=PRODUCT)


@pytest.fixture
async def server():
    script = Server()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{tail:.*}", script.handle)
    async with TestServer(app) as running:
        script.url = str(running.make_url(""))
        yield script


@pytest.fixture
def clock():
    return InstantClock()


@pytest.fixture
async def store(server, clock):
    opened = ElasticStore.connect([server.url], clock=clock, prefix="p")
    yield opened
    await opened.close()


def documents(count):
    return [Document("decisions", f"d{number}", T0, {"text": "x"}) for number in range(count)]


def error(kind, reason="because"):
    return {"error": {"type": kind, "reason": reason}}


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((401, error("security_exception")), id="credentials are refused"),
        pytest.param((403, error("security_exception")), id="a permission is missing"),
        pytest.param((429, error("circuit_breaking_exception")), id="memory is short"),
        pytest.param((500, error("exception")), id="a fault of the server"),
        pytest.param((502, "<h1>Bad gateway</h1>"), id="a proxy without a server"),
        pytest.param((503, error("master_not_discovered_exception")), id="no master"),
    ],
)
async def test_what_can_pass_is_waited_out_with_growing_pauses(server, store, clock, answer):
    server.answers = [answer] * 8
    assert await store.write(documents(2)) == []
    assert server.stored == ["d0", "d1"]
    assert len(clock.slept) == 8
    assert clock.slept[0] <= 100
    assert 3500 <= clock.slept[-1] <= 5000


async def test_a_client_that_is_too_new_for_the_server_is_told_at_once(server, store):
    server.answers = [(400, error("media_type_header_exception", "Invalid media-type value on headers [Accept]"))]
    with pytest.raises(StoreError, match="major versions must match"):
        await store.write(documents(1))


async def test_a_server_that_is_no_elasticsearch_is_told_at_once(store, server):
    server.say = lambda status, body: web.json_response({}, status=200)
    with pytest.raises(StoreError, match="is this address an Elasticsearch"):
        await store.write(documents(1))


async def test_a_request_that_is_too_large_is_halved_until_it_fits(server, store, clock):
    server.answers = [lambda ids: (200, None) if len(ids) <= 2 else (413, "too large")] * 20
    assert await store.write(documents(8)) == []
    assert sorted(server.stored) == [f"d{number}" for number in range(8)]
    assert clock.slept == []


async def test_a_document_that_spoils_its_whole_request_is_found_and_refused_alone(server, store):
    server.answers = [lambda ids: (400, error("illegal_argument_exception", "spoilt")) if "d5" in ids else (200, None)] * 20
    rejected = await store.write(documents(8))
    assert [(item.document.id, "spoilt" in item.reason) for item in rejected] == [("d5", True)]
    assert sorted(server.stored) == ["d0", "d1", "d2", "d3", "d4", "d6", "d7"]


async def test_a_document_on_which_the_server_breaks_every_time_is_refused_in_the_end(server, store, clock):
    def broken(ids):
        items = [{"create": {"status": 500, **error("exception", "boom")} if one == "d1" else {"status": 201}} for one in ids]
        return 200, {"errors": True, "items": items}

    server.answers = [broken] * 20
    rejected = await store.write(documents(3))
    assert [item.document.id for item in rejected] == ["d1"]
    assert "boom" in rejected[0].reason
    assert len(clock.slept) == 7


async def test_a_read_says_that_the_server_is_away_instead_of_waiting(clock):
    store = ElasticStore.connect(["http://127.0.0.1:9"], clock=clock)
    with pytest.raises(StoreUnavailableError, match="does not answer now"):
        await store.search("incidents")
    with pytest.raises(StoreUnavailableError, match="does not answer now"):
        await store.expire(T0)
    assert clock.slept == []
    await store.close()

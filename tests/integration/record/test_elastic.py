"""What only a real Elasticsearch shows: it dies, hangs, blocks and refuses, and nothing is lost."""

import asyncio
import contextlib
import json

import pytest

from pipeline.model import records
from pipeline.ports.record import Document
from pipeline.record import mapping
from pipeline.record.documents import document_of
from pipeline.record.elastic import ElasticStore
from pipeline.record.errors import StoreUnavailableError
from pipeline.runtime.clock import SystemClock

pytestmark = pytest.mark.elasticsearch

T0 = 1_790_000_000_000
DAY_MS = 86_400_000


class Waits:
    """Collects why and how long a store waited; `first` is set at the first pause."""

    def __init__(self):
        self.reasons = []
        self.pauses = []
        self.first = asyncio.Event()

    def __call__(self, reason, pause_ms):
        self.reasons.append(reason)
        self.pauses.append(pause_ms)
        self.first.set()


@pytest.fixture
def waits():
    return Waits()


def open_store(server, prefix, waits, **options):
    return ElasticStore.connect([server.url], clock=SystemClock(), prefix=prefix, on_wait=waits, **options)


def decision(number, at_ms=T0):
    return Document("decisions", f"d{number}", at_ms, {"id": f"d{number}", "text": f"number {number}"})


async def count(server, name):
    await asyncio.to_thread(server.call, "POST", f"/{name}/_refresh")
    return (await asyncio.to_thread(server.call, "GET", f"/{name}/_count"))["count"]


async def test_nothing_is_lost_when_the_node_is_killed_in_the_middle_of_writes(own_elasticsearch, unique, waits):
    store = open_store(own_elasticsearch, unique, waits, request_timeout_s=10)
    killed = asyncio.Event()

    async def write_all():
        for batch in range(40):
            if batch == 10:
                killed.set()
            assert await store.write([decision(batch * 200 + number) for number in range(200)]) == []
            revision = Document("incidents", "i1", T0, {"id": "i1", "revision": batch + 1}, batch + 1)
            assert await store.write([revision]) == []

    writing = asyncio.create_task(write_all())
    await killed.wait()
    await asyncio.to_thread(own_elasticsearch.kill)
    await asyncio.wait_for(waits.first.wait(), 30)
    assert "no answer" in store.waiting_for
    with pytest.raises(StoreUnavailableError, match="does not answer now"):
        await store.get("incidents", "i1")
    await asyncio.to_thread(own_elasticsearch.start)
    await asyncio.wait_for(writing, 120)

    assert store.waiting_for == ""
    assert max(waits.pauses) <= 5000
    assert await count(own_elasticsearch, f"{unique}-decisions") == 8000
    assert (await store.get("incidents", "i1")).revision == 40
    assert await count(own_elasticsearch, f"{unique}-incidents") == 1
    await store.close()


async def test_a_hanging_node_delays_a_write_and_no_more(own_elasticsearch, unique, waits):
    store = open_store(own_elasticsearch, unique, waits, request_timeout_s=1)
    await store.write([decision(1)])
    own_elasticsearch.suspend()
    writing = asyncio.create_task(store.write([decision(2)]))
    await asyncio.wait_for(waits.first.wait(), 30)
    own_elasticsearch.resume()
    assert await asyncio.wait_for(writing, 60) == []
    assert [document.id for document in (await store.search("decisions")).documents] == ["d1", "d2"]
    await store.close()


async def test_a_write_before_the_server_is_there_waits_for_it(unique, waits):
    store = ElasticStore.connect(["http://127.0.0.1:9"], clock=SystemClock(), prefix=unique, on_wait=waits)
    writing = asyncio.create_task(store.write([decision(1)]))
    await asyncio.wait_for(waits.first.wait(), 10)
    assert not writing.done()
    writing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await writing
    await store.close()


async def test_a_blocked_index_holds_the_write_until_the_block_is_lifted(elasticsearch, unique, waits):
    store = open_store(elasticsearch, unique, waits)
    await store.write([decision(1)])
    name = mapping.index(unique, "decisions", T0)
    await asyncio.to_thread(elasticsearch.call, "PUT", f"/{name}/_settings", {"index.blocks.write": True})
    writing = asyncio.create_task(store.write([decision(2), decision(1)]))
    await asyncio.wait_for(waits.first.wait(), 10)
    assert "cluster_block_exception" in store.waiting_for
    await asyncio.to_thread(elasticsearch.call, "PUT", f"/{name}/_settings", {"index.blocks.write": None})
    assert await asyncio.wait_for(writing, 30) == []
    assert await count(elasticsearch, name) == 2
    await store.close()


async def test_a_document_that_the_server_refuses_comes_back_with_its_reason_and_the_rest_is_stored(elasticsearch, unique, waits):
    store = open_store(elasticsearch, unique, waits)
    deep = {}
    for _ in range(80):
        deep = {"a": deep}
    refused = Document("decisions", "deep", T0, {"id": "deep", "evidence": deep})
    rejected = await store.write([decision(1), refused, decision(2)])
    assert [item.document for item in rejected] == [refused]
    assert "depth limit" in rejected[0].reason
    assert waits.reasons == []
    assert await count(elasticsearch, f"{unique}-decisions") == 2
    await store.close()


async def test_an_index_is_made_where_the_cluster_does_not_make_it_by_itself(elasticsearch, unique, waits):
    async def allow(pattern):
        settings = {"persistent": {"action.auto_create_index": pattern}}
        await asyncio.to_thread(elasticsearch.call, "PUT", "/_cluster/settings", settings)

    await allow(f"-{unique}-*,+*")
    store = open_store(elasticsearch, unique, waits)
    assert await store.write([decision(1), decision(2, T0 + DAY_MS)]) == []
    assert any("index_not_found_exception" in reason for reason in waits.reasons)
    assert [document.id for document in (await store.search("decisions")).documents] == ["d2", "d1"]
    await store.close()
    await allow(None)


async def test_immutable_documents_go_to_the_index_of_their_day_and_old_days_are_dropped(elasticsearch, unique, waits):
    store = open_store(elasticsearch, unique, waits)
    await store.write([decision(1, T0 - 100 * DAY_MS), decision(2, T0 - 10 * DAY_MS), decision(3)])
    names = await asyncio.to_thread(elasticsearch.call, "GET", f"/{unique}-decisions/_alias")
    assert sorted(names) == sorted(mapping.index(unique, "decisions", T0 - days * DAY_MS) for days in (100, 10, 0))
    assert await store.expire(T0) == 1
    assert await store.expire(T0, {"decisions": 5}) == 1
    assert [document.id for document in (await store.search("decisions")).documents] == ["d3"]
    await store.close()


async def test_a_newer_template_is_left_alone(elasticsearch, unique, waits):
    newer = {"index_patterns": [f"{unique}-audit-*"], "version": mapping.TEMPLATE_VERSION + 1, "priority": 301}
    await asyncio.to_thread(elasticsearch.call, "PUT", f"/_index_template/{unique}-audit", newer)
    store = open_store(elasticsearch, unique, waits)
    await store.write([Document("audit", "a1", T0, {"what": "pause"})])
    found = await asyncio.to_thread(elasticsearch.call, "GET", f"/_index_template/{unique}-audit")
    assert found["index_templates"][0]["index_template"]["version"] == mapping.TEMPLATE_VERSION + 1
    await store.close()


async def test_ecs_fields_can_be_queried_as_dashboards_do(elasticsearch, unique, waits):
    store = open_store(elasticsearch, unique, waits)
    log = records.LogDocument(
        id="logins-0-1",
        at_ms=T0,
        message="Failed password for root",
        fields={
            "source.ip": "127.0.0.2",
            "user.name": "root",
            "event.outcome": "failure",
            "log.level": "warning",
            "http.response.status_code": "401",
            "own.x": 1,
        },
    )
    odd = records.LogDocument(
        id="logins-0-2", at_ms=T0, message="odd", fields={"source.ip": "not an address", "user.name": {"nested": 1}, "source.port": "x"}
    )
    assert await store.write([document_of(log), document_of(odd)]) == []

    async def hits(query):
        name = f"/{unique}-logs/_search"
        await asyncio.to_thread(elasticsearch.call, "POST", f"/{unique}-logs/_refresh")
        return [hit["_id"] for hit in (await asyncio.to_thread(elasticsearch.call, "POST", name, {"query": query}))["hits"]["hits"]]

    assert await hits({"term": {"source.ip": "127.0.0.0/24"}}) == ["logins-0-1"]
    assert await hits({"match": {"message": "password"}}) == ["logins-0-1"]
    assert await hits({"term": {"user.name": "root"}}) == ["logins-0-1"]
    assert await hits({"range": {"http.response.status_code": {"gte": 400}}}) == ["logins-0-1"]
    assert await hits({"range": {"@timestamp": {"gte": "2026-09-21", "lt": "2026-09-22"}}}) == ["logins-0-1", "logins-0-2"]
    assert json.dumps((await store.get("logs", "logins-0-2")).body["fields"]["user.name"]) == '{"nested": 1}'
    await store.close()

"""What every record store keeps: SQLite, Elasticsearch and the fake."""

import math
import uuid

import pytest

from pipeline.ports.record import Document
from pipeline.record.sqlite import SQLiteStore
from pipeline.runtime.clock import SystemClock
from tests.fakes.record import FakeStore

T0 = 1_790_000_000_000


@pytest.fixture(params=["fake", "sqlite", pytest.param("elasticsearch", marks=pytest.mark.elasticsearch)])
async def store(request, tmp_path):
    if request.param == "elasticsearch":
        from pipeline.record.elastic import ElasticStore

        node = request.getfixturevalue("elasticsearch")
        opened = ElasticStore.connect([node.url], clock=SystemClock(), prefix=f"t{uuid.uuid4().hex[:10]}")
    elif request.param == "sqlite":
        opened = SQLiteStore(tmp_path / "records.db")
    else:
        opened = FakeStore()
    yield opened
    await opened.close()


def decision(number, **body):
    return Document("decisions", f"d{number}", T0 + number, {"id": f"d{number}", "group": "checkout", **body})


def incident(state, revision, *, at_ms=T0):
    return Document("incidents", "i1", at_ms, {"id": "i1", "state": state, "revision": revision}, revision)


async def ids(store, kind="decisions", **query):
    return [document.id for document in (await store.search(kind, **query)).documents]


async def test_a_written_document_reads_back_equal(store):
    document = decision(1, text="held", evidence={"value": 0.25, "limit": 3, "list": [1, "a", None, True], "deep": {"er": {"est": "x"}}})
    assert await store.write([document]) == []
    assert await store.get("decisions", "d1") == document


async def test_what_was_never_written_is_not_there(store):
    assert await store.get("decisions", "nothing") is None
    assert await store.search("alerts") == ([], None)


async def test_a_second_copy_of_an_immutable_document_changes_nothing(store):
    await store.write([decision(1, text="first")])
    assert await store.write([decision(1, text="second"), decision(2)]) == []
    assert (await store.get("decisions", "d1")).body["text"] == "first"
    assert await ids(store) == ["d2", "d1"]


async def test_the_same_document_twice_in_one_call_is_stored_once(store):
    assert await store.write([decision(1), decision(1)]) == []
    assert await ids(store) == ["d1"]


async def test_the_highest_revision_wins_in_order_of_arrival(store):
    await store.write([incident("open", 1)])
    await store.write([incident("acting", 2)])
    assert (await store.get("incidents", "i1")).body["state"] == "acting"


async def test_a_replayed_older_revision_never_goes_back(store):
    await store.write([incident("resolved", 3)])
    assert await store.write([incident("open", 1), incident("acting", 2), incident("open", 0)]) == []
    found = await store.get("incidents", "i1")
    assert (found.body["state"], found.revision) == ("resolved", 3)


async def test_revisions_of_one_document_in_one_call_end_at_the_highest(store):
    await store.write([incident("acting", 2), incident("resolved", 3), incident("open", 1)])
    assert (await store.get("incidents", "i1")).revision == 3


async def test_a_first_state_without_revision_is_replaced_by_the_first_revision(store):
    await store.write([incident("open", 0)])
    await store.write([incident("acting", 1)])
    assert (await store.get("incidents", "i1")).body["state"] == "acting"


async def test_a_mutable_document_stays_one_when_its_time_moves_to_another_day(store):
    await store.write([incident("open", 1), incident("resolved", 2, at_ms=T0 + 86_400_000)])
    found = (await store.search("incidents")).documents
    assert [(document.revision, document.at_ms) for document in found] == [(2, T0 + 86_400_000)]


async def test_kinds_do_not_mix_even_with_equal_ids(store):
    await store.write([Document("actions", "x", T0, {"id": "x"}), Document("outcomes", "x", T0, {"id": "x", "status": "applied"})])
    assert (await store.get("actions", "x")).kind == "actions"
    assert (await store.get("outcomes", "x")).body["status"] == "applied"
    assert await ids(store, "outcomes") == ["x"]


async def test_search_gives_the_newest_first(store):
    await store.write([decision(2), decision(3), decision(1)])
    assert await ids(store) == ["d3", "d2", "d1"]


async def test_search_takes_a_half_open_time_range(store):
    await store.write([decision(number) for number in range(5)])
    assert await ids(store, since_ms=T0 + 1, until_ms=T0 + 3) == ["d2", "d1"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        pytest.param({"incident_id": "i7"}, ["d3", "d1"], id="text"),
        pytest.param({"incident_id": ["i7", "i8"]}, ["d3", "d2", "d1"], id="any of a list"),
        pytest.param({"incident_id": []}, [], id="any of nothing"),
        pytest.param({"incident_id": "i7", "verdict": "act"}, ["d1"], id="two fields"),
        pytest.param({"evidence.attempt": 2}, ["d2"], id="a number inside"),
        pytest.param({"evidence.attempt": 2.0}, ["d2"], id="the same number as a float"),
        pytest.param({"evidence.ratio": 0.05}, ["d1"], id="a fraction"),
        pytest.param({"evidence.warming": True}, ["d3"], id="a truth value"),
        pytest.param({"action_ids": "a2"}, ["d1"], id="an element of a list"),
        pytest.param({"fields.source.ip": "127.0.0.2"}, ["d2"], id="a key with dots inside"),
        pytest.param({"evidence": True}, [], id="a member of an object is not the object"),
        pytest.param({"no.such.field": "x"}, [], id="an unknown field"),
        pytest.param({"incident_id": "I7"}, [], id="case matters"),
    ],
)
async def test_search_by_fields(store, where, expected):
    await store.write(
        [
            decision(1, incident_id="i7", verdict="act", evidence={"attempt": 1, "ratio": 0.05}, action_ids=["a1", "a2"]),
            decision(2, incident_id="i8", evidence={"attempt": 2}, fields={"source.ip": "127.0.0.2"}),
            decision(3, incident_id="i7", verdict="hold", evidence={"warming": True}, action_ids=["a3"]),
        ]
    )
    assert await ids(store, where=where) == expected


async def test_pages_cover_everything_once_even_with_equal_times(store):
    await store.write([Document("logs", f"l{number:02}", T0 + number // 4, {"message": str(number)}) for number in range(25)])
    seen, cursor, pages = [], None, 0
    while True:
        page = await store.search("logs", limit=10, cursor=cursor)
        seen += page.documents
        pages += 1
        cursor = page.cursor
        if cursor is None:
            break
    assert pages == 3
    assert len({document.id for document in seen}) == 25
    assert [document.at_ms for document in seen] == sorted((document.at_ms for document in seen), reverse=True)


async def test_the_last_full_page_has_no_cursor(store):
    await store.write([decision(number) for number in range(4)])
    page = await store.search("decisions", limit=4)
    assert (len(page.documents), page.cursor) == (4, None)


async def test_pages_stay_stable_while_newer_documents_arrive(store):
    await store.write([decision(number) for number in range(4)])
    first = await store.search("decisions", limit=2)
    await store.write([decision(9)])
    assert await ids(store, limit=2, cursor=first.cursor) == ["d1", "d0"]


async def test_a_broken_cursor_is_refused(store):
    with pytest.raises(ValueError, match="not a cursor"):
        await store.search("decisions", cursor="page two")


async def test_text_of_every_script_survives(store):
    text = "grüße 日本語 🔥 \u202e rtl \u0000 nul \\ \" ' ; DROP TABLE documents; --\n\tend"
    document = decision(1, text=text, labels={"größe": "日本"})
    assert await store.write([document]) == []
    assert await store.get("decisions", "d1") == document
    assert await ids(store, where={"labels.größe": "日本"}) == ["d1"]


async def test_an_id_may_hold_anything_printable(store):
    document = Document("actions", "edge://route/check out?#\"'%/..", T0, {"group": "g"})
    assert await store.write([document]) == []
    assert await store.get("actions", document.id) == document


async def test_numbers_that_json_lacks_become_null(store):
    await store.write([decision(1, evidence={"nan": math.nan, "inf": math.inf, "list": [-math.inf, 1.5]})])
    assert (await store.get("decisions", "d1")).body["evidence"] == {"nan": None, "inf": None, "list": [None, 1.5]}


async def test_a_field_may_have_another_type_in_each_document(store):
    values = [1, "one", {"a": 1}, [1, 2], 1.5, True, None]
    documents = [decision(number, evidence={"value": value}) for number, value in enumerate(values)]
    assert await store.write(documents) == []
    assert [document.body["evidence"]["value"] for document in (await store.search("decisions")).documents] == values[::-1]


async def test_a_big_document_is_stored_whole(store):
    document = Document("logs", "big", T0, {"message": "x" * 3_000_000, "fields": {f"f{number}": "y" * 40_000 for number in range(20)}})
    assert await store.write([document]) == []
    assert await store.get("logs", "big") == document


async def test_a_document_with_very_many_keys_is_stored_whole(store):
    document = decision(1, evidence={f"key{number}": number for number in range(3000)})
    assert await store.write([document]) == []
    assert await store.get("decisions", "d1") == document


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        pytest.param(Document("nonsense", "x", T0, {}), "unknown kind", id="kind"),
        pytest.param(Document("logs", "", T0, {}), "id must have", id="empty id"),
        pytest.param(Document("logs", "x" * 513, T0, {}), "id must have", id="long id"),
        pytest.param(Document("logs", "x", -1, {}), "at_ms", id="before 1970"),
        pytest.param(Document("logs", "x", 10**17, {}), "at_ms", id="far future"),
        pytest.param(Document("logs", "x\ud800", T0, {}), "printable", id="id that is no text"),
        pytest.param(Document("logs", "x", T0, {}, -1), "revision", id="negative revision"),
        pytest.param(Document("logs", "x", T0, {}, 2**63), "revision", id="huge revision"),
        pytest.param(Document("logs", "x", T0, {"a": object()}), "not JSON", id="not JSON"),
        pytest.param(Document("logs", "x", T0, {"a": "\ud800"}), "not JSON", id="lone surrogate"),
    ],
)
async def test_what_cannot_be_stored_comes_back_with_the_reason_and_stops_nothing_else(store, document, reason):
    rejected = await store.write([decision(1), document, decision(2)])
    assert [item.document for item in rejected] == [document]
    assert reason in rejected[0].reason
    assert await ids(store) == ["d2", "d1"]


async def test_writing_nothing_is_fine(store):
    assert await store.write([]) == []


async def test_what_is_too_old_expires_and_what_is_in_force_stays(store):
    day = 86_400_000
    old, now = T0 - 800 * day, T0
    await store.write(
        [
            Document("decisions", "old", old, {}),
            Document("decisions", "new", now, {}),
            Document("logs", "eight days", now - 8 * day - 1000, {}),
            Document("incidents", "over", old, {"resolved_at_ms": old + 1}, 2),
            Document("incidents", "open", old, {"resolved_at_ms": 0}, 1),
            Document("overrides", "held", old, {"released_at_ms": 0}, 1),
        ]
    )
    assert await store.expire(now) >= 3
    assert await ids(store) == ["new"]
    assert await ids(store, "logs") == []
    assert await ids(store, "incidents") == ["open"]
    assert await ids(store, "overrides") == ["held"]


async def test_closing_twice_is_harmless(store):
    await store.write([decision(1)])
    await store.close()
    await store.close()

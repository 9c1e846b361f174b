"""What documents become in a bulk request, and what its answers mean."""

import json

import pytest

from pipeline.ports.record import Document
from pipeline.record import bulk
from pipeline.record.bulk import Verdict
from pipeline.record.documents import checked

T0 = 1_790_000_000_000


def item(document):
    return bulk.item("p", checked([document])[0][0])


def test_a_document_without_revision_is_created():
    head, source = map(json.loads, item(Document("decisions", "d", T0, {"text": "x"})).lines.splitlines())
    assert head == {"create": {"_index": "p-decisions-2026.09.21", "_id": "d"}}
    assert source["reflexarc"]["body"] == {"text": "x"}


def test_a_revision_is_indexed_under_an_external_version_above_that_of_a_create():
    head = json.loads(item(Document("incidents", "i", T0, {}, 1)).lines.splitlines()[0])
    assert head == {"index": {"_index": "p-incidents-all", "_id": "i", "version": 2, "version_type": "external"}}


def test_chunks_are_bounded_in_number_and_bytes_and_keep_the_order():
    items = [item(Document("logs", str(number), T0, {"message": "x" * 1000})) for number in range(5000)]
    found = list(bulk.chunks(items))
    assert [one for chunk in found for one in chunk] == items
    assert all(len(chunk) <= 2000 for chunk in found)
    big = [item(Document("logs", str(number), T0, {"message": "x" * 3_000_000})) for number in range(3)]
    assert [len(chunk) for chunk in bulk.chunks(big)] == [1, 1, 1]
    assert list(bulk.chunks([])) == []


@pytest.mark.parametrize(
    ("status", "error", "faults", "verdict"),
    [
        pytest.param(201, None, 0, Verdict.DONE, id="created"),
        pytest.param(200, None, 0, Verdict.DONE, id="replaced"),
        pytest.param(409, {"type": "version_conflict_engine_exception", "reason": "there"}, 0, Verdict.DONE, id="already there"),
        pytest.param(429, {"type": "es_rejected_execution_exception", "reason": "busy"}, 0, Verdict.AGAIN, id="overload"),
        pytest.param(429, {"type": "cluster_block_exception", "reason": "flood stage"}, 0, Verdict.AGAIN, id="disk full"),
        pytest.param(403, {"type": "cluster_block_exception", "reason": "read only"}, 0, Verdict.AGAIN, id="blocked index"),
        pytest.param(403, {"type": "security_exception", "reason": "not you"}, 0, Verdict.AGAIN, id="no permission"),
        pytest.param(503, {"type": "unavailable_shards_exception", "reason": "no primary"}, 0, Verdict.AGAIN, id="no primary"),
        pytest.param(500, {"type": "exception", "reason": "?"}, 0, Verdict.BROKE, id="the server broke"),
        pytest.param(500, {"type": "exception", "reason": "?"}, 7, Verdict.REFUSED, id="the server breaks on it every time"),
        pytest.param(404, {"type": "index_not_found_exception", "reason": "no"}, 0, Verdict.NO_INDEX, id="no index"),
        pytest.param(400, {"type": "document_parsing_exception", "reason": "bad"}, 0, Verdict.REFUSED, id="refused for its content"),
        pytest.param(400, "as text", 0, Verdict.REFUSED, id="an error that is only text"),
    ],
)
def test_answers(status, error, faults, verdict):
    one = item(Document("logs", "l", T0, {}))._replace(faults=faults)
    judgement = bulk.judge(one, {"create": {"status": status} | ({"error": error} if error else {})})
    assert judgement.verdict is verdict
    assert bool(judgement.reason) == (verdict is not Verdict.DONE)


def test_an_explanation_names_the_outermost_and_the_innermost_cause():
    error = {"type": "a", "reason": "outer", "caused_by": {"type": "b", "reason": "middle", "caused_by": {"type": "c", "reason": "inner"}}}
    assert bulk.explanation(error) == "a: outer (c: inner)"
    assert bulk.explanation({"type": "a", "reason": "outer"}) == "a: outer"

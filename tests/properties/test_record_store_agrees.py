"""The SQLite store and the fake give the same answers to any history of writes and any question."""

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ports.record import Document
from pipeline.record.sqlite import SQLiteStore
from tests.fakes.record import FakeStore

T0 = 1_790_000_000_000
NAMES = st.sampled_from(["a", "b", "a.b", "incident_id", "group", "größe"])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, 1.0, float("nan")]), st.sampled_from(["", "x", "1", "true", "A"])
)
BODIES = st.recursive(
    st.dictionaries(NAMES, SCALARS | st.lists(SCALARS, max_size=3), max_size=3),
    lambda inner: st.dictionaries(NAMES, SCALARS | inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.builds(
    Document,
    kind=st.sampled_from(["incidents", "decisions"]),
    id=st.sampled_from(["1", "2", "3", "é:"]),
    at_ms=st.integers(T0, T0 + 4),
    body=BODIES,
    revision=st.integers(0, 4),
)
PATHS = st.lists(NAMES, min_size=1, max_size=2).map(".".join)
ASKED = st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0]) | st.sampled_from(["x", "1", "true", "A"])
QUESTIONS = st.fixed_dictionaries(
    {
        "where": st.dictionaries(PATHS, ASKED | st.lists(ASKED, max_size=2), max_size=2),
        "since_ms": st.sampled_from([0, T0 + 1]),
        "until_ms": st.sampled_from([0, T0 + 3]),
    }
)


async def everything(store, kind, question, limit):
    found, cursor = [], None
    while True:
        page = await store.search(kind, limit=limit, cursor=cursor, **question)
        found += page.documents
        cursor = page.cursor
        if cursor is None:
            return found


@settings(max_examples=150, deadline=None)
@given(batches=st.lists(st.lists(DOCUMENTS, max_size=6), max_size=3), question=QUESTIONS, limit=st.integers(1, 4))
def test_sqlite_answers_as_the_fake_does(batches, question, limit):
    async def run(folder):
        real, fake = SQLiteStore(Path(folder) / "records.db"), FakeStore()
        for batch in batches:
            assert await real.write(batch) == await fake.write(batch) == []
        for kind in ("incidents", "decisions"):
            assert await everything(real, kind, question, limit) == await everything(fake, kind, question, 1000)
            for document_id in ("1", "2", "3", "é:"):
                assert await real.get(kind, document_id) == await fake.get(kind, document_id)
        await real.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(folder))

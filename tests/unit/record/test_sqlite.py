"""What SQLite alone must show: durability across processes, and refusals that say what to do."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.ports.record import Document
from pipeline.record.errors import StoreError
from pipeline.record.sqlite import SQLiteStore

T0 = 1_790_000_000_000

WRITER = """
import asyncio, os, signal, sys
from pathlib import Path
from pipeline.ports.record import Document
from pipeline.record.sqlite import SQLiteStore
async def main():
    store = SQLiteStore(Path(sys.argv[1]))
    for batch in range(1000):
        await store.write([Document("decisions", f"{batch}-{n}", 1_790_000_000_000 + batch, {}) for n in range(3)])
        print(batch, flush=True)
asyncio.run(main())
"""


async def test_whatever_was_acknowledged_survives_a_killed_process(tmp_path):
    path = tmp_path / "records.db"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())}
    ) as writer:
        acknowledged = -1
        for line in writer.stdout:
            acknowledged = int(line)
            if acknowledged == 20:
                writer.send_signal(signal.SIGKILL)
    assert acknowledged >= 20
    store = SQLiteStore(path)
    found = (await store.search("decisions", limit=5000)).documents
    assert {f"{batch}-{number}" for batch in range(acknowledged + 1) for number in range(3)} <= {document.id for document in found}
    assert len(found) % 3 == 0
    await store.close()


async def test_a_second_process_reads_while_the_first_has_the_file_open(tmp_path):
    writer, reader = SQLiteStore(tmp_path / "new" / "records.db"), SQLiteStore(tmp_path / "new" / "records.db")
    await writer.write([Document("audit", "a", T0, {"what": "pause"})])
    assert (await reader.get("audit", "a")).body == {"what": "pause"}
    await writer.close()
    await reader.close()


async def test_a_file_of_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "records.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    store = SQLiteStore(path)
    with pytest.raises(StoreError, match=r"schema version 99.*update reflexarc"):
        await store.get("audit", "a")
    await store.close()


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "records.db"
    path.write_bytes(b"my diary, do not touch" * 100)
    store = SQLiteStore(path)
    with pytest.raises(StoreError, match="not a database"):
        await store.write([Document("audit", "a", T0, {})])
    await store.close()
    assert path.read_bytes().startswith(b"my diary")


async def test_a_field_name_with_quotes_is_refused(tmp_path):
    store = SQLiteStore(tmp_path / "records.db")
    with pytest.raises(ValueError, match="not a field name"):
        await store.search("audit", where={'a"b': "x"})
    await store.close()

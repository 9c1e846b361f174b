"""`reflexarc query` over files and over a gateway."""

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.detect import DetectOptions, Detector
from pipeline.gateway import Gateway
from pipeline.model.labels import Labels
from pipeline.model.signals import SignalBatch
from pipeline.rulebook.book import RuleBook
from pipeline.rulebook.config_spec import Gateway as Config
from pipeline.telemetry import Telemetry
from tests.fakes.bus import FakeBus
from tests.fakes.clock import FakeClock

NOW_MS = 1_767_225_600_000
JSON = "\n".join(
    json.dumps({"name": "c", "labels": {"i": i}, "value": value, "ts": NOW_MS + at})
    for at, value in ((0, 0), (60_000, 60), (30_000, 30))
    for i in "ab"
)
TEXT = """# HELP up Whether it is up.
# TYPE up gauge
up{job="api"} 1
up{job="web"} 0 1767225600000
big_value 1.5e+09 1767225600000
"""


@pytest.fixture
def samples(tmp_path: Path) -> str:
    path = tmp_path / "samples.jsonl"
    path.write_text(JSON)
    return str(path)


def test_a_file_is_asked_at_its_newest_sample(samples: str, capsys: Any):
    assert main(["query", "sum by (i) (c)", "--file", samples]) == 0
    assert capsys.readouterr().out.splitlines() == ["SERIES   VALUE", '{i="a"}  60', '{i="b"}  60']


def test_an_instant_can_be_named(samples: str, capsys: Any):
    assert main(["query", 'c{i="a"}', "--file", samples, "--at", "2026-01-01T00:00:30Z", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "status": "success",
        "data": {"resultType": "vector", "result": [{"metric": {"__name__": "c", "i": "a"}, "value": [1767225630, "30"]}]},
    }


def test_a_range_is_a_table_of_times(samples: str, capsys: Any):
    assert main(["query", "sum(c)", "--file", samples, "--range", "2026-01-01T00:00:00Z", "1767225660", "30s"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["{}", "2026-01-01T00:00:00.000Z", "0"],
        ["{}", "2026-01-01T00:00:30.000Z", "60"],
        ["{}", "2026-01-01T00:01:00.000Z", "120"],
    ]


def test_windows_are_those_of_the_chosen_version(samples: str, capsys: Any):
    for compat, count in (("v3", "1"), ("v2", "2")):
        assert main(["query", 'count_over_time(c{i="a"}[30s])', "--file", samples, "--promql-compat", compat]) == 0
        assert capsys.readouterr().out.splitlines()[1].split()[-1] == count


def test_text_exposition_is_read_from_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.setattr("sys.stdin", io.StringIO(TEXT))
    assert main(["query", "up or big_value", "--file", "-", "--at", "1767225600"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
        ['up{job="api"}', "1"],
        ['up{job="web"}', "0"],
        ["big_value", "1500000000"],
    ]


def test_scalars_and_strings_are_printed_bare(samples: str, capsys: Any):
    assert main(["query", "1 / 4", "--file", samples]) == 0
    assert capsys.readouterr().out == "0.25\n"


@pytest.mark.parametrize(
    ("text", "args", "expected"),
    [
        pytest.param(JSON, ["sum("], "is never closed", id="no expression"),
        pytest.param(JSON, ["c", "--at", "soon"], 'cannot parse "soon" to a valid timestamp', id="no time"),
        pytest.param(JSON, ["c", "--range", "2", "1", "1"], "the end of the range is before its start", id="backwards"),
        pytest.param(JSON, ["c", "--range", "1", "2", "0"], "zero or negative", id="no step"),
        pytest.param("up 1\nup{job=api} 1", ["up"], "f.txt:2: the value of label job should be a quoted text", id="a bad line"),
        pytest.param("up 1 2 3", ["up"], "f.txt:1:", id="too much on a line"),
        pytest.param('{"value": 1}', ["up"], "f.txt:1:", id="bad JSON"),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, capsys: Any, text: str, args: list[str], expected: str):
    (tmp_path / "f.txt").write_text(text)
    assert main(["query", *args, "--file", str(tmp_path / "f.txt")]) == 1
    assert expected in capsys.readouterr().err


def test_a_file_that_is_not_there_is_told(capsys: Any):
    assert main(["query", "up", "--file", "/nowhere/f"]) == 1
    assert "/nowhere/f: No such file" in capsys.readouterr().err


async def _asked(*args: str) -> int:
    detector = Detector(RuleBook("v"), DetectOptions(grid_delay_ms=0))
    detector.feed(SignalBatch([Labels.of(__name__="up", job="api")], [NOW_MS], [1.0]), NOW_MS)
    clock = FakeClock(NOW_MS)
    gateway = Gateway(FakeBus(clock), Config(listen="127.0.0.1:0"), clock=clock, telemetry=Telemetry(), look=lambda: detector)
    await gateway.start()
    try:
        return await asyncio.to_thread(main, ["query", *args, "--url", gateway.url])
    finally:
        await gateway.close()


async def test_a_running_pipeline_is_asked_through_its_gateway(capsys: Any):
    assert await _asked("up") == 0
    assert capsys.readouterr().out.splitlines() == ["SERIES         VALUE", 'up{job="api"}  1']
    assert await _asked("up", "--range", "1767225600", "1767225601", "500ms", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["data"]["result"][0]["values"] == [[1767225600, "1"], [1767225600.5, "1"], [1767225601, "1"]]


async def test_what_the_gateway_refuses_is_told_in_its_words(capsys: Any):
    assert await _asked("sum(") == 1
    assert 'invalid parameter "query"' in capsys.readouterr().err


def test_a_gateway_that_is_not_there_is_told(tmp_path: Path, capsys: Any):
    assert main(["query", "up", "--url", "http://127.0.0.1:9"]) == 1
    assert "is the pipeline running with a gateway?" in capsys.readouterr().err
    (tmp_path / "c.yaml").write_text("rules: []\n")
    assert main(["query", "up", "--config", str(tmp_path / "c.yaml")]) == 1
    assert "configures no gateway" in capsys.readouterr().err

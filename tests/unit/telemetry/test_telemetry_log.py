"""Log lines: for machines, for people, and never with a secret."""

import io
import json
import logging
from typing import Any

import pytest

from pipeline.telemetry import Log, LogHandler
from tests.fakes.clock import FakeClock

NOW = 1_767_225_600_123


def lines(say: Any, **options: Any) -> list[str]:
    stream = io.StringIO()
    say(Log(FakeClock(NOW), stream=stream, **options))
    return stream.getvalue().splitlines()


def test_json_lines_carry_time_level_event_and_fields() -> None:
    [line] = lines(lambda log: log("input_opened", topic="metrics", partitions=3), as_json=True)
    assert json.loads(line) == {"ts": "2026-01-01T00:00:00.123Z", "level": "info", "event": "input_opened", "topic": "metrics", "partitions": 3}


def test_a_field_cannot_pose_as_the_event() -> None:
    [line] = lines(lambda log: log("real", event="false", ts="never"), as_json=True)
    assert (json.loads(line)["event"], json.loads(line)["ts"]) == ("real", "2026-01-01T00:00:00.123Z")


def test_lines_for_people_are_one_line_each_and_quote_what_needs_it() -> None:
    [line] = lines(lambda log: log.warning("broken", reason='line\n2 has "x"', count=1, empty="", nested={"a": [1]}))
    assert line == '00:00:00.123 warning broken reason="line\\n2 has \\"x\\"" count=1 empty="" nested="{\\"a\\": [1]}"'


def test_levels_below_are_left_out() -> None:
    def say(log: Log) -> None:
        log.debug("a")
        log("b")
        log.error("c")

    assert [line.split()[2] for line in lines(say)] == ["b", "c"]
    assert [line.split()[2] for line in lines(say, level="debug")] == ["a", "b", "c"]
    assert [line.split()[2] for line in lines(say, level="error")] == ["c"]
    with pytest.raises(ValueError, match="no log level"):
        Log(FakeClock(), level="loud")


def test_bound_fields_are_in_every_line() -> None:
    [line] = lines(lambda log: log.bind(role="detect", n=1)("started", n=2), as_json=True)
    assert json.loads(line)["role"] == "detect"
    assert json.loads(line)["n"] == 2


@pytest.mark.parametrize(
    "name", ["password", "sasl_password", "token", "api_key", "apiKey", "Authorization", "client_secret", "private_key", "cookie", "passwd"]
)
def test_a_field_that_is_named_like_a_secret_is_masked(name: str) -> None:
    for as_json in (False, True):
        [line] = lines(lambda log: log("x", **{name: "hunter22", "nested": {name: "hunter22"}}), as_json=as_json)
        assert "hunter22" not in line
        assert "***" in line


def test_a_known_secret_is_masked_wherever_it_stands() -> None:
    [line] = lines(lambda log: log("connect", url="https://user:hunter22@host", error=ValueError("bad hunter22")), secrets=["hunter22", "", "x"])
    assert line.count("***") == 2
    assert "hunter22" not in line


def test_what_libraries_log_becomes_our_lines() -> None:
    def say(log: Log) -> None:
        library = logging.getLogger("tests.library")
        library.setLevel(logging.DEBUG)
        library.propagate = False
        library.addHandler(LogHandler(log, logging.INFO))
        library.info("joined %s", "group")
        library.debug("noise")
        library.error("failed", exc_info=OSError("away"))

    first, second = [json.loads(line) for line in lines(say, as_json=True)]
    assert (first["event"], first["logger"], first["message"], first["level"]) == ("library", "tests.library", "joined group", "info")
    assert (second["level"], second["error"]) == ("error", "OSError('away')")

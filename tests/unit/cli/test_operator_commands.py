"""What an on-call person types: exit codes, JSON, and the story of what was done and what was not."""

import json
import time
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.model.records import Incident, IncidentState
from tests.unit.cli.stories import FIRED, HISTORY, START_MS, tell

STORY = """\
incident incident-1
├── times: clock, and time since the beginning at 2023-11-14 22:13:20.000
├── checkout: CheckoutErrors: resolved, opened 22:13:20.120 +120ms, ended 22:13:28.000 +8.000s (verified)
├── what fired
│   └── 22:13:20.000 +0ms     CheckoutErrors (service=checkout, version=v2) value 0.3812, fired 22:13:20.120 +120ms, resolved_by_value 22:13:28.000 +8.000s
│         v2 of checkout answers 38% of its requests with an error
├── what was decided, and why
│   ├── 22:13:20.125 +125ms   act  granted: shift traffic away from v2
│   │     policy bad-release, value=0.3812, confirmations=2, budget={targets: 1, per_ms: 10m}
│   ├── 22:13:21.000 +1.000s  hold cooldown: bad-release waits 297 s more  (3 times, last 22:13:23.000 +3.000s)
│   │     policy bad-release, until_at_ms=22:18:20.000, left_ms=4m57s
│   └── 22:13:26.000 +6.000s  note verified: error ratio stayed under 2 % for three measurements
│         policy bad-release
└── what was done
    └── 22:13:20.125 +125ms   shift_traffic edge://route/checkout -> {weights: {v1: 100, v2: 0}} (policy bad-release, id action-1)
          applied 22:13:20.140 +140ms, 40ms after the signal that caused it: weights v1 80 -> 100, v2 20 -> 0
"""


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def config(tmp_path: Path) -> str:
    return str(tell(tmp_path))


@pytest.fixture
def asked(config: str, capsys: pytest.CaptureFixture[str]):
    """The JSON that a command prints."""

    def ask(*words: str, code: int = 0):
        assert main([*words, "--json", "--config", config]) == code
        return json.loads(capsys.readouterr().out)

    return ask


def test_the_story_of_an_incident_is_told_with_clock_and_distance(config: str, capsys: pytest.CaptureFixture[str]):
    assert main(["explain", "last", "--config", config]) == 0
    assert capsys.readouterr().out == STORY


@pytest.mark.parametrize(
    ("subject", "found"),
    [
        pytest.param("incident-1", "incident incident-1", id="incident"),
        pytest.param("alert-1", "incident incident-1", id="alert"),
        pytest.param("action-1", "incident incident-1", id="action"),
        pytest.param("decision-9", "incident incident-1", id="decision"),
        pytest.param("checkout", "service checkout: its latest incident", id="service"),
        pytest.param("bad-release", "policy bad-release", id="policy"),
        pytest.param("CheckoutErrors", "incident incident-1", id="alert name"),
        pytest.param("rule-1", "incident incident-1", id="rule"),
    ],
)
def test_an_id_and_a_name_lead_to_the_story(asked, subject: str, found: str):
    story = asked("explain", subject)
    assert story["subject"] == found
    assert [action["id"] for action in story["actions"]] == ["action-1"]
    assert [outcome["status"] for outcome in story["outcomes"]] == ["applied"]


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        pytest.param("search-demand", "no_data", id="a scaler that held"),
        pytest.param("alert-2", "no_policy", id="an alert that no policy wanted"),
        pytest.param("DiskFull", "no_policy", id="its name"),
    ],
)
def test_what_was_not_done_is_explained_too(asked, subject: str, reason: str):
    story = asked("explain", subject)
    assert [one["reason"] for one in story["decisions"]] == [reason]
    assert (story["incidents"], story["actions"]) == ([], [])


def test_long_evidence_is_shortened_for_people_only(config: str, asked, capsys: pytest.CaptureFixture[str]):
    assert len(asked("explain", "search-demand")["decisions"][0]["evidence"]["waiting_for"]) == 30
    assert main(["explain", "search-demand", "--config", config]) == 0
    assert "waiting_for=[a, a, a, a, a, ... 25 more]" in capsys.readouterr().out


def test_what_an_attacker_wrote_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    title = "[bold]logins[/bold] \x1b[2J\x9b2J of \x07mallory"
    incident = Incident(id="i", group="g", service="s", title=title, state=IncidentState.OPEN, opened_at_ms=START_MS, at_ms=START_MS, revision=1)
    config = str(tell(tmp_path, [incident]))
    for words in (["explain", "i"], ["incidents", "list"], ["incidents", "show", "i"]):
        assert main([*words, "--config", config]) == 0
        out = capsys.readouterr().out
        assert not set(out) & {"\x1b", "\x9b", "\x07"}
        assert "[bold]logins[/bold]" in out


def test_incidents_are_listed_newest_first_and_filtered(tmp_path: Path, asked):
    newer = Incident(
        id="incident-2",
        group="search",
        service="search",
        title="search: slow",
        state=IncidentState.OPEN,
        opened_at_ms=START_MS + 9,
        at_ms=START_MS,
        revision=1,
    )
    tell(
        tmp_path,
        [
            *HISTORY,
            newer,
            Incident(**{name: getattr(newer, name) for name in newer.__struct_fields__} | {"id": "incident-3", "opened_at_ms": START_MS + 999}),
        ],
    )
    assert [one["id"] for one in asked("incidents", "list")] == ["incident-3", "incident-1", "incident-2"]
    assert [one["id"] for one in asked("incidents", "list", "--open")] == ["incident-3", "incident-2"]
    assert [one["id"] for one in asked("incidents", "list", "--service", "checkout")] == ["incident-1"]
    assert [one["id"] for one in asked("incidents", "list", "--limit", "1")] == ["incident-3"]


def test_an_incident_is_shown_with_its_timeline(config: str, capsys: pytest.CaptureFixture[str]):
    assert main(["incidents", "show", "last", "--config", config]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "checkout: CheckoutErrors  [resolved]  incident-1  opened 2023-11-14 22:13:20.120"
    assert lines[3].split() == ["22:13:20.140", "+20ms", "shift_traffic", "edge://route/checkout", "action-1"]
    assert lines[4] == "incident incident-1"


def test_an_unfinished_story_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = str(tell(tmp_path, [record for record in HISTORY if type(record).__name__ in {"Incident", "Action"}]))
    assert main(["explain", "last", "--config", config]) == 0
    out = capsys.readouterr().out
    assert "no outcome yet" in out
    assert "what fired: nothing on record" in out


@pytest.mark.parametrize("words", [["explain", "nobody"], ["incidents", "show", "nobody"], ["overrides", "release", "nobody"]], ids=" ".join)
def test_what_is_not_there_is_exit_code_1_and_says_where_to_look(config: str, words: list[str], capsys: pytest.CaptureFixture[str]):
    assert main([*words, "--config", config]) == 1
    err = capsys.readouterr().err
    assert err.startswith("reflexarc: no")
    assert "list`" in err


def test_an_empty_store_has_no_last_incident(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = str(tell(tmp_path, []))
    assert main(["explain", "--config", config]) == 1
    assert main(["incidents", "list", "--json", "--config", config]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_overrides_in_force_are_listed_and_a_release_is_ordered(asked, config: str, capsys: pytest.CaptureFixture[str]):
    assert [(one["id"], one["target"]) for one in asked("overrides", "list")] == [("action-1", "edge://route/checkout")]
    assert main(["overrides", "list", "--config", config]) == 0
    assert "edge://route/checkout  shift_traffic" in capsys.readouterr().out
    assert asked("overrides", "release", "action-1") == {"ordered": True, "id": "action-1"}


def test_pause_and_resume_say_what_was_so(asked, tmp_path: Path):
    assert asked("pause", "--reason", "a test") == {"paused": True, "announced": True}
    assert (tmp_path / "data" / "paused").exists()
    assert asked("resume")["was_paused"] is True
    assert asked("resume", code=1)["was_paused"] is False


def test_connectors_are_listed_and_the_configured_ones_checked(asked, capsys: pytest.CaptureFixture[str]):
    assert [one["name"] for one in asked("connectors", "check")] == ["local"]
    assert main(["connectors", "list", "--json"]) == 0
    kinds = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert {"envoy", "file", "process", "webhook"} <= kinds.keys()
    assert kinds["envoy"]["fence"] in {"enforced", "best_effort"}


def test_a_connector_whose_system_is_away_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = tmp_path / "reflexarc.yaml"
    routes = "routes: {checkout: {clusters: {v1: c1}, weights: {v1: 100}}}"
    config.write_text(f"connectors: {{edge: {{kind: envoy, admin: 'http://127.0.0.1:9', dir: {tmp_path}/envoy, {routes}}}}}\n")
    assert main(["connectors", "check", "--json", "--config", str(config)]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert found["name"] == "edge"
    assert found["error"]


def test_the_alert_of_the_story_keeps_its_number(asked):
    (alert,) = asked("explain", "incident-1")["alerts"]
    assert alert["value"] == FIRED.value

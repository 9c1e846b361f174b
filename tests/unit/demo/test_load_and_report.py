"""What the demo counts and says, without a world around it."""

import asyncio
import io
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pipeline.app.opening import open_sqlite_bus
from pipeline.app.settings import load_config
from pipeline.demo import report
from pipeline.demo.acts import Act
from pipeline.demo.journal import Journal
from pipeline.demo.load import Hit, Load, percentile
from pipeline.demo.view import View
from pipeline.model import wire
from pipeline.model.reasons import Reason
from pipeline.model.records import AlertFact, AlertState, OutcomeStatus
from pipeline.ports.bus import ACTIONS, FACTS, OUTCOMES, RECORDS, OutRecord
from pipeline.rulebook.load import load_rulebook
from tests.unit.cli.stories import APPLIED, DECISIONS, FIRED, INCIDENT, SHIFT, START_MS
from tests.unit.rulebook.samples import RULES

KEYS = {
    "name", "injected_at_ms", "alert_firing_after_ms", "action_applied_after_ms", "verified_after_ms", "requests", "failed_requests",
    "failed_requests_without", "incident_id",
}  # fmt: skip


def shown(content: object) -> str:
    page = io.StringIO()
    Console(width=200, file=page).print(content)
    return page.getvalue()


# --- load ---


@pytest.mark.parametrize(("status", "failed"), [(200, False), (401, False), (403, False), (404, False), (500, True), (503, True), (0, True)])
def test_no_answer_and_5xx_are_failures_and_a_refusal_is_an_answer(status: int, failed: bool):
    assert Hit(0, 1.0, status).failed is failed


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=50), st.floats(0, 1))
def test_a_percentile_is_one_of_the_durations_with_its_share_below(durations: list[float], ratio: float):
    found = percentile([Hit(0, duration, 200) for duration in durations], ratio)
    assert found in durations
    assert found is not None
    assert sum(duration <= found for duration in durations) >= ratio * len(durations)


def test_what_was_not_answered_has_no_duration():
    assert percentile([], 0.95) is None
    assert percentile([Hit(0, 3000.0, 0)], 0.95) is None
    assert percentile([Hit(0, 3000.0, 0), Hit(0, 7.0, 500)], 0.5) == 7.0


def test_hits_are_counted_by_when_they_started():
    load = Load(port=1, rate=1.0)
    load.hits.extend(Hit(at_ms, 1.0, 200) for at_ms in (10, 20, 30))
    assert [hit.started_at_ms for hit in load.between(10, 30)] == [10, 20]


async def test_a_proxy_that_is_not_there_is_counted_as_failures_and_the_load_goes_on():
    load = Load(port=9, rate=500.0)
    running = asyncio.create_task(load.run())
    async with asyncio.timeout(10):
        while len(load.hits) < 20:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert all(hit.failed for hit in load.hits)


# --- report ---

RELEASE = Act("bad release", 1000, 345, 499, 4622, 1473, 10, 308, "incident-1")
LOST = Act("surge", 2000, None, None, None, 5000, 40, None, None, ["no scale was applied within 10 s"])


def test_the_result_as_json_has_what_the_documentation_promises():
    found = json.loads(json.dumps(report.to_json([RELEASE, LOST])))
    assert found["ok"] is False
    assert all(act.keys() >= KEYS for act in found["acts"])
    assert (found["acts"][0]["failed_requests_without"], found["acts"][1]["failed_requests_without"]) == (308, None)
    assert report.to_json([RELEASE])["ok"] is True
    assert report.to_json([])["ok"] is False, "nothing was shown"


def test_the_table_says_which_act_did_not_end_as_told_and_the_last_line_counts():
    text = shown(report.table([RELEASE, LOST]))
    assert "NO: no scale was applied within 10 s" in " ".join(text.split())
    assert "4,622" in text
    assert text.rstrip().endswith("failed requests: 308 without, 10 with (3.2%)")


def test_without_the_control_run_there_is_nothing_to_compare():
    assert report.verdict([LOST]).plain == ""
    assert report.verdict([Act("bad release", 0, failed_requests=0, failed_requests_without=0)]).plain.endswith("failed requests: 0 without, 0 with")


def test_the_picture_is_drawn_by_the_program(tmp_path: Path):
    report.save_picture(tmp_path / "demo.svg", report.table([RELEASE]))
    assert (tmp_path / "demo.svg").read_text().startswith("<svg")
    assert "reflexarc" in (tmp_path / "demo.svg").read_text()


# --- journal and view ---


async def played(tmp_path: Path) -> Journal:
    """A journal that has read a small history from a real bus; the outcome travels on two topics."""
    (tmp_path / "reflexarc.yaml").write_text("data_dir: data\n")
    bus = open_sqlite_bus(load_config(tmp_path / "reflexarc.yaml"))
    firing = AlertFact(id="fact-1", group="checkout", at_ms=START_MS, alert=msgspec.structs.replace(FIRED, state=AlertState.FIRING))
    told = ((FACTS, firing), (ACTIONS, SHIFT), (OUTCOMES, APPLIED), (RECORDS, APPLIED), (RECORDS, INCIDENT), *((RECORDS, one) for one in DECISIONS))
    await bus.publish([OutRecord(topic, "checkout", wire.encode(record)) for topic, record in told])
    journal = Journal(bus)
    following = asyncio.create_task(journal.follow())
    assert await journal.until(lambda: len(journal.entries) == len(told) or None, 10)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await bus.close()
    return journal


async def test_an_outcome_that_travels_on_two_topics_is_one_application(tmp_path: Path):
    journal = await played(tmp_path)
    assert [(action.id, outcome.status) for action, outcome in journal.applied(0)] == [("action-1", OutcomeStatus.APPLIED)]
    assert journal.applied(0, "scale") == []
    assert journal.applied(2**62) == []


async def test_the_journal_finds_what_the_acts_ask_for(tmp_path: Path):
    journal = await played(tmp_path)
    found = journal.firing("CheckoutErrors", 0)
    assert found is not None
    assert found[1].alert.id == "alert-1"
    assert journal.firing("Other", 0) is None
    assert list(journal.alerts_from("sigma", 0)) == []
    held = journal.decision(0, Reason.NO_DATA)
    assert held is not None
    assert held.id == "decision-20"
    incident = journal.incident(0)
    assert incident is not None
    assert incident.id == "incident-1"
    assert await journal.until(lambda: None, 0.01) is None


async def test_the_screen_shows_traffic_alerts_decisions_and_the_rules_in_force(tmp_path: Path):
    book = load_rulebook({"alerts.yaml": RULES}).book
    assert book is not None
    load = Load(port=1, rate=1.0)
    view = View(load, book)
    assert "CheckoutErrors" in shown(view), "without an engine the rules are shown all the same"
    view.journal = await played(tmp_path)
    echo = io.StringIO()
    view.echo = echo
    view.say("v2 breaks")
    text = shown(view)
    assert "for 5s, every 1s" in text
    assert "applied +40 ms  shift_traffic edge://route/checkout" in text
    assert "v2 breaks" in text
    assert echo.getvalue().endswith("v2 breaks\n")

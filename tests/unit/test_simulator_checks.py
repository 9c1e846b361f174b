"""The simulator's checks see what they look for: each is shown an engine with one guard taken out."""

from __future__ import annotations

import pytest

from pipeline.model.records import Outcome
from pipeline.remediate import arbiter, dwell, scaler
from tests.simulator.engine import Intents
from tests.simulator.run import Run, Simulation
from tests.simulator.scenario import Scenario, Span


def run(mode: str = "enforce", **changes) -> Run:
    base = Scenario(
        seed=1,
        length_ms=60_000,
        rate=100.0,
        least=1,
        replicas={"a": 2, "canary": 1, "b": 2},
        canary_percent=20,
        start_ms=1500,
        waits_ready=False,
        apply_ms=5,
        scrape_ms=500,
        variant="standard",
        fault="made by hand",
    )
    return Simulation(Scenario(**{name: getattr(base, name) for name in base.__dataclass_fields__} | changes), mode).run()


FLAPPING = {"slow": {"a": tuple(Span(start, start + 6000, 8.0) for start in range(10_000, 50_000, 13_000))}}
HALF_BLIND = {"replicas": {"a": 4, "canary": 1, "b": 2}, "rate": 200.0, "metrics": {"partial:a": (Span(10_000, 50_000),)}}
BAD = {"errors": {"v2": (Span(12_000, 60_000, 1.0),)}}


def test_the_engine_as_it_is_breaks_no_rule_here() -> None:
    for changes in (FLAPPING, HALF_BLIND, BAD):
        assert run(**changes).violations == []


def test_to_and_fro_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dwell, "TURNS", 99)
    assert any(text.startswith("turns:") for text in run(**FLAPPING).violations)


def test_a_cut_on_half_of_the_data_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaler, "_unseen", lambda *_: None)
    assert any(text.startswith("blind_cuts:") for text in run(**HALF_BLIND).violations)


def test_a_cut_on_half_of_the_data_costs_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    careful = run(**HALF_BLIND).failed
    monkeypatch.setattr(scaler, "_unseen", lambda *_: None)
    assert run(**HALF_BLIND).failed > careful


def test_two_actions_on_one_target_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    surge = {"load": (Span(12_000, 40_000, 3.0),), "connector": {"late": (Span(0, 60_000, 4000.0),)}}
    assert run(**surge).violations == []
    monkeypatch.setattr(arbiter, "judge", lambda *_: None)
    monkeypatch.setattr("pipeline.execute.executor.Executor._queue", _at_once)
    assert run(**BAD, connector={"late": (Span(0, 60_000, 4000.0),)}).violations != []


def _at_once(executor, intent, *, recovered: bool) -> None:
    """An executor without lanes, which moreover takes everything twice."""
    import asyncio

    for _ in range(2):
        executor._running = [*getattr(executor, "_running", []), asyncio.ensure_future(executor._settle(intent, recovered=recovered))]


def test_a_silent_engine_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.remediate.turn.Turn.decide", lambda *_, **__: None)
    found = run(**FLAPPING).violations
    assert any(text.startswith("explained:") for text in found)


def test_an_outcome_that_is_lost_is_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forget(_self: Intents, _outcome: Outcome) -> None:
        """Nothing comes back at all."""

    monkeypatch.setattr(Intents, "finish", forget)
    assert run(**BAD).violations == []


def test_observe_writes_nothing() -> None:
    assert run("observe", **BAD).actions == 0
    assert run("enforce", **BAD).actions > 0

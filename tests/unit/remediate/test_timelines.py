"""The timelines under tests/cases/remediate: what goes in at which time, and exactly what must come out since the entry before.

An entry: `at`, then inputs in this order (observe, alert, resolve, baseline, outcome, measure, command, grant), then `expect` with any of `decisions` ("verdict
reason", in order), `actions`, `would_be`, `incident`, `notices`, `overrides`, `watches` (number). Absent keys are not compared, except that an action
nobody expects is always an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.model.duration import parse_duration_ms
from pipeline.model.records import Effect, Grant, Incident, Notice, Override, Watch
from tests.unit.remediate.lab import START_MS, Lab, book

FOLDER = Path(__file__).parent.parent.parent / "cases" / "remediate"
FILES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))}
CASES = [pytest.param(case, file.get("rules", {}), id=f"{stem}: {case['name']}") for stem, file in FILES.items() for case in file["cases"]]


class Play:
    def __init__(self, case: dict[str, Any], base: dict[str, Any]) -> None:
        sections = {**base, **case.get("rules", {})}
        self.sections, self.options = sections, {"grants": case.get("grants"), "for_ms": case.get("for_ms", 5000)}
        self.world = Lab(book(**self.options, **sections), case.get("group", "checkout"), governor=case.get("governor", True))
        self.effects: list[Effect] = list(self.world.tick())

    def entry(self, entry: dict[str, Any]) -> None:
        world, at_ms = self.world, START_MS + parse_duration_ms(entry["at"])
        if at_ms > world.now_ms:
            self.effects += world.wait(at_ms - world.now_ms)
        for name, give in INPUTS.items():
            if name in entry:
                self.effects += give(self, entry[name])
        if "expect" in entry:
            self.compare(entry["at"], entry["expect"])
            self.effects = []

    def compare(self, at: str, expect: dict[str, Any]) -> None:
        found: dict[str, Any] = {
            "decisions": [f"{decision.verdict} {decision.reason}" for decision in self.world.decisions(self.effects)],
            "actions": [self.brief(action) for action in self.world.actions(self.effects)],
            "would_be": [self.brief(action) for action in self.world.actions(self.effects, mode="observe")],
            "notices": [effect.to for effect in self.effects if isinstance(effect, Notice)],
            "incident": next((str(effect.state) for effect in reversed(self.effects) if isinstance(effect, Incident)), None),
            "overrides": ["released" if effect.released_at_ms else "in force" for effect in self.effects if isinstance(effect, Override)],
            "watches": len([effect for effect in self.effects if isinstance(effect, Watch) and effect.until_ms != effect.at_ms]),
        }
        wanted = {"actions": [], "would_be": [], **expect}
        assert {name: found[name] for name in wanted} == wanted, f"at {at}: {found['decisions']}"

    @staticmethod
    def brief(action: Any) -> str:
        wish = ", ".join(f"{name}={value}" for name, value in action.desired.items())
        return f"{'undo ' if action.reverts else ''}{action.verb} {action.target} {wish}"

    def last(self) -> Any:
        return (self.world.actions() + self.world.actions(mode="observe"))[-1] if self.world.actions() else self.world.actions(mode="observe")[-1]

    # inputs

    def observe(self, given: dict[str, Any]) -> list[Effect]:
        return [effect for target, value in given.items() for effect in self.world.observe(target, **value)]

    def alert(self, given: dict[str, Any] | None) -> list[Effect]:
        return self.world.alert(**(given or {}))

    def resolve(self, given: dict[str, Any] | None) -> list[Effect]:
        return self.world.resolve(**(given or {}))

    def outcome(self, given: dict[str, Any] | str) -> list[Effect]:
        given = {"status": given} if isinstance(given, str) else dict(given)
        return self.world.outcome(self.last(), given.pop("status", "applied"), **given)

    def measure(self, given: dict[str, Any]) -> list[Effect]:
        return self.world.measure_for(given.get("seconds", 1), given.get("truth", "true"), given.get("value"), given.get("containing", ""))

    def baseline(self, given: dict[str, Any]) -> list[Effect]:
        return self.world.measure(given.get("truth", "false"), given.get("value"))

    def command(self, given: dict[str, Any]) -> list[Effect]:
        args = {name: (self.last().id if value == "LAST" else value) for name, value in given.items()}
        if args.get("action") == "WAITING":
            args["action"] = next(id_ for id_, order in self.world.machine.state.orders.items() if order.phase == "approval")
        if args.get("override") == "ANY":
            args["override"] = next(iter(self.world.machine.state.overrides))
        return self.world.command(**args)

    def grant(self, given: dict[str, Any]) -> list[Effect]:
        (order,) = [order for order in self.world.machine.state.orders.values() if order.phase == "grant"]
        return self.world.give(Grant(id=order.action.id, group=self.world.group, at_ms=self.world.now_ms, **given))

    def reload(self, given: dict[str, Any]) -> list[Effect]:
        options = {**self.options, "grants": given.pop("grants", self.options["grants"])}
        return self.world.reload(book(version="r2", **options, **{**self.sections, **given}))

    def restart(self, _given: Any) -> list[Effect]:
        self.world.machine.restore(self.world.machine.snapshot())
        return []


INPUTS = {
    name: getattr(Play, name) for name in ("reload", "restart", "observe", "alert", "resolve", "baseline", "outcome", "measure", "command", "grant")
}


@pytest.mark.parametrize(("case", "base"), CASES)
def test_timeline(case, base):
    play = Play(case, base)
    for entry in case["timeline"]:
        play.entry(entry)

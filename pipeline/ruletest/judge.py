"""Action tests: what a play came to against what was expected of it. Guarantee: only what the test names is compared, and lists are whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.model.duration import format_duration
from pipeline.model.reasons import Verdict
from pipeline.model.records import Action, Decision, Incident
from pipeline.promql import Options
from pipeline.rulebook.book import RuleBook
from pipeline.ruletest.play import Play, Story, TooLongError
from pipeline.ruletest.report import Failure, difference
from pipeline.ruletest.suite import ActionTest, Case, Wanted

Keys = Mapping[str, Any]
_HELD = frozenset({Verdict.HOLD, Verdict.DROP, Verdict.FAIL})


def judge(case: Case, book: RuleBook, options: Options) -> Iterator[Failure]:
    """Play the case, and say which action tests failed."""
    play = Play(case, book, options)
    for test in sorted(case.actions, key=lambda test: test.eval_ms):
        try:
            story = play.until(test.eval_ms)
        except TooLongError as error:
            yield Failure(test.line, f"actions by {format_duration(test.eval_ms)}", error=str(error))
            return
        if story.errors:
            yield Failure(test.line, f"actions by {format_duration(test.eval_ms)}", error=story.errors[0])
            return
        yield from _check(test, story, play.start_ms)


def _check(test: ActionTest, story: Story, start_ms: int) -> Iterator[Failure]:
    by = format_duration(test.eval_ms)
    if test.actions is not None:
        got = [(_action(action), format_duration(action.at_ms - start_ms)) for action in story.actions]
        yield from _whole(test, f"actions by {by}", test.actions, got)
    if test.incidents is not None:
        incidents = [(_incident(one), format_duration(one.opened_at_ms - start_ms)) for one in story.incidents.values()]
        yield from _whole(test, f"incidents at {by}", test.incidents, incidents)
    if test.holds is not None:
        yield from _holds(test, f"holds by {by}", test.holds, story.decisions, start_ms)


def _whole(test: ActionTest, title: str, wanted: Sequence[Wanted], got: Sequence[tuple[Keys, str]]) -> Iterator[Failure]:
    """Both lists must match, one by one."""
    pairs = [index < len(wanted) and _fits(wanted[index].keys, keys) for index, (keys, _) in enumerate(got)]
    if all(pairs) and len(got) == len(wanted):
        return
    expected = [_shown(one.keys) for one in wanted]
    found = [
        _shown(wanted[index].keys) if fits else f"{_shown(keys)}  # at {at}" for index, (fits, (keys, at)) in enumerate(zip(pairs, got, strict=True))
    ]
    yield Failure(test.line, title, diff=difference(expected, found))


def _holds(test: ActionTest, title: str, wanted: Sequence[Wanted], decisions: Sequence[Decision], start_ms: int) -> Iterator[Failure]:
    """Each must be among the decisions that were not to act; an empty list means that none was held."""
    passive = [decision for decision in decisions if decision.verdict is not Verdict.ACT]
    missing = [one for one in wanted if not any(_fits(one.keys, _decision(decision)) for decision in passive)]
    unwanted = [decision for decision in passive if decision.verdict in _HELD] if not wanted else []
    if missing or unwanted:
        got = [
            f"{_shown(_decision(decision))}  # at {format_duration(decision.at_ms - start_ms)}: {decision.text}" for decision in unwanted or passive
        ]
        yield Failure(test.line, title, diff=(*(f"- {_shown(one.keys)}" for one in missing), *(f"+ {line}" for line in dict.fromkeys(got))))


def _fits(wanted: Keys, got: Keys) -> bool:
    for name, value in wanted.items():
        if name == "desired":
            if not all(key in got["desired"] and got["desired"][key] == part for key, part in value.items()):
                return False
        elif (value if isinstance(value, bool) else str(value)) != got[name]:
            return False
    return "mode" in wanted or got.get("mode", "enforce") == "enforce"


def _action(action: Action) -> Keys:
    return {
        "verb": action.verb,
        "target": str(action.target),
        "desired": dict(action.desired),
        "policy": action.policy,
        "mode": action.mode,
        "reverts": bool(action.reverts),
    }


def _incident(incident: Incident) -> Keys:
    return {"service": incident.service, "state": str(incident.state), "ended": incident.ended}


def _decision(decision: Decision) -> Keys:
    target = str(decision.target) if decision.target else ""
    return {"policy": decision.policy, "reason": str(decision.reason), "verb": decision.verb, "target": target}


def _shown(keys: Keys) -> str:
    parts = [f"{name}: {json.dumps(value) if isinstance(value, dict | bool) else value}" for name, value in keys.items() if value or value == {}]
    return "{" + ", ".join(parts) + "}"

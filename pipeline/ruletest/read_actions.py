"""Our own part of a test file: `action_test`, and the world that its actions meet (`world`, `outcomes`, `grants`). Read as strictly as the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from pipeline.model.reasons import Reason
from pipeline.model.records import IncidentState, OutcomeStatus
from pipeline.model.target import Target
from pipeline.rulebook.fields import Fields
from pipeline.rulebook.problems import Problem, SourceText, did_you_mean
from pipeline.rulebook.spec import STEP_VERBS, GrantSpec
from pipeline.rulebook.yaml_source import Mapping as YamlMapping
from pipeline.rulebook.yaml_source import Node, Scalar, kind_of
from pipeline.rulebook.yaml_values import plain
from pipeline.ruletest.suite import ActionTest, Ending, Wanted

T = TypeVar("T")

ACTION_KEYS: Final = ("action_test", "outcomes", "world", "grants")
_TEST: Final = ("eval_time", "exp_actions", "exp_holds", "exp_incidents")
_ACTION: Final = ("verb", "target", "desired", "policy", "mode", "reverts")
_HOLD: Final = ("policy", "reason", "verb", "target")
_INCIDENT: Final = ("service", "state", "ended")
_ENDING: Final = ("verb", "target", "status", "delay", "times", "error")
_VERBS: Final = (*STEP_VERBS, "fail_back", "set_lb_policy")
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "verb": _VERBS,
    "mode": ("enforce", "observe"),
    "reason": tuple(map(str, Reason)),
    "state": tuple(map(str, IncidentState)),
    "status": tuple(map(str, OutcomeStatus)),
}


class ActionReader:
    """Reads the action part of one case."""

    def __init__(self, source: SourceText, problems: list[Problem]) -> None:
        self._source, self._problems = source, problems

    def read(self, fields: Fields) -> dict[str, Any]:
        """The arguments of `Case` that stand there."""
        found: dict[str, Any] = {
            "actions": tuple(self._each(fields, "action_test", "an action test", _TEST, self._test)),
            "outcomes": tuple(self._each(fields, "outcomes", "an outcome", _ENDING, self._ending)),
            "world": self._world(fields),
        }
        if fields.value("grants") is not None:
            found["grants"] = self._grants(fields)
        return found

    def _test(self, fields: Fields) -> ActionTest:
        return ActionTest(
            line=fields.node.at.line,
            eval_ms=fields.duration_ms("eval_time"),
            actions=self._wanted(fields, "exp_actions", "an expected action", _ACTION),
            holds=self._wanted(fields, "exp_holds", "an expected hold", _HOLD),
            incidents=self._wanted(fields, "exp_incidents", "an expected incident", _INCIDENT),
        )

    def _wanted(self, fields: Fields, key: str, what: str, keys: tuple[str, ...]) -> tuple[Wanted, ...] | None:
        if fields.node.get(key) is None:
            return None
        return tuple(self._each(fields, key, what, keys, self._one))

    def _one(self, fields: Fields) -> Wanted:
        for name, (_, node) in fields.node.entries.items():
            self._check(fields, name, node)
        return Wanted(fields.node.at.line, {name: plain(node) for name, (_, node) in fields.node.entries.items()})

    def _check(self, fields: Fields, name: str, node: Node) -> None:
        if name == "desired" and not isinstance(node, YamlMapping):
            fields.wrong(node, f"desired should be a mapping, not {kind_of(node)}")
        elif name == "reverts" and not isinstance(plain(node), bool):
            fields.wrong(node, f"reverts should be true or false, not {kind_of(node)}")
        elif name not in {"desired", "reverts"} and not isinstance(node, Scalar):
            fields.wrong(node, f"{name} should be a text, not {kind_of(node)}")
        elif name in _CHOICES and isinstance(node, Scalar) and node.text not in _CHOICES[name]:
            fields.wrong(node, f"{name}: there is no {node.text[:40]!r}", did_you_mean(node.text, _CHOICES[name], what="possible"))
        elif name == "target" and isinstance(node, Scalar):
            self._target(fields, node, node.text)

    def _ending(self, fields: Fields) -> Ending:
        for name in ("verb", "target", "status"):
            node = fields.value(name)
            if node is not None:
                self._check(fields, name, node)
        return Ending(
            status=fields.text("status", "applied"),
            verb=fields.text("verb"),
            target=fields.text("target"),
            delay_ms=fields.duration_ms("delay"),
            times=fields.count("times"),
            error=fields.text("error"),
        )

    def _world(self, fields: Fields) -> dict[str, dict[str, Any]]:
        node = fields.value("world")
        if node is None:
            return {}
        if not isinstance(node, YamlMapping):
            fields.wrong(node, f"world should be a mapping of targets, not {kind_of(node)}")
            return {}
        found = {}
        for text, (key, value) in node.entries.items():
            self._target(fields, key, text)
            if not isinstance(value, YamlMapping):
                fields.wrong(value, f"what {text} is should be a mapping, not {kind_of(value)}")
                continue
            found[text] = plain(value)
        return found

    @staticmethod
    def _target(fields: Fields, node: Node, text: str) -> None:
        try:
            Target.parse(text)
        except ValueError as error:
            fields.wrong(node, str(error))

    @staticmethod
    def _grants(fields: Fields) -> dict[str, GrantSpec]:
        node = fields.value("grants")
        if not isinstance(node, YamlMapping):
            fields.wrong(node or fields.node, "grants should be a mapping of groups")
            return {}
        found = {}
        for group, (key, value) in node.entries.items():
            try:
                found[group] = GrantSpec.model_validate(plain(value))
            except ValidationError as error:
                fields.wrong(key, f"grants of {group}: {error.errors()[0]['msg']}")
        return found

    def _each(self, fields: Fields, key: str, what: str, keys: tuple[str, ...], read: Callable[[Fields], T]) -> Iterator[T]:
        for node in fields.items(key):
            if not isinstance(node, YamlMapping):
                fields.wrong(node, f"{what} should be a mapping, not {kind_of(node)}")
                continue
            inner = Fields(self._source, node, self._problems, what)
            inner.only(keys)
            yield read(inner)

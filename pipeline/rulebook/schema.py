"""JSON schemas of everything that users write, for completion in editors: the configuration, policy files, rule files."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from pipeline.model.duration import format_duration
from pipeline.rulebook.config_spec import Config
from pipeline.rulebook.inline import InlineActions
from pipeline.rulebook.spec import PolicyFile, Step

KINDS: Final = ("config", "policies", "rules")
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_DURATION: Final = {"type": ["string", "integer"], "examples": ["30s", "5m"]}
_TEXT: Final = {"type": ["string", "number", "boolean"]}
_TEXTS: Final = {"type": "object", "additionalProperties": _TEXT}


def schema(kind: str) -> dict[str, Any]:
    """The schema of one kind of file; unknown keys are impossible in it.

    Raises:
        KeyError: no such kind.
    """
    made = {"config": _config, "policies": _policies, "rules": _rules}[kind]()
    return {"$schema": _DIALECT, "title": f"reflexarc {kind}"} | made


def _config() -> dict[str, Any]:
    return _of(Config)


def _policies() -> dict[str, Any]:
    return _of(PolicyFile)


def _rules() -> dict[str, Any]:
    """A rule file; policy keys may stand beside `groups`."""
    policy_file, inline, step = _of(PolicyFile), _of(InlineActions), _of(Step)
    shared: dict[str, Any] = policy_file.pop("$defs", {}) | inline.pop("$defs", {}) | step.pop("$defs", {})
    shared |= {"InlineActions": inline, "Step": step, "Rule": _RULE, "Group": _GROUP}
    groups = {"groups": {"type": "array", "items": {"$ref": "#/$defs/Group"}}}
    return {"type": "object", "additionalProperties": False, "properties": groups | policy_file["properties"], "$defs": shared}


_RULE: Final = {
    "type": "object",
    "additionalProperties": False,
    "required": ["expr"],
    "oneOf": [{"required": ["alert"]}, {"required": ["record"]}],
    "properties": {
        "alert": {"type": "string"},
        "record": {"type": "string"},
        "expr": {"type": ["string", "number"]},
        "for": _DURATION,
        "keep_firing_for": _DURATION,
        "labels": _TEXTS,
        "annotations": _TEXTS,
        "resolve_expr": {"type": "string", "description": "an extra condition for ending (hysteresis)"},
        "evaluation": {"enum": ["both", "grid"]},
        "settle": _DURATION,
        "actions": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/Step"}, "minItems": 1}, {"$ref": "#/$defs/InlineActions"}]},
    },
}
_GROUP: Final = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "interval": _DURATION,
        "limit": {"type": "integer", "minimum": 0},
        "query_offset": _DURATION,
        "labels": _TEXTS,
        "rules": {"type": "array", "items": {"$ref": "#/$defs/Rule"}},
    },
}


def _of(model: type[BaseModel]) -> dict[str, Any]:
    made: dict[str, Any] = _readable(model.model_json_schema(by_alias=True))
    return made


def _readable(node: Any) -> Any:
    """Durations as users write them: their defaults with a unit, their bounds (in milliseconds) left out."""
    if isinstance(node, list):
        return [_readable(item) for item in node]
    if not isinstance(node, dict):
        return node
    mended = {key: _readable(value) for key, value in node.items()}
    if mended.get("type") == "string" and ("exclusiveMinimum" in mended or isinstance(mended.get("default"), int)):
        mended.pop("exclusiveMinimum", None)
        if isinstance(mended.get("default"), int):
            mended["default"] = format_duration(mended["default"])
    return mended

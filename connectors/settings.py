"""What the settings of every connector share: strict, frozen models, durations as users write them, addresses of targets checked."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pipeline.model.duration import parse_duration_ms
from pipeline.model.target import Target
from pipeline.ports.connector import ConnectorInfo, Permanent


class Settings(BaseModel):
    """Base: an unknown key is an error, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        return parse_duration_ms(value)
    if value == 0 and not isinstance(value, bool):
        return 0
    raise ValueError("write a duration with its unit, for example 500ms or 5s")


DurationMs = Annotated[int, BeforeValidator(_duration), Field(json_schema_extra={"type": "string", "examples": ["500ms", "5s"]})]


def require_target(target: Target, *, connector: str, kind: str, known: Collection[str]) -> str:
    """The path of a target of ours.

    Raises:
        Permanent: another connector's, another kind, or a path that is not configured.
    """
    if target.connector != connector or target.kind != kind or target.path not in known:
        raise Permanent(f"{target}: unknown target; {connector} has {', '.join(f'{connector}://{kind}/{path}' for path in sorted(known)) or 'none'}")
    return target.path


def require_verb(info: ConnectorInfo, verb: str, target: Target) -> None:
    """Refuse a verb that does not work on this kind of target.

    Raises:
        Permanent: it does not.
    """
    if target.kind not in info.verbs.get(verb, ()):
        possible = sorted(name for name, kinds in info.verbs.items() if target.kind in kinds)
        raise Permanent(f"{target}: {info.name} cannot {verb} a {target.kind}; it can {', '.join(possible) or 'do nothing with it'}")

"""`File`: a folder of JSON documents, one per target, for systems that read settings from files and for trying rules out.

Guarantees: a document is replaced as a whole, by compare-and-set of its generation under a lock (an older fence is refused). Its last changes stand
in it with their keys, so what was applied, how often and in which order can be counted afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from pydantic import Field

from connectors.settings import Settings, require_target, require_verb
from connectors.statefile import content_of, locked, replace
from pipeline.model.target import Target
from pipeline.ports.clock import Clock
from pipeline.ports.connector import Change, Conflict, ConnectorInfo, Discovered, Fence, Observed, Permanent

_KIND: Final = "document"
_HISTORY: Final = 1000
_KEYS: Final = {
    "scale": "replicas",
    "shift_traffic": "weights",
    "fail_over": "sites",
    "fail_back": "sites",
    "deploy": "version",
    "roll_back": "version",
    "restart": "restart_key",
}


class FileSettings(Settings):
    """`documents`: path to the value it starts with, for example `checkout-route: {weights: {v1: 80, v2: 20}}`."""

    dir: Path
    documents: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")], dict[str, Any]] = Field(min_length=1)


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One change as it was written."""

    generation: int
    key: str
    verb: str
    before: dict[str, Any]
    after: dict[str, Any]
    at_ms: int


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    """The file's content."""

    value: dict[str, Any]
    generation: int = 0
    fence: int = 0
    history: tuple[_Entry, ...] = ()


_INFO: Final = ConnectorInfo(
    name="file",
    summary="A folder of JSON documents, one per target",
    verbs={**dict.fromkeys(_KEYS, (_KIND,)), "block": (_KIND,)},
    invertible=frozenset({"scale", "shift_traffic", "fail_over", "fail_back", "deploy", "roll_back", "block"}),
    fence=Fence.ENFORCED,
    permissions=("write dir",),
    config_model=FileSettings,
)


class File:
    """One folder. Targets: `<name>://document/<path>`; the file is `<dir>/<path>.json`, its `value` is what counts."""

    INFO: Final = _INFO

    def __init__(self, name: str, config: FileSettings, *, clock: Clock) -> None:
        self._name, self._config, self._clock = name, config, clock

    @property
    def info(self) -> ConnectorInfo:
        """Static description."""
        return _INFO

    async def read(self, target: Target) -> Observed:
        """The document's value; a file that is not there yet has the value it starts with."""
        document = self._load(self._path(target))
        return Observed(document.value, str(document.generation))

    def plan(self, target: Target, verb: str, observed: Observed, desired: Mapping[str, Any]) -> Change | None:
        """The change of that one field; None: already there."""
        self._path(target)
        require_verb(_INFO, verb, target)
        pair = _block(observed.value, desired) if verb == "block" else _field(target, verb, observed.value, desired)
        if pair is None:
            return None
        before, after = pair
        summary = ", ".join(f"{name} {before.get(name)} -> {value}" for name, value in after.items() if before.get(name) != value)
        inverse = None if verb == "restart" else {**before, "from": after["version"]} if verb == "roll_back" else before
        return Change(target, verb, before, after, summary, observed.version, inverse)

    async def apply(self, change: Change, *, key: str, fence: int, deadline_ms: int) -> Observed:  # noqa: ARG002 - a local move takes no time
        """Compare and set."""
        path = self._path(change.target)
        with locked(self._config.dir / ".lock"):
            document = self._load(path)
            if fence < document.fence:
                raise Conflict(f"{change.target}: a newer owner (fence {document.fence}) has it, ours is {fence}", observed=document.value)
            if not _holds(document.value, change.after):
                if change.version not in {"", str(document.generation)} or not _holds(document.value, change.before):
                    raise Conflict(f"{change.target}: generation is {document.generation}, planned on {change.version}", observed=document.value)
                document = self._changed(document, change, key, fence)
                replace(self._config.dir / f"{path}.json", msgspec.json.encode(document), durable=True)
        return Observed(document.value, str(document.generation))

    async def discover(self) -> Sequence[Discovered]:
        """Every configured document."""
        return [Discovered(Target(self._name, _KIND, path), {"document": path}, self._load(path).value) for path in self._config.documents]

    async def close(self) -> None:
        """Nothing is held."""

    def _path(self, target: Target) -> str:
        return require_target(target, connector=self._name, kind=_KIND, known=self._config.documents)

    def _load(self, path: str) -> _Document:
        content = content_of(self._config.dir / f"{path}.json")
        if content is None:
            return _Document(value=self._config.documents[path])
        try:
            return msgspec.json.decode(content, type=_Document)
        except msgspec.MsgspecError as error:
            raise Permanent(f"{self._config.dir / path}.json is not one of our documents: {error}") from error

    def _changed(self, document: _Document, change: Change, key: str, fence: int) -> _Document:
        generation = document.generation + 1
        value = {**document.value}
        if change.verb == "block":
            blocked = {**value.get("blocked", {}), change.after["address"]: change.after["blocked_until_ms"]}
            value["blocked"] = {address: until_ms for address, until_ms in blocked.items() if until_ms}
        else:
            value |= change.after
        if "version" in change.after:
            value["previous_version"] = document.value.get("version")
        entry = _Entry(
            generation=generation, key=key, verb=change.verb, before=dict(change.before), after=dict(change.after), at_ms=self._clock.now_ms()
        )
        return _Document(value=value, generation=generation, fence=fence, history=(*document.history[-_HISTORY:], entry))


def _field(target: Target, verb: str, value: Mapping[str, Any], desired: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    name = _KEYS[verb]
    if name not in desired:
        raise Permanent(f"{target}: {verb} needs {name}")
    wanted = desired[name]
    if verb == "roll_back":
        if desired.get("from") not in {None, value.get("version")}:
            return None  # the bad version is not in force any more
        wanted = value.get("previous_version") if wanted == "previous" else wanted
        if not wanted:
            raise Permanent(f"{target}: there is no version before {value.get('version')} to roll back to")
    return None if value.get(name) == wanted else ({name: value.get(name)}, {name: wanted})


def _block(value: Mapping[str, Any], desired: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    address, until_ms = desired["address"], desired["blocked_until_ms"]
    now = value.get("blocked", {}).get(address, 0)
    return None if now == until_ms else ({"address": address, "blocked_until_ms": now}, {"address": address, "blocked_until_ms": until_ms})


def _holds(value: Mapping[str, Any], part: Mapping[str, Any]) -> bool:
    if "address" in part:
        return bool(value.get("blocked", {}).get(part["address"], 0) == part["blocked_until_ms"])
    return all(value.get(name) == wanted for name, wanted in part.items() if name != "from")

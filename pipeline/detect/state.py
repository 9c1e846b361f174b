"""The stored form of a detector's state: alert lives, standing alerts, watches, timers. Not the windows: those are read again from the inputs.

Guarantee: `unpack(pack(x)) == x`; what a newer version wrote is refused loudly.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pipeline.detect.early import EarlyRule
from pipeline.detect.facts import Rejection
from pipeline.detect.lives import Life
from pipeline.detect.standing import Stand
from pipeline.detect.watches import Measured
from pipeline.model.labels import Labels
from pipeline.model.records import Alert, Watch

STATE_VERSION = 1


class RuleState(msgspec.Struct):
    """One rule: its lives and the series it wrote last."""

    lives: list[Life] = []
    written: list[Labels] = []


class EarlyState(msgspec.Struct):
    """Timers of one rule's early track."""

    at_ms: int | None
    due_ms: int
    check_ms: int
    checked_ms: int
    next_at_ms: int | None
    next_now_ms: int
    last_at_ms: int
    last_now_ms: int
    known: int
    timer_at_ms: int | None
    timer_due_ms: int

    @classmethod
    def of(cls, rule: EarlyRule) -> EarlyState:
        """What must survive."""
        return cls(**{name: getattr(rule, name) for name in cls.__struct_fields__})

    def put_into(self, rule: EarlyRule) -> None:
        """Continue from here."""
        for name in self.__struct_fields__:
            setattr(rule, name, getattr(self, name))


class StandState(msgspec.Struct):
    """A standing alert."""

    alert: Alert
    until_ms: int


class WatchState(msgspec.Struct):
    """A watch and its next instant."""

    watch: Watch
    next_ms: int


class DetectorState(msgspec.Struct):
    """Everything. Rules are keyed by `rule_id#n` (n counts equal rules), groups by `file:name`."""

    version: int = STATE_VERSION
    rules: dict[str, RuleState] = {}
    early: dict[str, EarlyState] = {}
    last_ticks: dict[str, int] = {}
    stands: list[StandState] = []
    watches: list[WatchState] = []
    failures: list[Rejection] = []
    spent_us: int = 0
    spent_at_ms: int = 0
    now_ms: int = 0
    started_ms: int = 0


class StateError(ValueError):
    """Bytes that are not a state of this version."""


def _encode(value: Any) -> Any:
    if isinstance(value, Labels):
        return value.pairs
    raise NotImplementedError(type(value))


def _decode(kind: type, value: Any) -> Any:
    if kind is Labels:
        return Labels(tuple((name, text) for name, text in value))
    raise NotImplementedError(kind)


def pack(state: DetectorState) -> bytes:
    """The state as bytes (MessagePack: it keeps NaN)."""
    return msgspec.msgpack.encode(state, enc_hook=_encode)


def unpack(data: bytes) -> DetectorState:
    """The state back.

    Raises:
        StateError: damaged, or written by a newer version.
    """
    try:
        head = msgspec.msgpack.decode(data, type=_Head)
        if head.version > STATE_VERSION:
            raise StateError(f"state has version {head.version}; this version reads up to {STATE_VERSION}: update this worker first")
        return msgspec.msgpack.decode(data, type=DetectorState, dec_hook=_decode)
    except msgspec.MsgspecError as error:
        raise StateError(f"not a detector state: {error}") from None


class _Head(msgspec.Struct):
    version: int = 0


def stand_state(stand: Stand) -> StandState:
    """The stored form of a standing alert."""
    return StandState(stand.alert, stand.until_ms)


def watch_state(one: Measured) -> WatchState:
    """The stored form of a watch."""
    return WatchState(one.watch, one.next_ms)

"""Limits of the decoders, and the memory of label sets seen before.

Guarantee: what a sender can make us hold is bounded. `Interner` is a memo of a pure function: it changes speed, never a result.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pipeline.model.labels import Labels
from pipeline.signals.errors import DecodeError, shown


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a message is refused, with the limit's name in the reason."""

    max_message_bytes: int = 1 << 20  # one JSON object: a sample, log record, event, access-log line
    max_batch_bytes: int = 16 << 20  # a whole message of a batch format, before decompression
    max_decompressed_bytes: int = 64 << 20
    max_labels: int = 64
    max_label_name_chars: int = 512
    max_label_value_chars: int = 4096
    max_nesting: int = 32
    max_fields: int = 2048


class Interner:
    """From what stands in the message (raw bytes or pairs) to the one `Labels` of that series: a series seen before costs a look-up."""

    __slots__ = ("_capacity", "_known")

    def __init__(self, capacity: int = 500_000) -> None:
        self._capacity = capacity
        self._known: dict[Hashable, Labels] = {}

    def get(self, key: Hashable) -> Labels | None:
        """The label set stored under `key`."""
        return self._known.get(key)

    def put(self, key: Hashable, labels: Labels) -> Labels:
        """Remember; at capacity everything is forgotten and learned anew, which bounds memory under churn of series."""
        if len(self._known) >= self._capacity:
            self._known.clear()
        self._known[key] = labels
        return labels

    def __len__(self) -> int:
        return len(self._known)


@dataclass(frozen=True, slots=True)
class Options:
    """What one input's decoder is given."""

    limits: Limits = field(default_factory=Limits)
    interner: Interner = field(default_factory=Interner)


DEFAULT: Final = Options()


class Context(NamedTuple):
    """What a decoder knows beside the bytes. `received_at_ms` (the broker's time) stands in where a message has no time stamp."""

    options: Options = DEFAULT
    source: str = ""
    received_at_ms: int | None = None


def build_labels(pairs: Iterable[tuple[str, str]], limits: Limits) -> Labels:
    """Labels from untrusted pairs in any order; empty values mean absent.

    Raises:
        DecodeError: a name twice, an empty name, or a limit.
    """
    seen: dict[str, str] = {}
    for name, value in pairs:
        if name in seen:
            raise DecodeError(f"label {shown(name)} is there twice")
        if not name:
            raise DecodeError("a label has an empty name")
        if len(name) > limits.max_label_name_chars:
            raise DecodeError(f"label name {shown(name, limit=40)} is longer than max_label_name_chars = {limits.max_label_name_chars}")
        if len(value) > limits.max_label_value_chars:
            raise DecodeError(f"value of label {shown(name)} is longer than max_label_value_chars = {limits.max_label_value_chars}")
        seen[name] = value
    if len(seen) > limits.max_labels:
        raise DecodeError(f"{len(seen)} labels are more than max_labels = {limits.max_labels}")
    return Labels.of(seen)


def interned(pairs: tuple[tuple[str, str], ...], options: Options) -> Labels:
    """`build_labels` through the interner."""
    known = options.interner.get(pairs)
    return known if known is not None else options.interner.put(pairs, build_labels(pairs, options.limits))


def check_size(data: bytes, limit: int, name: str) -> None:
    """Refuse what is larger than the limit called `name`."""
    if len(data) > limit:
        raise DecodeError(f"{len(data)} bytes are more than {name} = {limit}")

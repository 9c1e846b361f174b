"""`Labels`: one immutable, hashable label set, the identity of a series and of an alert.

Guarantee: pairs are sorted by name, names are unique, and an empty value means "label absent" (Prometheus data model).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

METRIC_NAME: Final = "__name__"


class Labels(Mapping[str, str]):
    """An immutable label set. Equality and hash follow the sorted pairs; iteration is in name order.

    `Labels(pairs)` trusts its input (sorted, unique, no empty value) because decoders build millions; use `Labels.of` anywhere else.
    """

    __slots__ = ("_hash", "pairs")
    pairs: tuple[tuple[str, str], ...]

    def __init__(self, pairs: tuple[tuple[str, str], ...] = ()) -> None:
        self.pairs = pairs
        self._hash = hash(pairs)

    @classmethod
    def of(cls, source: Mapping[str, str] | Iterable[tuple[str, str]] = (), /, **more: str) -> Labels:
        """Build from any mapping or pairs (later wins), dropping empty values."""
        merged = dict(source) | more
        return cls(tuple(sorted((name, value) for name, value in merged.items() if value)))

    @property
    def metric_name(self) -> str:
        """The value of `__name__`, or an empty string."""
        return self.get(METRIC_NAME, "")

    def keep(self, names: Iterable[str]) -> Labels:
        """Only the given labels (PromQL `by`, `on`)."""
        wanted = frozenset(names)
        return Labels(tuple(pair for pair in self.pairs if pair[0] in wanted))

    def drop(self, *names: str) -> Labels:
        """All but the given labels (PromQL `without`, `ignoring`)."""
        return Labels(tuple(pair for pair in self.pairs if pair[0] not in names))

    def set(self, name: str, value: str) -> Labels:
        """This set with one label replaced; an empty value removes it."""
        return Labels.of(dict(self.pairs) | {name: value})

    def __getitem__(self, name: str) -> str:
        for key, value in self.pairs:
            if key == name:
                return value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self.pairs == other.pairs if isinstance(other, Labels) else NotImplemented

    def __lt__(self, other: Labels) -> bool:
        return self.pairs < other.pairs

    def __str__(self) -> str:
        """Prometheus notation: `name{a="b"}`; quotes and backslashes are escaped."""
        inner = ", ".join(f'{name}="{_escape(value)}"' for name, value in self.pairs if name != METRIC_NAME)
        return f"{self.metric_name}{{{inner}}}" if inner or not self.metric_name else self.metric_name

    def __repr__(self) -> str:
        return f"Labels({self})"


EMPTY: Final = Labels()


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

"""The windows of one correlation: per group, what happened within the last timespan of event time.

Rules: time is the records' own. A record older than the newest of its group by the timespan or more is dropped; within it, order of arrival does not
matter. When the threshold is reached the window is emptied and the group rests for one timespan: it goes on counting, but says nothing, so one
burst is one match, and an attack that goes on is one match a timespan. Memory is bounded: at most `threshold` entries a group, `max_groups` groups,
of which the one not touched for longest is forgotten first (`forgotten` counts them).
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.model.signals import LogRecord


class Entry(NamedTuple):
    """One match that counts. `key`: what must be distinct (the value, the rule id); empty where every match counts."""

    at_ms: int
    order: int
    key: str
    record: LogRecord


@dataclass(slots=True)
class _Group:
    entries: list[Entry] = field(default_factory=list)
    newest_ms: int = 0
    rests_until_ms: int | None = None


class Windows:
    """All groups of one correlation."""

    def __init__(self, *, timespan_ms: int, threshold: int, distinct: bool, max_groups: int) -> None:
        self._timespan_ms, self._threshold, self._distinct, self._max_groups = timespan_ms, threshold, distinct, max_groups
        self._groups: OrderedDict[tuple[str, ...], _Group] = OrderedDict()
        self._order = 0
        self.forgotten = 0

    def add(self, group_key: tuple[str, ...], at_ms: int, key: str, record: LogRecord) -> list[Entry] | None:
        """Count one match; the entries that reached the threshold, in order of time, or None."""
        group = self._group(group_key)
        group.newest_ms = max(group.newest_ms, at_ms)
        oldest_ms = group.newest_ms - self._timespan_ms
        if at_ms <= oldest_ms:
            return None
        del group.entries[: bisect_right(group.entries, oldest_ms, key=_at_ms)]
        self._order += 1
        _insert(group.entries, Entry(at_ms, self._order, key, record), distinct=self._distinct)
        del group.entries[: -self._threshold]
        if len(group.entries) < self._threshold or (group.rests_until_ms is not None and group.newest_ms < group.rests_until_ms):
            return None
        reached, group.entries = group.entries, []
        group.rests_until_ms = group.newest_ms + self._timespan_ms
        return reached

    def _group(self, key: tuple[str, ...]) -> _Group:
        group = self._groups.get(key)
        if group is not None:
            self._groups.move_to_end(key)
            return group
        if len(self._groups) >= self._max_groups:
            self._groups.popitem(last=False)
            self.forgotten += 1
        group = self._groups[key] = _Group()
        return group

    def __len__(self) -> int:
        return len(self._groups)


def _at_ms(entry: Entry) -> int:
    return entry.at_ms


def _insert(entries: list[Entry], entry: Entry, *, distinct: bool) -> None:
    """Put in by time. Where keys are distinct the newer of two with the same key stays."""
    if distinct:
        for index, old in enumerate(entries):
            if old.key == entry.key:
                if old.at_ms > entry.at_ms:
                    return
                del entries[index]
                break
    insort(entries, entry, key=_at_ms)

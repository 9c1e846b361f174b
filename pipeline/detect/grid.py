"""The grid: when each rule group is evaluated.

Ticks of a group are the multiples of its interval since the Unix epoch (no hash offset: two workers and a replay agree on them). A tick is due
`delay_ms` after its instant. Missed ticks are made up for in order; more than `max_catch_up` of them are skipped, and said.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class GroupClock:
    """The ticks of one group. `next_ms` is the next tick to evaluate; None until time is known."""

    interval_ms: int
    next_ms: int | None = None

    def start(self, now_ms: int) -> None:
        """The first tick is the first multiple at or after now, unless one is known already."""
        if self.next_ms is None:
            self.next_ms = -(-now_ms // self.interval_ms) * self.interval_ms

    def resume(self, last_ms: int) -> None:
        """Go on after a tick that was evaluated before (perhaps under another interval)."""
        self.next_ms = (last_ms // self.interval_ms + 1) * self.interval_ms

    @property
    def last_ms(self) -> int | None:
        """The last tick evaluated or skipped, as far as is known."""
        return None if self.next_ms is None else self.next_ms - self.interval_ms

    def skip(self, until_ms: int, max_catch_up: int) -> int:
        """Leave out ticks until at most `max_catch_up` are due by `until_ms`; returns how many were left out."""
        if self.next_ms is None or until_ms < self.next_ms:
            return 0
        due = (until_ms - self.next_ms) // self.interval_ms + 1
        left_out = max(0, due - max_catch_up)
        self.next_ms += left_out * self.interval_ms
        return left_out


@dataclass(slots=True)
class GridClock:
    """The ticks of all groups, in the order of the rule book."""

    delay_ms: int
    max_catch_up: int
    groups: list[GroupClock] = field(default_factory=list)

    def start(self, now_ms: int) -> None:
        """Begin ticking where it has not begun."""
        for group in self.groups:
            group.start(now_ms)

    def skip(self, now_ms: int) -> list[tuple[int, int]]:
        """Leave out what is too much to make up for: (group number, ticks left out)."""
        skipped = [(number, group.skip(now_ms - self.delay_ms, self.max_catch_up)) for number, group in enumerate(self.groups)]
        return [(number, count) for number, count in skipped if count]

    @property
    def next_tick_ms(self) -> int | None:
        """The earliest tick still to evaluate, over all groups."""
        return min((group.next_ms for group in self.groups if group.next_ms is not None), default=None)

    def due_at_ms(self) -> int | None:
        """When the next tick may be evaluated."""
        tick = self.next_tick_ms
        return None if tick is None else tick + self.delay_ms

    def take(self) -> tuple[int, list[int]]:
        """The earliest tick and the numbers of the groups that it belongs to; they move on to their next."""
        tick = self.next_tick_ms
        if tick is None:
            raise ValueError("no group ticks")
        numbers = [number for number, group in enumerate(self.groups) if group.next_ms == tick]
        for number in numbers:
            self.groups[number].next_ms = tick + self.groups[number].interval_ms
        return tick, numbers

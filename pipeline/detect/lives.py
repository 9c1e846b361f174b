"""The alert state machine of one rule, on two tracks.

Theory of operation. A *life* is one label set from its first true evaluation to its end. Two tracks evaluate the same expression:

- *grid*: at ticks, in order. Exactly Prometheus (`rules/alerting.go`): `for` counts from the first tick that held, a tick that does not hold
  ends a pending life and resolves a firing one unless `keep_firing_for` still runs. Only the grid resolves.
- *early*: between ticks, at event times of new samples. `for` counts from the first early evaluation that held; one that does not hold clears
  the early timer and nothing else.

A life fires at the earlier of the two. An early evaluation can be at a later instant than the next tick to be evaluated (ticks wait a little for
their samples), so a tick never undoes evidence that is newer than itself.

    (none) --held--> pending --for over (either track)--> firing --grid does not hold--> resolved (forgotten)
                     pending --grid does not hold, no newer early evidence--> forgotten (a fact closes it if one opened it)

Guarantees: a fact is due when the state changed, when a firing life is confirmed a second time, or when it stops warming; never otherwise. A life
that only the early track sees as pending is silent, so that a value flapping between ticks makes no noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.model.labels import EMPTY, Labels
from pipeline.model.records import AlertState, Ending

GRID, EARLY = "grid", "early"
_ENOUGH = 2  # confirmations after which no further fact is due


class Element(NamedTuple):
    """One element of an alert expression's result: labels as the expression gave them."""

    labels: Labels
    value: float


Said = tuple[AlertState, bool, bool]


@dataclass(slots=True)
class Life:
    """One life. `*_since_ms` of None: that track does not hold now. `said`: what the last fact told, None before the first."""

    labels: Labels
    active_at_ms: int
    state: AlertState = AlertState.PENDING
    origin: Labels = EMPTY  # the element's labels, before those of the rule
    value: float = 0.0
    held_at_ms: int = 0  # evaluation that saw `value`
    track: str = GRID
    grid_since_ms: int | None = None
    grid_firing: bool = False
    early_since_ms: int | None = None
    keep_since_ms: int | None = None
    fired_at_ms: int = 0
    resolved_at_ms: int = 0
    ended: Ending | None = None
    warming: bool = False
    confirmations: int = 0
    revision: int = 0
    said: Said | None = None

    def tells(self) -> Said:
        """The part of a life that facts are about."""
        firing = self.state is AlertState.FIRING
        return self.state, firing and self.confirmations >= _ENOUGH, firing and self.warming


Judge = Callable[[Life], Ending]
IsWarming = Callable[[Life], bool]


@dataclass(slots=True)
class Lives:
    """All lives of one rule."""

    for_ms: int = 0
    keep_firing_for_ms: int = 0
    by_labels: dict[Labels, Life] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.by_labels)

    @property
    def grid(self) -> Iterable[Life]:
        """Those that the grid holds active: what Prometheus would write to ALERTS."""
        return [life for life in self.by_labels.values() if life.grid_since_ms is not None]

    def active_with(self, at_ms: int, held: Mapping[Labels, Element]) -> int:
        """How many alerts a tick with this result leaves active (kept ones included): what a group's limit counts."""
        kept = sum(
            1
            for life in self.grid
            if life.labels not in held
            and life.grid_firing
            and at_ms - (at_ms if life.keep_since_ms is None else life.keep_since_ms) < self.keep_firing_for_ms
        )
        return len(held) + kept

    def on_grid(self, at_ms: int, held: Mapping[Labels, Element], *, judge: Judge, warming: IsWarming) -> list[Life]:
        """Take a tick's result; returns the lives that a fact is due for. `judge` says how a firing life ended."""
        for labels, element in held.items():
            life = self._hold(labels, element, at_ms, GRID)
            if life.said is None:
                life.active_at_ms = min(life.active_at_ms, at_ms)
            if life.grid_since_ms is None:
                life.grid_since_ms = at_ms
            life.keep_since_ms = None
            if at_ms - life.grid_since_ms >= self.for_ms:
                life.grid_firing = True
                self._fire(life, at_ms, GRID, warming)
            elif life.state is AlertState.FIRING and life.warming:
                life.warming = warming(life)
        missing = [life for labels, life in self.by_labels.items() if labels not in held]
        ended = [life for life in missing if self._miss_on_grid(life, at_ms, judge)]
        return self._due([self.by_labels[labels] for labels in held] + ended, silent_pending=False)

    def on_early(self, at_ms: int, held: Mapping[Labels, Element], *, warming: IsWarming) -> list[Life]:
        """Take an early result; returns the lives that a fact is due for."""
        touched = []
        for labels, element in held.items():
            life = self._hold(labels, element, at_ms, EARLY)
            if life.early_since_ms is None:
                life.early_since_ms = at_ms
            if at_ms - life.early_since_ms >= self.for_ms:
                self._fire(life, at_ms, EARLY, warming)
            touched.append(life)
        ended = [life for life in list(self.by_labels.values()) if life.labels not in held and self._miss_early(life, at_ms)]
        return self._due(touched + ended, silent_pending=True)

    def end_all(self, at_ms: int, ending: Ending) -> list[Life]:
        """End every life (the rule went away, or its group is over its limit)."""
        ended = list(self.by_labels.values())
        for life in ended:
            self._end(life, at_ms, ending)
        return self._due(ended, silent_pending=False)

    def early_fire_at_ms(self) -> int | None:
        """When the first pending life could fire on the early track without another sample."""
        if not self.for_ms:
            return None
        pending = [life.early_since_ms for life in self.by_labels.values() if life.state is AlertState.PENDING and life.early_since_ms is not None]
        return min(pending) + self.for_ms if pending else None

    def _hold(self, labels: Labels, element: Element, at_ms: int, track: str) -> Life:
        life = self.by_labels.get(labels)
        if life is None:
            life = self.by_labels[labels] = Life(labels, at_ms, track=track)
        if at_ms >= life.held_at_ms:
            life.origin, life.value = element
            if at_ms > life.held_at_ms or not life.confirmations:
                life.confirmations += 1
            life.held_at_ms = at_ms
        return life

    @staticmethod
    def _fire(life: Life, at_ms: int, track: str, warming: IsWarming) -> None:
        if life.state is AlertState.FIRING:
            life.warming = life.warming and warming(life)
            return
        life.state, life.fired_at_ms, life.track = AlertState.FIRING, at_ms, track
        life.warming = warming(life)

    def _miss_on_grid(self, life: Life, at_ms: int, judge: Judge) -> bool:
        """The tick does not hold for this life. True if that ended it."""
        newer_early = life.early_since_ms is not None and life.early_since_ms > at_ms
        if not newer_early:
            life.early_since_ms = None
        if life.state is AlertState.FIRING and life.fired_at_ms > at_ms:
            life.grid_since_ms, life.grid_firing = None, False
            return False
        if life.state is AlertState.FIRING and self._kept(life, at_ms):
            return False
        life.grid_since_ms, life.grid_firing = None, False
        if life.state is AlertState.PENDING and newer_early:
            return False
        self._end(life, at_ms, judge(life) if life.said is not None else Ending.BY_VALUE)
        return True

    def _kept(self, life: Life, at_ms: int) -> bool:
        if not self.keep_firing_for_ms:
            return False
        if life.keep_since_ms is None:
            life.keep_since_ms = at_ms
        return at_ms - life.keep_since_ms < self.keep_firing_for_ms

    def _miss_early(self, life: Life, at_ms: int) -> bool:
        if life.early_since_ms is None:
            return False
        life.early_since_ms = None
        if life.confirmations < _ENOUGH and at_ms > life.held_at_ms:
            life.confirmations = 0
        if life.state is AlertState.FIRING or life.grid_since_ms is not None:
            return False
        self._end(life, at_ms, Ending.BY_VALUE)
        return True

    def _end(self, life: Life, at_ms: int, ending: Ending) -> None:
        life.state, life.resolved_at_ms, life.ended = AlertState.RESOLVED, at_ms, ending
        del self.by_labels[life.labels]

    @staticmethod
    def _due(lives: Iterable[Life], *, silent_pending: bool) -> list[Life]:
        due = []
        for life in lives:
            tells = life.tells()
            unheard = life.said is None and (life.state is AlertState.RESOLVED or (silent_pending and life.state is AlertState.PENDING))
            if tells == life.said or unheard:
                continue
            life.said = tells
            life.revision += 1
            due.append(life)
        return due

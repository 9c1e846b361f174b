"""`Detector`: signals, time and watches in; facts out. Joins intake, the two tracks, watches and standing alerts, and keeps the order of things.

Guarantees: deterministic (the same calls give the same answers); nothing a batch contains raises; memory is bounded by the longest window and the
series limits. Several things due at once happen in the order of their times, and at the same time in the order grid, early, watches, standing alerts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from pipeline.detect import security
from pipeline.detect.early import EarlyRule
from pipeline.detect.engine import Engine
from pipeline.detect.facts import Counts, Detected, DetectOptions, Rejection, ReloadReport
from pipeline.detect.force import InForce, Orphan
from pipeline.detect.intake import Intake, Refusals
from pipeline.detect.past import refill
from pipeline.detect.ruleset import GroupPrograms
from pipeline.detect.standing import Standing, external_alert, has_ended
from pipeline.detect.state import pack, stand_state, unpack, watch_state
from pipeline.detect.watches import Watches
from pipeline.model.labels import Labels
from pipeline.model.records import Alert, Ending, Watch
from pipeline.model.signals import Event, LogRecord, SignalBatch
from pipeline.promql import Options
from pipeline.rulebook.book import RuleBook
from pipeline.series import SeriesStore

if TYPE_CHECKING:  # its parser takes a while to load: only where there are Sigma rules
    from pipeline.sigma import SigmaMatch

_EVICT_EVERY_MS = 5000
_FAR_MS = 1 << 62
DEFAULTS = DetectOptions()


class SigmaMatcher(Protocol):
    """What the detector needs of a security engine."""

    @property
    def lookback_ms(self) -> int:
        """The past that rebuilds its windows."""
        ...

    def feed(self, record: LogRecord, now_ms: int) -> Sequence[SigmaMatch]:
        """The matches that a record completes."""
        ...


class Detector:
    """One per input partition set. Single-threaded."""

    def __init__(self, rules: RuleBook, options: DetectOptions = DEFAULTS, *, sigma: SigmaMatcher | None = None) -> None:
        """Compile the rules. `sigma` replaces the engine that is built from the book's Sigma rules.

        Raises:
            ExprError, SigmaError: a rule is not valid (a loaded rule book has none).
        """
        self._options = options
        self._force = InForce(rules, options)
        self._sigma_given = sigma is not None
        self._sigma: SigmaMatcher = _sigma_engine(rules) if sigma is None else sigma
        self._store = SeriesStore(allowed_lateness_ms=options.allowed_lateness_ms, limits=options.limits)
        self._intake = Intake(self._store, options.max_future_ms)
        self._engine = Engine(self._intake, options, group_of=self._group_of)
        self._watches = Watches(self._force.rules, options.grid_delay_ms)
        self._standing = Standing(self._group_of)
        self._orphans: list[Orphan] = []
        self._floor_ms: int | None = None
        self._evicted_ms = 0
        self._now_ms = 0
        self._refill = False
        self._held_until_ms = 0

    @property
    def lookback_ms(self) -> int:
        """The longest past that anything here needs, with some margin: how far inputs are rewound after a start."""
        return max(self._retention_ms, self._sigma.lookback_ms)

    @property
    def store(self) -> SeriesStore:
        """The windows, for reading only."""
        return self._store

    @property
    def counts(self) -> Counts:
        """What was done so far."""
        return self._intake.counts

    @property
    def alerts(self) -> list[Alert]:
        """All alerts that are pending or firing now: those of rules in the order of the rule book, then standing ones."""
        lives = [(program, life) for program in self._force.rules.alerts for life in program.lives.by_labels.values() if life.said is not None]
        return [self._engine.alert(program, life) for program, life in lives] + [stand.alert for _, stand in sorted(self._standing.stands.items())]

    @property
    def groups(self) -> list[tuple[GroupPrograms, int | None]]:
        """The rule groups in force with the time of their last evaluation, for reading only."""
        return [(group, clock.last_ms) for group, clock in zip(self._force.rules.groups, self._force.grid.groups, strict=True)]

    @property
    def promql(self) -> Options:
        """How expressions are evaluated here."""
        return self._options.promql

    @property
    def failures(self) -> dict[str, Rejection]:
        """Rules whose last evaluation failed, by rule id."""
        return dict(self._engine.failures)

    def feed(self, batch: SignalBatch, now_ms: int) -> list[Detected]:
        """Take in a batch, then make the early evaluations that it settles."""
        out = self._begin(now_ms)
        touched, refused = self._intake.take(batch, now_ms=now_ms, floor_ms=self._floor_ms or 0)
        out += refused
        if batch.events:
            for event in batch.events:
                out += self._hear(event, now_ms)
        if batch.logs:
            out += self._read_logs(batch, now_ms)
        if touched:
            self._force.early.touch(touched, now_ms)
            while (taken := self._force.early.take(self._store, now_ms)) is not None:
                out += self._evaluate_early(*taken, now_ms)
        return out

    def advance(self, now_ms: int) -> list[Detected]:
        """Let time pass: everything that is due, in order."""
        out = self._begin(now_ms)
        for number, count in self._force.grid.skip(now_ms):
            key = self._force.group_keys[number]
            out.append(Rejection("ticks_skipped", f"group {key}: {count} evaluations were missed and not made up for", count, now_ms))
        self._watches.skip(now_ms, self._options.max_catch_up_ticks)
        while (step := self._step(now_ms)) is not None:
            out += step
        self._evict(now_ms)
        return out

    def watch(self, watch: Watch, now_ms: int) -> None:
        """Add, replace or cancel a standing expression. A text that is no expression gives measurements without data."""
        self._now_ms = max(now_ms, self._now_ms)
        self._watches.put(watch)

    def due_at_ms(self) -> int | None:
        """When `advance` is wanted next."""
        return min((due for due, _ in self._dues()), default=None)

    def reload(self, rules: RuleBook, now_ms: int) -> tuple[ReloadReport, list[Detected]]:
        """Put another rule book in force. Rules that stay keep their alerts; alerts of the others end by rule change.

        Raises:
            ExprError, SigmaError: a rule is not valid; the running rules stay.
        """
        force, sigma = InForce(rules, self._options), self._sigma if self._sigma_given else _sigma_engine(rules)
        out = self._begin(now_ms)
        old, self._force = self._force, force
        self._sigma = self._sigma if rules.sigma == old.rules.book.sigma else sigma
        orphans = force.load(old.save())
        self._store.forget_selections()
        self._watches.rebase(force.rules)
        force.grid.start(now_ms)
        for orphan in orphans:
            out += self._bury(orphan, now_ms)
        return force.report_against(old), out

    def rewind(self, batch: SignalBatch) -> None:
        """Fill windows with inputs from before the stored state. Nothing is evaluated or said."""
        known_ms = self._now_ms or _FAR_MS
        self._intake.take(batch, now_ms=known_ms, floor_ms=-_FAR_MS)
        for record in batch.logs:
            if record.at_ms <= known_ms + self._options.max_future_ms:
                self._sigma.feed(record, record.at_ms)

    def snapshot(self) -> bytes:
        """Everything but the windows."""
        state = self._force.save()
        for orphan in self._orphans:
            state.rules[orphan.key] = orphan.state
        state.stands = [stand_state(stand) for _, stand in sorted(self._standing.stands.items())]
        state.watches = [watch_state(one) for one in self._watches.by_id.values()]
        state.failures = list(self._engine.failures.values())
        state.now_ms, state.started_ms = self._now_ms, self._engine.started_ms
        return pack(state)

    def restore(self, data: bytes) -> None:
        """Go on from a snapshot; to be called before anything else, and followed by `rewind` over `lookback_ms`.

        Raises:
            StateError: damaged, or written by a newer version.
        """
        state = unpack(data)
        self._orphans = self._force.load(state)
        for stand in state.stands:
            self._standing.put(stand.alert, stand.until_ms)
        for one in state.watches:
            self._watches.put(one.watch, next_ms=one.next_ms)
        self._engine.remember(state.failures)
        self._now_ms, self._engine.started_ms = state.now_ms, state.started_ms
        self._refill = True

    @property
    def _retention_ms(self) -> int:
        longest = max(self._options.min_lookback_ms, self._force.lookback_ms, self._watches.lookback_ms())
        return longest + max(longest // 10, 10_000)

    def _group_of(self, labels: Labels) -> str:
        return self._force.rules.book.group_of(labels)

    def _begin(self, now_ms: int) -> list[Detected]:
        """Note the time; on the first call start the clocks and clean up after a restart."""
        gap_ms = now_ms - self._now_ms
        self._now_ms = max(now_ms, self._now_ms)
        if self._floor_ms is not None:
            return []
        if self._refill and gap_ms > self._options.restart_grace_ms:
            self._held_until_ms = now_ms + self._options.restart_grace_ms
        self._force.grid.start(now_ms)
        if not self._refill:
            self._engine.started_ms = now_ms
        else:
            refill(self._force, self._engine, self._options.max_catch_up_ticks)
        self._move_floor(now_ms)
        out: list[Detected] = []
        for orphan in self._orphans:
            out += self._bury(orphan, now_ms)
        self._orphans = []
        return out

    def _step(self, now_ms: int) -> list[Detected] | None:
        """Do the one thing that is due first; None when nothing is."""
        dues = self._dues()
        if not dues or min(dues)[0] > now_ms:
            return None
        match min(dues)[1]:
            case 0:
                tick_ms, numbers = self._force.grid.take()
                return [fact for number in numbers for fact in self._engine.tick(self._force.rules.groups[number], tick_ms)]
            case 1:
                taken = self._force.early.take(self._store, now_ms)
                return self._evaluate_early(*taken, now_ms) if taken else []
            case 2:
                measured = self._watches.measure_next(self._store)
                self.counts.measurements += len(measured)
                return list(measured)
            case _:
                return list(self._standing.expire(now_ms))

    def _dues(self) -> list[tuple[int, int]]:
        """(due, what) of everything that waits, in the order in which equals are done."""
        grid, early, watches, standing = (
            self._force.grid.due_at_ms(),
            self._force.early.due_at_ms(),
            self._watches.due_at_ms(),
            self._standing.due_at_ms(),
        )
        held = self._held_until_ms
        times = (grid and max(grid, held), early, watches and max(watches, held), standing)
        return [(due, what) for what, due in enumerate(times) if due is not None]

    def _evaluate_early(self, rule: EarlyRule, at_ms: int, now_ms: int) -> list[Detected]:
        program = self._force.rules.alerts[rule.number]
        facts = self._engine.early(program, self._force.chains[rule.number], at_ms)
        known, fires_at_ms = rule.reads.count(self._store), program.lives.early_fire_at_ms()
        self._force.early.done(rule, at_ms, now_ms=now_ms, known=known, fires_at_ms=fires_at_ms)
        return facts

    def _hear(self, event: Event, now_ms: int) -> list[Detected]:
        """Take in an event; only foreign alerts matter here."""
        if event.kind != "alert":
            return []
        alert = external_alert(event, now_ms)
        if isinstance(alert, Rejection):
            return [alert]
        ends_at_ms = event.fields.get("ends_at_ms") or 0
        if has_ended(ends_at_ms, now_ms):
            return list(self._standing.resolve(alert.rule_id, alert.labels, at_ms=ends_at_ms, ending=Ending.BY_VALUE))
        return list(self._standing.raise_(alert, until_ms=ends_at_ms or now_ms + self._options.resolve_timeout_ms, now_ms=now_ms))

    def _read_logs(self, batch: SignalBatch, now_ms: int) -> list[Detected]:
        out: list[Detected] = []
        refusals = Refusals(batch.source)
        quiet_ms = max(self._options.sigma_quiet_ms, self._sigma.lookback_ms + 60_000)
        self.counts.logs += len(batch.logs)
        for record in batch.logs:
            if record.at_ms > now_ms + self._options.max_future_ms:
                refusals.add("future", f"log record at {record.at_ms} is too far ahead", record.at_ms)
                continue
            for match in self._sigma.feed(record, now_ms):
                out.append(security.finding_of(match))
                alert = security.alert_of(match, self._force.rules.book.version)
                out += self._standing.raise_(alert, until_ms=now_ms + quiet_ms, now_ms=now_ms)
        return out + refusals.all()

    def _bury(self, orphan: Orphan, now_ms: int) -> list[Detected]:
        """End what a rule left behind that is no longer there."""
        self._engine.forget(set(orphan.state.written), now_ms)
        return self._engine.end_orphan(orphan.key.partition("#")[0], orphan.state.lives, now_ms, self._force.rules.book.version)

    def _move_floor(self, now_ms: int) -> None:
        nexts = (self._force.grid.next_tick_ms, self._watches.next_at_ms())
        self._floor_ms = min([now_ms, *(time for time in nexts if time is not None)]) - self._retention_ms

    def _evict(self, now_ms: int) -> None:
        if now_ms - self._evicted_ms < _EVICT_EVERY_MS:
            return
        self._evicted_ms = now_ms
        self._move_floor(now_ms)
        if self._floor_ms is not None:
            self._store.evict(self._floor_ms)
            self._intake.forget()


class _NoSigma:
    """The engine of a book without Sigma rules."""

    lookback_ms = 0

    def feed(self, _record: LogRecord, _now_ms: int) -> tuple[()]:
        """Nothing matches."""
        return ()


def _sigma_engine(rules: RuleBook) -> SigmaMatcher:
    if not rules.sigma:
        return _NoSigma()
    from pipeline.sigma import SigmaEngine

    return SigmaEngine([(rule.text, rule.where) for rule in rules.sigma])

"""`InForce`: one rule book in force, its programs with their clocks and timers; and how one follows another.

Guarantee: what has the same identity goes on as it was: a rule (rule id) its alerts and timers, a group (file and name) its ticks. `for` and
annotations may change meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.detect.early import EarlyRule, EarlyTrack
from pipeline.detect.facts import DetectOptions, ReloadReport
from pipeline.detect.grid import GridClock, GroupClock
from pipeline.detect.programs import AlertProgram
from pipeline.detect.ruleset import ALERT_METRICS, Chain, Program, RuleSet
from pipeline.detect.state import DetectorState, EarlyState, RuleState
from pipeline.promql import Compiled, PromQLError, compile_expr
from pipeline.rulebook.book import RuleBook


@dataclass(frozen=True, slots=True)
class Orphan:
    """The state of a rule that is no longer in the book."""

    key: str
    state: RuleState


class InForce:
    """Programs, grid clock and early track of one rule book."""

    def __init__(self, book: RuleBook, options: DetectOptions) -> None:
        """Compile everything.

        Raises:
            ExprError: an expression is not valid (a loaded rule book has none).
        """
        self.rules = RuleSet(book, options.promql)
        clocks = [GroupClock(group.group.interval_ms) for group in self.rules.groups]
        self.grid = GridClock(options.grid_delay_ms, options.max_catch_up_ticks, clocks)
        self.chains: dict[int, Chain] = {}
        self.early = EarlyTrack(self._early_rules(), options.early_gap_ms)
        self.by_key = _keyed([program for group in self.rules.groups for program in group.programs])
        self.group_keys = [f"{group.group.file}:{group.group.name}" for group in self.rules.groups]
        self.lookback_ms = max(self.rules.lookback_ms(), _policies_lookback_ms(self.rules))

    def _early_rules(self) -> list[tuple[EarlyRule, frozenset[str]]]:
        found = []
        recorded = {program.rule.name for program in self.rules.records}
        for number, program in enumerate(self.rules.alerts):
            chain = self.rules.chain(program.reads.metric_names)
            past = program.reads.past_of.union(*(record.reads.past_of for record in chain.programs))
            reads = program.reads.metric_names.union(*(record.reads.metric_names for record in chain.programs))
            # The past of a recorded metric is what the grid wrote; between ticks there is none to add, so such a rule is left to the grid.
            if program.rule.evaluation == "grid" or program.group.query_offset_ms or past & recorded or reads & ALERT_METRICS:
                continue
            self.chains[number] = chain
            if program.base is not None and program.base.metric_names:
                found.append((EarlyRule(number, program.rule.settle_ms, program.base), program.base.metric_names))
        return found

    def save(self) -> DetectorState:
        """Lives, timers and ticks."""
        state = DetectorState()
        for key, program in self.by_key.items():
            lives = list(program.lives.by_labels.values()) if isinstance(program, AlertProgram) else []
            if lives or program.written:
                state.rules[key] = RuleState(lives, sorted(program.written))
        keys = {id(program): key for key, program in self.by_key.items()}
        for number, rule in self.early.rules.items():
            if rule.last_now_ms >= 0 or rule.at_ms is not None:
                state.early[keys[id(self.rules.alerts[number])]] = EarlyState.of(rule)
        state.spent_us, state.spent_at_ms = self.early.spent_us, self.early.spent_at_ms
        for key, clock in zip(self.group_keys, self.grid.groups, strict=True):
            if clock.last_ms is not None:
                state.last_ticks[key] = clock.last_ms
        return state

    def load(self, state: DetectorState) -> list[Orphan]:
        """Go on from a state; returns what belongs to rules that are not here."""
        orphans = []
        for key, rule_state in state.rules.items():
            program = self.by_key.get(key)
            if program is None:
                orphans.append(Orphan(key, rule_state))
                continue
            program.written = set(rule_state.written)
            if isinstance(program, AlertProgram):
                program.lives.by_labels = {life.labels: life for life in rule_state.lives}
        keys = {id(program): key for key, program in self.by_key.items()}
        for number, rule in self.early.rules.items():
            early = state.early.get(keys[id(self.rules.alerts[number])])
            if early is not None:
                early.put_into(rule)
                self.early.settle(rule)
        self.early.spent_us, self.early.spent_at_ms = state.spent_us, state.spent_at_ms
        for key, clock in zip(self.group_keys, self.grid.groups, strict=True):
            if key in state.last_ticks:
                clock.resume(state.last_ticks[key])
        return orphans

    def report_against(self, old: InForce) -> ReloadReport:
        """Which rules came, stayed and went."""
        before, after = _rule_ids(old), _rule_ids(self)
        return ReloadReport(
            added=tuple(rule_id for rule_id in after if rule_id not in before),
            kept=tuple(rule_id for rule_id in after if rule_id in before),
            removed=tuple(rule_id for rule_id in before if rule_id not in after),
        )


def _rule_ids(force: InForce) -> dict[str, None]:
    return dict.fromkeys(program.rule.rule_id for program in force.by_key.values())


def _keyed(programs: list[Program]) -> dict[str, Program]:
    """Programs by rule id and, where a book holds the same rule twice, its number among equals."""
    keyed: dict[str, Program] = {}
    for program in programs:
        number = 0
        while f"{program.rule.rule_id}#{number}" in keyed:
            number += 1
        keyed[f"{program.rule.rule_id}#{number}"] = program
    return keyed


def _policies_lookback_ms(rules: RuleSet) -> int:
    """The longest past that watches of the book's policies, scalers and failovers will ask for, as far as their expressions can be read now."""
    book = rules.book
    texts: list[str] = []
    for policy in book.policies:
        for step in policy.steps:
            if step.verify is not None:
                texts += [text for text in (step.verify.success, step.verify.failure) if text]
                texts += [step.verify.min_volume.expr] if step.verify.min_volume else []
    texts += [scaler.metric.expr for scaler in book.scalers]
    texts += [text for failover in book.failovers for text in (failover.unhealthy, failover.healthy, failover.demand)]
    return max((_lookback_ms(rules, text) for text in texts), default=0)


def _lookback_ms(rules: RuleSet, text: str) -> int:
    try:
        compiled: Compiled = compile_expr(text, compat=rules.options.compat, options=rules.options)
    except PromQLError:
        return 0  # a template that is no expression until it is filled in: its windows are then what is kept anyway
    return compiled.lookback_ms + sum(program.expr.lookback_ms for program in rules.chain(compiled.metric_names).programs)

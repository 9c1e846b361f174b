"""`RuleSet`: the rule book's groups compiled to programs, and which recording rules feed which expression.

Recorded metrics are written on the grid only, so that they are what Prometheus would have recorded. Where an expression is needed between ticks, or
over samples after an anchor, the recording rules it rests on are evaluated anew for it into a scratch store (`Recomputed`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.detect.programs import AlertProgram, RecordProgram
from pipeline.detect.reads import Reads
from pipeline.promql import EvalError, Graph, Options
from pipeline.rulebook.book import AlertRule, RecordRule, RuleBook, RuleGroup
from pipeline.series import Selector, Series, SeriesLimits, SeriesStore, SeriesView

Program = AlertProgram | RecordProgram
DEFAULTS = Options()
ALERT_METRICS = frozenset({"ALERTS", "ALERTS_FOR_STATE"})


@dataclass(frozen=True, slots=True)
class GroupPrograms:
    """One rule group, in order."""

    group: RuleGroup
    programs: tuple[Program, ...]


class Recomputed:
    """A view in which some metrics come from a scratch store, everything else from the base."""

    __slots__ = ("_base", "_names", "_scratch", "floor_ms")

    def __init__(self, base: SeriesView, scratch: SeriesStore, names: frozenset[str]) -> None:
        self._base, self._scratch, self._names = base, scratch, names
        self.floor_ms = base.floor_ms

    def select(self, selector: Selector) -> Sequence[Series]:
        """From the scratch store for recomputed metrics."""
        return self._scratch.select(selector) if selector.metric_name in self._names else self._base.select(selector)


class Chain:
    """The recording rules below an expression, in the order of the rule book."""

    __slots__ = ("names", "programs")

    def __init__(self, programs: Sequence[RecordProgram]) -> None:
        self.programs = tuple(programs)
        self.names = frozenset(program.rule.name for program in programs)

    def __bool__(self) -> bool:
        return bool(self.programs)

    def over(self, base: SeriesView, at_ms: int, scratch: SeriesStore | None = None) -> SeriesView:
        """The base as it would be had the rules been evaluated at `at_ms` over it. A rule that fails leaves its metric empty there."""
        if not self.programs:
            return base
        store = scratch if scratch is not None else SeriesStore(limits=SeriesLimits())
        view = Recomputed(base, store, self.names)
        for program in self.programs:
            try:
                # Where nothing recomputed is read, the base has the same answer, and may have it in columns.
                results = program.results(view if program.reads.metric_names & self.names else base, at_ms)
            except EvalError:
                continue
            for labels, value in results.items():
                store.append(labels, at_ms, value)
        return view


class RuleSet:
    """All programs of one rule book."""

    def __init__(self, book: RuleBook, options: Options = DEFAULTS) -> None:
        """Compile everything.

        Raises:
            ExprError: an expression is not valid (a loaded rule book has none).
        """
        self.book = book
        self.options = options
        self.graph = Graph()
        """What the expressions have in common over the detector's store: computed once per instant, for all series at a time."""
        self.groups = tuple(
            GroupPrograms(group, tuple(_program(rule, group, book.version, options, self.graph) for rule in group.rules)) for group in book.groups
        )
        self.records = [program for group in self.groups for program in group.programs if isinstance(program, RecordProgram)]
        self.alerts = [program for group in self.groups for program in group.programs if isinstance(program, AlertProgram)]
        self._recorded = {program.rule.name for program in self.records}
        for program in self.alerts:
            chain = self.chain(program.reads.metric_names)
            program.base = self._base(program, chain)
            program.warming_ms = program.reads.window_ms + max((record.reads.window_ms for record in chain.programs), default=0)

    def chain(self, metric_names: Iterable[str]) -> Chain:
        """The recording rules that these metrics rest on, directly or not."""
        wanted = set(metric_names) & self._recorded
        found: set[int] = set()
        grown = True
        while grown:
            before = len(found)
            for number, program in enumerate(self.records):
                if number not in found and program.rule.name in wanted:
                    found.add(number)
                    wanted |= program.reads.metric_names & self._recorded
            grown = len(found) > before
        return Chain([self.records[number] for number in sorted(found)])

    def _base(self, program: AlertProgram, chain: Chain) -> Reads:
        parts: list[Program] = [program, *chain.programs]
        own = self._recorded | ALERT_METRICS
        items = tuple(item for part in parts for item in part.reads.items if item.selector.metric_name not in own)
        return Reads(items, program.reads.look_back_ms, program.reads.window_ms)

    def lookback_ms(self) -> int:
        """The longest past that any rule needs, through the recording rules below it."""
        longest = 0
        programs: list[Program] = [*self.alerts, *self.records]
        for program in programs:
            chain = self.chain(program.reads.metric_names)
            own = program.expr.lookback_ms + program.group.query_offset_ms
            longest = max(longest, own + sum(record.expr.lookback_ms for record in chain.programs))
        return longest


def _program(rule: AlertRule | RecordRule, group: RuleGroup, version: str, options: Options, graph: Graph) -> Program:
    if isinstance(rule, AlertRule):
        return AlertProgram.of(rule, group, version, options, graph)
    return RecordProgram.of(rule, group, options, graph)

"""The demo's screen: what users see now, what fired, what was done and why, and the rules in force. Draws; decides nothing."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final, TextIO

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pipeline.demo.journal import Journal
from pipeline.demo.load import Load, percentile
from pipeline.model.reasons import Verdict
from pipeline.model.records import AlertFact, AlertState, Decision, Outcome, OutcomeStatus
from pipeline.rulebook.book import AlertRule, RuleBook

SPARKS: Final = " ▁▂▃▄▅▆▇█"
HISTORY_SECONDS: Final = 60
ROWS: Final = 6
STATE_STYLE: Final = {AlertState.PENDING: "yellow", AlertState.FIRING: "bold red", AlertState.RESOLVED: "green"}
VERDICT_STYLE: Final = {Verdict.ACT: "bold green", Verdict.HOLD: "yellow", Verdict.DROP: "magenta", Verdict.FAIL: "red", Verdict.NOTE: "dim"}


@dataclass
class View:
    """Renders the current moment; `lines` are what the acts said."""

    load: Load
    book: RuleBook
    journal: Journal | None = None
    title: str = "starting"
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=5))
    echo: TextIO | None = None

    def __rich__(self) -> RenderableType:
        """The whole screen."""
        return Group(self._story(), self._traffic(), self._alerts(), self._decisions(), self._rules())

    def say(self, line: str) -> None:
        """Add a line to the story; `echo` hears it too."""
        self.lines.append(f"{time.strftime('%H:%M:%S')} {line}")
        if self.echo is not None:
            self.echo.write(self.lines[-1] + "\n")
            self.echo.flush()

    def _story(self) -> Panel:
        return Panel(
            Text("\n".join(self.lines)),
            title=f"[bold]reflexarc demo · {escape(self.title)}[/bold]",
            title_align="left",
            border_style="cyan",
            height=7,
        )

    def _traffic(self) -> Panel:
        now_ms = time.time_ns() // 1_000_000
        recent = self.load.between(now_ms - HISTORY_SECONDS * 1000, now_ms)
        seconds = [[hit for hit in recent if (now_ms - hit.started_at_ms) // 1000 == age] for age in reversed(range(HISTORY_SECONDS))]
        last = seconds[-2]
        p95 = percentile(last, 0.95)
        table = Table.grid(padding=(0, 2))
        table.add_row("requests/s", f"{len(last):>5}", Text(_spark([len(second) for second in seconds]), style="blue"))
        table.add_row(
            "failed/s", f"{sum(hit.failed for hit in last):>5}", Text(_spark([sum(hit.failed for hit in second) for second in seconds]), style="red")
        )
        table.add_row(
            "p95 ms",
            f"{p95:>5.0f}" if p95 is not None else "    -",
            Text(_spark([percentile(second, 0.95) or 0 for second in seconds]), style="magenta"),
        )
        return Panel(table, title="what users see (through Envoy)", title_align="left")

    def _alerts(self) -> Panel:
        table = Table.grid(padding=(0, 2))
        latest: dict[str, tuple[int, AlertFact]] = {}
        for at_ms, fact in self.journal.of(AlertFact) if self.journal else ():
            latest[fact.alert.id] = (at_ms, fact)
        for at_ms, fact in sorted(latest.values(), key=lambda pair: pair[0])[-ROWS:]:
            alert = fact.alert
            table.add_row(
                _clock(at_ms), Text(alert.state.value, style=STATE_STYLE[alert.state]), alert.name, str(alert.labels.drop("alertname", "severity"))
            )
        return Panel(table, title="alerts", title_align="left", height=ROWS + 2)

    def _decisions(self) -> Panel:
        table = Table.grid(padding=(0, 2))
        if self.journal:
            known = {outcome.id: (at_ms, outcome) for at_ms, outcome in self.journal.of(Outcome)}
            outcomes = [(at_ms, self._outcome(outcome)) for at_ms, outcome in known.values()]
            decisions = [
                (at_ms, Text(f"{decision.verdict.value:<5} {decision.reason.value}: {decision.text}", style=VERDICT_STYLE[decision.verdict]))
                for at_ms, decision in self.journal.of(Decision)
            ]
            for at_ms, text in sorted(outcomes + decisions, key=lambda pair: pair[0])[-ROWS * 2 :]:
                table.add_row(_clock(at_ms), text)
        return Panel(table, title="decisions and actions (ms from cause to effect)", title_align="left", height=ROWS * 2 + 2)

    def _outcome(self, outcome: Outcome) -> Text:
        action = self.journal.action(outcome.action_id) if self.journal else None
        took = f" +{outcome.applied_at_ms - action.caused_at_ms} ms" if action and action.caused_at_ms and outcome.applied_at_ms else ""
        what = f"{action.verb} {action.target}" if action else outcome.action_id
        style = "bold green" if outcome.status is OutcomeStatus.APPLIED else "yellow"
        return Text(f"{outcome.status.value}{took}  {what}  {outcome.summary}", style=style)

    def _rules(self) -> Panel:
        table = Table.grid(padding=(0, 2))
        for group in self.book.groups:
            for rule in group.rules:
                if isinstance(rule, AlertRule):
                    table.add_row(rule.name, f"for {rule.for_ms / 1000:g}s, every {group.interval_ms / 1000:g}s", " ".join(rule.expr.split()))
        return Panel(table, title="in force, from rules/demo (nothing is rigged)", title_align="left", border_style="dim")


def _spark(values: list[float] | list[int]) -> str:
    top = max(values, default=0) or 1
    return "".join(SPARKS[round(value / top * (len(SPARKS) - 1))] for value in values)


def _clock(at_ms: int) -> str:
    return f"{time.strftime('%H:%M:%S', time.localtime(at_ms / 1000))}.{at_ms % 1000:03}"

"""After a restart: what the grid had written, written again from the rewound inputs.

Recorded series and ALERTS are not inputs, so rewinding does not bring them back. The recording rules are evaluated silently at the ticks that
expressions still look at, and the alerts of the stored state are written at their group's last tick.
"""

from __future__ import annotations

from pipeline.detect.engine import Engine
from pipeline.detect.force import InForce
from pipeline.detect.programs import AlertProgram, RecordProgram
from pipeline.detect.ruleset import Program
from pipeline.model.labels import Labels


def refill(force: InForce, engine: Engine, max_ticks: int) -> None:
    """Write recorded series and ALERTS up to the last tick of each group."""
    written: dict[int, set[Labels]] = {}
    for tick_ms, number in _ticks(force, max_ticks):
        for program in force.rules.groups[number].programs:
            if isinstance(program, RecordProgram):
                read_ms = tick_ms - program.group.query_offset_ms
                written[id(program)] = engine.record_silently(program, read_ms, written.get(id(program), set()))
            elif tick_ms == force.grid.groups[number].last_ms and isinstance(program, AlertProgram):
                engine.write_alerts(program, tick_ms - program.group.query_offset_ms)


def _ticks(force: InForce, max_ticks: int) -> list[tuple[int, int]]:
    """(tick, group number) in order of time."""
    recorded = {program.rule.name for program in force.rules.records}
    programs: list[Program] = [*force.rules.alerts, *force.rules.records]
    past_ms = max((program.expr.lookback_ms for program in programs if program.reads.past_of & recorded), default=0)
    found = []
    for number, clock in enumerate(force.grid.groups):
        if clock.last_ms is None:
            continue
        count = max(1, min(past_ms // clock.interval_ms + 1, max_ticks))
        found += [(clock.last_ms - back * clock.interval_ms, number) for back in range(count)]
    return sorted(found)

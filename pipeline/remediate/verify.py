"""Anchored verification: was it better afterwards? Counts measurements the way an analysis run does.

Only what was measured after `applied_at + settle` counts. `count` successes in a row succeed; more than `failure_limit` failures fail; more than
`inconclusive_limit` measurements without data are inconclusive, and so is reaching `within`. A measurement below `min_volume`, or over windows
that are not whole yet, proves nothing: it breaks a row of successes and is waited out. With `alert: resolved_by_value` an alert that still fires at
`within` is a failure, and one that ended without data is inconclusive.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from pipeline.model.records import AlertState, Ending, Measurement, Truth, Watch, stable_id
from pipeline.remediate.state import AlertEntry, Reading, Run, Verification
from pipeline.remediate.turn import Turn
from pipeline.rulebook.spec import Verify

COMPARISON: Final = re.compile(r"(<=?|>=?)\s*[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?\s*$")
CLEARLY: Final = 0.2  # of the value before
SLACK_MS: Final = 1000  # for the last measurement's journey


class Verdict(StrEnum):
    """What a verification came to."""

    SUCCESS = "success"
    FAILURE = "failure"
    INCONCLUSIVE = "inconclusive"


def begin(turn: Turn, run: Run, spec: Verify, exprs: dict[str, str], applied_at_ms: int) -> None:
    """Start measuring; `exprs` holds the rendered `success`, `failure` and `volume` expressions that the step has."""
    anchor_ms = applied_at_ms + spec.settle_ms
    run.verification = Verification(anchor_ms=anchor_ms, until_ms=anchor_ms + spec.within_ms)
    for what, expr in exprs.items():
        id_ = stable_id("watch", run.id, run.step, run.serial, what)
        run.verification.watches[id_] = what
        turn.watch(
            Watch(
                id=id_,
                group=turn.group,
                at_ms=turn.now_ms,
                expr=expr,
                kind="value" if what == "volume" else "condition",
                anchor_ms=anchor_ms,
                interval_ms=spec.interval_ms,
                until_ms=anchor_ms + spec.within_ms + SLACK_MS,
            )
        )


def ask_baseline(turn: Turn, run: Run, spec: Verify, expr: str) -> None:
    """Have the expression read now, over its whole windows: how things are before the change."""
    if direction(spec) == 0:
        return
    id_ = stable_id("watch", run.id, run.step, run.serial, "baseline")
    run.baseline, run.baseline_watch = None, id_
    until_ms = turn.now_ms + spec.interval_ms
    turn.watch(Watch(id=id_, group=turn.group, at_ms=turn.now_ms, expr=expr, interval_ms=spec.interval_ms, until_ms=until_ms))


def take_baseline(run: Run, measurement: Measurement) -> None:
    """Keep what was read before the change was in force."""
    if measurement.truth is not Truth.NODATA and (not run.applied_at_ms or measurement.at_ms <= run.applied_at_ms):
        run.baseline = measurement.value


def direction(spec: Verify) -> int:
    """-1: smaller is better, 1: greater is better, 0: the success condition does not say."""
    found = COMPARISON.search(spec.success or "")
    return 0 if found is None else (-1 if found.group(1).startswith("<") else 1)


def improved(spec: Verify | None, before: float | None, after: object) -> bool:
    """Whether the measured value came clearly nearer to what the condition wants."""
    if spec is None or before is None or not isinstance(after, int | float) or not direction(spec):
        return False
    gain = (after - before) * direction(spec)
    return gain > 0 and gain >= CLEARLY * abs(before)


def end(turn: Turn, run: Run) -> None:
    """Stop measuring."""
    if run.verification is not None:
        for watch_id in run.verification.watches:
            turn.unwatch(watch_id)
    if run.baseline_watch:
        turn.state.watches.pop(run.baseline_watch, None)  # it ends by itself
    run.verification, run.baseline_watch = None, ""


def take(verification: Verification, spec: Verify, measurement: Measurement) -> Verdict | None:
    """Count one measurement; the verdict when there is one."""
    what = verification.watches.get(measurement.watch_id)
    if what is None or measurement.at_ms <= verification.anchor_ms or measurement.at_ms > verification.until_ms:
        return None
    index = (measurement.at_ms - verification.anchor_ms) // spec.interval_ms
    if index <= verification.judged_through:
        return None  # a copy, or a straggler of a round that is judged
    reading = verification.readings.setdefault(str(index), Reading(measurement.at_ms))
    _fill(reading, what, measurement)
    if not _complete(reading, set(verification.watches.values())):
        return None
    verification.judged_through = index
    verification.readings = {key: kept for key, kept in verification.readings.items() if int(key) > index}
    _count(verification, _judge(reading, spec))
    return _verdict(verification, spec)


def _fill(reading: Reading, what: str, measurement: Measurement) -> None:
    reading.warming = reading.warming or measurement.warming
    if what == "volume":
        reading.volume, reading.volume_seen = (measurement.value if measurement.truth is Truth.TRUE else None), True
    elif what == "success":
        reading.success, reading.level = measurement.truth, measurement.value
    else:
        reading.failure = measurement.truth


def _complete(reading: Reading, wanted: set[str]) -> bool:
    have = {"success": reading.success, "failure": reading.failure, "volume": reading.volume_seen}
    return all(have[what] for what in wanted)


def _judge(reading: Reading, spec: Verify) -> Verdict | None:
    """None: it proves nothing."""
    if reading.warming or (spec.min_volume is not None and (reading.volume or 0.0) < spec.min_volume.at_least):
        return None
    if reading.failure == Truth.TRUE:
        return Verdict.FAILURE
    if reading.success == Truth.TRUE:
        return Verdict.SUCCESS
    if reading.success == Truth.NODATA or spec.failure is not None:
        return Verdict.INCONCLUSIVE
    return Verdict.FAILURE


def _count(verification: Verification, verdict: Verdict | None) -> None:
    verification.in_a_row = verification.in_a_row + 1 if verdict is Verdict.SUCCESS else 0
    verification.successes += verdict is Verdict.SUCCESS
    verification.failures += verdict is Verdict.FAILURE
    verification.inconclusives += verdict is Verdict.INCONCLUSIVE


def _verdict(verification: Verification, spec: Verify) -> Verdict | None:
    if verification.failures > spec.failure_limit:
        return Verdict.FAILURE
    if verification.in_a_row >= spec.count:
        return Verdict.SUCCESS
    if verification.inconclusives > spec.inconclusive_limit:
        return Verdict.INCONCLUSIVE
    return None


def by_alert(verification: Verification, entry: AlertEntry | None, now_ms: int) -> Verdict | None:
    """The verdict of `alert: resolved_by_value`."""
    if entry is not None and entry.alert.state is AlertState.RESOLVED:
        return Verdict.SUCCESS if entry.alert.ended is Ending.BY_VALUE else Verdict.INCONCLUSIVE
    if now_ms < due_at_ms(verification):
        return None
    return Verdict.FAILURE if entry is not None else Verdict.INCONCLUSIVE


def due_at_ms(verification: Verification) -> int:
    """When the time for measuring is over."""
    return verification.until_ms + SLACK_MS


def evidence(verification: Verification, spec: Verify) -> dict[str, object]:
    """The numbers a verdict rests on."""
    return {
        "anchor_ms": verification.anchor_ms,
        "successes": verification.successes,
        "in_a_row": verification.in_a_row,
        "failures": verification.failures,
        "inconclusives": verification.inconclusives,
        "count": spec.count,
        "failure_limit": spec.failure_limit,
        "within_ms": spec.within_ms,
        "success": spec.success or spec.alert,
    }

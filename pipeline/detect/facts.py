"""What the detector says and how it is set up: facts, rejections, options.

Guarantee: ids of facts depend only on rule, labels, activation time, state and revision, so a replay yields the same ids.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.detect.lives import Life
from pipeline.model.labels import EMPTY, Labels
from pipeline.model.records import Alert, AlertFact, Finding, Measurement, stable_id
from pipeline.model.wire import finite
from pipeline.promql import Options
from pipeline.series import SeriesLimits


@dataclass(frozen=True, slots=True)
class Rejection:
    """Something that was not taken in or not evaluated, counted per reason and batch, with one example in `text`.

    Reasons: `future`, `late`, `series_limit`, `series_per_metric_limit`, `label_count_limit`, `label_length_limit`, `bad_event`, `rule_error`,
    `group_limit`, `ticks_skipped`.
    """

    reason: str
    text: str
    count: int = 1
    at_ms: int = 0
    source: str = ""
    rule_id: str = ""


@dataclass(slots=True)
class Counts:
    """What a detector did since it was made; telemetry reads it. `skew_ms`: newest event time minus wall time, per source."""

    samples: int = 0
    refused: int = 0
    logs: int = 0
    grid_evaluations: int = 0
    early_evaluations: int = 0
    rule_errors: int = 0
    measurements: int = 0
    skew_ms: dict[str, int] = field(default_factory=dict)


Detected = AlertFact | Measurement | Finding | Rejection


@dataclass(frozen=True, slots=True)
class DetectOptions:
    """Settings of one detector. `grid_delay_ms`: how long after a tick's instant it is evaluated, so that its samples have arrived."""

    allowed_lateness_ms: int = 60_000
    max_future_ms: int = 10_000
    grid_delay_ms: int = 200
    early_gap_ms: int = 10  # at most one early evaluation of a rule in this time (or in its settle time, if longer)
    max_catch_up_ticks: int = 300
    restart_grace_ms: int = 1000  # after a restart with a gap, ticks wait this long, so that what came in meanwhile is read before it is judged
    min_lookback_ms: int = 600_000  # windows are kept at least this long, so that a watch finds its past
    resolve_timeout_ms: int = 300_000  # a foreign alert without an end that is not renewed
    sigma_quiet_ms: int = 300_000  # a security alert without another match
    limits: SeriesLimits = field(default_factory=SeriesLimits)
    external_labels: Labels = EMPTY
    external_url: str = ""
    promql: Options = field(default_factory=Options)  # how rules and the queries of their templates are evaluated


@dataclass(frozen=True, slots=True)
class ReloadReport:
    """What a reload did, by rule id."""

    added: tuple[str, ...]
    kept: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """What all alerts of one rule share."""

    name: str
    rule_id: str
    rule_version: str
    source: str = "rule"


def alert_of(origin: Origin, life: Life, annotations: dict[str, str]) -> Alert:
    """The public value of a life as it is now."""
    return Alert(
        id=stable_id(origin.rule_id, life.labels, life.active_at_ms),
        name=origin.name,
        rule_id=origin.rule_id,
        rule_version=origin.rule_version,
        source=origin.source,
        labels=life.labels,
        annotations=annotations,
        state=life.state,
        value=finite(life.value),
        track=life.track,
        active_at_ms=life.active_at_ms,
        fired_at_ms=life.fired_at_ms,
        resolved_at_ms=life.resolved_at_ms,
        ended=life.ended,
        warming=life.warming,
        confirmations=life.confirmations,
        revision=life.revision,
    )


def fact_of(alert: Alert, *, group: str, at_ms: int, caused_at_ms: int) -> AlertFact:
    """The fact that an alert is now in its state."""
    return AlertFact(
        id=stable_id(alert.id, alert.state, alert.revision),
        group=group,
        at_ms=at_ms,
        alert=alert,
        caused_at_ms=caused_at_ms,
    )

"""Security matches as findings and as alerts that stand while matches keep coming.

Guarantee: ids depend on rule, labels and event time, so a replay yields the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.detect.programs import ALERTNAME
from pipeline.detect.standing import SIGMA
from pipeline.model.labels import Labels
from pipeline.model.records import Alert, AlertState, Finding, stable_id
from pipeline.rulebook.sigma_file import alert_name

if TYPE_CHECKING:
    from pipeline.sigma import SigmaMatch


def alert_labels(match: SigmaMatch) -> Labels:
    """The labels of the alert: what the match names, and the rule's name, id and level."""
    return Labels.of(match.labels, **{ALERTNAME: alert_name(match.title), "severity": match.level, "sigma_rule": match.rule_id})


def finding_of(match: SigmaMatch) -> Finding:
    """The record of one match."""
    return Finding(
        id=stable_id("finding", match.rule_id, match.at_ms, match.labels, *match.evidence),
        at_ms=match.at_ms,
        rule_id=match.rule_id,
        title=match.title,
        level=match.level,
        labels=alert_labels(match),
        fields={**match.fields, "evidence": list(match.evidence)},
        author=match.author,
    )


def alert_of(match: SigmaMatch, rule_version: str) -> Alert:
    """The alert that a match raises, firing at once."""
    labels = alert_labels(match)
    return Alert(
        id=stable_id(match.rule_id, labels, match.at_ms),
        name=alert_name(match.title),
        rule_id=match.rule_id,
        rule_version=rule_version,
        source=SIGMA,
        labels=labels,
        annotations={"summary": match.title},
        state=AlertState.FIRING,
        value=float(match.count),
        track=SIGMA,
        active_at_ms=match.at_ms,
        fired_at_ms=match.at_ms,
        confirmations=match.count,
        evidence=match.evidence,
        revision=1,
    )

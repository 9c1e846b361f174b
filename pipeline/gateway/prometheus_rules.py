"""Rules and alerts of a running detector as Prometheus' `/api/v1/rules` and `/api/v1/alerts` show them. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.detect import Detector
from pipeline.detect.programs import AlertProgram, RecordProgram
from pipeline.detect.ruleset import GroupPrograms
from pipeline.gateway.prometheus_json import exponent_text, iso, plain
from pipeline.model.records import Alert

Params = Mapping[str, Sequence[str]]
_RANK = ("inactive", "pending", "firing")
_TYPES = {"alert": "alerting", "record": "recording"}


def alerts(detector: Detector) -> dict[str, Any]:
    """All alerts that are pending or firing."""
    return {"alerts": [_alert(alert) for alert in detector.alerts]}


def rules(detector: Detector, params: Params) -> dict[str, Any]:
    """All groups with their rules, narrowed by Prometheus' parameters (type, rule_name[], rule_group[], file[], exclude_alerts)."""
    by_rule: dict[str, list[Alert]] = defaultdict(list)
    for alert in detector.alerts:
        by_rule[alert.rule_id].append(alert)
    groups = [_group(detector, group, last_ms, by_rule, params) for group, last_ms in detector.groups]
    return {"groups": [group for group in groups if group is not None]}


def _group(
    detector: Detector, group: GroupPrograms, last_ms: int | None, by_rule: Mapping[str, list[Alert]], params: Params
) -> dict[str, Any] | None:
    one = group.group
    if not _wanted(one.name, params.get("rule_group[]")) or not _wanted(one.file, params.get("file[]")):
        return None
    known = {"evaluationTime": 0, "lastEvaluation": iso(last_ms or 0)}
    shown = [_rule(detector, program, by_rule.get(program.rule.rule_id, []), known, last_ms) for program in group.programs]
    kind = next(iter(params.get("type", ())), "")
    kept = [rule for rule in shown if _wanted(rule["name"], params.get("rule_name[]")) and (not kind or rule["type"] == _TYPES.get(kind))]
    if not kept and (kind or params.get("rule_name[]")):
        return None
    if "true" in params.get("exclude_alerts", ()):
        kept = [{name: value for name, value in rule.items() if name != "alerts"} for rule in kept]
    return {"name": one.name, "file": one.file, "rules": kept, "interval": one.interval_ms / 1000, "limit": one.limit, **known}


def _rule(
    detector: Detector, program: AlertProgram | RecordProgram, active: Iterable[Alert], known: Mapping[str, Any], last_ms: int | None
) -> dict[str, Any]:
    failure = detector.failures.get(program.rule.rule_id)
    health = {"health": "err", "lastError": failure.text} if failure else {"health": "ok" if last_ms else "unknown"}
    labels = {**program.group.labels, **program.rule.labels}
    if isinstance(program, RecordProgram):
        return {"name": program.rule.name, "query": program.expr.text, "labels": labels, **health, **known, "type": "recording"}
    shown = [_alert(alert) for alert in active]
    return {
        "state": max((alert["state"] for alert in shown), key=_RANK.index, default="inactive"),
        "name": program.rule.name,
        "query": program.expr.text,
        "duration": program.rule.for_ms / 1000,
        "keepFiringFor": program.rule.keep_firing_for_ms / 1000,
        "labels": labels,
        "annotations": dict(program.rule.annotations),
        "alerts": shown,
        **health,
        **known,
        "type": "alerting",
    }


def _alert(alert: Alert) -> dict[str, Any]:
    return {
        "labels": plain(alert.labels),
        "annotations": dict(alert.annotations),
        "state": str(alert.state),
        "activeAt": iso(alert.active_at_ms),
        "value": exponent_text(0.0 if alert.value is None else alert.value),
    }


def _wanted(name: str, names: Sequence[str] | None) -> bool:
    return not names or name in names

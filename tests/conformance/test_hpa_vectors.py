"""The replica formulas and behaviour against worked examples: own ones always, those under REFLEXARC_REMEDIATION_VECTORS where that folder is given."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.remediate import hpa
from pipeline.remediate.hpa_behavior import (
    Aged,
    History,
    Rules,
    changed,
    limit_legacy,
    limit_rate,
    normalize,
    normalize_legacy,
    remember,
    rules_of,
    stabilize,
    stabilize_legacy,
    store_event,
)
from pipeline.rulebook.spec import Behavior, ScalingPolicy

FOLDER = os.environ.get("REFLEXARC_REMEDIATION_VECTORS", "")
OWN = Path(__file__).parent.parent / "cases" / "remediate" / "hpa.json"


def vectors(name: str) -> list[Any]:
    if not FOLDER:
        why = f"REFLEXARC_REMEDIATION_VECTORS is not set, so {name}.json cannot be checked"
        return [pytest.param(None, id="no-vectors", marks=pytest.mark.skip(reason=why))]
    return [pytest.param(case, id=case["id"]) for case in json.loads((Path(FOLDER) / f"{name}.json").read_text())["cases"]]


def own(kind: str) -> list[Any]:
    return [pytest.param(case, id=case["id"]) for case in json.loads(OWN.read_text())[kind]]


# --- calculator


def pod(raw: dict[str, Any]) -> hpa.Pod:
    def age(name: str) -> float | None:
        return None if raw.get(name) is None else -float(raw[name])

    sample = raw.get("sample")
    usage = sample["value_milli"] if sample else raw.get("usage_milli")
    return hpa.Pod(
        name=raw["name"],
        usage_milli=usage,
        request_milli=raw.get("request_milli"),
        phase=raw["phase"],
        deleting=raw["deleting"],
        ready=None if raw["ready_condition"] is None else raw["ready_condition"] == "True",
        ready_changed_age_s=age("ready_last_transition_s"),
        start_age_s=age("start_s"),
        sample_age_s=-float(sample["ts_s"]) if sample else age("sample_s"),
        sample_window_s=float((sample or {}).get("window_s") or raw.get("sample_window_s") or 0),
    )


def grouped(case: dict[str, Any], pods: list[hpa.Pod], *, cpu: bool) -> hpa.Grouped:
    initialization_s = case.get("cpu_initialization_period_s", 300)
    return hpa.group_pods(pods, cpu=cpu, cpu_initialization_s=initialization_s, initial_readiness_delay_s=case.get("initial_readiness_delay_s", 30))


def recommend(case: dict[str, Any]) -> dict[str, Any]:
    pods = [pod(raw) for raw in case["pods"]]
    tolerance = hpa.Tolerance(case["tolerance_down"], case["tolerance_up"])
    current, target, kind = case["current_replicas"], case["target"], case["kind"]
    extra = {item["pod"]: item["usage_milli"] for item in case.get("extra_metrics", [])}
    if kind == "resource_utilization":
        found = hpa.resource_utilization(pods, grouped(case, pods, cpu=True), current, target, tolerance, extra)
        return {"replicas": found.replicas, "utilization_percent": found.utilization_percent, "average_milli": found.usage_milli}
    if kind == "pods_average":
        found = hpa.pods_average(pods, grouped(case, pods, cpu=False), current, target, tolerance, extra)
        return {"replicas": found.replicas, "usage_milli": found.usage_milli}
    usage = hpa.saturating_sum(case["metric_values_milli"])
    if kind.endswith("_value"):
        return {"replicas": hpa.total_value(usage, target, current, hpa.ready_count(pods), tolerance), "usage_milli": usage}
    return {"replicas": hpa.average_value(usage, target, current, tolerance), "usage_milli": -(-usage // current) if current else usage}


@pytest.mark.parametrize("case", [*own("calculator"), *vectors("hpa_calculator")])
def test_the_calculator_recommends_what_the_autoscaler_does(case):
    given, expected = case["input"], case["expected"]
    if given["kind"] == "group_pods":
        found = grouped(given, [pod(raw) for raw in given["pods"]], cpu=given["resource"] == "cpu")
        assert {"ready": found.ready, **{name: sorted(getattr(found, name)) for name in ("unready", "missing", "ignored")}} == expected
    elif "error" in expected:
        with pytest.raises(hpa.Undecidable):
            recommend(given)
    else:
        assert recommend(given) == expected


# --- behaviour


def aged(raw: list[dict[str, Any]], key: str) -> list[Aged]:
    return [Aged(item[key], item["age_s"] * 1000) for item in raw]


def rules(raw: dict[str, Any]) -> Rules:
    policies = tuple(ScalingPolicy(type=item["type"], value=item["value"], period_ms=f"{item['period_s']}s") for item in raw["policies"] or [])
    return Rules(policies, raw["select_policy"], (raw.get("stabilization_window_s") or 0) * 1000)


def spec(raw: dict[str, Any] | None) -> dict[str, Any]:
    raw = raw or {}
    found: dict[str, Any] = {"policies": [{"type": p["type"], "value": p["value"], "period": f"{p['period_s']}s"} for p in raw.get("policies") or []]}
    if raw.get("select_policy"):
        found["select_policy"] = raw["select_policy"]
    if raw.get("stabilization_window_s") is not None:
        found["stabilization"] = f"{raw['stabilization_window_s']}s"
    return found


def history(case: dict[str, Any]) -> History:
    return History(
        aged(case.get("recommendations", []), "replicas"),
        aged(case.get("scale_up_events", []), "change"),
        aged(case.get("scale_down_events", []), "change"),
    )


def behave(case: dict[str, Any]) -> dict[str, Any]:
    kind = case["kind"]
    if kind == "rate_limit":
        found = limit_rate(
            case["current"], case["desired"], (case["min"], case["max"]), history(case), (rules(case["scale_up"]), rules(case["scale_down"]))
        )
        return {"replicas": found.replicas, "reason": found.reason}
    if kind == "legacy_limit":
        factor, minimum = case["scale_up_limit_factor"], case["scale_up_limit_minimum"]
        found = limit_legacy(case["current"], case["desired"], (case["min"], case["max"]), factor=factor, minimum=minimum)
        return {"replicas": found.replicas, "reason": found.reason}
    if kind == "stabilize":
        up_ms, down_ms, recommendations = (
            case["scale_up_window_s"] * 1000,
            case["scale_down_window_s"] * 1000,
            aged(case["recommendations"], "replicas"),
        )
        stored = remember(recommendations, case["desired"], max(up_ms, down_ms))
        replicas = stabilize(case["current"], case["desired"], recommendations, up_ms, down_ms).replicas
        return {"replicas": replicas, "stored_recommendations": [rec.value for rec in stored]}
    if kind == "stabilize_legacy":
        window_ms, recommendations = case["window_s"] * 1000, aged(case["recommendations"], "replicas")
        stored = remember(recommendations, case["desired"], window_ms)
        return {"replicas": stabilize_legacy(case["desired"], recommendations, window_ms), "stored_recommendations": [rec.value for rec in stored]}
    if kind == "store_event":
        return stored_events(case)
    return normalized(case)


def stored_events(case: dict[str, Any]) -> dict[str, Any]:
    events = aged(case["events"], "change")
    before = changed(events, 60_000)
    if case["rules"] is None:
        return {"change_in_last_60s_before": before, "stored": [{"change": event.value, "outdated": False} for event in events]}
    longest_ms = max(policy["period_s"] for policy in case["rules"]["policies"]) * 1000
    stored = store_event(events, case["change"], longest_ms)
    return {
        "change_in_last_60s_before": before,
        "stored": [{"change": event.value, "outdated": event.age_ms > longest_ms} for event in stored],
    }


def normalized(case: dict[str, Any]) -> dict[str, Any]:
    bounds, window_ms = (case["min"], case["max"]), case["default_downscale_window_s"] * 1000
    if case["behavior"] is None:
        found = normalize_legacy(case["current"], case["desired"], bounds, history(case), window_ms=window_ms)
    else:
        behavior = Behavior.model_validate({name: spec(case["behavior"].get(name)) for name in ("scale_up", "scale_down")})
        found = normalize(case["current"], case["desired"], bounds, history(case), rules_of(behavior, downscale_window_ms=window_ms))
    return {
        "replicas": found.replicas,
        "able_to_scale_reason": found.able_to_scale,
        "scaling_limited": found.limited,
        "scaling_limited_reason": found.limit_reason,
    }


@pytest.mark.parametrize("case", [*own("behavior"), *vectors("hpa_behavior")])
def test_behaviour_limits_and_stabilizes_as_the_autoscaler_does(case):
    found = behave(case["input"])
    assert {name: value for name, value in found.items() if name in case["expected"]} == case["expected"]

"""The rules and policies of the simulated service: those of the demo, with the variants of its policy."""

from __future__ import annotations

from functools import cache

from pipeline.rulebook.book import RuleBook
from pipeline.rulebook.load import load_rulebook
from pipeline.rulebook.spec import GrantSpec

ALERTS = """
groups:
  - name: checkout
    interval: 1s
    rules:
      - alert: CheckoutErrors
        expr: |
          sum by (service, version) (rate(http_requests_total{service="checkout", code=~"5.."}[5s]))
            / sum by (service, version) (rate(http_requests_total{service="checkout"}[5s])) > 0.05
        labels: {severity: critical}
      - alert: CheckoutSiteSlow
        expr: histogram_quantile(0.95, sum by (service, site, le) (rate(http_request_duration_seconds_bucket{service="checkout"}[3s]))) > 0.25
        for: 1s
        labels: {severity: warning}
"""
RATIO = 'sum(rate(http_requests_total{service="checkout", code=~"5.."}[2s])) / sum(rate(http_requests_total{service="checkout"}[2s])) < 0.02'
VERIFY = f"""
        verify:
          success: {RATIO}
          settle: 200ms
          interval: 500ms
          count: 3
          failure_limit: 3
          min_volume: {{expr: 'sum(increase(http_requests_total{{service="checkout"}}[2s]))', at_least: 20}}
          within: 20s"""
SHIFT = '\n      - shift_traffic: {away_from: {version: "{{ version }}"}}' + VERIFY + "\n        on_failure: revert\n        then: next"
ROLL_BACK = '\n      - roll_back: {version: "{{ version }}", to: previous}' + VERIFY + "\n        then: stop"
FIRST = {
    "standard": "",
    "wrong_restart": '\n      - restart: {target: "local://workload/checkout-canary"}' + VERIFY + "\n        on_failure: next\n        then: stop",
    "wrong_scale": '\n      - scale: {target: "local://workload/checkout-canary", replicas: MORE}'
    + VERIFY
    + "\n        on_failure: next\n        then: stop",
    "wrong_weights": "\n      - shift_traffic: {weights: {v1: STABLE, v2: CANARY}}" + VERIFY + "\n        on_failure: revert\n        then: stop",
    "half_shift": '\n      - shift_traffic: {away_from: {version: "{{ version }}"}, to_percent: 5}'
    + VERIFY
    + "\n        on_failure: revert\n        then: next",
}
POLICIES = """
services:
  - name: checkout
    match: {service: checkout}
    route: edge://route/checkout
    sites_target: edge://sites/checkout
    sites:
      - {name: a, workload: "local://workload/checkout-a", capacity_per_replica: 65}
      - {name: b, workload: "local://workload/checkout-b", capacity_per_replica: 65}
    backends:
      - {name: v1, weight: 80, workload: "local://workload/checkout-a"}
      - {name: v2, weight: 20, workload: "local://workload/checkout-canary"}
    limits: {replicas: {min: MIN, max: 6}}
policies:
  - name: bad-release
    when: {alertname: CheckoutErrors, version: v2}
    mode: enforce
    steps:STEPS
    guard: {cooldown: 20s, attempts: {max: 3, per: 1h}, budget: {targets: 2, per: 10m}, ttl: 30s}
scalers:
  - name: checkout-demand
    service: checkout
    site: a
    metric: {expr: 'sum(rate(service_requests_total{service="checkout"}[3s]))', target_average: 60}
    interval: 1s
    behavior:
      scale_up: {policies: [{type: Pods, value: 4, period: 5s}]}
      scale_down: {stabilization: 5s, policies: [{type: Percent, value: 100, period: 5s}]}
    mode: enforce
failovers:
  - name: checkout-sites
    service: checkout
    priority: [a, b]
    unhealthy: |
      histogram_quantile(0.95, sum by (le) (rate(http_request_duration_seconds_bucket{service="checkout", site="{{ site }}"}[3s]))) > 0.25
      or sum(rate(http_requests_total{service="checkout", site="{{ site }}", code="503"}[3s]))
        / sum(rate(http_requests_total{service="checkout", site="{{ site }}"}[3s])) > 0.5
    healthy: max(max_over_time(service_probe_seconds{service="checkout", site="{{ site }}"}[2s])) < 0.15
    for: 1s
    demand: sum(rate(http_requests_total{service="checkout"}[3s]))
    interval: 1s
    fail_back: {after: 3s, pause: 2s, steps: [25, 50, 100]}
    mode: enforce
    guard: {cooldown: 5s, attempts: {max: 10, per: 1h}}
"""


METRICS = ("http_requests_total", "http_request_duration_seconds_bucket", "service_requests_total", "service_probe_seconds")


@cache
def book(variant: str, mode: str, least: int, percent: int) -> RuleBook:
    """The rule book of a policy variant. `mode` is what the administrator grants, `least` the fewest replicas, `percent` the canary's share."""
    first = FIRST[variant].replace("STABLE", str(102 - percent)).replace("CANARY", str(percent - 2))  # as good as nothing
    steps = first + (ROLL_BACK if variant == "half_shift" else SHIFT + ROLL_BACK)
    files = {"alerts.yaml": ALERTS, "policies.yaml": POLICIES.replace("STEPS", steps).replace("MIN", str(least)).replace("MORE", str(max(3, least)))}
    loaded = load_rulebook(files, grants={"*": GrantSpec.model_validate({"mode": mode})}, known_metrics=METRICS)
    if loaded.book is None:
        raise ValueError("\n".join(str(problem) for problem in loaded.errors))
    return loaded.book

"""Valid files that tests start from."""

RULES = """\
groups:
  - name: checkout
    interval: 1s
    labels: {team: shop}
    rules:
      - record: error_ratio
        expr: sum by (service, version) (rate(http_requests_total{code=~"5.."}[30s])) / sum by (service, version) (rate(http_requests_total[30s]))
      - alert: CheckoutErrors
        expr: |
          error_ratio
            > 0.05
        for: 5s
        keep_firing_for: 10s
        labels: {severity: critical}
        annotations:
          summary: "{{ $labels.service }} fails: {{ $value }}"
"""

POLICIES = """\
services:
  - name: checkout
    match: {service: checkout}
    route: edge://route/checkout
    sites_target: edge://sites/checkout
    blocklist: edge://blocklist/checkout
    sites:
      - {name: a, workload: "prod://deployment/shop/checkout-a", capacity_per_replica: 100}
      - {name: b, workload: "prod://deployment/shop/checkout-b", capacity_per_replica: 100}
    backends: [{name: v1, weight: 80}, {name: v2, weight: 20}]
    limits: {replicas: {min: 2, max: 20}}
policies:
  - name: bad-release
    when: {alertname: CheckoutErrors, severity: critical}
    mode: enforce
    steps:
      - shift_traffic: {away_from: {version: "{{ version }}"}}
        verify:
          success: error_ratio{service="{{ service }}"} < 0.01
          settle: 2s
          interval: 1s
          count: 5
          failure_limit: 2
          min_volume: {expr: 'sum(increase(http_requests_total{service="{{ service }}"}[10s]))', at_least: 50}
          within: 60s
        on_failure: revert
        then: next
      - roll_back: {to: previous}
        verify: {alert: resolved_by_value, within: 2m}
      - notify: {to: oncall}
    guard: {cooldown: 5m, attempts: {max: 3, per: 1h}, budget: {targets: 2, percent: 30, per: 10m}, ttl: 2m}
scalers:
  - name: demand
    service: checkout
    metric: {expr: "sum(rate(http_requests_total[1m]))", target_average: 50}
failovers:
  - name: sites
    service: checkout
    priority: [a, b]
    unhealthy: error_ratio{site="{{ site }}"} > 0.5
    healthy: error_ratio{site="{{ site }}"} < 0.1
    demand: sum(rate(http_requests_total[1m]))
silences:
  - {match: [severity=~"info|warning"], starts_at: 2026-01-01T00:00:00Z, ends_at: 2026-01-02T00:00:00+01:00}
inhibitions:
  - {source: {severity: critical}, target: {severity: warning}, equal: [service]}
maintenance:
  - {service: checkout, starts_at: 2026-01-01T00:00:00Z, ends_at: 2026-01-02T00:00:00Z}
"""

SIGMA = """\
title: Failed login
name: failed_login
logsource: {category: authentication}
detection:
  selection: {event.category: authentication, event.outcome: failure}
  condition: selection
level: low
---
title: Burst of failed logins
correlation:
  type: event_count
  rules: [failed_login]
  group-by: [source.ip]
  timespan: 10s
  condition: {gte: 10}
level: high
"""

CONFIG = """\
inputs:
  - {topic: metrics, format: json}
  - {file: /var/log/envoy/access.json, format: envoy-access, name: proxy}
gateway: {listen: 127.0.0.1:8480, token: "${env:TOKEN}"}
rules: [rules/]
connectors:
  edge: {kind: envoy, admin: "http://127.0.0.1:${env:ADMIN_PORT}"}
grants:
  "*": {mode: observe}
  checkout: {verbs: [shift_traffic, roll_back, scale], mode: enforce}
sources: {proxy: {services: [checkout]}}
kafka:
  bootstrap: broker-1:9092, broker-2:9092
  security: {protocol: SASL_SSL, sasl_mechanism: SCRAM-SHA-512, username: me, password: "${env:KAFKA_PASSWORD}"}
elasticsearch: {hosts: [http://localhost:9200], api_key: "${file:secrets/key}", retention: 30d}
receivers:
  oncall: {webhook: "https://chat.example/${env:TOKEN}"}
  file: {log: {}}
defaults: {evaluation_interval: 15s}
detect: {allowed_lateness: 30s, max_future: 10s, settle: 100ms}
metrics: [http_requests_total, "envoy_*"]
observe_interval: 10s
"""

SECRETS = {"TOKEN": "s3cr3t-token", "ADMIN_PORT": "19901", "KAFKA_PASSWORD": "hunter2hunter2", "secrets/key": "key-of-elastic"}

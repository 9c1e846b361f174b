"""What the service says of itself: three sources (the proxy's log, the replicas' counters, the probes), and what distorts them on the way."""

from __future__ import annotations

from functools import cache
from random import Random

from pipeline.model.labels import Labels
from pipeline.model.signals import Sample, SignalBatch
from tests.simulator.clock import BASE_MS
from tests.simulator.scenario import Scenario
from tests.simulator.world import BUCKETS, OF_SITE, WORK_S, Service, strongest

CODES = ("200", "500", "503", "504")


@cache
def _labels(**pairs: str) -> Labels:
    return Labels.of({("__name__" if name == "name" else name): value for name, value in pairs.items()} | {"service": "checkout"})


class Scraper:
    """Makes batches; `delay_ms` says how late each arrives (None: never)."""

    def __init__(self, scenario: Scenario, service: Service) -> None:
        self.scenario, self.service = scenario, service
        self._rng = Random(scenario.seed + 1)
        self._frozen: dict[str, list[Sample]] = {}
        self._false: dict[str, float] = {}
        self._last: dict[tuple[str, str, str], int] = {}

    def span(self, key: str, at_ms: int, default: float = 0.0) -> float:
        return strongest(self.scenario.metrics.get(key, ()), at_ms, default)

    def batches(self, at_ms: int) -> list[tuple[SignalBatch, int]]:
        """One batch per source with its delay; a missing one is left out."""
        made = {"proxy": self._proxy(at_ms), "services": self._services(at_ms), "probes": self._probes(at_ms)}
        found = []
        for source, rows in made.items():
            if self.span(f"missing:{source}", at_ms):
                continue
            delay_ms = 5 + int(self.span(f"late:{source}", at_ms) * (0.5 + self._rng.random() / 2))
            found.append((SignalBatch.of(rows, source=source), delay_ms))
        return found

    def _proxy(self, at_ms: int) -> list[Sample]:
        answers, stamp, rows = self.service.answers, BASE_MS + at_ms, []
        for version, site in (("v1", "a"), ("v2", "a"), ("v1", "b")):
            lie = max(self.span(f"errors:{version}", at_ms), self.span("noise", at_ms) * self._rng.choice((0, 0.5, 1.0)))
            for code in CODES:
                count = answers[version, site, code]
                if code == "500":
                    grown = answers[version, site, "200"] - self._last.get((version, site, "200"), 0)
                    self._false[version + site] = self._false.get(version + site, 0.0) + int(lie * max(0, grown))
                    self._last[version, site, "200"] = answers[version, site, "200"]
                    count += self._false[version + site]
                rows.append(Sample(_labels(name="http_requests_total", version=version, site=site, code=code), stamp, float(count)))
        for site, row in self.service.durations.items():
            total = 0
            for le, count in zip((*map(str, BUCKETS), "+Inf"), row, strict=True):
                total += count
                rows.append(
                    Sample(_labels(name="http_request_duration_seconds_bucket", site=site, le=le), stamp, float(self._slowed(site, le, total, at_ms)))
                )
        return rows

    def _slowed(self, site: str, le: str, total: int, at_ms: int) -> float:
        """A lie: while it lasts, no answer is counted as fast."""
        key = f"{site}:{le}"
        held = self._false.get(key, 0.0)
        if le != "+Inf" and self.span(f"slow:{site}", at_ms):
            held = self._false[key] = held + (total - held - self._false.get("said:" + key, total - held))
        self._false["said:" + key] = total - held
        return total - held

    def _services(self, at_ms: int) -> list[Sample]:
        rows = []
        for name, pool in self.service.pools.items():
            if not pool.free or self.span(f"partial:{OF_SITE[name]}", at_ms):
                continue
            labels = _labels(name="service_requests_total", site=OF_SITE[name], workload=name)
            rows.append(Sample(labels, BASE_MS + at_ms, float(self.service.demand[name])))
        if self.span("frozen:services", at_ms):
            frozen = self._frozen.setdefault("services", rows)
            return [Sample(row.labels, BASE_MS + at_ms, row.value) for row in frozen]
        self._frozen.pop("services", None)
        return rows

    def _probes(self, at_ms: int) -> list[Sample]:
        rows = []
        for site in "ab":
            alive = any(pool.free for name, pool in self.service.pools.items() if OF_SITE[name] == site)
            seconds = WORK_S * strongest(self.scenario.slow.get(site, ()), at_ms, 1.0)
            if self.span(f"healthy:{site}", at_ms):
                alive, seconds = True, WORK_S
            if self.span(f"sick:{site}", at_ms):
                seconds = 0.9
            if alive:
                rows.append(Sample(_labels(name="service_probe_seconds", site=site), BASE_MS + at_ms, seconds))
        return rows

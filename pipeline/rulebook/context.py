"""What is known of the configuration around the rule files, and what its connectors can do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pipeline.model.target import Target
from pipeline.rulebook.files import Spot
from pipeline.rulebook.problems import did_you_mean
from pipeline.rulebook.spec import Service

Connectors = Mapping[str, Mapping[str, tuple[str, ...]] | None]

DEFAULT_RECEIVER: Final = "default"
NEEDS: Final = {  # what a verb works on where its step names no target: the catalogue's key, and how a person says it
    "shift_traffic": ("route", "a route"),
    "fail_over": ("sites", "a sites_target"),
    "block": ("blocklist", "a blocklist"),
    "roll_back": ("workload", "a workload (of a site or backend)"),
    "scale": ("workload", "a workload (of a site or backend)"),
    "restart": ("workload", "a workload (of a site or backend)"),
    "deploy": ("workload", "a workload (of a site or backend)"),
}


@dataclass(frozen=True, slots=True)
class Context:
    """`connectors`: name to verbs (verb to kinds of target); None where they are not known. The same for `receivers`."""

    connectors: Connectors | None = None
    receivers: Collection[str] | None = None
    known_metrics: frozenset[str] = frozenset()
    grants_known: bool = False

    def check_target(self, spot: Spot, text: str, *path: str | int, verb: str = "") -> None:
        """Note it when the target's connector is not configured, has no such kind of target, or cannot do the verb there."""
        if self.connectors is None:
            return
        target = Target.parse(text)
        if target.connector not in self.connectors:
            hint = did_you_mean(target.connector, self.connectors, what="connectors")
            spot.note(f"{text}: there is no connector {target.connector!r}", *path, suggestion=hint)
            return
        verbs = self.connectors[target.connector]
        if verbs is None:
            return
        kinds = {kind for possible in verbs.values() for kind in possible}
        if kinds and target.kind not in kinds:
            hint = did_you_mean(target.kind, kinds, what="kinds")
            spot.note(f"{text}: connector {target.connector!r} has no targets of kind {target.kind!r}", *path, suggestion=hint)
        elif verb and (verb not in verbs or (verbs[verb] and target.kind not in verbs[verb])):
            can = sorted(name for name, possible in verbs.items() if not possible or target.kind in possible)
            hint = f"it can {', '.join(can)} there" if can else ""
            spot.note(f"connector {target.connector!r} cannot {verb} {text}", *path, suggestion=hint)


def targets_of(service: Service) -> Iterable[tuple[str, str, tuple[str | int, ...]]]:
    """Every target of a service: what it is (route, sites, blocklist, workload), its text, and its path inside the service."""
    for kind, key in (("route", "route"), ("sites", "sites_target"), ("blocklist", "blocklist")):
        text = getattr(service, key)
        if text:
            yield kind, text, (key,)
    for index, site in enumerate(service.sites):
        if site.workload:
            yield "workload", site.workload, ("sites", index, "workload")
        if site.route:
            yield "route", site.route, ("sites", index, "route")
    for index, backend in enumerate(service.backends):
        if backend.workload:
            yield "workload", backend.workload, ("backends", index, "workload")

"""Checks of the catalogue: names, weights, dependencies, and who owns which target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.model.target import Target
from pipeline.rulebook.book import UNASSIGNED, RuleBook
from pipeline.rulebook.context import Context, targets_of
from pipeline.rulebook.files import LoadedFile, Spot, spots
from pipeline.rulebook.problems import Problem, did_you_mean
from pipeline.rulebook.spec import Service


def check_services(book: RuleBook, files: list[LoadedFile], context: Context, problems: list[Problem]) -> None:
    """All services, by themselves and against each other."""
    placed = [(spot, one) for spot, one in spots(files, "services", problems) if isinstance(one, Service)]
    unique(((spot, one.name) for spot, one in placed), "service")
    names = [service.name for service in book.services]
    owners: dict[str, Service] = {}
    matches: dict[tuple[tuple[str, str], ...], str] = {}
    for spot, service in placed:
        _own(spot, service)
        for index, needed in enumerate(service.depends_on):
            if needed not in names:
                spot.note(f"depends_on names no service: {needed!r}", "depends_on", index, suggestion=did_you_mean(needed, names, what="services"))
        _targets(spot, service, context, owners)
        match = tuple(sorted(service.match.items()))
        if match in matches:
            spot.note(
                f"services {matches[match]!r} and {service.name!r} match the same labels", "match", suggestion="add a label that tells them apart"
            )
        matches.setdefault(match, service.name)
    _cycles(placed)


def unique(named: Iterable[tuple[Spot, str]], what: str, key: str = "name") -> None:
    """Names may be used once."""
    seen: dict[str, Spot] = {}
    for spot, name in named:
        if not name:
            spot.note(f"the name of a {what} is empty", key)
        elif name in seen:
            first = seen[name]
            spot.note(f"{what} {name!r} is defined twice, first at {first.source.file}:{first.node.at.line}", key)
        else:
            seen[name] = spot


def _own(spot: Spot, service: Service) -> None:
    """A service by itself."""
    unique(((spot.under("sites", index), site.name) for index, site in enumerate(service.sites)), "site")
    unique(((spot.under("backends", index), backend.name) for index, backend in enumerate(service.backends)), "backend")
    total = sum(backend.weight for backend in service.backends)
    if total not in {0, 100}:
        spot.note(f"the weights of the backends of {service.name!r} sum to {total}, not 100", "backends")
    if UNASSIGNED in {service.name, service.group}:
        spot.note(f"{UNASSIGNED!r} is the name of the group for what belongs to no service", "group", "name", suggestion="choose another")


def _targets(spot: Spot, service: Service, context: Context, owners: dict[str, Service]) -> None:
    for _, text, path in targets_of(service):
        context.check_target(spot, text, *path)
        owner = owners.setdefault(str(Target.parse(text)), service)
        if owner.group_name != service.group_name:
            hint = f"give {owner.name} and {service.name} the same group:"
            spot.note(f"{text} belongs to service {owner.name!r} too, which is in another group", *path, suggestion=hint)


def _cycles(placed: Sequence[tuple[Spot, Service]]) -> None:
    """Services that need themselves, over any number of steps; each cycle is told once."""
    needs = {service.name: service.depends_on for _, service in placed}
    told: set[frozenset[str]] = set()
    for spot, service in placed:
        cycle = _cycle_from(service.name, needs)
        if cycle and frozenset(cycle) not in told:
            told.add(frozenset(cycle))
            spot.note(f"services depend on each other in a circle: {' -> '.join([*cycle, cycle[0]])}", "depends_on")


def _cycle_from(start: str, needs: dict[str, tuple[str, ...]]) -> list[str]:
    """The shortest way from a service back to itself; empty where there is none."""
    paths = [[start]]
    seen: set[str] = set()
    while paths:
        path = paths.pop(0)
        for needed in needs.get(path[-1], ()):
            if needed == start:
                return path
            if needed not in seen:
                seen.add(needed)
                paths.append([*path, needed])
    return []

"""One file as it was read, and `Spot`: a place in it from which paths lead to what a check wants to point at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.rulebook.book import SigmaRule
from pipeline.rulebook.check_sigma import Document
from pipeline.rulebook.expressions import Expr
from pipeline.rulebook.inline import steps_of
from pipeline.rulebook.problems import Problem, ProblemList, Severity, SourceText
from pipeline.rulebook.prometheus import RuleFile
from pipeline.rulebook.spec import Policy, PolicyFile, Spec
from pipeline.rulebook.yaml_source import Mapping, Node
from pipeline.rulebook.yaml_values import descend


@dataclass(slots=True)
class LoadedFile:
    """One file, read. `exprs`: the good expressions of its policies, scalers and failovers, with what they are."""

    source: SourceText
    root: Mapping | None = None
    rules: RuleFile = field(default_factory=RuleFile)
    spec: PolicyFile = field(default_factory=PolicyFile)
    exprs: list[tuple[str, Expr]] = field(default_factory=list)
    sigma: list[SigmaRule] = field(default_factory=list)
    sigma_alerts: list[str] = field(default_factory=list)
    sigma_documents: list[Document] = field(default_factory=list)
    problems: ProblemList = field(default_factory=ProblemList)


@dataclass(frozen=True, slots=True)
class Spot:
    """A node of a file; problems noted here go to `problems`."""

    source: SourceText
    node: Node
    problems: list[Problem]

    def note(self, message: str, *path: str | int, suggestion: str = "", severity: Severity = "error") -> None:
        """A problem at the place that a path from here leads to, as far as it goes."""
        _, at, _ = descend(self.node, path)
        self.problems.append(self.source.problem(at, message, suggestion=suggestion, severity=severity))

    def under(self, *path: str | int) -> Spot:
        """The spot that a path leads to."""
        node, _, _ = descend(self.node, path)
        return Spot(self.source, node, self.problems)


def spots(files: list[LoadedFile], section: str, problems: list[Problem]) -> Iterator[tuple[Spot, Spec]]:
    """Every entry of a section (`services`, `scalers`, ...) over all files, with its place."""
    for file in files:
        for index, entry in enumerate(getattr(file.spec, section)):
            if file.root is not None:
                yield Spot(file.source, file.root, problems).under(section, index), entry


def policy_spots(files: list[LoadedFile], problems: list[Problem]) -> Iterator[tuple[Spot, Spot, Policy]]:
    """Every policy, inline ones too: its place, the place of its steps, and itself."""
    for file in files:
        for policy, node in file.rules.policies:
            yield Spot(file.source, node, problems), Spot(file.source, steps_of(node), problems), policy
    for spot, entry in spots(files, "policies", problems):
        if isinstance(entry, Policy):
            yield spot, spot.under("steps"), entry

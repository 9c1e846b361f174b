"""References across files: everything that a policy, scaler or failover names must exist. Runs on files that are fine by themselves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from pipeline.rulebook.book import RuleBook, SigmaRule
from pipeline.rulebook.problems import Problem, SourceText
from pipeline.rulebook.prometheus import RuleFile
from pipeline.rulebook.spec import PolicyFile
from pipeline.rulebook.yaml_source import Mapping as YamlMapping

Connectors = Mapping[str, Mapping[str, tuple[str, ...]] | None]


@dataclass(slots=True)
class LoadedFile:
    """One file, read."""

    source: SourceText
    root: YamlMapping | None = None
    rules: RuleFile = field(default_factory=RuleFile)
    spec: PolicyFile = field(default_factory=PolicyFile)
    sigma: list[SigmaRule] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Context:
    """What is known of the configuration around the files."""

    connectors: Connectors | None = None
    receivers: Collection[str] | None = None
    known_metrics: frozenset[str] = frozenset()


def check_book(_book: RuleBook, _files: list[LoadedFile], _context: Context) -> list[Problem]:
    return []

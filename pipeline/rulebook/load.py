"""`load_rulebook`: texts of rule files in, one consistent `RuleBook` or the list of what is wrong out. Pure.

Guarantees: with any error there is no book (the caller keeps the one that runs); the same texts always give the same book and version; a file's kind
is told by its top-level keys: `groups:` and policy keys (both may stand in one file), or Sigma documents.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from pipeline.model.records import stable_id
from pipeline.rulebook.book import RuleBook, SigmaRule
from pipeline.rulebook.check import check_book
from pipeline.rulebook.check_sigma import documents_of
from pipeline.rulebook.context import Connectors, Context
from pipeline.rulebook.files import LoadedFile
from pipeline.rulebook.policies import POLICY_KEYS, placeholder_problems, read_exprs, read_policies
from pipeline.rulebook.problems import Problem, SourceText, TooManyError, did_you_mean
from pipeline.rulebook.prometheus import GROUP_KEYS, OWN_KEYS, RULE_KEYS, Defaults, read_groups
from pipeline.rulebook.sigma_file import alert_name, check_sigma, is_sigma, titles
from pipeline.rulebook.spec import GrantSpec
from pipeline.rulebook.yaml_source import Mapping as YamlMapping
from pipeline.rulebook.yaml_source import Node, Scalar, kind_of, read_documents

FILE_KEYS: Final = ("groups", *POLICY_KEYS)


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The book (None with any error) and all problems, sorted by place."""

    book: RuleBook | None
    problems: tuple[Problem, ...] = field(default=())

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that keep the book from being used."""
        return tuple(problem for problem in self.problems if problem.fatal)


def load_rulebook(
    files: Mapping[str, str],
    *,
    grants: Mapping[str, GrantSpec] | None = None,
    connectors: Connectors | None = None,
    receivers: Collection[str] | None = None,
    default_interval_ms: int = 60_000,
    default_settle_ms: int = 200,
    known_metrics: Collection[str] = (),
) -> LoadResult:
    """Read and check rule files.

    Args:
        files: path to text.
        grants: by group, from the configuration; part of the book.
        connectors: configured connector names with the verbs of each (verb to kinds of target), as in `ConnectorInfo.verbs`; None for a name whose
            verbs are not known, None altogether where the configuration is not known (then targets are not checked).
        receivers: names of configured receivers; None: not checked.
        default_interval_ms: of groups without `interval`; Prometheus' default is one minute.
        default_settle_ms: of alerts without `settle`.
        known_metrics: metrics that inputs bring, names or prefixes with a star (`http_*`), beside those that rules record or read.
    """
    defaults = Defaults(default_interval_ms, default_settle_ms)
    loaded = [_read(SourceText(file, files[file]), defaults) for file in sorted(files)]
    problems = [problem for file in loaded for problem in file.problems]
    book = None
    if not any(problem.fatal for problem in problems):
        book = _book(loaded, grants or {}, defaults)
        context = Context(connectors, receivers, frozenset(known_metrics), grants is not None)
        problems.extend(check_book(book, loaded, context))
    problems.sort(key=lambda problem: (problem.file, problem.line, problem.column))
    return LoadResult(None if any(problem.fatal for problem in problems) else book, tuple(problems))


def _read(source: SourceText, defaults: Defaults) -> LoadedFile:
    file = LoadedFile(source)
    try:
        _read_into(file, defaults)
    except TooManyError:
        file.problems.close()
    return file


def _read_into(file: LoadedFile, defaults: Defaults) -> None:
    source = file.source
    documents, problems = read_documents(source)
    file.problems.extend(problems)
    if any(problem.fatal for problem in problems):
        return
    if any(is_sigma(node) for node in documents):
        file.problems.extend(check_sigma(source, documents))
        file.sigma.append(SigmaRule(source.text, source.file))
        file.sigma_alerts = [alert_name(title) for title in titles(documents)]
        file.sigma_documents = documents_of(source, documents)
        return
    written = [node for node in documents if not (isinstance(node, Scalar) and node.is_null)]
    if len(written) > 1:
        file.problems.append(source.problem(written[1].at, "a second YAML document in one file", suggestion="put it into a file of its own"))
    elif written:
        _read_document(file, written[0], defaults)


def _read_document(file: LoadedFile, root: Node, defaults: Defaults) -> None:
    if not isinstance(root, YamlMapping):
        hint = f"a rule file starts with one of {', '.join(FILE_KEYS)}"
        file.problems.append(file.source.problem(root.at, f"a file should be a mapping, not {kind_of(root)}", suggestion=hint))
        return
    file.root = root
    for name, (key, _) in root.entries.items():
        if name not in FILE_KEYS:
            file.problems.append(file.source.problem(key.at, f"unknown key {name!r} at the top of the file", suggestion=_meant(name)))
    file.rules = read_groups(file.source, root, defaults, file.problems)
    spec, file.exprs = read_policies(file.source, root, file.problems)
    for _, actions in file.rules.policies:
        file.exprs.extend(read_exprs(file.source, actions, "actions", file.problems))
        file.problems.extend(placeholder_problems(file.source, actions))
    if spec is not None:
        file.spec = spec


def _meant(name: str) -> str:
    if name in {*RULE_KEYS, *OWN_KEYS, *GROUP_KEYS}:
        return "rules stand inside groups: [{name: ..., rules: [...]}]"
    return did_you_mean(name, FILE_KEYS, what="keys here")


def _book(loaded: list[LoadedFile], grants: Mapping[str, GrantSpec], defaults: Defaults) -> RuleBook:
    texts = [file.source.text for file in loaded]
    granted = sorted((group, grant.model_dump_json()) for group, grant in grants.items())
    return RuleBook(
        version=stable_id(defaults.interval_ms, defaults.settle_ms, granted, *texts),
        groups=tuple(group for file in loaded for group in file.rules.groups),
        sigma=tuple(rule for file in loaded for rule in file.sigma),
        services=tuple(one for file in loaded for one in file.spec.services),
        policies=tuple(policy for file in loaded for policy in (*(inline for inline, _ in file.rules.policies), *file.spec.policies)),
        scalers=tuple(one for file in loaded for one in file.spec.scalers),
        failovers=tuple(one for file in loaded for one in file.spec.failovers),
        silences=tuple(one for file in loaded for one in file.spec.silences),
        inhibitions=tuple(one for file in loaded for one in file.spec.inhibitions),
        maintenance=tuple(one for file in loaded for one in file.spec.maintenance),
        grants=dict(grants),
    )

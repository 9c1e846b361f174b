"""`reflexarc rules check|list|export`: rule files, policies and Sigma rules."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.cli.output import DEFAULT_CONFIG, fail, print_json, print_table
from pipeline.cli.problems import report
from pipeline.cli.rules_test import register_test
from pipeline.model.duration import format_duration
from pipeline.rulebook.book import AlertRule, RuleBook
from pipeline.rulebook.load import LoadResult, load_rulebook
from pipeline.rulebook.outline import Outline, outline
from pipeline.rulebook.problems import SourceText
from pipeline.runtime.rule_files import UnreadableError, read_rule_files, read_text

Verbs = Mapping[str, tuple[str, ...]]


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    parser = subparsers.add_parser("rules", help="check, list and export rules")
    commands = parser.add_subparsers(metavar="check|test|list|export", required=True)
    checking = commands.add_parser("check", help="find everything wrong in rule files; exit code 1 when there is something")
    _add_paths(checking)
    checking.add_argument("--strict", action="store_true", help="warnings count too")
    checking.set_defaults(handler=run_check)
    listing = commands.add_parser("list", help="what the files hold")
    _add_paths(listing)
    listing.set_defaults(handler=run_list)
    exporting = commands.add_parser("export", help="print a rule file as plain Prometheus reads it")
    exporting.add_argument("path", metavar="PATH")
    exporting.set_defaults(handler=run_export)
    register_test(commands)


def _add_paths(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="+", help="files, or folders that are searched for *.yaml and *.yml")
    parser.add_argument(
        "--config", metavar="FILE", help=f"check against its connectors, receivers and metrics (default: {DEFAULT_CONFIG} here or there)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run_check(args: argparse.Namespace) -> int:
    """Print all problems."""
    try:
        files, result = _load(args)
    except UnreadableError as error:
        return report([str(error)], as_json=args.json, strict=args.strict, summary="nothing checked")
    return report(result.problems, as_json=args.json, strict=args.strict, summary=f"{len(files)} files")


def run_list(args: argparse.Namespace) -> int:
    """Print rules, policies and controllers; 1 when the files cannot be used."""
    try:
        _, result = _load(args)
    except UnreadableError as error:
        return fail(str(error))
    if result.book is None:
        return report(result.errors, as_json=args.json, strict=False, summary="not listed")
    rows = list(_rows(result.book))
    if args.json:
        print_json([dict(zip(("kind", "name", "where", "detail"), row, strict=True)) for row in rows])
    else:
        print_table(("KIND", "NAME", "WHERE", "WHAT"), rows)
    return 0


def run_export(args: argparse.Namespace) -> int:
    """Print the pure Prometheus files of a path, one YAML document each."""
    from pipeline.rulebook.export import pure_prometheus

    try:
        files = read_rule_files([args.path])
    except UnreadableError as error:
        return fail(str(error))
    result = load_rulebook(files, known_metrics=["*"])
    if result.book is None:
        return report(result.errors, as_json=False, strict=False, summary="not exported")
    texts = [text for text in map(pure_prometheus, files.values()) if text]
    if not texts:
        return fail(f"{args.path}: no Prometheus rules there")
    print("---\n".join(text if text.endswith("\n") else f"{text}\n" for text in texts), end="")
    return 0


def _load(args: argparse.Namespace) -> tuple[Mapping[str, str], LoadResult]:
    files = read_rule_files(args.paths)
    found = _outline(args)
    if found is None:
        return files, load_rulebook(files)
    connectors = {name: _verbs(kind) for name, kind in found.connectors.items()}
    return files, load_rulebook(files, connectors=connectors, receivers=found.receivers, known_metrics=found.metrics)


def _outline(args: argparse.Namespace) -> Outline | None:
    """The configuration around the rules: as given, else one that lies here or beside them."""
    if args.config:
        return outline(read_text(Path(args.config)))
    places = [Path(), *(path if path.is_dir() else path.parent for path in map(Path, args.paths))]
    for place in places:
        if (place / DEFAULT_CONFIG).is_file():
            return outline(read_text(place / DEFAULT_CONFIG))
    return None


def _verbs(kind: str) -> Verbs | None:
    """What a kind of connector can do; None where it is not known here."""
    from connectors import registry

    try:
        return registry.info(kind).verbs
    except (registry.UnknownKindError, ImportError):
        return None


def _rows(book: RuleBook) -> Iterator[Sequence[Any]]:
    for group in book.groups:
        for rule in group.rules:
            kind = "alert" if isinstance(rule, AlertRule) else "record"
            wait = f" for {format_duration(rule.for_ms)}" if isinstance(rule, AlertRule) and rule.for_ms else ""
            yield kind, rule.name, rule.where, f"every {format_duration(group.interval_ms)}{wait}: {' '.join(rule.expr.split())}"
    for sigma in book.sigma:
        yield from (("sigma", title, sigma.where, "") for title in _titles(sigma.text))
    for service in book.services:
        yield "service", service.name, "", ", ".join(f"{name}={value}" for name, value in service.match.items())
    for policy in book.policies:
        yield "policy", policy.name, "", f"{policy.mode}: {', '.join(step.verb for step in policy.steps)}"
    for scaler in book.scalers:
        yield "scaler", scaler.name, "", f"{scaler.mode}: {scaler.service}"
    for failover in book.failovers:
        yield "failover", failover.name, "", f"{failover.mode}: {failover.service} {' > '.join(failover.priority)}"


def _titles(text: str) -> list[str]:
    from pipeline.rulebook.sigma_file import titles
    from pipeline.rulebook.yaml_source import read_documents

    return titles(read_documents(SourceText("", text))[0])

"""Checks across files: everything that a policy, scaler or failover names must exist. Runs on files that are fine by themselves."""

from __future__ import annotations

from pipeline.rulebook.book import RuleBook
from pipeline.rulebook.check_catalogue import check_services
from pipeline.rulebook.check_controllers import check_failovers, check_muting, check_scalers
from pipeline.rulebook.check_metrics import check_metrics
from pipeline.rulebook.check_placeholders import check_placeholders
from pipeline.rulebook.check_policies import check_policies
from pipeline.rulebook.check_sigma import check_sigma_rules
from pipeline.rulebook.context import Context
from pipeline.rulebook.files import LoadedFile
from pipeline.rulebook.problems import Problem, ProblemList, TooManyError


def check_book(book: RuleBook, files: list[LoadedFile], context: Context) -> list[Problem]:
    """Everything wrong between the files, and between them and the configuration."""
    problems = ProblemList()
    try:
        _check(book, files, context, problems)
    except TooManyError:
        problems.close()
    return problems


def _check(book: RuleBook, files: list[LoadedFile], context: Context, problems: list[Problem]) -> None:
    check_services(book, files, context, problems)
    check_policies(book, files, context, problems)
    check_scalers(book, files, context, problems)
    check_failovers(book, files, context, problems)
    check_muting(book, files, problems)
    check_metrics(book, files, context, problems)
    check_placeholders(book, files, problems)
    problems.extend(check_sigma_rules([document for file in files for document in file.sigma_documents]))

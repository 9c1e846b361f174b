"""The configuration file and the rule files it names, read and checked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from connectors import registry
from pipeline.rulebook import config as config_file
from pipeline.rulebook.book import RuleBook
from pipeline.rulebook.config_spec import Config
from pipeline.rulebook.load import LoadResult, load_rulebook
from pipeline.rulebook.problems import Problem
from pipeline.runtime.rule_files import UnreadableError, read_rule_files, read_text, secret_reader
from pipeline.runtime.topics import LoopError, check_inputs

INPUT_GATEWAY: Final = "gateway"


class SettingsError(Exception):
    """What keeps the configuration or the rules from being used; one line per problem, with its place where it has one."""

    def __init__(self, problems: Sequence[Problem | str]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Settings:
    """A checked configuration, where it lay, and paths made absolute against its folder."""

    config: Config
    path: Path

    @property
    def data_dir(self) -> Path:
        """Where the embedded bus, the store and the kill switch live."""
        return self.absolute(self.config.data_dir)

    @property
    def rule_paths(self) -> list[Path]:
        """Files and folders of rules."""
        return [self.absolute(path) for path in self.config.rules]

    def absolute(self, path: str) -> Path:
        """A path as the configuration means it."""
        return self.path.parent / Path(path).expanduser()


def load_config(path: Path, *, environment: Mapping[str, str] | None = None) -> Settings:
    """Read and check the configuration file.

    Raises:
        SettingsError: unreadable or wrong.
    """
    variables = os.environ if environment is None else environment
    files = secret_reader(path.parent)

    def secrets(kind: str, name: str) -> str | None:
        return variables.get(name) if kind == "env" else files(kind, name)

    try:
        text = read_text(path)
    except UnreadableError as error:
        raise SettingsError([str(error)]) from error
    result = config_file.load_config(text, file=str(path), secrets=secrets, connector_models=_connector_models())
    if result.config is None:
        raise SettingsError(result.errors)
    prefix = result.config.kafka.prefix if result.config.kafka else ""
    try:
        check_inputs((one.topic_name for one in result.config.inputs), prefix)
    except LoopError as error:
        raise SettingsError([f"{path}: {error}"]) from error
    return Settings(result.config, path)


def load_rules(settings: Settings) -> RuleBook:
    """Read and check the rule files.

    Raises:
        SettingsError: a file that cannot be read, or any error in any of them.
    """
    try:
        result = check_rules(settings)
    except UnreadableError as error:
        raise SettingsError([str(error)]) from error
    if result.book is None:
        raise SettingsError(result.errors)
    return result.book


def check_rules(settings: Settings) -> LoadResult:
    """The rule files against this configuration, with every problem.

    Raises:
        UnreadableError: a path that cannot be read.
    """
    config = settings.config
    return load_rulebook(
        read_rule_files(settings.rule_paths),
        grants=config.grants,
        connectors={name: registry.info(one.kind).verbs for name, one in config.connectors.items()},
        receivers=[*config.receivers, "default"],
        default_interval_ms=config.defaults.evaluation_interval_ms,
        default_settle_ms=config.detect.settle_ms,
        known_metrics=config.known_metrics,
    )


def _connector_models() -> dict[str, type[BaseModel] | None]:
    """Settings models by kind; None where an optional dependency of the connector is missing (building it then says which)."""
    models: dict[str, type[BaseModel] | None] = {}
    for kind in registry.kinds():
        try:
            models[kind] = registry.info(kind).config_model
        except ImportError:
            models[kind] = None
    return models

"""`load_config`: the text of `reflexarc.yaml` to a `Config`, or problems with their place. Pure: secrets and connector models are handed in.

Guarantees: a secret that is not there is an error naming the variable or file and its place; no secret stands in a problem or in a printed `Config`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel

from pipeline.rulebook.config_spec import Config
from pipeline.rulebook.problems import START, Problem, SourceText, did_you_mean
from pipeline.rulebook.shape import shaped
from pipeline.rulebook.yaml_source import Mapping as YamlMapping
from pipeline.rulebook.yaml_source import Node, Scalar, Sequence, kind_of, read_documents
from pipeline.rulebook.yaml_values import at_offset, plain

Secrets = Callable[[str, str], str | None]
"""Asked for ("env", NAME) or ("file", PATH); None: not there."""

_SECRET: Final = re.compile(r"\$\$\{|\$\{([^}]*)\}|\$\{")
_REFERENCE: Final = re.compile(r"(env|file):(.+)")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")
_METRIC: Final = re.compile(r"[A-Za-z_:][A-Za-z0-9_:.]*\*?")
_SHORTEST_HIDDEN: Final = 4


@dataclass(frozen=True, slots=True)
class ConfigResult:
    """The configuration (None with any error) and all problems, sorted by place."""

    config: Config | None
    problems: tuple[Problem, ...] = field(default=())

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that keep it from being used."""
        return tuple(problem for problem in self.problems if problem.fatal)


def load_config(text: str, *, file: str, secrets: Secrets, connector_models: Mapping[str, type[BaseModel] | None] | None = None) -> ConfigResult:
    """Read a configuration.

    Args:
        text: of the file.
        file: its name, for problems.
        secrets: looks up `${env:NAME}` and `${file:PATH}`.
        connector_models: kind to the model of its settings (`ConnectorInfo.config_model`; None: that kind's settings are not checked); None
            altogether: kinds are not checked either.
    """
    source = SourceText(file, text)
    config, problems = _Reader(source, secrets, connector_models).read()
    unique = sorted(set(problems), key=lambda problem: (problem.line, problem.column))
    return ConfigResult(None if any(problem.fatal for problem in unique) else config, tuple(unique))


class _Reader:
    def __init__(self, source: SourceText, secrets: Secrets, models: Mapping[str, type[BaseModel] | None] | None) -> None:
        self.source, self.secrets, self.models = source, secrets, models
        self.problems: list[Problem] = []
        self.revealed: dict[str, str] = {}  # secret value to how the file names it
        self.missing: set[str] = set()  # references without a value

    def read(self) -> tuple[Config | None, list[Problem]]:
        documents, problems = read_documents(self.source)
        if any(problem.fatal for problem in problems):
            return None, problems
        if len(documents) > 1:
            return None, [*problems, self.source.problem(documents[1].at, "a second YAML document in the configuration")]
        root = documents[0] if documents else Scalar("", START)
        if isinstance(root, Scalar) and root.is_null:
            root = YamlMapping({}, root.at)
        if not isinstance(root, YamlMapping):
            return None, [self.source.problem(root.at, f"the configuration should be a mapping, not {kind_of(root)}")]
        root = YamlMapping({name: entry for name, entry in root.entries.items() if not _empty(entry[1])}, root.at, root.size)
        content = self._filled(root)
        self._connectors(root.get("connectors"), content.get("connectors"))
        config, found = shaped(Config, root, self.source, value=content, hide=self._hidden)
        self._add(found)
        if config is not None:
            self._names(root, config)
        return config, self.problems

    # --- secrets ---------------------------------------------------------------------------------------------------------------------

    def _filled(self, node: Node) -> Any:
        """The node's plain value with `${...}` replaced."""
        match node:
            case YamlMapping():
                return {name: self._filled(value) for name, (_, value) in node.entries.items()}
            case Sequence():
                return [self._filled(item) for item in node.items]
            case Scalar():
                return self._text(node) if "${" in node.text else plain(node)

    def _text(self, node: Scalar) -> str:
        return _SECRET.sub(lambda match: self._secret(node, match), node.text)

    def _secret(self, node: Scalar, match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        reference = _REFERENCE.fullmatch(match[1] or "")
        if reference is None:
            self._note(node, match.start(), f"{match[0]} is not a reference", "write ${env:NAME} or ${file:PATH} ($${ for a plain ${)")
            return match[0]
        kind, name = reference.groups()
        value = self.secrets(kind, name)
        if value is None:
            self.missing.add(match[0])
            if kind == "env":
                self._note(node, match.start(), f"the environment variable {name} is not set", f"set {name}, or write ${{file:PATH}}")
            else:
                self._note(node, match.start(), f"the file {name} cannot be read", "create it, or write ${env:NAME}")
            return match[0]
        if len(value) >= _SHORTEST_HIDDEN:
            self.revealed[value] = match[0]
        return value

    def _note(self, node: Scalar, offset: int, message: str, suggestion: str) -> None:
        self.problems.append(self.source.problem(at_offset(self.source, node, offset), message, suggestion=suggestion))

    def _add(self, problems: list[Problem]) -> None:
        """Note problems, but for those that only say that a reference without a value is no number, address, ..."""
        self.problems.extend(problem for problem in problems if not any(name in problem.message for name in self.missing))

    def _hidden(self, message: str) -> str:
        """A message without the values of secrets."""
        for value, name in sorted(self.revealed.items(), key=lambda item: -len(item[0])):
            message = message.replace(value, name)
        return message

    # --- what pydantic cannot see ----------------------------------------------------------------------------------------------------

    def _connectors(self, node: Node | None, content: Any) -> None:
        if self.models is None or not isinstance(node, YamlMapping) or not isinstance(content, dict):
            return
        for name, (key, settings) in node.entries.items():
            if not _NAME.fullmatch(name):
                self.problems.append(
                    self.source.problem(key.at, f"{name!r} is no connector name", suggestion="small letters, digits, '.', '_' and '-'")
                )
            if isinstance(settings, YamlMapping):
                self._connector(name, settings, content[name])

    def _connector(self, name: str, node: YamlMapping, content: Any) -> None:
        kind = content.get("kind")
        if not isinstance(kind, str) or self.models is None:
            return
        if kind not in self.models:
            at = (node.get("kind") or node).at
            self.problems.append(
                self.source.problem(at, f"unknown kind of connector {kind!r}", suggestion=did_you_mean(kind, self.models, what="kinds"))
            )
            return
        model = self.models[kind]
        if model is None:
            return
        rest = YamlMapping({key: entry for key, entry in node.entries.items() if key != "kind"}, node.at, node.size)
        # The same values are handed to the connector, so texts that were mended here are mended there too.
        value = {key: item for key, item in content.items() if key != "kind"}
        _, problems = shaped(model, rest, self.source, value=value, hide=self._hidden, inside=("connectors", name))
        self._add(problems)
        content.update(value)

    def _names(self, root: YamlMapping, config: Config) -> None:
        self._inputs(root.get("inputs"), config)
        metrics = root.get("metrics")
        for index, metric in enumerate(config.metrics):
            if not _METRIC.fullmatch(metric) and isinstance(metrics, Sequence):
                hint = "a name, or a prefix with a star at its end: http_*"
                self.problems.append(self.source.problem(metrics.items[index].at, f"{metric!r} is not a metric name", suggestion=hint))
        names = {one.source_name for one in config.inputs} | {"gateway"}
        sources = root.get("sources")
        for name in config.sources:
            if name not in names and isinstance(sources, YamlMapping):
                hint = did_you_mean(name, names, what="inputs")
                self.problems.append(self.source.problem(sources.key_at(name), f"sources names no input: {name!r}", suggestion=hint))

    def _inputs(self, node: Node | None, config: Config) -> None:
        seen: dict[tuple[str, str], int] = {}
        for index, one in enumerate(config.inputs):
            key = (one.topic_name, one.file)
            if key in seen and isinstance(node, Sequence):
                self.problems.append(self.source.problem(node.items[index].at, f"inputs[{index}] is the same as inputs[{seen[key]}]"))
            seen.setdefault(key, index)


def _empty(node: Node) -> bool:
    return isinstance(node, Scalar) and node.is_null


__all__ = ["Config", "ConfigResult", "Secrets", "load_config"]

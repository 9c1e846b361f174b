"""Files that must be refused: each names, in its first lines, the place, the message and the suggestion of every error that it holds.

`# expect: LINE:COLUMN words of the message | words of the suggestion`; `# metrics: NAME ...` lists what inputs bring.
"""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from pipeline.rulebook.config import load_config
from pipeline.rulebook.load import load_rulebook
from pipeline.rulebook.problems import Problem

CASES = Path(__file__).parents[2] / "cases" / "bad_input"
CONNECTORS = {
    "edge": {"shift_traffic": ("route",), "fail_over": ("sites",), "block": ("blocklist",)},
    "prod": dict.fromkeys(("scale", "restart", "roll_back", "deploy"), ("deployment",)),
}


class EnvoySettings(BaseModel):
    """Stands for a connector's own model."""

    model_config = ConfigDict(extra="forbid")
    admin: str = ""
    weight: int = 0


def load(path: Path, text: str) -> tuple[Any, tuple[Problem, ...]]:
    """What the loader makes of a case: the result (None: refused) and the problems."""
    if path.parent.name == "config":
        config = load_config(text, file=path.name, secrets=lambda _kind, _name: None, connector_models={"envoy": EnvoySettings})
        return config.config, config.problems
    metrics = re.findall(r"^# metrics: (.*)$", text, re.MULTILINE)
    rules = load_rulebook({path.name: text}, connectors=CONNECTORS, receivers=["oncall"], known_metrics=" ".join(metrics).split())
    return rules.book, rules.problems


@pytest.mark.parametrize("path", [pytest.param(path, id=f"{path.parent.name}/{path.stem}") for path in sorted(CASES.rglob("*.yaml"))])
def test_a_bad_file_is_refused_with_places_and_suggestions(path: Path):
    text = path.read_text()
    expected = re.findall(r"^# expect: (\d+):(\d+) (.*?)(?: \| (.*))?$", text, re.MULTILINE)
    loaded, problems = load(path, text)
    errors = [problem for problem in problems if problem.fatal]
    shown = "\n".join(map(Problem.pretty, problems))

    assert loaded is None
    assert expected, "the case expects nothing"
    assert len(errors) == len(expected), shown
    for error, (line, column, message, suggestion) in zip(errors, expected, strict=True):
        assert (error.line, error.column) == (int(line), int(column)), shown
        assert message in error.message, shown
        assert suggestion in error.suggestion, shown
        assert str(error).startswith(f"{path.name}:{line}:{column}: error: ")

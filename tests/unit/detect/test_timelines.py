"""Every timeline under tests/cases/detect: what comes in, and all that must come out."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.detect.timeline import offset, run

CASES = Path(__file__).parents[2] / "cases" / "detect"
TIMES = {"seen", "at", "since", "fired", "caused"}


def cases() -> list[Any]:
    found = []
    for path in sorted(CASES.glob("*.yaml")):
        for case in yaml.safe_load_all(path.read_text()):
            found.append(pytest.param(case, id=f"{path.stem}: {case['name']}"))
    return found


def matches(expected: dict[str, Any], fact: dict[str, Any]) -> bool:
    """Whether a fact is as expected; only what the case names counts."""
    return all(
        name in fact
        and (fact[name] == pytest.approx(offset(value) if name in TIMES and value is not None else value) if name != "text" else value in fact[name])
        for name, value in expected.items()
    )


@pytest.mark.parametrize("case", cases())
def test_what_the_detector_says_is_what_the_timeline_tells(case: dict[str, Any]) -> None:
    facts = run(case)
    only = case.get("only")
    if only:
        facts = [fact for fact in facts if only in fact]
    shown = "\n".join(
        str({name: fact.get(name) for name in {"seen", "at", *expected}} if expected else fact)
        for fact, expected in zip(facts, [*case["expect"], *[{}] * len(facts)], strict=False)
    )
    assert len(facts) == len(case["expect"]), f"all that was said:\n{shown}"
    for expected, fact in zip(case["expect"], facts, strict=True):
        assert matches(expected, fact), f"expected {expected}\ngot {fact}"

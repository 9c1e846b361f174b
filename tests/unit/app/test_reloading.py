"""Rules that change while the pipeline runs."""

from pathlib import Path

import pytest

from pipeline.app import load_config
from pipeline.app.reloading import RuleWatch
from pipeline.rulebook.book import RuleBook

GOOD = "groups: [{name: g, rules: [{alert: %s, expr: up == 0}]}]\n"


class Rig:
    """A watch over one rule file."""

    def __init__(self, folder: Path) -> None:
        self.rules = folder / "rules.yaml"
        self.rules.write_text(GOOD % "First")
        (folder / "reflexarc.yaml").write_text("rules: [rules.yaml]\nmetrics: [up]\n")
        self.taken: list[RuleBook] = []
        self.refused = 0
        self.watch = RuleWatch(load_config(folder / "reflexarc.yaml"), self.taken.append, self._refuse)

    def _refuse(self) -> None:
        self.refused += 1


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def test_changed_rules_are_taken_as_a_whole(rig: Rig):
    rig.rules.write_text(GOOD % "Second")
    assert await rig.watch.reload()
    assert [rule.name for rule in rig.taken[-1].groups[0].rules] == ["Second"]


@pytest.mark.parametrize("text", ["groups: [", "groups: [{name: g, rules: [{alert: A, expr: 'sum('}]}]", "grups: []"], ids=["yaml", "promql", "key"])
async def test_broken_rules_are_refused_and_the_running_ones_stay(rig: Rig, text: str):
    rig.rules.write_text(text)
    assert not await rig.watch.reload()
    assert (rig.taken, rig.refused) == ([], 1)


async def test_rules_that_vanish_are_refused_too(rig: Rig):
    rig.rules.unlink()
    assert not await rig.watch.reload()
    assert rig.refused == 1

"""What `rules/` gives users: every example of its README is loaded, and every pack is checked and passes its own tests."""

import re
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.cli.rules_test import run_file
from pipeline.rulebook.load import LoadResult, load_rulebook

RULES = Path(__file__).parents[3] / "rules"
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", (RULES / "README.md").read_text(), re.DOTALL | re.MULTILINE)
FIRST_WORDS = re.compile(r"\w+")
EXAMPLES = {match.group(): block for block in BLOCKS if (match := FIRST_WORDS.match(block))}
METRICS = ["http_requests_total", "up"]
VERBS = {"edge": None, "prod": None}


def load(names: list[str]) -> LoadResult:
    return load_rulebook({f"{name}.yaml": EXAMPLES[name] for name in names}, connectors=VERBS, known_metrics=METRICS)


def test_every_block_is_an_example_of_its_own():
    assert len(EXAMPLES) == len(BLOCKS)
    assert EXAMPLES.keys() == {"groups", "title", "services", "policies", "scalers", "failovers", "silences", "rule_files"}


def test_the_examples_are_right_together():
    result = load([name for name in EXAMPLES if name != "rule_files"])
    assert [str(problem) for problem in result.problems] == []
    book = result.book
    assert book is not None
    assert [policy.name for policy in book.policies] == ["shop-bad-release", "shop-guessed-passwords"]
    assert (len(book.scalers), len(book.failovers), len(book.sigma)) == (1, 1, 1)


def test_the_example_of_a_test_passes(tmp_path: Path):
    mappings = [EXAMPLES[name] for name in ("groups", "services", "policies")]
    (tmp_path / "shop.yaml").write_text("\n".join(mappings))
    (tmp_path / "shop.test.yaml").write_text(EXAMPLES["rule_files"])
    report = run_file(str(tmp_path / "shop.test.yaml"), "v3")
    assert not report.problems, report.problems
    assert report.checks >= 3
    assert [failure for case in report.cases for failure in case.failures] == []


@pytest.mark.parametrize("pack", sorted(folder for folder in RULES.iterdir() if folder.is_dir()), ids=lambda folder: folder.name)
def test_every_pack_has_nothing_wrong(pack: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["rules", "check", "--strict", str(pack)]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("file", sorted(RULES.glob("*/*.test.yaml")), ids=lambda file: file.name)
def test_every_pack_passes_its_tests(file: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["rules", "test", str(file)]) == 0, capsys.readouterr().out


def test_the_readme_speaks_of_every_pack():
    text = (RULES / "README.md").read_text()
    assert all(f"({folder.name})" in text for folder in RULES.iterdir() if folder.is_dir())

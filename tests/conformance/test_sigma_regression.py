"""SigmaHQ's regression events against the engine: each rule must fire on at least as many of its events as upstream says.

The cases are not part of this repository (rules and events are under the Detection Rule License). `REFLEXARC_SIGMA_CASES` names a folder with
`manifest.json`, `rules.tar.gz` (`<id>.yml`) and `events.json.gz` ({id: [event, ..]}); unset, these tests are skipped and the summary says so.
"""

import gzip
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.model.signals import LogRecord
from pipeline.sigma import SigmaEngine, SigmaError
from pipeline.sigma.rules import compile_rules

FOLDER = os.environ.get("REFLEXARC_SIGMA_CASES", "")
SKIP = "the environment variable REFLEXARC_SIGMA_CASES is not set: SigmaHQ's regression events were NOT run"


def _cases() -> list[Any]:
    if not FOLDER:
        return [pytest.param(None, id="not-there", marks=pytest.mark.skip(reason=SKIP))]
    manifest = json.loads((Path(FOLDER) / "manifest.json").read_text())
    return [pytest.param(case, id=case["id"]) for case in manifest["cases"]]


@pytest.fixture(scope="module")
def rules() -> dict[str, str]:
    with tarfile.open(Path(FOLDER) / "rules.tar.gz") as archive:
        return {member.name: archive.extractfile(member).read().decode() for member in archive.getmembers() if member.isfile()}


@pytest.fixture(scope="module")
def events() -> dict[str, list[dict[str, Any]]]:
    return json.loads(gzip.decompress((Path(FOLDER) / "events.json.gz").read_bytes()))


def _flat(node: Any, into: dict[str, Any]) -> None:
    for name, value in (node or {}).items():
        if isinstance(value, dict):
            _flat(value, into)
        else:
            into[name.replace(" ", "")] = value


def record(event: dict[str, Any]) -> LogRecord:
    """A Windows event as a record: system fields under Sigma's names, the data flat with blanks stripped from names."""
    body = event["Event"]
    system = body.get("System") or {}
    fields: dict[str, Any] = {name: system.get(name) for name in ("EventID", "Channel", "Computer", "Level", "Task", "Opcode", "Keywords")}
    if isinstance(fields["EventID"], dict):
        fields["EventID"] = fields["EventID"].get("#text")
    fields["Provider_Name"] = ((system.get("Provider") or {}).get("#attributes") or {}).get("Name")
    for part in ("EventData", "UserData"):
        _flat(body.get(part), fields)
    return LogRecord(0, "", {name: value for name, value in fields.items() if value is not None})


@pytest.mark.parametrize("case", _cases())
def test_a_rule_fires_on_its_own_events(case: dict[str, Any], rules: dict[str, str], events: dict[str, list[dict[str, Any]]]) -> None:
    expected = case["expected"]
    engine = SigmaEngine([(rules[case["rule_file"]], case["rule_file"])])
    matches = [match for event in events[case["id"]] for match in engine.feed(record(event), 0)]
    assert {match.rule_id for match in matches} == {expected["rule_id"]}
    assert len(matches) >= expected["min_count"]
    assert all(match.author for match in matches)


def test_every_active_rule_compiles_but_those_with_placeholders() -> None:
    archive = Path(FOLDER or ".") / "active_rules.tar.gz"
    if not FOLDER or not archive.is_file():
        pytest.skip(SKIP)
    with tarfile.open(archive) as tar:
        texts = {member.name: tar.extractfile(member).read().decode() for member in tar.getmembers() if member.name.endswith(".yml")}
    placeholders = [name for name, text in texts.items() if "|expand" in text]
    engine = SigmaEngine([(text, name) for name, text in texts.items() if name not in placeholders])
    assert len(engine.rules) >= len(texts) - len(placeholders) > 3700
    for name in placeholders:
        with pytest.raises(SigmaError, match="placeholders"):
            SigmaEngine([(texts[name], name)])


@pytest.mark.skipif(not FOLDER, reason=SKIP)
def test_the_index_loses_no_match_over_all_rules_and_events(events: dict[str, list[dict[str, Any]]]) -> None:
    archive = Path(FOLDER or ".") / "active_rules.tar.gz"
    if not archive.is_file():
        pytest.skip(SKIP)
    with tarfile.open(archive) as tar:
        texts = [(tar.extractfile(member).read().decode(), member.name) for member in tar.getmembers() if member.name.endswith(".yml")]
    sources = [(text, name) for text, name in texts if "|expand" not in text]
    engine, compiled = SigmaEngine(sources), compile_rules(sources)
    for one in [record(event) for group in events.values() for event in group][::10]:
        tried = {rule.info.rule_id for rule in compiled.detections if any(test(one) for test in rule.tests)}
        assert {match.rule_id for match in engine.feed(one, 0)} == tried

"""Example files of promtool's unit tests: those that must pass do, those that must fail do and for their own reason.

The files are not part of this repository: `REFLEXARC_PROMTOOL_EXAMPLES` names a folder with a `manifest.json`
(`[{test_file, expect: pass | fail, semantics: v2 | v3 | both}]`). Unset, these tests are skipped and the summary says so.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.rules_test import details, run_file

FOLDER = os.environ.get("REFLEXARC_PROMTOOL_EXAMPLES", "")
SKIP = "the environment variable REFLEXARC_PROMTOOL_EXAMPLES is not set: promtool's example files were NOT run"
WHY = {  # what the failing files are about: a part of what must be said
    "bad-duplicate": "vector cannot contain metrics with the same labelset",
    "bad-field": "unknown key 'fro'",
    "fail-annotation": '-     summary: "a down, value 0.0"\n+     summary: "a down, value 0"',
    "fail-label": '+ {alertname="Down", instance="a", job="j", severity="page"}',
    "fail-pending": '- {alertname="Down", instance="a", job="j", severity="page"}',
    "fail-second-group": '  up{instance="a", job="j"} 0\n- up{instance="b", job="j"} 0',
    "fail-unexpected-alert": '+ {alertname="Down", instance="a", job="j", severity="page"}',
    "fail-value": '- job:up:sum{job="j"} 2\n+ job:up:sum{job="j"} 1',
}


def _examples(expect: str) -> list[Any]:
    if not FOLDER:
        return [pytest.param("", "v3", id="not-there", marks=pytest.mark.skip(reason=SKIP))]
    found = []
    for one in json.loads((Path(FOLDER) / "manifest.json").read_text()):
        for compat in ("v2", "v3"):
            if one["expect"] == expect and one["semantics"] in {compat, "both"}:
                found.append(pytest.param(str(Path(FOLDER) / one["test_file"]), compat, id=f"{Path(one['test_file']).stem}-{compat}"))
    return found


@pytest.mark.parametrize(("file", "compat"), _examples("pass"))
def test_an_example_that_must_pass_passes(file: str, compat: Any):
    report = run_file(file, compat)
    assert report.passed, report
    assert report.checks > 0


@pytest.mark.parametrize(("file", "compat"), _examples("fail"))
def test_an_example_that_must_fail_fails_for_its_own_reason(file: str, compat: Any):
    report = run_file(file, compat)
    assert not report.passed
    said = "\n".join([*map(str, report.problems), *("\n".join(details(failure)) for case in report.cases for failure in case.failures)])
    assert WHY[Path(file).stem.removesuffix("_test")] in said


@pytest.mark.skipif(not FOLDER, reason=SKIP)
def test_a_window_edge_passes_under_its_own_semantics_only():
    for own, other in (("v2", "v3"), ("v3", "v2")):
        file = str(Path(FOLDER) / f"13-window-edge-{own}_test.yml")
        assert run_file(file, own).passed
        assert not run_file(file, other).passed

"""Named fault points."""

from pathlib import Path

import pytest

from pipeline.runtime.faults import ArmedFault, FaultError, fault_point


def test_the_nth_passage_kills_and_leaves_a_marker(tmp_path: Path):
    deaths: list[str] = []
    fault = ArmedFault("after_facts", 2, tmp_path / "fault.after_facts", lambda: deaths.append("dead"))
    fault("after_facts")
    fault("before_facts")
    assert deaths == []
    fault("after_facts")
    assert deaths == ["dead"]
    assert (tmp_path / "fault.after_facts").exists()


def test_after_the_restart_it_does_not_happen_again(tmp_path: Path):
    (tmp_path / "fault.after_facts").touch()
    fault_point("after_facts", tmp_path)("after_facts")  # would kill the test run


@pytest.mark.parametrize("spec", ["after_lunch", "after_facts:0", "after_facts:x"])
def test_a_wrong_name_or_passage_is_an_error_that_says_what_would_be_right(spec: str, tmp_path: Path):
    with pytest.raises(FaultError, match="after_facts"):
        fault_point(spec, tmp_path)

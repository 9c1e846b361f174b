"""The registry: built-in kinds, kinds of third parties, and what is said about one that is not there."""

from importlib.metadata import EntryPoint

import pytest

from connectors import registry
from pipeline.runtime.clock import SystemClock
from tests.fakes.connector import FakeConnector


@pytest.fixture
def third_party(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("fake", "tests.fakes.connector:FakeConnector", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda *, group, name=None: [entry] if group == registry.GROUP and name in {None, "fake"} else [])


def test_built_in_kinds_are_sorted_and_can_be_loaded() -> None:
    assert list(registry.BUILT_IN) == sorted(registry.BUILT_IN)
    for kind in registry.BUILT_IN:
        assert registry.load(kind).INFO.name == kind


@pytest.mark.usefixtures("third_party")
def test_a_third_party_kind_comes_from_its_entry_point() -> None:
    assert "fake" in registry.kinds()
    assert isinstance(registry.build("x", "fake", {}, clock=SystemClock()), FakeConnector)


def test_an_unknown_kind_is_an_error_that_lists_those_there_are() -> None:
    with pytest.raises(registry.UnknownKindError, match=r"no connector of kind 'docker'; there are: .*envoy.*process.*webhook"):
        registry.load("docker")

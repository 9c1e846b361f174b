"""What a workload wants and what has to be done for it: pure decisions."""

import msgspec
import pytest

from connectors.process.state import Instance, State, is_settled, todo
from connectors.process.wishes import wish
from pipeline.model.target import Target
from pipeline.ports.connector import Permanent

TARGET = Target.parse("local://workload/shop")


def instance(number: int, version: str = "v1", *, ready: bool = True, **more: object) -> Instance:
    return Instance(name=f"shop-{number}", port=20_000 + number, version=version, created_at_ms=number, pid=number, birth="b", ready=ready, **more)


def state(*instances: Instance, replicas: int = 2, history: tuple[str, ...] = ("v1",), **more: object) -> State:
    return State(replicas=replicas, history=history, instances=instances, **more)


@pytest.mark.parametrize(
    ("given", "start", "drain", "settled"),
    [
        pytest.param(state(), 2, [], False, id="nothing runs: start all"),
        pytest.param(state(instance(1), instance(2)), 0, [], True, id="as wanted"),
        pytest.param(state(instance(1), instance(2, ready=False)), 0, [], False, id="wait for the one that starts"),
        pytest.param(state(instance(1), instance(2), instance(3)), 0, ["shop-3"], False, id="surplus: the newest goes"),
        pytest.param(state(instance(1, ready=False), instance(2), instance(3)), 0, ["shop-1"], False, id="surplus: the unready one goes first"),
        pytest.param(state(instance(1), instance(2), replicas=0), 0, ["shop-1", "shop-2"], False, id="to nothing"),
        pytest.param(state(instance(1, "v0"), instance(2, "v0")), 2, [], False, id="a new version starts beside the old one"),
        pytest.param(state(instance(1, "v0"), instance(2), instance(3, ready=False)), 0, [], False, id="the old one stays until enough are ready"),
        pytest.param(state(instance(1, "v0"), instance(2), instance(3)), 0, ["shop-1"], False, id="then it goes"),
        pytest.param(state(instance(1, draining_at_ms=5), instance(2), instance(3)), 0, [], True, id="one that drains does not count"),
        pytest.param(state(instance(1), instance(2), restart_key="r"), 2, [], False, id="a restart starts new ones first"),
    ],
)
def test_what_leads_from_what_there_is_to_what_is_wanted(given: State, start: int, drain: list[str], settled: bool) -> None:
    left = todo(given)
    assert (left.start, [one.name for one in left.drain]) == (start, drain)
    assert is_settled(given) == settled


def test_ready_counts_only_instances_of_the_wanted_kind() -> None:
    assert state(instance(1), instance(2, "v0"), instance(3, ready=False)).value() == {"replicas": 2, "ready": 1, "version": "v1", "restart_key": ""}


@pytest.mark.parametrize(
    ("history", "verb", "version", "after"),
    [
        pytest.param(("v1",), "deploy", "v2", ("v1", "v2"), id="a new version"),
        pytest.param(("v1", "v2"), "deploy", "v2", ("v1", "v2"), id="the same again"),
        pytest.param(("v1", "v2"), "deploy", "v1", ("v2", "v1"), id="an old version deployed anew replaces the newer one"),
        pytest.param(("v1", "v2"), "roll_back", "v1", ("v1",), id="rolling back forgets what was bad"),
        pytest.param(("v1", "v2", "v3"), "roll_back", "v1", ("v1",), id="rolling back two"),
        pytest.param(("v1", "v2"), "roll_back", "v0", ("v1", "v2", "v0"), id="rolling back to one that never ran here"),
    ],
)
def test_previous_is_what_ran_before_and_never_what_was_rolled_back(
    history: tuple[str, ...], verb: str, version: str, after: tuple[str, ...]
) -> None:
    changed = state(history=history).wanting(verb, {"version": version})
    assert (changed.history, changed.generation) == (after, 2)


def test_a_long_history_is_shortened() -> None:
    current = state()
    for number in range(50):
        current = current.wanting("deploy", {"version": f"w{number}"})
    assert len(current.history) == 20
    assert current.value()["previous_version"] == "w48"


def test_the_state_survives_being_written() -> None:
    given = state(instance(1), restart_key="r", fence=3)
    assert msgspec.json.decode(msgspec.json.encode(given), type=State) == given


OBSERVED = {"replicas": 2, "ready": 2, "version": "v2", "previous_version": "v1", "restart_key": ""}


@pytest.mark.parametrize(
    ("verb", "desired", "after"),
    [
        pytest.param("scale", {"replicas": 3}, {"replicas": 3}, id="scale"),
        pytest.param("scale", {"replicas": 2}, None, id="scale, already there"),
        pytest.param("deploy", {"version": "v3"}, {"version": "v3"}, id="deploy"),
        pytest.param("roll_back", {"version": "previous", "from": "v2"}, {"version": "v1"}, id="previous becomes concrete"),
        pytest.param("roll_back", {"version": "previous", "from": "v3"}, None, id="the bad version is not in force"),
        pytest.param("roll_back", {"version": "v0", "from": "v2"}, {"version": "v0"}, id="roll back to a named version"),
        pytest.param("restart", {"restart_key": "a1"}, {"restart_key": "a1"}, id="restart"),
        pytest.param("restart", {"restart_key": ""}, Permanent, id="restart without key"),
        pytest.param("scale", {"replicas": -1}, Permanent, id="less than nothing"),
        pytest.param("scale", {"replicas": True}, Permanent, id="not a number"),
        pytest.param("scale", {"replicas": 2.5}, Permanent, id="half an instance"),
        pytest.param("deploy", {}, Permanent, id="no version"),
    ],
)
def test_wishes_are_checked_and_made_concrete(verb: str, desired: dict[str, object], after: object) -> None:
    if after is Permanent:
        with pytest.raises(Permanent):
            wish(TARGET, verb, OBSERVED, desired)
    else:
        assert wish(TARGET, verb, OBSERVED, desired) == after


def test_rolling_back_the_first_version_is_permanent() -> None:
    with pytest.raises(Permanent, match="no version before v1"):
        wish(TARGET, "roll_back", {"version": "v1"}, {"version": "previous", "from": "v1"})

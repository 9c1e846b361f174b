"""Whatever is wanted, in whatever order instances get ready: the workload gets there, and never serves with fewer than it could."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from connectors.process.state import Instance, State, is_settled, todo


class Host:
    """Does what `todo` says; instances get ready when told."""

    def __init__(self, replicas: int) -> None:
        self.state, self.now = State(replicas=replicas, history=("v1",)), 0
        self.settle()

    def step(self) -> None:
        self.now += 1
        left = todo(self.state)
        for instance in left.drain:
            self.state = self.state.with_instance(msgspec.structs.replace(instance, draining_at_ms=self.now, ready=False))
        for _ in range(left.start):
            name = f"i{self.state.serial}"
            new = Instance(name=name, port=1, version=self.state.version, restart_key=self.state.restart_key, created_at_ms=self.now)
            self.state = msgspec.structs.replace(self.state.with_instance(new), serial=self.state.serial + 1)

    def get_ready(self, which: int) -> None:
        starting = [one for one in self.state.instances if not one.ready and not one.draining_at_ms]
        if starting:
            self.state = self.state.with_instance(msgspec.structs.replace(starting[which % len(starting)], ready=True))

    def settle(self) -> None:
        for _ in range(100):
            if is_settled(self.state):
                return
            self.step()
            self.get_ready(0)
        raise AssertionError(f"does not settle: {self.state}")

    def serving(self) -> int:
        return sum(one.ready and not one.draining_at_ms for one in self.state.instances)


wishes = st.one_of(
    st.tuples(st.just("scale"), st.fixed_dictionaries({"replicas": st.integers(0, 6)})),
    st.tuples(st.sampled_from(["deploy", "roll_back"]), st.fixed_dictionaries({"version": st.sampled_from(["v1", "v2", "v3"])})),
    st.tuples(st.just("restart"), st.fixed_dictionaries({"restart_key": st.sampled_from(["r1", "r2", "r3"])})),
)
events = st.lists(st.one_of(wishes, st.integers(0, 9), st.none()), max_size=30)


@given(st.integers(0, 5), events)
def test_it_settles_on_what_is_wanted_and_never_drops_below_it(replicas: int, happens: list[object]) -> None:
    host = Host(replicas)
    floor = replicas  # the fewest that may serve: as many as served before, or as few as were wanted since
    for event in happens:
        if isinstance(event, tuple):
            host.state = host.state.wanting(*event)
            floor = min(floor, host.state.replicas)
        elif isinstance(event, int):
            host.get_ready(event)
        else:
            host.step()
        assert host.serving() >= floor
    host.settle()
    assert host.serving() == host.state.replicas == host.state.value()["ready"]
    assert {one.version for one in host.state.instances if not one.draining_at_ms} <= {host.state.version}

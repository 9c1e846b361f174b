"""The store against the simplest thing that could be right: a dictionary, searched in full."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model.labels import Labels
from pipeline.series import STALE_NAN, Appended, Matcher, MatchOp, Selector, SeriesStore, is_stale

NAMES = [Labels.of(__name__=name, i=instance) for name in ("a", "b") for instance in ("1", "2", "3")]
SAMPLES = st.tuples(st.sampled_from(NAMES), st.integers(0, 60), st.sampled_from([0.0, 1.0, 2.5, STALE_NAN]))
STEPS = st.lists(st.one_of(SAMPLES, st.integers(0, 60)), max_size=60)  # a number is an eviction


class Model:
    """What the store promises, spelled out."""

    def __init__(self, lateness: int) -> None:
        self.lateness = lateness
        self.samples: dict[Labels, dict[int, float]] = {}

    def append(self, labels: Labels, at: int, value: float) -> Appended:
        known = self.samples.get(labels)
        if not known:
            self.samples[labels] = {at: value}
            return Appended.STORED
        newest = max(known)
        if at < newest - self.lateness:
            return Appended.TOO_LATE
        result = Appended.STORED if at > newest else Appended.REPLACED if at in known else Appended.LATE
        known[at] = value
        return result

    def evict(self, before: int) -> None:
        kept = {labels: {at: value for at, value in known.items() if at >= before} for labels, known in self.samples.items()}
        self.samples = {labels: known for labels, known in kept.items() if known}

    def window(self, labels: Labels, after: int, until: int) -> list[tuple[int, float]]:
        return sorted((at, value) for at, value in self.samples[labels].items() if after < at <= until and not is_stale(value))

    def last(self, labels: Labels, after: int, until: int) -> tuple[int, float] | None:
        found = [(at, value) for at, value in self.samples[labels].items() if after < at <= until]
        newest = max(found, key=lambda pair: pair[0], default=None)
        return None if newest is None or is_stale(newest[1]) else newest


@settings(max_examples=300, deadline=None)
@given(steps=STEPS, lateness=st.sampled_from([0, 5, 100]), after=st.integers(-1, 60), width=st.integers(0, 40))
def test_store_behaves_as_the_model(steps, lateness, after, width):
    store, model = SeriesStore(allowed_lateness_ms=lateness), Model(lateness)
    selectors = {
        Selector([Matcher("__name__", MatchOp.EQUAL, "a")]): lambda labels: labels["__name__"] == "a",
        Selector([Matcher("__name__", MatchOp.EQUAL, "a"), Matcher("i", MatchOp.REGEX, "1|3")]): lambda labels: (
            labels["__name__"] == "a" and labels["i"] in "13"
        ),
        Selector([Matcher("i", MatchOp.NOT_EQUAL, "2")]): lambda labels: labels["i"] != "2",
    }
    for step in steps:
        if isinstance(step, int):
            store.evict(step)
            model.evict(step)
        else:
            assert store.append(*step) is model.append(*step)
        for selector, wanted in selectors.items():
            assert [series.labels for series in store.select(selector)] == sorted(labels for labels in model.samples if wanted(labels))
    for labels in model.samples:
        series = store.get(labels)
        assert list(zip(*series.window(after, after + width), strict=True)) == model.window(labels, after, after + width)
        assert series.last(after, after + width) == model.last(labels, after, after + width)


@settings(max_examples=100, deadline=None)
@given(samples=st.lists(SAMPLES, max_size=40))
def test_a_batch_does_what_its_rows_do(samples):
    one, other = SeriesStore(allowed_lateness_ms=10), SeriesStore(allowed_lateness_ms=10)
    results = [one.append(*sample) for sample in samples]
    report = other.extend([row[0] for row in samples], [row[1] for row in samples], [row[2] for row in samples])
    assert report.refused == [(row, result) for row, result in enumerate(results) if result.refused]
    assert (report.stored, report.late, report.replaced) == tuple(results.count(kind) for kind in (Appended.STORED, Appended.LATE, Appended.REPLACED))
    assert [(series.labels, series.times.tobytes(), series.values.tobytes()) for series in one] == [
        (series.labels, series.times.tobytes(), series.values.tobytes()) for series in other
    ]


MANY = [Labels.of(__name__=name, i=str(instance)) for name in ("a", "b") for instance in range(30)]
ROUND = st.lists(st.tuples(st.sampled_from(MANY), st.integers(-8, 3), st.sampled_from([0.0, 1.0, 2.5, STALE_NAN])), max_size=20)


@settings(max_examples=60, deadline=None)
@given(rounds=st.lists(st.tuples(ROUND, st.booleans(), st.booleans()), max_size=8))
def test_a_large_batch_does_what_its_rows_do(rounds):
    one, other = SeriesStore(allowed_lateness_ms=5), SeriesStore(allowed_lateness_ms=5)
    clock = 0
    for extra, twice, evicts in rounds:
        clock += 4
        samples = [(labels, clock, float(place)) for place, labels in enumerate(MANY)] + [
            (labels, clock + off, value) for labels, off, value in extra
        ]
        if twice:
            samples += [(labels, clock + 1, 7.0) for labels in MANY]
        results = [one.append(*sample) for sample in samples]
        report = other.extend([row[0] for row in samples], [row[1] for row in samples], [row[2] for row in samples])
        assert report.refused == [(row, result) for row, result in enumerate(results) if result.refused]
        kinds = (Appended.STORED, Appended.LATE, Appended.REPLACED)
        assert (report.stored, report.late, report.replaced) == tuple(results.count(kind) for kind in kinds)
        if evicts:
            assert one.evict(clock - 9) == other.evict(clock - 9)
        assert [contents(series) for series in one] == [contents(series) for series in other]


def contents(series):
    return series.labels, series.times.tobytes(), series.values.tobytes(), series.rising, series.newest_at_ms, series.first_sample_at_ms

"""Labels, durations and targets: small values that everything rests on."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.model.duration import format_duration, parse_duration_ms
from pipeline.model.labels import EMPTY, METRIC_NAME, Labels
from pipeline.model.target import Target

NAMES = st.sampled_from(["a", "b", "c", METRIC_NAME, "service"])
PAIRS = st.dictionaries(NAMES, st.text(max_size=4), max_size=5)


@given(PAIRS)
def test_labels_are_sorted_unique_and_without_empty_values(pairs: dict[str, str]):
    labels = Labels.of(pairs)
    assert dict(labels) == {name: value for name, value in pairs.items() if value}
    assert list(labels) == sorted(labels)
    assert Labels.of(reversed(list(pairs.items()))) == labels
    assert hash(Labels.of(dict(labels))) == hash(labels)
    assert len(labels) == len(labels.pairs)


@given(PAIRS, NAMES)
def test_keep_and_drop_part_a_label_set(pairs: dict[str, str], name: str):
    labels = Labels.of(pairs)
    assert dict(labels.keep([name])) | dict(labels.drop(name)) == dict(labels)
    assert name not in labels.drop(name)
    assert labels.set(name, "") == labels.drop(name)
    assert labels.set(name, "new")[name] == "new"


def test_labels_are_written_as_prometheus_does():
    assert str(Labels.of({METRIC_NAME: "up", "path": 'C:\\ "x"\n'})) == 'up{path="C:\\\\ \\"x\\"\\n"}'
    assert str(Labels.of({METRIC_NAME: "up"})) == "up"
    assert str(EMPTY) == "{}"
    assert Labels.of([("a", "1"), ("a", "2")], b="3") == Labels((("a", "2"), ("b", "3")))
    assert EMPTY.metric_name == ""
    with pytest.raises(KeyError):
        EMPTY["a"]


@given(st.integers(0, 10**14))
def test_a_duration_survives_writing_and_reading(ms: int):
    assert parse_duration_ms(format_duration(ms)) == ms
    if ms:
        assert format_duration(-ms) == "-" + format_duration(ms)


@pytest.mark.parametrize(
    ("text", "ms"), [("0", 0), ("0s", 0), ("1h30m", 5_400_000), ("1y2w3d4h5m6s7ms", 33_019_506_007), ("200ms", 200), ("90s", 90_000)]
)
def test_durations_are_read_as_prometheus_does(text: str, ms: int):
    assert parse_duration_ms(text) == ms


@pytest.mark.parametrize("text", ["", "5", "-5m", "5M", "1.5h", "5m1h", "1m1m", " 5m", "5m ", "five", "\N{FULLWIDTH DIGIT FIVE}m"])
def test_what_is_no_duration_is_refused(text: str):
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration_ms(text)


@given(
    st.from_regex(r"[a-z0-9][a-z0-9._-]{0,9}", fullmatch=True),
    st.from_regex(r"[a-z0-9_-]{1,9}", fullmatch=True),
    st.text(st.characters(codec="utf-8"), min_size=1),
)
def test_a_target_survives_writing_and_reading(connector: str, kind: str, path: str):
    assume(not any(character.isspace() or character in "?#" for character in path))
    target = Target(connector, kind, path)
    assert Target.parse(str(target)) == target
    assert hash(Target.parse(str(target))) == hash(target)


@pytest.mark.parametrize(
    "text",
    ["", "checkout", "prod:/deployment/x", "prod://deployment", "prod://deployment/", "Prod://deployment/x", "prod://deployment/a b", "prod://d/x?y"],
)
def test_what_is_no_target_is_refused_with_an_example(text: str):
    with pytest.raises(ValueError, match="prod://deployment/shop/checkout"):
        Target.parse(text)


def test_targets_are_ordered_by_their_text():
    assert sorted([Target.parse("b://k/x"), Target.parse("a://k/y")]) == [Target.parse("a://k/y"), Target.parse("b://k/x")]
    assert Target.parse("a://k/y") != "a://k/y"

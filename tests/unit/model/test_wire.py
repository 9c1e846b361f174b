"""Records on the wire: what is written is read again, and what a newer version wrote is refused."""

import json
import types
import typing
from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model import records, wire
from pipeline.model.labels import Labels
from pipeline.model.target import Target

RECORD_TYPES = typing.get_args(records.AnyRecord)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
TARGETS = st.builds(Target, NAMES, NAMES, st.from_regex(r"[A-Za-z0-9._/-]{1,12}", fullmatch=True))
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
INTEGERS = st.integers(-(2**62), 2**62)
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
SIMPLE = {
    str: TEXTS,
    int: INTEGERS,
    float: NUMBERS,
    bool: st.booleans(),
    bytes: st.binary(max_size=12),
    types.NoneType: st.none(),
    typing.Any: JSON,
    Labels: st.dictionaries(NAMES, TEXTS.filter(bool), max_size=3).map(Labels.of),
    Target: TARGETS,
}


def values(kind: typing.Any) -> st.SearchStrategy[typing.Any]:
    """Every value of a field's type."""
    if kind in SIMPLE:
        return SIMPLE[kind]
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in {types.UnionType, typing.Union}:
        return st.one_of(*map(values, inner))
    if origin is Mapping:
        return st.dictionaries(values(inner[0]), values(inner[1]), max_size=3)
    if origin is tuple:
        return st.lists(values(inner[0]), max_size=3).map(tuple) if inner[-1] is Ellipsis else st.tuples(*map(values, inner))
    if issubclass(kind, records.Value):
        return of(kind)
    return st.sampled_from(kind)


def of(kind: type[records.Value]) -> st.SearchStrategy[records.Value]:
    """Every record of a type, of this schema version."""
    hints = typing.get_type_hints(kind)
    fields = {field.name: values(hints[field.name]) for field in msgspec.structs.fields(kind) if field.name != "schema_version"}
    return st.builds(kind, **fields)


@pytest.mark.parametrize("kind", RECORD_TYPES, ids=lambda kind: kind.__name__)
def test_what_is_written_is_read_again(kind: type[records.Value]):
    @given(of(kind))
    def check(record: records.Value) -> None:
        data = wire.encode(record)
        assert wire.decode(data) == record
        assert wire.decode_as(kind, data) == record
        head = json.loads(data)
        assert (head["type"], head["schema_version"]) == (kind.__name__, records.SCHEMA_VERSION)
        assert json.loads(json.dumps(wire.to_document(record))) == head

    check()


@pytest.mark.parametrize("kind", RECORD_TYPES, ids=lambda kind: kind.__name__)
def test_what_a_newer_version_wrote_is_refused(kind: type[records.Value]):
    data = json.dumps({"type": kind.__name__, "schema_version": records.SCHEMA_VERSION + 1, "a_field_of_tomorrow": 1}).encode()
    with pytest.raises(wire.WireError, match=rf"{kind.__name__} has schema version {records.SCHEMA_VERSION + 1}.*update this worker first"):
        wire.decode(data)


@given(of(records.Tick))
def test_a_whole_record_of_a_newer_version_is_refused_too(tick: records.Value):
    data = json.dumps(json.loads(wire.encode(tick)) | {"schema_version": records.SCHEMA_VERSION + 1}).encode()
    with pytest.raises(wire.WireError, match="update this worker first"):
        wire.decode(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"\xff\xfe", "not a record", id="no text"),
        pytest.param(b"{", "not a record", id="half a record"),
        pytest.param(b"[]", "not a record", id="no object"),
        pytest.param(b'{"at_ms": 1}', "record without type", id="no type"),
        pytest.param(b'{"type": "Tack", "at_ms": 1}', "Tack", id="unknown type"),
        pytest.param(b'{"type": "Tick", "at_ms": "noon"}', "Tick: .*at_ms", id="wrong type of a field"),
        pytest.param(b'{"type": "Tick"}', "Tick: .*at_ms", id="missing field"),
    ],
)
def test_other_bytes_are_refused_with_the_reason(data: bytes, reason: str):
    with pytest.raises(wire.WireError, match=reason):
        wire.decode(data)


def test_a_target_that_is_none_is_refused():
    override = wire.to_document(records.Override(id="i", group="g", target=Target("a", "b", "c"), verb="scale", value={}, owner="o", at_ms=1))
    with pytest.raises(wire.WireError, match="not a target"):
        wire.decode(json.dumps(override | {"target": "nowhere"}).encode())


def test_another_type_than_the_topic_carries_is_refused():
    with pytest.raises(wire.WireError, match="expected Grant, got Tick"):
        wire.decode_as(records.Grant, wire.encode(records.Tick(at_ms=1)))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_has_not_become_none(number: float):
    sent = records.Measurement(id="m", group="g", watch_id="w", at_ms=1, truth=records.Truth.NODATA, value=number)
    assert wire.decode_as(records.Measurement, wire.encode(sent)).value is None
    assert wire.finite(number) is None


def test_ids_are_the_same_on_every_machine():
    assert records.stable_id("rule", "service=checkout", 1_700_000_000_000) == "e29fc8701f64fde58688"
    assert records.stable_id("a", "bc") != records.stable_id("ab", "c")

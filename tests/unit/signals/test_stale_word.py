"""A producer that pushes can say that a series ends, as a scrape would have noticed."""

from pipeline.series import is_stale
from pipeline.signals import decode


def test_the_word_stale_is_prometheus_stale_marker():
    batch = decode("json", b'{"name": "up", "labels": {"job": "a"}, "ts": 1700000000000, "value": "stale"}')
    assert is_stale(batch.values[0])
    assert not is_stale(decode("json", b'{"name": "up", "ts": 1700000000000, "value": "NaN"}').values[0])

"""Samples from a file into a store: JSON lines in the `json` or `json-batch` format, or Prometheus' text exposition format.

Guarantee: a line that is neither is an error that names its number; samples may come in any order of time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pipeline.model.labels import Labels
from pipeline.model.signals import Sample
from pipeline.ruletest.notation import NotationError, split_metric
from pipeline.series import SeriesLimits, SeriesStore
from pipeline.signals import DecodeError, decode

_ANY_TIME_MS: Final = 1 << 62
_LIMITS: Final = SeriesLimits(series=10_000_000, series_per_metric=10_000_000, labels=1024, label_value_length=1 << 20)


class SamplesError(Exception):
    """A file that cannot be read, or a line of it that is no sample."""


def read_samples(file: str, *, now_ms: int) -> SeriesStore:
    """The samples of a file (`-`: standard input). Those without a time of their own count as of `now_ms`.

    Raises:
        SamplesError: it cannot be read.
    """
    store = SeriesStore(allowed_lateness_ms=_ANY_TIME_MS, limits=_LIMITS)
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise SamplesError(f"{file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SamplesError(f"{file}: not UTF-8 (byte {error.start})") from error
    for number, line in enumerate(text.splitlines(), 1):
        try:
            for sample in _samples(line.strip(), now_ms):
                outcome = store.append(*sample)
                if outcome.refused:
                    raise SamplesError(f"{file}:{number}: {outcome.value}")
        except (DecodeError, NotationError, ValueError) as error:
            raise SamplesError(f"{file}:{number}: {error}") from error
    return store


def _samples(line: str, now_ms: int) -> Iterator[Sample]:
    if not line or line.startswith("#"):
        return
    if line.startswith(("{", "[")) and _is_json(line):
        yield from decode("json-batch" if line.startswith("[") else "json", line.encode(), received_at_ms=now_ms).samples()
        return
    labels, rest = split_metric(line)
    value, *time = rest.split("#")[0].split()  # an exemplar may follow
    if len(time) > 1:
        raise ValueError(f"{rest.strip()[:60]!r}: a value and at most one time stamp were expected")
    yield Sample(Labels.of(labels), int(time[0]) if time else now_ms, float(value))


def _is_json(line: str) -> bool:
    """Not `{"a metric", label="x"} 1`, whose first text is followed by no colon."""
    return line.startswith("[") or line.endswith("}")

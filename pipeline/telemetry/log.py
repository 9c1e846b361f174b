"""`Log`: one line an event, as JSON or for a person: an event name and fields, no prose.

Guarantee: secrets never appear. A field whose name says secret is masked, and so is every known secret value wherever it stands in a line.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TextIO

from pipeline.ports.clock import Clock

LEVELS: Final = ("debug", "info", "warning", "error")
_SECRET: Final = re.compile(r"pass(word|wd)?$|passphrase|secret|token|authorization|api_?key|private_?key|credential|cookie", re.IGNORECASE)
_MASK: Final = "***"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PLAIN: Final = re.compile(r"[^\s\"=]+")


class Log:
    """Call it: `log("input_opened", topic="metrics", partitions=3)`. `bind` gives one that adds fields to every line.

    Args:
        clock: where the time of a line comes from.
        stream: where lines go; standard error unless told otherwise, because standard output belongs to commands' results.
        as_json: JSON lines, else `12:00:00.123 info input_opened topic=metrics`.
        level: the lowest level written.
        secrets: values that must never appear.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        stream: TextIO | None = None,
        as_json: bool = False,
        level: str = "info",
        secrets: Iterable[str] = (),
        bound: Mapping[str, Any] | None = None,
    ) -> None:
        if level not in LEVELS:
            raise ValueError(f"no log level {level!r} (levels: {', '.join(LEVELS)})")
        self._clock, self._stream, self._as_json, self._level = clock, stream, as_json, level
        self._secrets = tuple(sorted({value for value in secrets if len(value) >= 4}, key=len, reverse=True))
        self._bound = dict(bound or {})

    def __call__(self, event: str, /, *, level: str = "info", **fields: Any) -> None:
        """Write one line."""
        if LEVELS.index(level) < LEVELS.index(self._level):
            return
        line = self._line(event, level, {name: _safe(name, value) for name, value in (self._bound | fields).items()})
        for secret in self._secrets:
            line = line.replace(secret, _MASK)
        stream = self._stream if self._stream is not None else sys.stderr
        stream.write(line + "\n")
        stream.flush()

    def debug(self, event: str, /, **fields: Any) -> None:
        """A line for development."""
        self(event, level="debug", **fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        """A line somebody should read."""
        self(event, level="warning", **fields)

    def error(self, event: str, /, **fields: Any) -> None:
        """A line about something that failed."""
        self(event, level="error", **fields)

    def bind(self, **fields: Any) -> Log:
        """The same log, with fields added to every line."""
        return Log(self._clock, stream=self._stream, as_json=self._as_json, level=self._level, secrets=self._secrets, bound=self._bound | fields)

    def _line(self, event: str, level: str, fields: Mapping[str, Any]) -> str:
        moment = _EPOCH + timedelta(milliseconds=self._clock.now_ms())
        if self._as_json:
            head = {"ts": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"), "level": level, "event": event}
            return json.dumps({**fields, **head}, default=str, ensure_ascii=False)
        tail = " ".join(f"{name}={_shown(value)}" for name, value in fields.items())
        return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d} {level:<7} {event} {tail}".rstrip()


class LogHandler(logging.Handler):
    """Takes what libraries say through `logging` and writes it as lines of a `Log`."""

    def __init__(self, log: Log, level: int = logging.WARNING) -> None:
        super().__init__(level)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write a library's message."""
        fields: dict[str, Any] = {"logger": record.name, "message": record.getMessage()}
        if record.exc_info and record.exc_info[1] is not None:
            fields["error"] = repr(record.exc_info[1])
        name = "error" if record.levelno >= logging.ERROR else "warning" if record.levelno >= logging.WARNING else "info"
        self._log("library", level="debug" if record.levelno < logging.INFO else name, **fields)


def _safe(name: str, value: Any) -> Any:
    if _SECRET.search(name) and value not in (None, "", True, False):
        return _MASK
    if isinstance(value, Mapping):
        return {key: _safe(str(key), item) for key, item in value.items()}
    return value


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)

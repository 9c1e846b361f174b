"""What the parts log, as lines of the structured log: the message is the event's name, `extra` its fields."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Final

from pipeline.rulebook.config_spec import Config
from pipeline.runtime.clock import SystemClock
from pipeline.telemetry import Log, LogHandler

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class EventHandler(logging.Handler):
    """For our own loggers; libraries go through `LogHandler`."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.INFO)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one event."""
        fields: dict[str, Any] = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info and record.exc_info[1] is not None:
            fields["error"] = repr(record.exc_info[1])
            if record.levelno >= logging.ERROR:
                fields["trace"] = logging.Formatter().formatException(record.exc_info)
        level = "error" if record.levelno >= logging.ERROR else "warning" if record.levelno >= logging.WARNING else "info"
        self._log(record.getMessage(), level=level, **fields)


def open_log(config: Config, log_format: str) -> Log:
    """Route `logging` into one structured log on standard error; secrets of the configuration never appear in it."""
    log = Log(SystemClock(), as_json=log_format == "json", secrets=_secrets(config.model_dump()))
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.handlers[:] = [LogHandler(log)]
    for name in ("pipeline", "reflexarc", "connectors"):
        own = logging.getLogger(name)
        own.handlers[:] = [EventHandler(log)]
        own.propagate = False
    return log


def _secrets(value: Any) -> Iterator[str]:
    if hasattr(value, "get_secret_value"):
        yield str(value.get_secret_value())
    elif isinstance(value, dict):
        for item in value.values():
            yield from _secrets(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secrets(item)

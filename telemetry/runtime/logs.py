"""Log lines: for people on a terminal, JSON objects everywhere else."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final

import orjson

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}

LOG_FIELDS: Final[ContextVar[Mapping[str, object]]] = ContextVar("log fields", default=MappingProxyType({}))
"""More fields of each log line of a task and those that it starts, such as which request it is about."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line; whatever was passed as ``extra`` becomes a field."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields.update(LOG_FIELDS.get())
        fields.update((name, value) for name, value in record.__dict__.items() if name not in _STANDARD)
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(fields, default=str).decode()


class TerminalFormatter(logging.Formatter):
    """Time, level, message, and the extra fields as ``name=value``."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {**LOG_FIELDS.get(), **record.__dict__}
        extra = "".join(f" {name}={value}" for name, value in fields.items() if name not in _STANDARD)
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{clock} {record.levelname:<7} {record.getMessage()}{extra}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure_logging(process: str, level: str = "info") -> None:
    """Send log lines to standard error: JSON unless that is a terminal."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TerminalFormatter() if sys.stderr.isatty() else JsonFormatter(process))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)

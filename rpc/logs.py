"""Logging for every process: console lines or JSON, both with the request id."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

from rpc import context

LogFormat = Literal["console", "json"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "request_id", "taskName"}


def configure(process: str, level: str = "INFO", log_format: LogFormat = "console") -> None:
    """Write all log records to standard error. `process` is the name of this process in each of them."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(process) if log_format == "json" else ConsoleFormatter(process))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    # No format uses these, and they cost time for each record.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


class _Clock:
    """The time of day of records. The part up to the second is formatted once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def text(self, created: float) -> str:
        """`12:00:01.234` for Unix seconds."""
        second = int(created)
        if second != self._second:
            self._text = datetime.fromtimestamp(second).strftime("%H:%M:%S")
            self._second = second
        return f"{self._text}.{int((created - second) * 1000):03d}"


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """The fields that the caller passed as `extra`, and the request id."""
    fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    if request_id := context.request_id.get():
        fields["request_id"] = request_id
    return fields


class ConsoleFormatter(logging.Formatter):
    """`12:00:01.234 INFO  posts      task created  task_id=… request_id=…`."""

    def __init__(self, process: str) -> None:
        """`process` is the name of the process in each line."""
        super().__init__()
        self._process = process
        self._clock = _Clock()

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, followed by its traceback, if it has one."""
        line = f"{self._clock.text(record.created)} {record.levelname:<7} {self._process:<9} {record.getMessage()}"
        for key, value in _fields(record).items():
            line += f" {key}={value}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object for each line: time, level, process, logger, message, extra fields, exception."""

    def __init__(self, process: str) -> None:
        """`process` is the name of the process in each line."""
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)

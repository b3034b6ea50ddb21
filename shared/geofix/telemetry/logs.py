"""Log lines: text for a terminal, JSON for machines; one line a record, whatever is in it."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Literal

from geofix.telemetry.spans import current_ids

Format = Literal["auto", "text", "json"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configure_logs(service: str, log_format: Format, level: str) -> None:
    """Send the log of this process to standard error; `auto` is text on a terminal and JSON elsewhere."""
    handler = logging.StreamHandler(sys.stderr)
    text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    handler.setFormatter(TextFormatter() if text else JsonFormatter(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)


class TextFormatter(logging.Formatter):
    """Time, level, logger, message and trace id. Control characters are written as escapes, so that no value makes a line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """The first line of a record."""
        line = _CONTROL.sub(_escape, super().formatMessage(record))
        ids = current_ids()
        return f"{line} trace_id={ids[0]}" if ids else line

    def formatException(self, ei: object) -> str:  # noqa: N802  # logging's name
        """The traceback, indented: an exception's text can look like anything, but not like a record."""
        lines = super().formatException(ei).splitlines()  # type: ignore[arg-type]
        return "\n".join("  | " + _CONTROL.sub(_escape, line) for line in lines)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, service, message.

    Beside them, where there is one: trace_id, span_id, exception.
    """

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "service": self._service,
            "message": record.getMessage(),
        }
        ids = current_ids()
        if ids:
            entry["trace_id"], entry["span_id"] = ids
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)  # ASCII: every control character and every line separator is an escape


def _escape(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode()

"""Logging to stderr: one event, one line, as text with key=value or as JSON; and a gate against floods.

Nothing is configured at import; a main calls `configure` once. Everybody else takes
`logging.getLogger("pipeline.<part>")` and calls `event`.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Mapping
from datetime import datetime, timezone

# A field may be what a client sent: a log must not grow by megabytes for one bad frame.
_LONGEST_FIELD = 4000
# What is called so is nobody's business, whoever logs it.
_SECRET = ("authorization", "cookie", "password", "secret", "token")
_json = json.JSONEncoder(separators=(",", ":")).encode
_NAMES = {10: "DEBUG", 20: "INFO", 30: "WARN", 40: "ERROR", 50: "FATAL"}


class LineFormatter(logging.Formatter):
    """Formats every record, with its stack trace if any, as exactly one line of printable text."""

    def format(self, record: logging.LogRecord) -> str:
        """`2026-11-21T08:00:00.123Z INFO  pipeline.fleet worker joined worker=abc`."""
        line = f"{_moment(record)} {_level(record):5} {record.name} {record.getMessage()}"
        if record.exc_info:
            line += f" trace={_quoted(self.formatException(record.exc_info))}"
        return _printable(line)


class JsonFormatter(logging.Formatter):
    """Formats every record as one JSON object in ASCII: `time`, `level`, `logger`, `event`, then its fields;
    a stack trace is one of them."""

    def format(self, record: logging.LogRecord) -> str:
        """`{"time":"2026-11-21T08:00:00.123Z","level":"INFO","logger":"pipeline.fleet",…}`."""
        told = record.msg if isinstance(record.msg, _Told) else _Told(record.getMessage(), {})
        line: dict[str, object] = {
            "time": _moment(record), "level": _level(record), "logger": record.name, "event": told.text,
        }  # fmt: skip
        for name, value in _discreet(told.fields).items():
            line.setdefault(name, _plain(value))
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return _json(line)


FORMATS: dict[str, type[logging.Formatter]] = {"text": LineFormatter, "json": JsonFormatter}


def configure(level: str, style: str = "text") -> None:
    """Send what `pipeline.*` logs at `level` (debug, info, warning, error) or above to stderr, and
    warnings of everything else, in one of `FORMATS`. Calling it again replaces what the last call set up."""
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each.formatter, tuple(FORMATS.values()))]:
        root.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATS[style]())
    root.addHandler(handler)
    set_level(level)


def set_up() -> tuple[str, str]:
    """What `configure` was told, or would have to be, for a process that logs as this one does."""
    level = logging.getLevelName(logging.getLogger("pipeline").getEffectiveLevel()).lower()
    formatters = [type(handler.formatter) for handler in logging.getLogger().handlers]
    style = next((name for name, kind in FORMATS.items() if kind in formatters), "text")
    return level, style


def set_level(level: str) -> None:
    """Log at another level from now on."""
    ours = logging.getLevelName(level.upper())
    if not isinstance(ours, int):
        raise ValueError(f"{level!r} is not a log level: use debug, info, warning or error")
    logging.getLogger().setLevel(max(ours, logging.WARNING))
    logging.getLogger("pipeline").setLevel(ours)


def event(logger: logging.Logger, level: int, text: str, /, **fields: object) -> None:
    """Log `text` and its fields as `text key=value …`; quoted where they could be misread. What a field's
    name calls a secret is left out."""
    if logger.isEnabledFor(level):
        logger.log(level, _Told(text, fields), stacklevel=2)


class _Told:
    """What an event says: a record's message, which each format writes in its own way."""

    __slots__ = ("fields", "text")

    def __init__(self, text: str, fields: dict[str, object]) -> None:
        self.text = text
        self.fields = fields

    def __str__(self) -> str:
        fields = _discreet(self.fields)
        return " ".join([self.text, *(f"{name}={_value(value)}" for name, value in fields.items())])


class OncePer:
    """Lets one event per key through every so many seconds, in bounded memory.

    At most `max_keys` keys are remembered. When all of these are fresh, the keys beyond them share one
    gate, so that a flood of keys never met before (random addresses, say) is held back as well.
    """

    def __init__(self, seconds: float, *, max_keys: int = 1024) -> None:
        self._seconds = seconds
        self._max_keys = max_keys
        self._gates: dict[str, _Gate] = {}  # the least recently opened first
        self._others = _Gate()

    def allow(self, key: str, now: float) -> int | None:
        """How many of this key were swallowed since the last one let through, or None: swallow this too."""
        gate = self._gates.get(key) or self._new_gate(key, now)
        if gate.opened is not None and now - gate.opened < self._seconds:
            gate.swallowed += 1
            return None
        swallowed, gate.swallowed, gate.opened = gate.swallowed, 0, now
        if key in self._gates:
            self._gates[key] = self._gates.pop(key)
        return swallowed

    def _new_gate(self, key: str, now: float) -> _Gate:
        if len(self._gates) >= self._max_keys:
            oldest = next(iter(self._gates))
            opened = self._gates[oldest].opened
            if opened is not None and now - opened < self._seconds:
                return self._others
            del self._gates[oldest]
        return self._gates.setdefault(key, _Gate())


class _Gate:
    __slots__ = ("opened", "swallowed")

    def __init__(self) -> None:
        self.opened: float | None = None
        self.swallowed = 0


def _moment(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, timezone.utc).replace(tzinfo=None)
    return f"{moment.isoformat(timespec='milliseconds')}Z"


def _level(record: logging.LogRecord) -> str:
    return _NAMES.get(record.levelno, record.levelname)


def _discreet(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: "…" if any(each in name for each in _SECRET) else value for name, value in fields.items()}


def _text(value: object) -> str:
    text = f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value)
    return text[:_LONGEST_FIELD] + "…" if len(text) > _LONGEST_FIELD else text


def _plain(value: object) -> object:
    """What JSON has a form of as that, and everything else as text."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else str(value)
    return value if value is None or type(value) in (bool, int) else _text(value)


def _value(value: object) -> str:
    text = _text(round(value, 6) if isinstance(value, float) else value)
    bare = text and text.isprintable() and not any(each in text for each in ' "=\\')
    return text if bare else _quoted(text)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_printable(escaped)}"'


def _printable(text: str) -> str:
    """Escapes line ends, terminal codes, lone surrogates and whatever else is no printable character."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text
    )

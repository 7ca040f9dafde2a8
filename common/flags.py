"""Options: the fields of a dataclass that flags, variables and files fill, and the kinds of their values.

Which settings there are, `settings` says; how they are read, `reading`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, fields
from typing import Any, NamedTuple

from common.addresses import parse_address, parse_host_port, parse_link_base

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_SIZE = re.compile(r"([0-9]{1,12}) ?(?:([kmgt])(?:ib)?)?", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9._:@-]{1,64}")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,510}")
_PATTERN = re.compile(r"[\w.*?\[\]-]{1,200}")
_HTTP_URL = re.compile(r"https?://[\w.:\[\]-]+(/[^\s?#]*)?")
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_BOOLS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}

# In the order of the help; a setting names the one that it is in.
GROUPS = (
    "addresses", "security", "workers", "manager", "autoscaler", "models", "state", "limits", "jobs",
    "observing", "process",
)  # fmt: skip


DEEPEST = 512  # what the interpreter of every version takes, with our own calls around it


class Kind(NamedTuple):
    """A kind of value: `parse` makes one of text, `check` refuses nonsense, `show` writes it for the help.

    The first two raise `ValueError` with the end of a sentence that begins with the setting's name.
    """

    metavar: str
    parse: Callable[[str], Any]
    check: Callable[[Any], object]
    show: Callable[[Any], str] = str


class Option(NamedTuple):
    """What is known of a setting beside its name and default; one without `help` is not shown."""

    kind: Kind
    group: str
    help: str
    excludes: str
    variable: str
    bare: str | None  # the value of the flag alone


def option(
    default: Any,
    kind: Kind,
    group: str,
    help: str,
    *,
    excludes: str = "",
    variable: str = "",
    bare: str | None = None,
) -> Any:
    """A dataclass field that is a setting; `excludes` names another that cannot be given together with it,
    `variable` what its variable is called where the flag's name would mean something else to another process,
    `bare` is what the flag means without a value, where it may have none."""
    return field(default=default, metadata={"option": Option(kind, group, help, excludes, variable, bare)})


def parse_size(text: str) -> int:
    """Bytes, of text like 1000, 512k, 64M, 1G or 8 MiB; every unit is a power of 1,024."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"must be a size like 1000000, 512k, 64M or 1GiB, not {text!r}")
    return int(match[1]) * _UNITS[(match[2] or "").lower()]


def _show_size(size: int) -> str:
    units = [unit for unit, factor in _UNITS.items() if size % factor == 0]
    return f"{size // _UNITS[units[-1]]} {units[-1].upper()}iB" if units[-1] else str(size)


def _parse_whole(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"must be a whole number, not {text!r}")
    return int(text)


def _parse_seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"must be a number of seconds, not {text!r}") from None


def _parse_amount(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"must be a number, not {text!r}") from None


def _check_amount(value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"must be 0 or more and finite, not {value:g}")


def _check_http_url(value: str) -> None:
    if not _HTTP_URL.fullmatch(value):
        raise ValueError(f"must be a URL like http://127.0.0.1:4318, not {value!r}")


def _check_rate(value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"must be from 0 (none) to 1 (all), not {value:g}")


def _parse_amounts(text: str) -> dict[str, float]:
    amounts = {}
    for each in text.split(","):
        name, separator, amount = (part.strip() for part in each.partition("="))
        if not name or not separator:
            raise ValueError(f"must be NAME=N, with commas between, not {text!r}")
        amounts[name] = _parse_amount(amount)
    return amounts


def _check_amounts(amounts: Mapping[str, float]) -> None:
    for amount in amounts.values():
        _check_amount(amount)


def _parse_bool(text: str) -> bool:
    if text.lower() not in _BOOLS:
        raise ValueError(f"must be one of {', '.join(_BOOLS)}, not {text!r}")
    return _BOOLS[text.lower()]


def _parse_patterns(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.split(","))


def _check_patterns(patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        if not _PATTERN.fullmatch(pattern):
            raise ValueError(
                f"must be names, with * and ? in them or not, and commas between, not {pattern!r}"
            )


def _check_origins(origins: tuple[str, ...]) -> None:
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(
                "must be origins as browsers write them, https://app.example.com, with commas between,"
                f" not {origin!r}"
            )


def _at_least(least: int) -> Callable[[int], None]:
    def check(value: int) -> None:
        if value < least:
            raise ValueError(f"must be {least} or more, not {value}")

    return check


def _among(*choices: str) -> Callable[[str], None]:
    def check(value: str) -> None:
        if value not in choices:
            raise ValueError(f"must be {', '.join(choices[:-1])} or {choices[-1]}, not {value!r}")

    return check


def _check_seconds(value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"must be more than 0 seconds and finite, not {value}")


def _check_seconds_or_zero(value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"must be 0 seconds or more and finite, not {value}")


def _check_depth(value: int) -> None:
    if not 1 <= value <= DEEPEST:
        raise ValueError(f"must be a whole number from 1 to {DEEPEST}, not {value}")


def _check_name(value: str) -> None:
    if not _NAME.fullmatch(value):
        raise ValueError(f"must be up to 64 letters, digits and . _ : @ - without spaces, not {value!r}")


def _check_host(value: str) -> None:
    try:
        parse_host_port(f"{value}:1")
    except ValueError:
        raise ValueError(f"must be a host without a port, an IPv6 address in [], not {value!r}") from None


def _check_image(value: str) -> None:
    if not _IMAGE.fullmatch(value):
        raise ValueError(f"must be an image, as in registry.example.com/pipeline:0.1.0, not {value!r}")


def _check_path(value: str) -> None:
    if not value or "\0" in value:
        raise ValueError(f"must be a path, not {value!r}")


def _parsed_by(parse: Callable[[str], object]) -> Callable[[str], None]:
    def check(value: str) -> None:
        try:
            parse(value)
        except ValueError as error:
            raise ValueError(f"cannot be used: {error}") from None

    return check


FLAG = Kind("", _parse_bool, bool)
COUNT = Kind("N", _parse_whole, _at_least(1))
COUNT_OR_ZERO = Kind("N", _parse_whole, _at_least(0))
DEPTH = Kind("N", _parse_whole, _check_depth)
BYTES = Kind("SIZE", parse_size, _at_least(1), _show_size)
SECONDS = Kind("SECONDS", _parse_seconds, _check_seconds)
SECONDS_OR_ZERO = Kind("SECONDS", _parse_seconds, _check_seconds_or_zero)
AMOUNT = Kind("N", _parse_amount, _check_amount)
AMOUNTS = Kind("NAME=N,…", _parse_amounts, _check_amounts)
IMAGE = Kind("IMAGE", str, _check_image)
HOST = Kind("HOST", str, _check_host)
HOST_PORT = Kind("HOST:PORT", str, _parsed_by(parse_host_port))
SERVICE = Kind("URL", str, _parsed_by(parse_address))
LINKS = Kind("URL", str, _parsed_by(parse_link_base))
SECRET = Kind("SECRET", str, bool, lambda _: "…")
PATH = Kind("PATH", str, _check_path)
WORKER = Kind("NAME", str, _check_name)
PATTERNS = Kind("PATTERN,…", _parse_patterns, _check_patterns, ",".join)
ORIGINS = Kind("ORIGIN,…", _parse_patterns, _check_origins, ",".join)
DEVICE = Kind("DEVICE", str.lower, _among("cpu", "cuda", "auto"))
LAUNCHER = Kind("NAME", str.lower, _among("local", "ray", "kubernetes"))
LEVEL = Kind("LEVEL", str.lower, _among("debug", "info", "warning", "error"))
HTTP_URL = Kind("URL", str, _check_http_url)
LOG_FORMAT = Kind("FORMAT", str.lower, _among("text", "json"))
RATE = Kind("RATE", _parse_amount, _check_rate)


class SettingsError(ValueError):
    """Raised when settings cannot be used; `mistakes` holds every sentence, the message the first."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__(mistakes[0])
        self.mistakes = mistakes


def find_mistakes(settings: Any) -> Iterator[str]:
    """A sentence for each value that makes no sense by itself."""
    for name, each in options_of(type(settings)).items():
        value = getattr(settings, name)
        try:
            if value is not None:
                each.kind.check(value)
        except ValueError as error:
            yield f"{flag_of(name)} {error}"


def options_of(cls: type[Any]) -> dict[str, Option]:
    """Every setting of a process, by its field."""
    return {each.name: each.metadata["option"] for each in fields(cls)}


def flag_of(name: str) -> str:
    """How a command line has it."""
    return f"--{name}"


def variable_of(name: str) -> str:
    """How the environment has it."""
    return f"PIPELINE_{name.upper()}"

"""The settings of each process, and how flags and the environment fill them.

A field of a dataclass here is all there is to say of a setting: its flag, its variable, its help and its
check. Only `main(argv)` reads settings; everything else is given the values it needs.
"""

from __future__ import annotations

import argparse
import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from common.addresses import is_loopback_host, parse_address, parse_host_port, parse_link_base

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_SIZE = re.compile(r"([0-9]{1,12}) ?(?:([kmgt])(?:ib)?)?", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9._:@-]{1,64}")
_PATTERN = re.compile(r"[\w.*?\[\]-]{1,200}")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_BOOLS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


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


def _check_name(value: str) -> None:
    if not _NAME.fullmatch(value):
        raise ValueError(f"must be up to 64 letters, digits and . _ : @ - without spaces, not {value!r}")


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


_FLAG = Kind("", _parse_bool, bool)
_COUNT = Kind("N", _parse_whole, _at_least(1))
_COUNT_OR_ZERO = Kind("N", _parse_whole, _at_least(0))
_BYTES = Kind("SIZE", parse_size, _at_least(1), _show_size)
_SECONDS = Kind("SECONDS", _parse_seconds, _check_seconds)
_HOST_PORT = Kind("HOST:PORT", str, _parsed_by(parse_host_port))
_SERVICE = Kind("URL", str, _parsed_by(parse_address))
_LINKS = Kind("URL", str, _parsed_by(parse_link_base))
_PATH = Kind("PATH", str, _check_path)
_WORKER = Kind("NAME", str, _check_name)
_PATTERNS = Kind("PATTERN,…", _parse_patterns, _check_patterns, ",".join)
_DEVICE = Kind("DEVICE", str.lower, _among("cpu", "cuda", "auto"))
_LEVEL = Kind("LEVEL", str.lower, _among("debug", "info", "warning", "error"))


@dataclass(frozen=True, kw_only=True)
class FleetSettings:
    """What the gateway and the worker are both told."""

    addr_service: str = option(
        "ws://127.0.0.1:54000", _SERVICE, "addresses", "control plane: the gateway listens, workers dial"
    )
    addr_worker: str = option(
        "ws://127.0.0.1:54001", _LINKS, "addresses", "data plane; both take ws, wss, tcp, tls+tcp, ipc"
    )
    threads: int | None = option(None, _COUNT, "workers", "torch threads (default: cores / local workers)")
    cache_size: int = option(10_000, _COUNT_OR_ZERO, "workers", "rows in the prediction cache, 0 for none")
    memory_mb: int | None = option(
        None, _COUNT, "workers", "MiB for loaded models, the unused make room (default: no limit)"
    )
    device: str = option("auto", _DEVICE, "workers", "cpu, cuda, or auto: cuda where there is one")
    allow_pickle: bool = option(False, _FLAG, "models", "load pickle and joblib files, which run code")
    allow_code: tuple[str, ...] = option(
        (), _PATTERNS, "models", "modules that models may name, as module:name: my_nets or shop.*"
    )
    trusted: tuple[str, ...] = option((), _PATTERNS, "models", "types that skops may load beside its own")
    log_level: str = option("info", _LEVEL, "process", "debug, info, warning or error")

    def __post_init__(self) -> None:
        for name, each in _options(type(self)).items():
            value = getattr(self, name)
            try:
                if value is not None:
                    each.kind.check(value)
            except ValueError as error:
                raise ValueError(f"{_flag(name)} {error}") from None


@dataclass(frozen=True, kw_only=True)
class GatewaySettings(FleetSettings):
    """What `gw.py` is told. An address that others can reach takes `insecure`."""

    addr_rest: str = option("127.0.0.1:54321", _HOST_PORT, "addresses", "where clients come; port 0: any")
    addr_grpc: str | None = option(
        None, _HOST_PORT, "addresses", "where gRPC clients come; alone: 127.0.0.1:8001", bare="127.0.0.1:8001"
    )
    insecure: bool = option(
        False, _FLAG, "addresses", "listen where others can reach it, use it and replace the weights"
    )
    workers: int = option(0, _COUNT_OR_ZERO, "workers", "local workers to start")
    models: str | None = option(
        None, _PATH, "models", "folder of models to serve: NAME/VERSION/model.*", variable="models_dir"
    )
    watch: bool = option(False, _FLAG, "models", "follow changes in the folder of models")
    state: str = option("./state", _PATH, "state", "folder that remembers weights and versions")
    ephemeral: bool = option(False, _FLAG, "state", "remember nothing after the end", excludes="state")
    queue_max: int = option(10_000, _COUNT, "limits", "requests that may wait; more get 503")
    timeout: float = option(30.0, _SECONDS, "limits", "deadline of a request that names none, in seconds")
    max_body: int = option(8 << 20, _BYTES, "limits", "largest request body, weights apart")
    max_upload: int = option(1 << 30, _BYTES, "limits", "largest upload of weights")
    max_rows: int = option(65_536, _COUNT, "limits", "most rows in one request")
    jobs_max: int = option(1000, _COUNT, "jobs", "jobs that may be unfinished; more get 503")
    batch_root: str | None = option(None, _PATH, "jobs", "folder whose files batch jobs may read and write")
    webhook_hosts: tuple[str, ...] = option(
        (), _PATTERNS, "jobs", "hosts that callback_url may go to: hooks.example.com or *.example.com"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.watch and self.models is None:
            raise ValueError("--watch follows a folder of models: give --models too")
        reachable = {
            "addr_rest": not is_loopback_host(parse_host_port(self.addr_rest)[0]),
            "addr_grpc": self.addr_grpc is not None
            and not is_loopback_host(parse_host_port(self.addr_grpc)[0]),
            "addr_service": not parse_address(self.addr_service).is_loopback,
            "addr_worker": not parse_address(self.addr_worker).is_loopback,
        }
        for name, is_reachable in reachable.items():
            if is_reachable and not self.insecure:
                raise ValueError(
                    f"--{name} {getattr(self, name)} can be reached from other machines, and anybody who"
                    " reaches it can use it and replace the weights: give --insecure if that is what you want"
                )

    @property
    def state_directory(self) -> Path | None:
        """Where the state is kept; None for nowhere."""
        return None if self.ephemeral else Path(self.state)


@dataclass(frozen=True, kw_only=True)
class WorkerSettings(FleetSettings):
    """What `worker.py` is told. It only dials, so no address is too open for it."""

    models: tuple[str, ...] = option(
        (),
        _PATTERNS,
        "models",
        "patterns of the models to hold: iris,text-* (default: all)",
        variable="worker_models",
    )
    name: str | None = option(None, _WORKER, "process", "what people call it (default: host name and pid)")
    check: str | None = option(None, _PATH, "process", "say whether this weights file would serve, and end")
    exit_with_parent: bool = option(False, _FLAG, "process", "")


_Settings = TypeVar("_Settings", bound=FleetSettings)


def read_settings(
    cls: type[_Settings], argv: Sequence[str], environ: Mapping[str, str], *, prog: str, description: str
) -> _Settings:
    """The settings that flags (without the program's name) and `PIPELINE_*` variables give; flags win.

    Ends the process as argparse does: status 0 after `-h`, 2 with a sentence on stderr for what is unknown
    or nonsense. An empty variable counts as none.
    """
    parser = _parser(cls, prog=prog, description=description)
    given, unknown = parser.parse_known_args([_with_underscores(each) for each in argv])
    try:
        _refuse_unknown("argument", unknown, list(_options(cls)), _flag)
        _refuse_unknown_variables(environ)
        return cls(**_values(cls, vars(given), environ))
    except ValueError as error:
        parser.error(str(error))


def _options(cls: type[FleetSettings]) -> dict[str, Option]:
    return {each.name: each.metadata["option"] for each in fields(cls)}


def _flag(name: str) -> str:
    return f"--{name}"


def _variable(name: str) -> str:
    return f"PIPELINE_{name.upper()}"


def _with_underscores(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    flag, equals, value = argument[2:].partition("=")
    return f"--{flag.replace('-', '_')}{equals}{value}"


def _parser(cls: type[FleetSettings], *, prog: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog="Flags are taken with dashes too. Each may come from the variable in brackets; the flag wins.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    options = _options(cls)
    defaults = {each.name: each.default for each in fields(cls)}
    for title in ("addresses", "workers", "models", "state", "limits", "jobs", "process"):
        group = parser.add_argument_group(title)
        for name, each in options.items():
            if each.group != title:
                continue
            help = _help(name, each, defaults[name]) if each.help else argparse.SUPPRESS
            if each.kind is _FLAG:
                group.add_argument(_flag(name), action="store_const", const="1", help=help)
            else:
                may_be_bare: dict[str, Any] = {} if each.bare is None else {"nargs": "?", "const": each.bare}
                group.add_argument(_flag(name), metavar=each.kind.metavar, help=help, **may_be_bare)
    return parser


def _help(name: str, each: Option, default: object) -> str:
    shown = f" (default: {each.kind.show(default)})" if default not in (None, False, ()) else ""
    return f"{each.help}{shown} [{_variable(each.variable or name)}]".replace("%", "%%")


def _refuse_unknown_variables(environ: Mapping[str, str]) -> None:
    """Both processes may see one environment: each knows the other's variables too."""
    options = [pair for cls in (GatewaySettings, WorkerSettings) for pair in _options(cls).items()]
    names = [each.variable or name for name, each in options]
    if environ.get(_variable("models")):
        raise ValueError(
            f"{_variable('models')} could mean two things: give {_variable('models_dir')} for the gateway's"
            f" folder of models, {_variable('worker_models')} for the names of the models that a worker holds"
        )
    known = {_variable(name) for name in [*names, "url", "models"]}  # the curl scripts take PIPELINE_URL
    strange = [each for each in environ if each.startswith(_variable("")) and each not in known]
    _refuse_unknown("environment variable", strange, names, _variable)


def _refuse_unknown(
    what: str, unknown: Iterable[str], names: Sequence[str], spell: Callable[[str], str]
) -> None:
    for each in unknown:
        bare = each.partition("=")[0].lower().removeprefix(_flag("")).removeprefix(_variable("").lower())
        near = difflib.get_close_matches(bare, names, n=1)
        raise ValueError(f"unknown {what} {each}" + (f": did you mean {spell(near[0])}?" if near else ""))


def _values(cls: type[FleetSettings], given: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, each in _options(cls).items():
        variable = _variable(each.variable or name)
        text = given.get(name) if name in given else environ.get(variable) or None
        if text is None:
            continue
        sources[name] = _flag(name) if name in given else variable
        try:
            values[name] = each.kind.parse(text)
            each.kind.check(values[name])
        except ValueError as error:
            raise ValueError(f"{sources[name]} {error}") from None
    for name, each in _options(cls).items():
        if values.get(name) and each.excludes in values:
            raise ValueError(
                f"{sources[name]} cannot be given together with {sources[each.excludes]}: leave one out"
            )
    return values

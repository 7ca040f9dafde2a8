"""`pipeline config`: files of settings, before a gateway or a worker is started by them. Asks nobody."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from cli.asked import Asked
from cli.failure import EXIT_REFUSED, EXIT_USAGE, Failure
from cli.parser import Tree
from common.flags import GROUPS, SettingsError, options_of
from common.reading import Read, parse_argv, read_values
from common.reloading import shown
from common.settings import FAMILY, GatewaySettings, WorkerSettings

PROGRAMS: dict[str, type[Any]] = {"gw.py": GatewaySettings, "worker.py": WorkerSettings}


def add(tree: Tree) -> None:
    """`config` and what it can do."""
    config = tree.branch("config", "files of settings: check, show")
    parser = config.leaf("check", "say what is wrong with a file, all of it", check, has_tables=False)
    parser.add_argument("file")
    _add_program(parser)
    parser.add_argument(
        "--deploy", action="store_true", help="it is for gw.py deploy, and may hold a table [model]"
    )
    parser = config.leaf(
        "show", "the values that count, and where each came from", show,
        epilog="Flags of the program may follow behind --: pipeline config show -- --queue_max 5",
    )  # fmt: skip
    parser.add_argument("flag", nargs="*", help="flags of the program, behind --")
    parser.add_argument("--config", metavar="FILE", help="the file (default: what PIPELINE_CONFIG names)")
    parser.add_argument("--changed", action="store_true", help="only what is not as by default")
    _add_program(parser)


def _add_program(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--program", choices=PROGRAMS, default="gw.py", help="whose settings they are (default: gw.py)"
    )


def check(asked: Asked) -> int:
    """0 where nothing is wrong; else 1, and a sentence for every mistake."""
    given = asked.arguments
    mistakes = _mistakes(given)
    if asked.output.is_json:
        asked.output.json({"file": given.file, "mistakes": mistakes})
    elif mistakes:
        raise Failure("\npipeline: ".join(mistakes))
    else:
        print(f"{given.file}: nothing is wrong with it")
    return EXIT_REFUSED if mistakes else 0


def _mistakes(given: argparse.Namespace) -> list[str]:
    """What is wrong with a file by itself: the environment and flags are left out."""
    tables = ("model",) if given.deploy else ()
    try:
        read_values(PROGRAMS[given.program], {"config": given.file}, {}, FAMILY, tables)
    except SettingsError as error:
        return error.mistakes
    if not given.deploy:
        return []
    from common.errors import LoadError
    from gateway.deploy.config import read_config

    try:
        read_config(Path(given.file))
    except LoadError as error:
        return str(error).splitlines()
    return []


def show(asked: Asked) -> None:
    """The settings that the program would have, were it started here and now."""
    given = asked.arguments
    cls = PROGRAMS[given.program]
    file = [] if given.config is None else [f"--config={given.config}"]
    flags = parse_argv(cls, [*file, *given.flag], prog=given.program, description="")
    try:
        found = read_values(cls, flags, asked.environ, FAMILY)
    except SettingsError as error:
        raise Failure("\npipeline: ".join(error.mistakes), EXIT_USAGE) from None
    values = effective(cls, found, changed_only=given.changed)
    if asked.output.is_json:
        return asked.output.json(values)
    rows = [
        (each["group"], each["name"], each["shown"], each["from"], each["where"] or None) for each in values
    ]
    return asked.output.table(
        ("group", "setting", "value", "from", "where"), rows, empty="All is as by default."
    )


def effective(cls: type[Any], found: Read[Any], *, changed_only: bool) -> list[dict[str, Any]]:
    """Every setting: its value, and whether the default, a file, the environment or a flag gave it."""
    values = []
    for each in sorted(fields(cls), key=lambda each: GROUPS.index(options_of(cls)[each.name].group)):
        option, given = options_of(cls)[each.name], found.given.get(each.name)
        if option.help and (given is not None or not changed_only):
            value = getattr(found.settings, each.name)
            values.append(
                {
                    "group": option.group,
                    "name": each.name,
                    "value": list(value) if isinstance(value, tuple) else value,
                    "shown": shown(cls, each.name, value),
                    "from": "default" if given is None else given.layer,
                    "where": "" if given is None else given.place or given.where,
                }
            )
    return values

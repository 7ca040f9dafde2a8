"""The command line of `deploy`: its own flags; all others are those of `gw.py`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

from common.settings import GatewaySettings

# Whoever says one of these knows how many workers there should be.
_HOW_MANY = {"workers", "min_workers", "num_init_workers"}


class Command(NamedTuple):
    """What was asked. `flags` are those of `gw.py`; `to` is the gateway to deploy into, None: a new one."""

    model: Path
    config: Path | None
    name: str | None
    to: str | None
    flags: list[str]


def read_command(argv: Sequence[str]) -> Command:
    """What `deploy` was given; ends the process as argparse does where that makes no sense."""
    parser = argparse.ArgumentParser(
        prog="gw.py deploy",
        usage="gw.py deploy MODEL [--config FILE] [--name NAME] [--to URL] [any flag of gw.py]",
        description="Serve a model's file: start a gateway and workers, load it, and say how to ask it.",
        epilog="Every flag of gw.py may follow: see `python gw.py -h`.",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="a model's file, or a folder NAME/VERSION")
    parser.add_argument("--config", metavar="FILE", type=Path, help="its settings, in TOML: docs/deploy.md")
    parser.add_argument("--name", metavar="NAME", help="what to call it (default: its file's name)")
    parser.add_argument("--to", metavar="URL", help="deploy into the gateway that runs there")
    if argv and argv[0].startswith("-") and argv[0] not in ("-h", "--help"):
        parser.error(f"the model comes first: gw.py deploy MODEL {argv[0]} …")
    given, flags = parser.parse_known_args(argv)
    if given.to is not None and flags:
        parser.error(f"with --to the gateway runs already, and takes no {flags[0]}: leave it out")
    return Command(given.model, given.config, given.name, given.to, flags)


def with_a_worker(flags: Sequence[str], environ: Mapping[str, str], named: Iterable[str] = ()) -> list[str]:
    """The flags, with one worker at least, or at first, where nothing says how many there should be; `named`
    are those that a file gives."""
    said = {each.removeprefix("--").partition("=")[0].replace("-", "_") for each in flags}
    said |= {each.name for each in fields(GatewaySettings) if environ.get(f"PIPELINE_{each.name.upper()}")}
    said |= set(named)
    if said & _HOW_MANY:
        return list(flags)
    return [*flags, "--num_init_workers=1" if "scale_to_zero" in said else "--min_workers=1"]

"""`pipeline state`: the folder in which a gateway remembers, looked at and saved without asking anybody.

Nothing of the gateway is imported before it is needed: other commands start faster without.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cli.asked import Asked
from cli.failure import EXIT_LATER, EXIT_REFUSED, Failure
from cli.output import size
from cli.parser import Tree
from common.errors import PipelineError, StateInUse

if TYPE_CHECKING:
    from gateway.recovery.findings import Finding

T = TypeVar("T")
DEFAULT = "./state"  # as gw.py has it


def add(tree: Tree) -> None:
    """`state` and what it can do."""
    state = tree.branch("state", "what a gateway remembers: check, repair, backup")
    parser = state.leaf(
        "check", "say what is wrong with it, all of it; a gateway may run", check, has_tables=False
    )
    _add_folder(parser)
    parser = state.leaf(
        "repair", "save what can be read, while no gateway runs", repair, has_tables=False,
        epilog="What is damaged is kept beside it, under names that end in .damaged- and the time.",
    )  # fmt: skip
    _add_folder(parser)
    parser = state.leaf("backup", "copy it, also while a gateway runs", backup, has_tables=False)
    parser.add_argument("folder", help="a new folder; --state takes it as it is")
    _add_folder(parser)


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state", metavar="FOLDER", help=f"as the gateway was told (default: {DEFAULT}) [PIPELINE_STATE]"
    )


def check(asked: Asked) -> int:
    """0 where nothing is damaged; else 1, and a sentence for every finding."""
    from gateway.recovery.check import check as look

    found = _do(lambda: look(_folder(asked)))
    values = found._asdict() | {"findings": _values(found.findings)}
    if asked.output.is_json:
        asked.output.json(values)
    else:
        for each in found.findings:
            print(f"{each.file}: {each.sentence}")
        counted = f"{found.versions} versions, {found.jobs} jobs, {found.blobs} files of theirs"
        print(f"{found.directory}: {counted}, {_faults(len(found.damage))}", flush=True)
    return EXIT_REFUSED if found.damage else 0


def repair(asked: Asked) -> None:
    """Says what is lost, and where what was damaged is now."""
    from gateway.recovery.repair import repair as mend

    done = _do(lambda: mend(_folder(asked)))
    if asked.output.is_json:
        return asked.output.json(done._asdict())
    if not done.was_damaged:
        return print(f"{done.directory}: nothing is wrong with it", flush=True)
    for each in done.lost:
        print(f"lost: {each}")
    for each in done.kept:
        print(f"kept: {each}")
    return print(f"{done.directory}: {done.versions} versions and {done.jobs} jobs are saved", flush=True)


def backup(asked: Asked) -> int:
    """0 where the copy is whole; 1, and a sentence for every fault that it has from the original."""
    from gateway.recovery.backup import backup as copy

    done = _do(lambda: copy(_folder(asked), Path(asked.arguments.folder)))
    if asked.output.is_json:
        asked.output.json(done._asdict() | {"findings": _values(done.findings)})
    else:
        for each in done.findings:
            print(f"{each.file}: {each.sentence}")
        counted = (
            f"{done.versions} versions, {done.jobs} jobs, {done.blobs} files of theirs, {size(done.size)}"
        )
        print(f"{done.directory}: {counted}, {_faults(len(done.findings))}", flush=True)
    return EXIT_REFUSED if done.findings else 0


def _folder(asked: Asked) -> Path:
    return Path(asked.arguments.state or asked.environ.get("PIPELINE_STATE") or DEFAULT)


def _do(what: Callable[[], T]) -> T:
    try:
        return what()
    except StateInUse as error:
        raise Failure(str(error), EXIT_LATER) from None
    except PipelineError as error:
        raise Failure(str(error)) from None


def _values(findings: list[Finding]) -> list[dict[str, Any]]:
    return [each._asdict() for each in findings]


def _faults(count: int) -> str:
    return {0: "nothing is damaged", 1: "1 thing is damaged"}.get(count, f"{count} things are damaged")

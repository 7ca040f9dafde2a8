"""End to end: what the README shows works, and its tables say what the programs say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.flags import SECRET, options_of
from common.settings import GatewaySettings, WorkerSettings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def flag_table(program: str) -> set[str]:
    """The flags in the first column of a program's table."""
    table = README.split(f"| flag of `{program}` |")[1].split("\n\n")[0]
    first_columns = [row.split("|")[1] for row in table.splitlines()[2:]]
    return set(re.findall(r"--([a-z_]+)", " ".join(first_columns)))


@pytest.mark.parametrize(
    ("program", "settings", "hidden"),
    [("gw.py", GatewaySettings, set()), ("worker.py", WorkerSettings, {"exit_with_parent", "fork_server"})],
)
def test_the_flag_tables_name_every_flag_and_no_other(
    program: str, settings: type[GatewaySettings | WorkerSettings], hidden: set[str]
) -> None:
    flags = {name for name, option in options_of(settings).items() if option.kind is not SECRET}
    assert flag_table(program) == flags - hidden


def test_every_path_in_the_layout_is_there() -> None:
    layout = README.split("## Layout")[1].split("```")[1]
    named = re.findall(r"(?:^|\s)([a-z_0-9]+(?:\.py|/(?:decisions\.md)?))", layout)
    assert "gw.py" in named
    assert "common/" in named
    missing = [name for name in named if not any(ROOT.glob(f"**/{name}"))]
    assert missing == []

"""`pipeline completion`: what a shell needs to complete commands, flags and names."""

from __future__ import annotations

from cli.asked import Asked
from cli.completion import SCRIPTS
from cli.parser import Tree


def add(tree: Tree) -> None:
    """`completion`."""
    parser = tree.leaf(
        "completion", "print what a shell completes by", run, has_tables=False,
        epilog='bash: eval "$(pipeline completion bash)"; zsh: eval "$(pipeline completion zsh)";'
        " fish: pipeline completion fish | source",
    )  # fmt: skip
    parser.add_argument("shell", choices=SCRIPTS)


def run(asked: Asked) -> None:
    """The script."""
    print(SCRIPTS[asked.arguments.shell], end="")

"""One file for each command of `pipeline`; each adds itself to the tree by its `add`."""

from __future__ import annotations

from cli.commands import (
    completion,
    config,
    experiments,
    jobs,
    models,
    predict,
    rollout,
    status,
    top,
    weights,
    workers,
)
from cli.parser import Tree


def add_all(tree: Tree) -> None:
    """Every command, in the order of the help."""
    for each in (
        status, top, predict, models, weights, rollout, experiments, jobs, workers, config, completion,
    ):  # fmt: skip
        each.add(tree)

"""One file for each command of `pipeline`; each adds itself to the tree by its `add`."""

from __future__ import annotations

import argparse

from cli.commands import (
    certs,
    completion,
    config,
    experiments,
    jobs,
    keys,
    models,
    predict,
    rollout,
    state,
    status,
    tokens,
    top,
    weights,
    workers,
)
from cli.parser import Tree, add_common


def make_parser() -> argparse.ArgumentParser:
    """Everything that `pipeline` takes, in the order of the help."""
    parser = argparse.ArgumentParser(
        prog="pipeline",
        description="Ask and tell a Pipeline gateway.",
        epilog="Exit codes: 0 done, 1 refused or failed, 2 makes no sense, 3 no gateway there, 4 not now.",
        allow_abbrev=False,
    )
    add_common(parser)
    tree = Tree(parser)
    for each in (
        status, top, predict, models, weights, rollout, experiments, jobs, workers, state, config, tokens,
        certs, keys, completion,
    ):  # fmt: skip
        each.add(tree)
    return parser

"""`pipeline rollout`: which version of a model answers who names none."""

from __future__ import annotations

from cli.asked import Asked
from cli.commands.weights import PATIENCE, loaded
from cli.parser import Tree


def add(tree: Tree) -> None:
    """`rollout` and what it can do."""
    rollout = tree.branch("rollout", "the active version: show, activate, rollback")
    rollout.leaf("show", "which version answers, and which did before", show).add_argument("model")
    parser = rollout.leaf("activate", "have a version answer who names none", activate, has_tables=False)
    parser.add_argument("model")
    parser.add_argument("version")
    parser = rollout.leaf("rollback", "go back to the version before", rollback, has_tables=False)
    parser.add_argument("model")


def show(asked: Asked) -> None:
    """The versions that count."""
    model = asked.do("GET", "models", asked.arguments.model)
    shown = {
        "model": model["name"],
        "active": model["active"],
        "previous": model["previous"],
        "serving": [each["version"] for each in model["versions"] if each["serves"]],
    }
    if asked.output.is_json:
        return asked.output.json(shown)
    return asked.output.fields(shown.items())


def activate(asked: Asked) -> None:
    """Switch, everywhere or nowhere."""
    given = asked.arguments
    answer = asked.do(
        "POST", "models", given.model, "activate", value={"version": given.version}, patience=PATIENCE
    )
    asked.output.say(
        answer, f"{given.model} version {given.version} answers now: {loaded(answer['workers_count'])}"
    )


def rollback(asked: Asked) -> None:
    """Switch back."""
    model = asked.arguments.model
    answer = asked.do("POST", "models", model, "rollback", patience=PATIENCE)
    active = asked.do("GET", "models", model)["active"]
    asked.output.say({**answer, "active": active}, f"{model} version {active} answers again")

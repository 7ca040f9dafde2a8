"""`pipeline experiments`: traffic split between versions."""

from __future__ import annotations

from typing import Any

from cli.asked import Asked
from cli.commands.weights import PATIENCE
from cli.failure import EXIT_USAGE, Failure
from cli.files import read_value
from cli.output import shown
from cli.parser import Tree


def add(tree: Tree) -> None:
    """`experiments` and what it can do."""
    experiments = tree.branch("experiments", "splits of traffic: list, show, put, promote, end")
    experiments.leaf("list", "every experiment", list_them)
    experiments.leaf("show", "what each arm did, with 95 % intervals", show).add_argument("experiment")
    parser = experiments.leaf("put", "begin an experiment, or change it", put)
    parser.add_argument("experiment")
    parser.add_argument("--model", help="whose traffic is split")
    parser.add_argument(
        "--arm", action="append", default=[], metavar="VERSION=WEIGHT", help="again for each version"
    )
    parser.add_argument("--shadow", action="append", default=[], metavar="VERSION", help="is sent copies")
    parser.add_argument("--sticky", metavar="header:NAME", help="keeps a user in an arm")
    parser.add_argument("--control", metavar="VERSION", help="what the others are compared with")
    parser.add_argument("--plan", metavar="JSON", help="all of it as JSON, or @FILE, instead")
    parser = experiments.leaf("promote", "make an arm the active version, and end the split", promote)
    parser.add_argument("experiment")
    parser.add_argument("--arm", metavar="VERSION", help="which (default: the one canary)")
    experiments.leaf("end", "end the split: the active version answers again", end).add_argument("experiment")


def list_them(asked: Asked) -> None:
    """Every experiment."""
    found = asked.do("GET", "experiments")["experiments"]
    if asked.output.is_json:
        return asked.output.json(found)
    rows = [
        (
            each["name"],
            each["model"],
            each["state"],
            _weights(each["weights"]),
            each["sticky"],
            each["reason"] or None,
        )
        for each in found
    ]
    columns = ("experiment", "model", "state", "weights", "sticky", "why")
    return asked.output.table(columns, rows, empty="There is no experiment.")


def show(asked: Asked) -> None:
    """One, with its figures."""
    _print(asked, asked.do("GET", "experiments", asked.arguments.experiment))


def put(asked: Asked) -> None:
    """Begin or change one."""
    given = asked.arguments
    plan = read_value(given.plan) if given.plan is not None else _plan(asked)
    _print(asked, asked.do("PUT", "experiments", given.experiment, value=plan, patience=PATIENCE))


def promote(asked: Asked) -> None:
    """Its winner becomes the active version."""
    given = asked.arguments
    told = {} if given.arm is None else {"arm": given.arm}
    _print(asked, asked.do("POST", "experiments", given.experiment, "promote", value=told, patience=PATIENCE))


def end(asked: Asked) -> None:
    """It is over, and shows its figures a last time."""
    _print(asked, asked.do("DELETE", "experiments", asked.arguments.experiment))


def _plan(asked: Asked) -> dict[str, Any]:
    given = asked.arguments
    if given.model is None or not given.arm:
        raise Failure("an experiment takes --model and an --arm for each version, or --plan", EXIT_USAGE)
    plan: dict[str, Any] = {"model": given.model, "arms": dict(map(_arm, given.arm))}
    for name, value in (("sticky", given.sticky), ("control", given.control), ("shadows", given.shadow)):
        if value:
            plan[name] = value
    return plan


def _arm(text: str) -> tuple[str, float]:
    version, _, weight = text.rpartition("=")
    try:
        return version, float(weight)
    except ValueError:
        raise Failure(f"an arm is VERSION=WEIGHT, like 2=10, not {text!r}", EXIT_USAGE) from None


def _print(asked: Asked, report: dict[str, Any]) -> None:
    if asked.output.is_json:
        return asked.output.json(report)
    names = ("name", "model", "state", "reason", "promoted", "sticky", "control", "guard")
    asked.output.fields([(name, report[name] or None) for name in names])
    print()
    columns = (
        "arm",
        "weight",
        "share",
        "requests",
        "errors",
        "error rate",
        "mean ms",
        "p95 ms",
        "differs by ms",
    )
    rows = [(name, *_figures(arm)) for name, arm in report["arms"].items()]
    rows += [(f"{name} (shadow)", *_figures(arm)) for name, arm in report["shadows"].items()]
    return asked.output.table(columns, rows)


def _figures(arm: dict[str, Any]) -> tuple[Any, ...]:
    latency, difference = arm["latency_ms"], arm.get("difference")
    share = f"{arm['share']:.1%}" if "share" in arm else None
    return (
        arm.get("weight"), share, arm["requests"], arm["errors"], _estimate(arm["error_rate"]),
        _estimate(latency["mean"]), _estimate(latency["p95"]),
        None if difference is None else _estimate(difference["latency_ms"]),
    )  # fmt: skip


def _estimate(estimate: dict[str, Any]) -> str:
    if estimate["low"] is None:
        return shown(estimate["value"])
    return f"{shown(estimate['value'])} ({shown(estimate['low'])} to {shown(estimate['high'])})"


def _weights(weights: dict[str, float]) -> str:
    return ", ".join(f"{version}: {shown(weight)}" for version, weight in weights.items())

"""`pipeline models`: what there is, uploads, settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cli.asked import Asked
from cli.commands.weights import PATIENCE, loaded
from cli.failure import EXIT_USAGE, Failure
from cli.files import read_bytes, to_send
from cli.output import moment, size
from cli.parser import Tree
from common import toml


def add(tree: Tree) -> None:
    """`models` and what it can do."""
    models = tree.branch("models", "models and their versions: list, show, upload, settings, delete")
    models.leaf("list", "every model that serves", list_them)
    models.leaf("show", "one model: its versions, and who holds them", show).add_argument("model")
    parser = models.leaf("upload", "bring a version's file", upload, has_tables=False)
    parser.add_argument("model")
    parser.add_argument("file", help="its ending may say the format")
    parser.add_argument("--version", help="what it is called (default: the next number)")
    parser.add_argument(
        "--activate", action="store_true", default=None, help="have it answer who names no version"
    )
    parser = models.leaf(
        "settings", "show or change a model's settings", settings, has_tables=False,
        epilog="Values are JSON, or text: max_batch=64 labels='[\"cat\", \"dog\"]' image.size='[224, 224]'."
        " NAME= is the default again.",
    )  # fmt: skip
    parser.add_argument("model")
    parser.add_argument("change", nargs="*", metavar="NAME=VALUE", help="what changes; the rest stays")
    parser.add_argument("--file", metavar="TOML", help="a model.toml: what it leaves out is as by default")
    parser.add_argument(
        "--no_reload", action="store_true", help="leave the versions that are there loaded as they are"
    )
    parser = models.leaf("delete", "forget a version that is not active", delete, has_tables=False)
    parser.add_argument("model")
    parser.add_argument("version")


def list_them(asked: Asked) -> None:
    """Every model."""
    answer = asked.do("GET", "models")
    if asked.output.is_json:
        return asked.output.json(answer["models"])
    rows = [
        (each["name"], each["active"], each["serving"], each["input_type"], each["output_type"])
        for each in answer["models"]
    ]
    columns = ("model", "active", "serving", "takes", "gives")
    return asked.output.table(columns, rows, empty="There is no model: pipeline models upload brings one.")


def show(asked: Asked) -> None:
    """One model."""
    model = asked.do("GET", "models", asked.arguments.model)
    if asked.output.is_json:
        return asked.output.json(model)
    asked.output.fields(
        [
            (name, model[name])
            for name in ("name", "active", "previous", "input_type", "output_type", "settings")
        ]
    )
    print()
    columns = ("version", "active", "serves", "checked", "size", "created", "file", "workers", "refused by")
    return asked.output.table(columns, [_version_row(model, each) for each in model["versions"]])


def _version_row(model: dict[str, Any], each: dict[str, Any]) -> tuple[Any, ...]:
    refused = [f"{worker}: {why}" for worker, why in each["refused"].items()]
    return (
        each["version"], each["version"] == model["active"], each["serves"], each["checked"],
        size(each["size"]), moment(each["created"]), each["file"] or None, each["workers"], refused,
    )  # fmt: skip


def upload(asked: Asked) -> None:
    """A version's file, which every worker tries before any serves it."""
    given = asked.arguments
    file = to_send(Path(given.file))
    version = given.version or _next_version(asked)
    answer = asked.do(
        "PUT", "models", given.model, "versions", version,
        query={"file": file.name, "activate": given.activate}, body=file, patience=PATIENCE,
    )  # fmt: skip
    sentence = f"{given.model} version {version} serves: {loaded(answer['workers_count'])}"
    asked.output.say({**answer, "model": given.model, "version": version}, sentence)


def _next_version(asked: Asked) -> str:
    answer = asked.ask("GET", "models", asked.arguments.model)
    known = answer.value["versions"] if answer.status == 200 else []
    numbers = [
        int(each["version"]) for each in known if each["version"].isascii() and each["version"].isdigit()
    ]
    return str(max([0, *numbers]) + 1)


def settings(asked: Asked) -> None:
    """A merge patch of what was said, or all of a file; without either, what they are."""
    given = asked.arguments
    if given.file is not None and given.change:
        raise Failure("--file gives all settings: leave out NAME=VALUE, or --file", EXIT_USAGE)
    if given.file is None and not given.change:
        return asked.output.json(asked.do("GET", "models", given.model)["settings"])
    told = _patch(given.change) if given.file is None else _toml(given.file)
    answer = asked.do(
        "PATCH" if given.file is None else "PUT", "models", given.model, value=told,
        query={"reload": False if given.no_reload else None}, patience=PATIENCE,
    )  # fmt: skip
    return asked.output.json(answer if asked.output.is_json else answer["settings"])


def delete(asked: Asked) -> None:
    """Forget a version."""
    given = asked.arguments
    answer = asked.do("DELETE", "models", given.model, "versions", given.version)
    asked.output.say(answer, f"{given.model} version {given.version} is forgotten")


def _patch(changes: list[str]) -> dict[str, Any]:
    """The merge patch (RFC 7396) that NAME=VALUE, with dots for what is inside, stand for."""
    patch: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        *outer, last = name.strip().split(".")
        if not equals or not last or not all(outer):
            raise Failure(f"a change is NAME=VALUE, like max_batch=64, not {change!r}", EXIT_USAGE)
        table = patch
        for part in outer:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise Failure(f"{change!r} is inside of what another change sets: leave one out", EXIT_USAGE)
        table[last] = _value(text)
    return patch


def _value(text: str) -> Any:
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _toml(file: str) -> dict[str, Any]:
    try:
        table: dict[str, Any] = toml.loads(read_bytes(file).decode("utf-8-sig"))
    except ValueError as error:  # also what is no UTF-8
        raise Failure(f"{file} is not TOML: {error}", EXIT_USAGE) from None
    return table

"""`pipeline token`: the file of tokens that a gateway reads by `--tokens`. Asks nobody: who may do what, the
file's owner says."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from cli.asked import Asked
from cli.failure import EXIT_USAGE, Failure
from cli.parser import Tree
from common.errors import TokenError
from common.tokens import ROLES, Token, changing, make_token, read_tokens, write_tokens

DAY = 86_400.0


def add(tree: Tree) -> None:
    """`token` and what it can do."""
    token = tree.branch("token", "who may do what at a gateway: create, list, revoke")
    parser = token.leaf(
        "create", "make a token, and print it: the file keeps only a hash of it", create, has_tables=False
    )
    parser.add_argument("--role", required=True, choices=ROLES, help="predict, read (status, metrics) or all")
    parser.add_argument("--name", default="", help="whose it is")
    parser.add_argument("--days", type=above_zero, help="it expires after so many")
    parser.add_argument(
        "--requests_per_second", type=above_zero, metavar="N", help="so many at most; more get 429"
    )
    parser.add_argument("--rows_per_second", type=above_zero, metavar="N", help="so many at most, as well")
    parser.add_argument(
        "--concurrency", type=whole, metavar="N", help="so many predictions at once; more get 429"
    )
    _add_file(parser)
    _add_file(token.leaf("list", "what tokens there are", show))
    parser = token.leaf("revoke", "have a gateway know a token no more", revoke, has_tables=False)
    parser.add_argument("id", help="its id, as list has it")
    _add_file(parser)


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tokens", required=True, metavar="FILE", help="the gateway's file of tokens")


def above_zero(text: str) -> float:
    """A number of a command line."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e12:
        raise argparse.ArgumentTypeError(f"should be a number above 0, not {text!r}")
    return value


def whole(text: str) -> int:
    """A whole number of a command line."""
    if not (text.isascii() and text.isdecimal() and 0 < len(text) < 10 and int(text)):
        raise argparse.ArgumentTypeError(f"should be a whole number above 0, not {text!r}")
    return int(text)


def create(asked: Asked) -> None:
    """Print the token, which nobody can find out afterwards."""
    given, now = asked.arguments, time.time()
    entry, secret = make_token(
        given.role, now,
        name=given.name,
        expires=None if given.days is None else now + given.days * DAY,
        requests_per_second=given.requests_per_second,
        rows_per_second=given.rows_per_second,
        concurrency=given.concurrency,
    )  # fmt: skip
    _change(Path(given.tokens), lambda known: [*known, entry], is_new=True)
    if asked.output.is_json:
        asked.output.json({"id": entry.id, "role": entry.role, "name": entry.name, "token": secret})
    else:
        print(secret)


def show(asked: Asked) -> None:
    """All but the hashes."""
    tokens = _read(Path(asked.arguments.tokens))
    if asked.output.is_json:
        keys = [name for name in Token.__struct_fields__ if name != "hash"]
        return asked.output.json([{key: getattr(each, key) for key in keys} for each in tokens])
    now = time.time()
    rows = [
        (each.id, each.role, each.name or None, _day(each.created), _expiry(each, now), _limits(each))
        for each in tokens
    ]
    columns = ("id", "role", "name", "created", "expires", "limits")
    return asked.output.table(columns, rows, empty="There are none.")


def revoke(asked: Asked) -> None:
    """Take one out of the file."""
    path, name = Path(asked.arguments.tokens), asked.arguments.id

    def without(known: list[Token]) -> list[Token]:
        left = [each for each in known if each.id != name]
        if len(left) == len(known):
            raise Failure(f"there is no token {name} in {path}: pipeline token list says which there are")
        return left

    _change(path, without)
    if asked.output.is_json:
        asked.output.json({"revoked": name})
    else:
        print(f"{name} is revoked: a gateway knows it no more within a second or two")


def _read(path: Path) -> list[Token]:
    try:
        return read_tokens(path)
    except TokenError as error:
        raise Failure(str(error), EXIT_USAGE) from None


def _change(path: Path, change: Callable[[list[Token]], list[Token]], *, is_new: bool = False) -> None:
    try:
        with changing(path):
            write_tokens(path, change([] if is_new and not path.exists() else read_tokens(path)))
    except TokenError as error:
        raise Failure(str(error), EXIT_USAGE) from None


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d")


def _expiry(token: Token, now: float) -> str | None:
    if token.expires is None:
        return None
    return f"{_day(token.expires)}{' (over)' if token.expires <= now else ''}"


def _limits(token: Token) -> str | None:
    parts = [
        (token.requests_per_second, "requests/s"),
        (token.rows_per_second, "rows/s"),
        (token.concurrency, "at once"),
    ]
    return ", ".join(f"{value:g} {unit}" for value, unit in parts if value is not None) or None

"""`pipeline predict`: ask a model."""

from __future__ import annotations

import argparse
import base64
import json
import sys
from pathlib import Path
from typing import Any

from cli.asked import Asked
from cli.failure import EXIT_USAGE, Failure, refusal
from cli.files import read_body, to_send
from cli.parser import Tree, seconds

_SENT = {"image": "application/octet-stream", "audio": "application/octet-stream"}


def add(tree: Tree) -> None:
    """`predict`."""
    parser = tree.leaf(
        "predict",
        "ask a model: rows of numbers, a picture, a sound, a text or a document",
        run,
        has_tables=False,
        epilog="Rows: pipeline predict 0.3,0.7 or pipeline predict 0.3,0.7 0.1,0.2",
    )
    parser.add_argument("row", nargs="*", help="numbers with commas between; several rows go together")
    parser.add_argument("--model", help="which one (default: the default model)")
    parser.add_argument("--version", help="which of its versions (default: the active one)")
    for kind, metavar, help in (
        ("image", "FILE", "a picture"),
        ("audio", "FILE", "a sound"),
        ("text", "TEXT", "a text"),
        ("document", "JSON", "a JSON document, or @FILE, for a model that takes one"),
        ("body", "JSON", "the whole body of the request, or @FILE; - is stdin"),
    ):
        parser.add_argument(f"--{kind}", metavar=metavar, help=help)
    parser.add_argument("--out", metavar="FILE", help="where a picture goes that is the answer")
    parser.add_argument("--top_n", type=int, metavar="N", help="so many classes at most")
    parser.add_argument("--deadline", type=seconds, metavar="SECONDS", help="by when to answer")


def run(asked: Asked) -> None:
    """Print the result; with --json the whole answer, who gave it and how long that took."""
    given = asked.arguments
    kind, body, headers = _input(given)
    if given.deadline is not None:
        headers["X-Timeout-Ms"] = str(given.deadline * 1000)
    answer = asked.ask("POST", *_path(given, kind), query={"top_n": given.top_n}, body=body, headers=headers)
    failure = refusal(answer.status, answer.value)
    if failure is not None:
        raise failure
    if asked.output.is_json:
        names = ("x-worker", "x-model-version", "x-cache", "server-timing")
        by = {name.replace("-", "_"): answer.headers.get(name) for name in names}
        asked.output.json({**answer.value, "answered_by": by})
        return
    if given.out is not None:
        _write(Path(given.out), answer.value.get("result"))
        return
    results = next((answer.value[name] for name in ("results", "outputs") if name in answer.value), None)
    for each in [answer.value.get("result")] if results is None else results:
        print(each if isinstance(each, str | int | float) else json.dumps(each, ensure_ascii=False))
    sys.stdout.flush()


def _write(file: Path, picture: Any) -> None:
    """A picture comes as base64."""
    try:
        if not isinstance(picture, str):
            raise ValueError
        file.write_bytes(base64.b64decode(picture, validate=True))
    except OSError as error:
        raise Failure(f"{file} cannot be written: {error.strerror}", EXIT_USAGE) from None
    except ValueError:
        raise Failure("the answer is no picture: leave out --out") from None


def _path(given: argparse.Namespace, kind: str) -> list[str]:
    if given.version is not None and given.model is None:
        raise Failure("--version takes --model too", EXIT_USAGE)
    if given.model is None and kind == "predict":
        return ["predict"]
    version = [] if given.version is None else ["versions", given.version]
    return ["models", given.model or "default", *version, kind]


def _input(given: argparse.Namespace) -> tuple[str, bytes | Path, dict[str, str]]:
    """The kind of the request, its body and its headers."""
    kinds = ("image", "audio", "text", "document", "body")
    said = [f"--{kind}" for kind in kinds if getattr(given, kind) is not None]
    said += ["rows of numbers"] if given.row else []
    if len(said) != 1:
        what = f"{' and '.join(said)} cannot go together" if said else "there is nothing to ask about"
        raise Failure(f"{what}: give rows of numbers, or one of --{', --'.join(kinds)}", EXIT_USAGE)
    for kind in ("image", "audio"):
        if (file := getattr(given, kind)) is not None:
            return kind, to_send(Path(file)), {"Content-Type": _SENT[kind]}
    if given.text is not None:
        return "text", json.dumps({"text": given.text}).encode(), {"Content-Type": "application/json"}
    if given.document is not None:
        return "json", read_body(given.document), {"Content-Type": "application/json"}
    if given.body is not None:
        return "predict", read_body(given.body), {"Content-Type": "application/json"}
    return "predict", json.dumps(rows_of(given.row)).encode(), {"Content-Type": "application/json"}


def rows_of(texts: list[str]) -> dict[str, Any]:
    """The body for rows of a command line."""
    rows = []
    for text in texts:
        try:
            rows.append([float(each) for each in text.strip().removeprefix("[").removesuffix("]").split(",")])
        except ValueError:
            raise Failure(
                f"a row is numbers with commas between, like 0.3,0.7, not {text!r}", EXIT_USAGE
            ) from None
    return {"vector": rows[0]} if len(rows) == 1 else {"vectors": rows}

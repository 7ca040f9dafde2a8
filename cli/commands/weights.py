"""`pipeline set-weights`: the default model's weights, which switch everywhere at once."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets

from cli.asked import Asked
from cli.failure import EXIT_USAGE, Failure
from cli.files import read_bytes
from cli.parser import Tree

PATIENCE = 600.0  # every worker loads and tries them
_NN_ID = re.compile(r"[0-9a-f]{32}")


def add(tree: Tree) -> None:
    """`set-weights`."""
    parser = tree.leaf(
        "set-weights", "have the default model answer by other weights, everywhere or nowhere", run,
        has_tables=False,
    )  # fmt: skip
    parser.add_argument("file", help="what torch.save wrote of a state_dict, or base64 text of it")
    parser.add_argument(
        "--nn_id", metavar="ID", help="32 hex digits (default: those that the file's name begins with, or the"
        " first of its sha256)",
    )  # fmt: skip


def run(asked: Asked) -> None:
    """Upload, and say how many workers have them."""
    given = asked.arguments
    raw = read_bytes(given.file)
    if not raw:
        raise Failure(f"{given.file} is empty", EXIT_USAGE)
    text, blob = as_base64(raw)
    nn_id = given.nn_id or nn_id_of(given.file, blob)
    if not _NN_ID.fullmatch(nn_id):
        raise Failure(f"--nn_id should be 32 lower-case hex digits, not {nn_id!r}", EXIT_USAGE)
    body, content_type = form(nn_id, text)
    answer = asked.do(
        "PUT", "set_weights", body=body, headers={"Content-Type": content_type}, patience=PATIENCE
    )
    asked.output.say(answer, f"{nn_id} answers now: {loaded(answer['workers_count'])}")


def as_base64(raw: bytes) -> tuple[bytes, bytes]:
    """(base64 text, what it stands for) of a file that is either."""
    try:
        return raw, base64.b64decode(b"".join(raw.split()), validate=True)
    except binascii.Error:
        return base64.b64encode(raw), raw


def nn_id_of(file: str, blob: bytes) -> str:
    """What weights are called if nobody says it."""
    found = _NN_ID.match(file.rpartition("/")[2])
    return found[0] if found else hashlib.sha256(blob).hexdigest()[:32]


def form(nn_id: str, text: bytes) -> tuple[bytes, str]:
    """(body, content type) of the form that the door takes."""
    boundary = secrets.token_hex(16).encode()
    parts = (
        (b'name="nn_id"', b"text/plain", nn_id.encode()),
        (b'name="data"; filename="weights.b64"', b"application/octet-stream", text),
    )
    body = b"".join(
        b"--%b\r\nContent-Disposition: form-data; %b\r\nContent-Type: %b\r\n\r\n%b\r\n"
        % (boundary, name, kind, content)
        for name, kind, content in parts
    )
    return body + b"--%b--\r\n" % boundary, f"multipart/form-data; boundary={boundary.decode()}"


def loaded(count: int) -> str:
    """How many workers have it."""
    if not count:
        return "no worker is there yet, and the first one that comes will try it"
    return f"{count} worker{'' if count == 1 else 's'} loaded it"

"""`pipeline keys create` and `pipeline sign`: who may say that a model's file is good. Ask nobody."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cli.asked import Asked
from cli.failure import EXIT_USAGE, Failure
from cli.parser import Tree
from common.signatures import NEEDED, split, trailer_of, written_key


def add(tree: Tree) -> None:
    """`keys` and `sign`."""
    keys = tree.branch("keys", "keys that model files are signed by: create")
    parser = keys.leaf(
        "create", "a new key: NAME.key signs, NAME.pub goes into --trusted_keys", create, has_tables=False
    )
    parser.add_argument("name", metavar="NAME", help="a path without an ending")
    parser = tree.leaf("sign", "sign a model's file, as a new file beside it", sign, has_tables=False)
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--key", required=True, metavar="NAME.key", help="what keys create wrote")
    parser.add_argument(
        "--out", metavar="FILE", help="the signed file (default: FILE with .signed in its name)"
    )


def create(asked: Asked) -> None:
    """Make both files; nothing that is there is written over."""
    library = _library()
    name = Path(asked.arguments.name)
    private, public = name.with_name(f"{name.name}.key"), name.with_name(f"{name.name}.pub")
    key = library.ed25519.Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        library.serialization.Encoding.PEM,
        library.serialization.PrivateFormat.PKCS8,
        library.serialization.NoEncryption(),
    )
    raw = (library.serialization.Encoding.Raw, library.serialization.PublicFormat.Raw)
    line = f"ed25519 {written_key(key.public_key().public_bytes(*raw))} {name.name}\n"
    _write(private, secret, 0o600)
    _write(public, line.encode(), 0o644)
    print(f"{private} signs: keep it where no worker is. {public} is a line for --trusted_keys.")


def sign(asked: Asked) -> None:
    """Write the file again, with its signature behind it."""
    library = _library()
    file = Path(asked.arguments.file)
    out = Path(asked.arguments.out or file.with_name(f"{file.stem}.signed{file.suffix}"))
    key = _read_key(library, Path(asked.arguments.key))
    try:
        with file.open("rb") as opened:
            if split(opened).signature is not None:
                raise Failure(f"{file} is signed already", EXIT_USAGE)
            trailer = trailer_of(key, opened)
            opened.seek(0)
            _write(out, opened.read() + trailer, 0o644)
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}", EXIT_USAGE) from None
    print(f"{out} is {file}, signed")


def _read_key(library: Any, path: Path) -> Any:
    try:
        key = library.serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}", EXIT_USAGE) from None
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, library.ed25519.Ed25519PrivateKey):
        raise Failure(f"{path} is no key that pipeline keys create has made", EXIT_USAGE)
    return key


def _write(path: Path, data: bytes, mode: int) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}", EXIT_USAGE) from None


class _Library:
    """What of `cryptography` is used."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519

        self.serialization, self.ed25519 = serialization, ed25519


def _library() -> _Library:
    try:
        return _Library()
    except ModuleNotFoundError:
        raise Failure(NEEDED) from None

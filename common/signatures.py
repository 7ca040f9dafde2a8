"""Signatures of model files. One stands behind the file's own bytes, so it goes wherever the file goes:

    magic (16 bytes) · public key (32) · ed25519 signature (64) of a word and the sha256 of all that is before

So an uploaded file, one in a folder of models and one that a state folder keeps are signed alike.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, NamedTuple

from common.errors import CertificateError, LoadError

_MAGIC = b"pipeline-ed25519"
_WORD = b"pipeline model file\0"
KEY, SIGNATURE = 32, 64
_TRAILER = len(_MAGIC) + KEY + SIGNATURE
_PIECE = 1 << 20
NEEDED = "signatures need cryptography: pip install 'pipeline-inference[tls]'"


class Signed(NamedTuple):
    """`size` bytes of a model's file, their digest, and whose signature of it is there, if any is."""

    size: int
    digest: bytes
    key: bytes = b""
    signature: bytes | None = None


def split(file: IO[bytes]) -> Signed:
    """What a file is without its signature; nothing is said of who signed it."""
    whole = file.seek(0, 2)
    file.seek(max(0, whole - _TRAILER))
    trailer = file.read(_TRAILER)
    if len(trailer) < _TRAILER or not trailer.startswith(_MAGIC):
        return Signed(whole, b"")
    key = trailer[len(_MAGIC) : len(_MAGIC) + KEY]
    size = whole - _TRAILER
    file.seek(0)
    return Signed(size, digest_of(file, size), key, trailer[-SIGNATURE:])


def digest_of(file: IO[bytes], size: int) -> bytes:
    """What a signature is of: the next `size` bytes."""
    digest = hashlib.sha256()
    while size and (piece := file.read(min(size, _PIECE))):
        digest.update(piece)
        size -= len(piece)
    return _WORD + digest.digest()


def trailer_of(private_key: Any, file: IO[bytes]) -> bytes:
    """What to write behind a file, for a private key of `cryptography`'s."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    size = file.seek(0, 2)
    file.seek(0)
    public = private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return _MAGIC + bytes(public) + bytes(private_key.sign(digest_of(file, size)))


class TrustedKeys:
    """Public keys whose signatures count."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._keys = frozenset(keys)

    def check(self, signed: Signed) -> None:
        """Raise `LoadError` unless a file is signed, as it is, by one of these."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        if signed.signature is None:
            raise LoadError("the file is not signed, and --require_signed is given: pipeline sign signs it")
        if signed.key not in self._keys:
            raise LoadError(
                f"the file is signed by {written_key(signed.key)}, which is not among the --trusted_keys"
            )
        try:
            Ed25519PublicKey.from_public_bytes(signed.key).verify(signed.signature, signed.digest)
        except InvalidSignature:
            raise LoadError("the file's signature is not of these bytes: it was changed since") from None


def written_key(key: bytes) -> str:
    """A public key as files have it."""
    return base64.b64encode(key).decode()


def read_trusted_keys(path: Path) -> TrustedKeys:
    """The keys of a file with one on each line, as `pipeline keys create` writes them: `ed25519 KEY NAME`.

    Raises `CertificateError` with a sentence for any line that is none, and where there is no line.
    """
    try:
        import cryptography  # noqa: F401 - now, rather than as the first file comes

        lines = path.read_text("utf-8").splitlines()
    except ModuleNotFoundError:
        raise CertificateError(f"--require_signed: {NEEDED}") from None
    except OSError as error:
        raise CertificateError(f"--trusted_keys {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise CertificateError(f"--trusted_keys {path} is no text") from None
    keys = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            keys.append(_key_in(line, f"--trusted_keys {path}, line {number}"))
    if not keys:
        raise CertificateError(f"--trusted_keys {path} has no key in it")
    return TrustedKeys(keys)


def _key_in(line: str, where: str) -> bytes:
    words = line.split()
    try:
        key = base64.b64decode(words[1], validate=True) if words[0] == "ed25519" else b""
    except (IndexError, binascii.Error):
        key = b""
    if len(key) != KEY:
        raise CertificateError(f"{where}: a key is written ed25519 KEY NAME, as pipeline keys create does")
    return key

"""What one end of the fleet proves itself by on wss and tls+tcp: a certificate, its key, and the authority
that the other end's certificate must come from. Read and tried here, so that what is wrong with a file is
said at once: a connection would only fail, again and again. And the token of a fleet, which both ends have.
"""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from common.errors import CertificateError
from common.log import event

log = logging.getLogger("pipeline.certificates")

SHORTEST = 16  # characters of a token
HTTP, GRPC = ("h2", "http/1.1"), ("h2",)  # what clients of each door may choose of
FLIGHTS = 4  # each way: more than any handshake takes
SOON = 14 * 86_400.0  # seconds before its end in which a certificate is warned of


class Credentials(NamedTuple):
    """PEM texts."""

    ca: str
    cert: str
    key: str


class Identity(NamedTuple):
    """What a door shows, as PEM texts: its certificate with those that it came from, and its key."""

    chain: str
    key: str


def read_credentials(ca: Path, cert: Path, key: Path, *, listens: bool) -> Credentials:
    """The files' texts; for an end that `listens` (a gateway) or dials (a worker).

    Raises `CertificateError` for files that cannot be read, do not belong together, or that the other end
    would refuse today.
    """
    credentials = Credentials(
        _read("fleet_ca", ca, "CERTIFICATE"),
        _read("fleet_cert", cert, "CERTIFICATE"),
        _read("fleet_key", key, "PRIVATE KEY"),
    )
    if os.stat(key).st_mode & 0o077:
        event(log, logging.WARNING, "others on this machine can read the key", fleet_key=key)
    until = _try(credentials, ca, cert, key, listens=listens)
    if until - time.time() < SOON:
        days = round((until - time.time()) / 86_400, 1)
        event(log, logging.WARNING, "the certificate expires soon", fleet_cert=cert, days=days)
    return credentials


def read_fleet_token(file: str | None, given: str | None) -> str | None:
    """The fleet's token: of a file, or as it was `given`; None without either.

    Raises `CertificateError` for one that cannot be read, or is too short to be a secret.
    """
    if file is None:
        if given is None:
            return None
        token, where = given, "PIPELINE_FLEET_TOKEN"
    else:
        where, path = f"--fleet_token_file {file}", Path(file)
        try:
            token = path.read_text("utf-8")
            if os.stat(path).st_mode & 0o077:
                event(
                    log, logging.WARNING, "others on this machine can read the token", fleet_token_file=path
                )
        except OSError as error:
            raise CertificateError(f"{where} cannot be read: {error.strerror}") from None
        except ValueError:
            raise CertificateError(f"{where} is no text") from None
    token = token.strip()
    if len(token) < SHORTEST:
        raise CertificateError(
            f"{where} has a token of {len(token)} characters: give {SHORTEST} or more, that nobody can guess"
            " (openssl rand -hex 32)"
        )
    return token


def read_identity(certfile: Path, keyfile: Path) -> Identity:
    """What the doors show. `CertificateError` for files that cannot be read, or do not belong together."""
    identity = Identity(_read("certfile", certfile, "CERTIFICATE"), _read("keyfile", keyfile, "PRIVATE KEY"))
    try:
        server_context(identity, ())
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateError(f"--keyfile {keyfile} is not the key of --certfile {certfile}") from None
        raise CertificateError(f"--certfile {certfile} or --keyfile {keyfile} is damaged: {error}") from None
    return identity


def server_context(identity: Identity, protocols: Sequence[str]) -> ssl.SSLContext:
    """How a door speaks TLS, of version 1.2 at least, with `protocols` that ALPN may choose of."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # so that to write never waits for something to read
    with _file_of(identity.chain) as chain, _file_of(identity.key) as key:
        context.load_cert_chain(chain, key)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def own_context(identity: Identity) -> ssl.SSLContext:
    """How whoever shows it asks itself: it believes this certificate alone, by whatever name it dials."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # its authority need not be there
    context.load_verify_locations(cadata=identity.chain)
    return context


@contextlib.contextmanager
def _file_of(text: str) -> Iterator[str]:
    """The path of a file that is in memory alone: OpenSSL reads certificates by no other way."""
    with open(os.memfd_create("pem"), "w+", encoding="ascii") as file:
        file.write(text)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def _read(flag: str, path: Path, label: str) -> str:
    try:
        text = path.read_text("ascii")
    except OSError as error:
        raise CertificateError(f"--{flag} {path} cannot be read: {error.strerror}") from None
    except ValueError:
        text = ""
    if f"{label}-----" not in text:
        raise CertificateError(f"--{flag} {path} is no PEM file with a {label.lower()} in it")
    if "ENCRYPTED" in text:
        raise CertificateError(f"--{flag} {path} is encrypted, and nobody would be there to type a password")
    return text


def _try(credentials: Credentials, ca: Path, cert: Path, key: Path, *, listens: bool) -> float:
    """Shake hands with ourselves, as the other end would with us: when the certificate expires."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False  # which host is dialled is for the worker to say
    client.verify_mode = ssl.CERT_NONE
    checking = client if listens else server
    try:
        for context in (server, client):
            context.load_cert_chain(cert, key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateError(f"--fleet_key {key} is not the key of --fleet_cert {cert}") from None
        raise CertificateError(f"--fleet_cert {cert} or --fleet_key {key} is damaged: {error}") from None
    try:
        checking.load_verify_locations(cadata=credentials.ca)
    except ssl.SSLError as error:
        raise CertificateError(f"--fleet_ca {ca} is damaged: {error}") from None
    checking.verify_mode = ssl.CERT_REQUIRED
    try:
        peer = _shake_hands(server, client, listens=listens)
    except ssl.SSLCertVerificationError as error:
        end = "worker" if listens else "gateway"
        raise CertificateError(
            f"--fleet_cert {cert} would be refused by every {end} that trusts --fleet_ca {ca}:"
            f" {error.verify_message}"
        ) from None
    except ssl.SSLError as error:
        raise CertificateError(f"--fleet_cert {cert} cannot be used: {error}") from None
    return ssl.cert_time_to_seconds(str(peer["notAfter"]))


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, *, listens: bool) -> Mapping[str, object]:
    """A handshake in memory; what the checking end saw of the other's certificate."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)]
    for _ in range(FLIGHTS):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ends[0 if listens else 1].getpeercert() or {}

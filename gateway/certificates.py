"""`python gw.py certs`: an authority of the fleet's own, and the certificates that it gives its two ends.

    certs init DIR --hosts gw.example.com,10.0.0.5    makes them all
    certs init DIR --hosts gw --workers host-1,host-2    a certificate for each worker's host, rather than one
    certs renew DIR                                   gives all ends new ones
    certs show DIR                                    says whose they are, and until when

A gateway's certificate is good for listening under the names of its hosts, a worker's for dialling, and
neither for the other: whoever steals a worker's cannot pose as a gateway.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.errors import CertificateError

DAYS, AUTHORITY_DAYS = 365, 3650
_DNS = re.compile(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\Z")
_AGO = timedelta(hours=1)  # clocks of hosts differ


def main(argv: Sequence[str], prog: str = "gw.py certs") -> int:
    """Do what the command says; an exit code."""
    options = _parser(prog).parse_args(argv)
    try:
        if options.command == "show":
            print("\n".join(show(options.directory)))
            return 0
        if options.command == "init":
            init(options.directory, options.hosts, options.workers, days=options.days)
        else:
            renew(options.directory, options.hosts, days=options.days)
    except CertificateError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 1
    print(
        f"{options.directory} has ca.pem and gateway.* for the gateway, ca.pem and worker*.* for workers."
        " ca.key makes more of them: keep it elsewhere."
    )
    return 0


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description="Make certificates for a fleet.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help in (("init", "an authority and both ends' certificates"), ("renew", "both ends' anew")):
        command = commands.add_parser(name, help=help, allow_abbrev=False)
        command.add_argument("directory", type=Path, metavar="DIR")
        command.add_argument(
            "--hosts", type=_hosts, required=name == "init", metavar="HOST,…",
            help="names and addresses under which workers dial the gateway",
        )  # fmt: skip
        command.add_argument(
            "--days", type=_days, default=DAYS, metavar="N", help=f"how long they last (default: {DAYS})"
        )
        if name == "init":
            command.add_argument(
                "--workers", type=_workers, default=[""], metavar="NAME,…",
                help="hosts of workers, for a certificate each (default: one for all)",
            )  # fmt: skip
    command = commands.add_parser("show", help="whose they are, and until when", allow_abbrev=False)
    command.add_argument("directory", type=Path, metavar="DIR")
    return parser


def _days(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= AUTHORITY_DAYS:
        raise argparse.ArgumentTypeError(f"must be 1 to {AUTHORITY_DAYS} days, not {text!r}")
    return int(text)


def _workers(text: str) -> list[str]:
    names = [each.strip() for each in text.split(",")]
    for name in names:
        if not _DNS.match(name) or name.startswith("*"):
            raise argparse.ArgumentTypeError(f"{name!r} is no host's name")
    return names


def _hosts(text: str) -> list[x509.GeneralName]:
    return [_host(each.strip()) for each in text.split(",")]


def _host(text: str) -> x509.GeneralName:
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ip_address(text))
    if not _DNS.match(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no host: write names and addresses, with commas between"
        )
    return x509.DNSName(text)


def init(
    directory: Path, hosts: Sequence[x509.GeneralName], workers: Sequence[str] = ("",), *, days: int = DAYS
) -> None:
    """Make an authority and all ends' certificates in a folder; `CertificateError` if any is there. Each of
    the `workers` has one of its own; one without a name is for all."""
    there = [path.name for ending in ("pem", "key") for path in sorted(directory.glob(f"*.{ending}"))]
    if there:
        raise CertificateError(f"{directory} has {there[0]} already: renew it, or name another folder")
    key, name = _new_key(), _name("authority")
    authority = (
        _builder(name, name, key, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(directory / "ca.key", _key_text(key))
    _write(directory / "ca.pem", authority.public_bytes(Encoding.PEM))
    _issue_all(directory, authority, key, hosts, workers, days)


def show(directory: Path) -> list[str]:
    """A line for each certificate of a folder: for whom it is, and until when."""
    found = sorted(directory.glob("*.pem"))
    if not found:
        raise CertificateError(f"{directory} has no certificates: init makes them")
    return [f"{path.name}: {_described(path)}" for path in found]


def _described(path: Path) -> str:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise CertificateError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        return "no certificate"
    names: list[object] = []
    with contextlib.suppress(x509.ExtensionNotFound):
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [each.value for each in alternatives]
    until = certificate.not_valid_after_utc
    days = (until - datetime.now(timezone.utc)).days
    left = f"{days} days" if days >= 0 else "expired"
    return f"{', '.join(map(str, names)) or 'authority'}, until {until:%Y-%m-%d} ({left})"


def renew(directory: Path, hosts: Sequence[x509.GeneralName] | None, *, days: int = DAYS) -> None:
    """Both ends' certificates anew, for the same hosts as before unless they are given."""
    try:
        authority = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
        key = load_pem_private_key((directory / "ca.key").read_bytes(), None)
        before = x509.load_pem_x509_certificate((directory / "gateway.pem").read_bytes())
        names = before.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except OSError as error:
        raise CertificateError(f"{error.filename} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise CertificateError(f"{directory} holds files that init did not make: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{directory}/ca.key is not a key that init made")
    workers = [path.stem.removeprefix("worker").removeprefix("-") for path in directory.glob("worker*.pem")]
    _issue_all(directory, authority, key, hosts or list(names), workers, days)


def _issue_all(
    directory: Path,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    hosts: Sequence[x509.GeneralName],
    workers: Sequence[str],
    days: int,
) -> None:
    ends: list[tuple[str, x509.ObjectIdentifier, Sequence[x509.GeneralName]]]
    ends = [("gateway", ExtendedKeyUsageOID.SERVER_AUTH, hosts)]
    for worker in workers:
        name = f"worker-{worker}" if worker else "worker"
        ends.append((name, ExtendedKeyUsageOID.CLIENT_AUTH, [x509.DNSName(worker or "worker")]))
    for end, purpose, names in ends:
        key = _new_key()
        certificate = (
            _builder(_name(end), authority.subject, key, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
            .sign(authority_key, hashes.SHA256())
        )
        _write(directory / f"{end}.key", _key_text(key))
        _write(directory / f"{end}.pem", certificate.public_bytes(Encoding.PEM))


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _name(end: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Pipeline {end}")])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _AGO)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_text(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, and for its owner alone."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        new.replace(path)
    except OSError as error:
        raise CertificateError(f"{path} cannot be written: {error.strerror}") from None

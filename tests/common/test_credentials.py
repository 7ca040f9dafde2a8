"""Collaboration: certificates as their files are found; what is wrong with them is said in a sentence."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.x509 import DNSName

from common.credentials import Credentials, read_credentials
from common.errors import CertificateError
from gateway.certificates import init, renew
from tests.certificates import issued_days_ago


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    init(tmp_path / "certs", [DNSName("gw")])
    return tmp_path / "certs"


def read(folder: Path, end: str = "worker", key: str | None = None) -> Credentials:
    files = (folder / "ca.pem", folder / f"{end}.pem", folder / (key or f"{end}.key"))
    return read_credentials(*files, listens=end == "gateway")


def refusal(folder: Path, end: str = "worker", key: str | None = None) -> str:
    with pytest.raises(CertificateError) as error:
        read(folder, end, key)
    return str(error.value).replace(str(folder), "DIR")


@pytest.mark.parametrize("end", ["gateway", "worker"])
def test_what_init_makes_is_good_for_its_end(folder: Path, end: str, caplog) -> None:
    texts = tuple((folder / name).read_text() for name in ("ca.pem", f"{end}.pem", f"{end}.key"))
    assert read(folder, end) == texts
    assert caplog.records == []


def test_a_certificate_of_the_other_end_is_not(folder: Path) -> None:
    files = [folder / name for name in ("ca.pem", "gateway.pem", "gateway.key")]
    with pytest.raises(CertificateError, match=r"would be refused by every gateway .*: unsuitable cert"):
        read_credentials(*files, listens=False)
    files = [folder / name for name in ("ca.pem", "worker.pem", "worker.key")]
    with pytest.raises(CertificateError, match=r"would be refused by every worker .*: unsuitable cert"):
        read_credentials(*files, listens=True)


def delete(folder: Path) -> None:
    (folder / "worker.pem").unlink()


def make_a_folder(folder: Path) -> None:
    (folder / "worker.key").unlink()
    (folder / "worker.key").mkdir()


def swap(folder: Path) -> None:
    (folder / "worker.key").write_text((folder / "worker.pem").read_text())


def garble(folder: Path) -> None:
    text = (folder / "ca.pem").read_text().splitlines()
    (folder / "ca.pem").write_text("\n".join([text[0], "AAAA", text[-1]]))


def write_bytes(folder: Path) -> None:
    (folder / "ca.pem").write_bytes(b"\xff\x00")


def encrypt(folder: Path) -> None:
    plain, key = folder / "plain.key", folder / "worker.key"
    key.rename(plain)
    command = ["openssl", "pkcs8", "-topk8", "-in", plain, "-out", key, "-passout", "pass:x"]
    subprocess.run(command, check=True)


def mix(folder: Path) -> None:
    init(folder / "other", [DNSName("gw")])
    (folder / "other" / "worker.pem").replace(folder / "worker.pem")
    (folder / "other" / "worker.key").replace(folder / "worker.key")


def mismatch(folder: Path) -> None:
    (folder / "gateway.key").replace(folder / "worker.key")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (delete, "--fleet_cert DIR/worker.pem cannot be read: No such file or directory"),
        (make_a_folder, "--fleet_key DIR/worker.key cannot be read: Is a directory"),
        (swap, "--fleet_key DIR/worker.key is no PEM file with a private key in it"),
        (write_bytes, "--fleet_ca DIR/ca.pem is no PEM file with a certificate in it"),
        (garble, "--fleet_ca DIR/ca.pem is damaged: "),
        (encrypt, "--fleet_key DIR/worker.key is encrypted, and nobody would be there to type a password"),
        (mismatch, "--fleet_key DIR/worker.key is not the key of --fleet_cert DIR/worker.pem"),
        (
            mix,
            "--fleet_cert DIR/worker.pem would be refused by every gateway that trusts --fleet_ca DIR/ca.pem:"
            " ",
        ),
    ],
)
def test_what_is_wrong_is_said(spoil: Callable[[Path], None], sentence: str, folder: Path) -> None:
    spoil(folder)
    assert refusal(folder).startswith(sentence)


def test_one_that_has_expired_is_refused(folder: Path) -> None:
    with issued_days_ago(3):
        renew(folder, None, days=1)
    for end, other in (("gateway", "worker"), ("worker", "gateway")):
        assert refusal(folder, end) == (
            f"--fleet_cert DIR/{end}.pem would be refused by every {other} that trusts --fleet_ca DIR/ca.pem:"
            " certificate has expired"
        )


def test_one_that_expires_soon_and_a_key_that_others_can_read_are_warned_of(folder: Path, caplog) -> None:
    renew(folder, None, days=7)
    (folder / "worker.key").chmod(0o640)
    with caplog.at_level(logging.WARNING):
        read(folder)
    said = [record.getMessage().replace(str(folder), "DIR") for record in caplog.records]
    assert said == [
        "others on this machine can read the key fleet_key=DIR/worker.key",
        "the certificate expires soon fleet_cert=DIR/worker.pem days=7.0",
    ]

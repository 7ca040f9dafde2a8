"""Collaboration: `gw.py certs`, from its command line to files, which OpenSSL reads as it should."""

from __future__ import annotations

import stat
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import gw
from cli.main import main

FILES = ("ca.pem", "ca.key", "gateway.pem", "gateway.key", "worker.pem", "worker.key")


def certs(*argv: object) -> int:
    return gw.main(["certs", *map(str, argv)])


def openssl(*argv: object) -> str:
    done = subprocess.run(["openssl", *map(str, argv)], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_init_makes_an_authority_and_both_ends_for_the_owner_alone(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "run" / "certs"
    assert certs("init", folder, "--hosts", "gw.example.com, 10.0.0.5,::1,*.pods") == 0
    assert capsys.readouterr().out == (
        f"{folder} has ca.pem and gateway.* for the gateway, ca.pem and worker*.* for workers."
        " ca.key makes more of them: keep it elsewhere.\n"
    )
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for end, purpose in (("gateway", "sslserver"), ("worker", "sslclient")):
        verify = ("verify", "-x509_strict", "-CAfile", folder / "ca.pem", "-purpose", purpose)
        assert openssl(*verify, folder / f"{end}.pem") == f"{folder}/{end}.pem: OK\n"
    shown = openssl("x509", "-in", folder / "gateway.pem", "-noout", "-ext", "subjectAltName")
    names = "DNS:gw.example.com, IP Address:10.0.0.5, IP Address:0:0:0:0:0:0:0:1, DNS:*.pods"
    assert shown.splitlines()[1].strip() == names


def test_init_overwrites_nothing(tmp_path: Path, capsys) -> None:
    assert certs("init", tmp_path, "--hosts", "gw") == 0
    before = (tmp_path / "ca.key").read_bytes()
    assert certs("init", tmp_path, "--hosts", "gw") == 1
    assert capsys.readouterr().err == (
        f"gw.py certs: {tmp_path} has ca.pem already: renew it, or name another folder\n"
    )
    assert (tmp_path / "ca.key").read_bytes() == before


def test_renew_keeps_the_authority_and_the_hosts(tmp_path: Path) -> None:
    certs("init", tmp_path, "--hosts", "gw,10.0.0.5")
    before = {name: (tmp_path / name).read_bytes() for name in FILES}
    assert certs("renew", tmp_path, "--days", "30") == 0
    after = {name: (tmp_path / name).read_bytes() for name in FILES}
    assert {name for name in FILES if before[name] == after[name]} == {"ca.pem", "ca.key"}
    shown = openssl("x509", "-in", tmp_path / "gateway.pem", "-noout", "-ext", "subjectAltName")
    assert shown.splitlines()[1].strip() == "DNS:gw, IP Address:10.0.0.5"
    assert "OK" in openssl("verify", "-CAfile", tmp_path / "ca.pem", tmp_path / "worker.pem")
    day = 86_400
    assert "will expire" in openssl("x509", "-in", tmp_path / "worker.pem", "-checkend", 31 * day)
    assert "will not" in openssl("x509", "-in", tmp_path / "worker.pem", "-checkend", 29 * day)


def test_renew_says_what_it_lacks(tmp_path: Path, capsys) -> None:
    assert certs("renew", tmp_path) == 1
    assert capsys.readouterr().err == (
        f"gw.py certs: {tmp_path}/ca.pem cannot be read: No such file or directory\n"
    )
    certs("init", tmp_path, "--hosts", "gw")
    (tmp_path / "ca.key").write_text("nonsense")
    assert certs("renew", tmp_path) == 1
    assert capsys.readouterr().err.startswith(f"gw.py certs: {tmp_path} holds files that init did not make: ")


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, capsys) -> None:
    (tmp_path / "file").touch()
    assert certs("init", tmp_path / "file", "--hosts", "gw") == 1
    assert capsys.readouterr().err.startswith(f"gw.py certs: {tmp_path}/file/ca.key cannot be written: ")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--hosts", "gw,http://x"], "'http://x' is no host: write names and addresses, with commas between"),
        (["--hosts", ""], "'' is no host: write names and addresses, with commas between"),
        (["--hosts", "gw", "--days", "0"], "must be 1 to 3650 days, not '0'"),
        ([], "the following arguments are required: --hosts"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(argv: list[str], sentence: str, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        certs("init", tmp_path, *argv)
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"{sentence}\n")


def test_each_host_of_workers_may_have_a_certificate_of_its_own_also_renewed(tmp_path: Path) -> None:
    assert certs("init", tmp_path, "--hosts", "gw", "--workers", "host-1,host-2") == 0
    names = {"ca", "gateway", "worker-host-1", "worker-host-2"}
    assert {path.stem for path in tmp_path.iterdir()} == names
    before = (tmp_path / "worker-host-2.pem").read_bytes()
    assert certs("renew", tmp_path) == 0
    assert {path.stem for path in tmp_path.iterdir()} == names
    assert (tmp_path / "worker-host-2.pem").read_bytes() != before
    shown = openssl("x509", "-in", tmp_path / "worker-host-2.pem", "-noout", "-ext", "subjectAltName")
    assert shown.splitlines()[1].strip() == "DNS:host-2"


def test_show_says_whose_certificates_there_are_and_until_when(tmp_path: Path, capsys) -> None:
    certs("init", tmp_path, "--hosts", "gw,10.0.0.5", "--days", "30")
    capsys.readouterr()
    assert certs("show", tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    day = datetime.now(timezone.utc) + timedelta(days=30)
    assert lines[1:] == [
        f"gateway.pem: gw, 10.0.0.5, until {day:%Y-%m-%d} (29 days)",
        f"worker.pem: worker, until {day:%Y-%m-%d} (29 days)",
    ]
    assert lines[0].startswith("ca.pem: authority, until ")
    assert certs("show", tmp_path / "none") == 1
    assert capsys.readouterr().err == (f"gw.py certs: {tmp_path}/none has no certificates: init makes them\n")


def test_the_command_line_makes_the_same(tmp_path: Path, capsys) -> None:
    assert main(["certs", "init", str(tmp_path), "--hosts", "gw"]) == 0
    assert (tmp_path / "worker.key").stat().st_mode & 0o777 == 0o600
    assert main(["certs", "init", str(tmp_path), "--hosts", "gw"]) == 1
    assert capsys.readouterr().err.startswith(f"pipeline certs: {tmp_path} has ca.pem already")

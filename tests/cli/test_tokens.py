"""collaboration: `pipeline token`, from a file that is not there to one whose token is revoked."""

from __future__ import annotations

import json
import threading

import pytest

from cli.main import main
from common.tokens import is_secret_of, parse_token, read_tokens


def test_a_token_is_printed_once_listed_without_its_secret_and_revoked(tmp_path, capsys):
    file = tmp_path / "tokens.json"
    flags = ["--tokens", str(file)]
    created = ["create", "--role", "predict", "--name", "ana", "--requests_per_second", "50"]
    assert main(["token", *created, "--concurrency", "8", "--days", "30", *flags]) == 0
    shown = capsys.readouterr().out.strip()
    (entry,) = read_tokens(file)
    presented = parse_token(shown)
    assert presented is not None
    assert is_secret_of(entry, presented.secret)
    assert main(["token", "list", *flags]) == 0
    listed = capsys.readouterr().out
    assert entry.id in listed
    assert "ana" in listed
    assert "50 requests/s, 8 at once" in listed
    assert presented.secret not in listed
    assert "scrypt" not in listed
    assert main(["token", "list", "--json", *flags]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["role"] == "predict"
    assert told["expires"] == told["created"] + 30 * 86_400
    assert "hash" not in told
    assert main(["token", "revoke", entry.id, *flags]) == 0
    assert read_tokens(file) == []
    assert main(["token", "revoke", entry.id, *flags]) == 1
    assert f"there is no token {entry.id} in {file}" in capsys.readouterr().err


def test_tokens_that_are_made_at_once_are_all_there(tmp_path, capsys):
    create = ["token", "create", "--role", "read", "--tokens", str(tmp_path / "tokens.json")]
    threads = [threading.Thread(target=main, args=(create,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_tokens(tmp_path / "tokens.json")) == 4
    assert len(set(capsys.readouterr().out.split())) == 4


def test_a_file_that_is_spoilt_is_left_alone(tmp_path, capsys):
    file = tmp_path / "tokens.json"
    file.write_text("{}")
    file.chmod(0o600)
    assert main(["token", "create", "--role", "admin", "--tokens", str(file)]) == 2
    assert "is no file of tokens" in capsys.readouterr().err
    assert file.read_text() == "{}"


@pytest.mark.parametrize("flag", ["--days=0", "--requests_per_second=-1", "--concurrency=1.5", "--role=root"])
def test_flags_that_make_no_sense_are_refused(tmp_path, flag):
    with pytest.raises(SystemExit):
        main(["token", "create", "--role=read", flag, "--tokens", str(tmp_path / "tokens.json")])
    assert list(tmp_path.iterdir()) == []

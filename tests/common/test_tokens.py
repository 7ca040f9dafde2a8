"""pure and files: tokens, what is kept of them, and files that are refused."""

from __future__ import annotations

import json
import stat

import pytest

from common.errors import TokenError
from common.tokens import (
    is_secret_of,
    make_token,
    parse_token,
    read_tokens,
    write_tokens,
)

ENTRY, SHOWN = make_token("predict", 1000.0, name="ana")


def test_a_token_is_known_by_its_secret_alone_and_found_by_its_id():
    presented = parse_token(SHOWN)
    assert presented is not None
    assert presented.id == ENTRY.id
    assert is_secret_of(ENTRY, presented.secret)
    assert not is_secret_of(ENTRY, presented.secret[:-1] + ("0" if presented.secret[-1] != "0" else "1"))


def test_two_tokens_have_nothing_in_common_and_the_entry_holds_no_secret():
    other, shown = make_token("predict", 1000.0)
    assert {ENTRY.id, ENTRY.hash, SHOWN}.isdisjoint({other.id, other.hash, shown})
    assert SHOWN.rpartition("_")[2] not in repr(ENTRY)
    assert ENTRY.hash.startswith("scrypt$16384$8$1$")


@pytest.mark.parametrize(
    "text",
    ["", "pl_", SHOWN + "0", SHOWN.upper(), f" {SHOWN}", SHOWN + "\n", "pl_é"],
    ids=["nothing", "no id", "longer", "upper case", "a space before", "a line", "another letter"],
)
def test_what_is_no_token_is_not_looked_up(text):
    assert parse_token(text) is None


def test_a_file_is_its_owners_alone_and_reads_as_it_was_written(tmp_path):
    path = tmp_path / "tokens.json"
    write_tokens(path, [ENTRY])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_tokens(path) == [ENTRY]
    assert [each.name for each in tmp_path.iterdir()] == ["tokens.json"]


def test_a_file_that_others_may_write_is_refused(tmp_path):
    path = tmp_path / "tokens.json"
    write_tokens(path, [ENTRY])
    path.chmod(0o622)
    with pytest.raises(TokenError, match=r"others may write .*: chmod go-w "):
        read_tokens(path)


def _entry(**changed: object) -> dict[str, object]:
    plain = {"id": ENTRY.id, "role": "predict", "hash": ENTRY.hash, "created": 1.0}
    return {**plain, **changed}


HASH = ENTRY.hash.split("$")


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        ([_entry(role="root")], "Invalid enum value 'root'"),
        ([_entry(id="../../../etc")], "an id is 12 hex digits"),
        ([_entry(hash="plain")], r"a hash is scrypt\$cost"),
        ([_entry(hash="$".join(["scrypt", str(1 << 24), *HASH[2:]]))], "more time or memory than one may"),
        ([_entry(hash="$".join([*HASH[:5], "AAAA"]))], "is too short"),
        ([_entry(concurrency=0)], "have to be above 0"),
        ([_entry(requests_per_second=-1.0)], "have to be above 0"),
        ([_entry(limits=1)], "unknown field `limits`"),
        ([_entry(), _entry()], "two tokens of one id"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_with_a_sentence(tmp_path, tokens, sentence):
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps({"tokens": tokens}))
    path.chmod(0o600)
    with pytest.raises(TokenError, match=sentence):
        read_tokens(path)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"[" * 100_000, b"\xff"])
def test_what_is_no_json_is_no_file_of_tokens(tmp_path, raw):
    path = tmp_path / "tokens.json"
    path.write_bytes(raw)
    path.chmod(0o600)
    with pytest.raises(TokenError, match=r"is no file of tokens: .*pipeline token create makes one"):
        read_tokens(path)


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(TokenError, match="cannot be read: No such file"):
        read_tokens(tmp_path / "none.json")
    with pytest.raises(TokenError, match="cannot be written: No such file"):
        write_tokens(tmp_path / "no" / "folder.json", [])

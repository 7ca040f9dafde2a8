"""Pure: which tokens are known, and how often an address may guess."""

from __future__ import annotations

import msgspec
import pytest

from common.errors import RateLimited, Unauthenticated
from common.tokens import make_token
from gateway.auth.guesses import ADDRESSES, AT_ONCE, Guesses
from gateway.auth.keyring import Keyring, read_bearer

ENTRY, SHOWN = make_token("predict", 0.0)
OTHER, OTHER_SHOWN = make_token("admin", 0.0)


def keyring() -> Keyring:
    made = Keyring()
    made.load([ENTRY, OTHER])
    return made


def test_nobody_is_known_before_a_proof_and_then_by_exactly_that_token():
    keys, shown = keyring(), SHOWN.encode()
    assert keys.recall(shown) is None
    presented, client = keys.find(shown)
    assert presented.id == client.id == ENTRY.id
    keys.remember(shown, client)
    assert keys.recall(shown) is client
    assert keys.recall(shown[:-1]) is None
    assert keys.recall(OTHER_SHOWN.encode()) is None


@pytest.mark.parametrize(
    "shown",
    [b"", b"secret", b"pl_000000000000_" + b"0" * 48, SHOWN.encode() + b"0", b"\xff"],
    ids=["nothing", "a word", "an unknown id", "longer", "no text"],
)
def test_what_names_no_token_is_refused_without_a_proof(shown):
    with pytest.raises(Unauthenticated, match="this token is not known here"):
        keyring().find(shown)


def test_a_token_that_is_taken_out_is_forgotten_and_its_holder_told():
    keys, shown = keyring(), SHOWN.encode()
    client = keys.find(shown)[1]
    keys.remember(shown, client)
    keys.load([OTHER])
    assert keys.recall(shown) is None
    with pytest.raises(Unauthenticated, match="was revoked"):
        client.check(0.0)
    keys.remember(shown, client)  # a proof that took until now
    assert keys.recall(shown) is None


def test_who_stays_keeps_what_is_counted_and_goes_by_new_limits():
    keys, shown = keyring(), SHOWN.encode()
    client = keys.find(shown)[1]
    keys.remember(shown, client)
    client.in_progress = 3
    keys.load([msgspec.structs.replace(ENTRY, role="read", concurrency=1)])
    assert keys.recall(shown) is client
    assert (client.in_progress, client.role, client.token.concurrency) == (3, "read", 1)


def test_another_secret_under_the_same_id_is_another_client():
    keys, shown = keyring(), SHOWN.encode()
    client = keys.find(shown)[1]
    keys.remember(shown, client)
    keys.load([msgspec.structs.replace(OTHER, id=ENTRY.id)])
    assert keys.recall(shown) is None
    assert keys.find(shown)[1] is not client


@pytest.mark.parametrize(
    "header",
    [None, b"", b"Basic cGw6cGw=", SHOWN.encode(), b"Bearer"],
    ids=["none", "empty", "basic", "the token alone", "the scheme alone"],
)
def test_another_way_to_say_who_one_is_is_none(header):
    with pytest.raises(Unauthenticated, match="send it as Authorization: Bearer"):
        read_bearer(header)


def test_the_scheme_is_read_as_http_has_it():
    assert read_bearer(b"Bearer x") == read_bearer(b"bearer  x ") == read_bearer(b"BEARER x") == b"x"


def test_an_address_guesses_a_few_times_at_once_and_then_slowly():
    guesses = Guesses()
    for _ in range(AT_ONCE + 1):
        guesses.guess("192.0.2.1", 100.0)
    with pytest.raises(RateLimited, match="too many wrong tokens came from this address") as refused:
        guesses.guess("192.0.2.1", 100.0)
    guesses.guess("192.0.2.2", 100.0)
    guesses.guess("192.0.2.1", 100.0 + refused.value.retry_after)


def test_who_was_right_begins_anew():
    guesses = Guesses()
    for _ in range(100):
        guesses.guess("192.0.2.1", 100.0)
        guesses.right("192.0.2.1")


def test_the_addresses_of_one_ipv6_host_count_as_one():
    guesses = Guesses()
    for n in range(AT_ONCE + 1):
        guesses.guess(f"2001:db8::{n:x}", 100.0)
    with pytest.raises(RateLimited):
        guesses.guess("2001:db8::ffff", 100.0)
    guesses.guess("2001:db8:1::1", 100.0)


def test_addresses_are_forgotten_before_they_are_too_many():
    guesses = Guesses()
    for n in range(2 * ADDRESSES):
        guesses.guess(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 100.0)
    assert len(guesses._rates) == ADDRESSES

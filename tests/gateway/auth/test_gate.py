"""Collaboration: the gate over a file of tokens, with real proofs in a thread."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from common.errors import Forbidden, PipelineError, RateLimited, TokenError, Unauthenticated
from common.tokens import make_token, write_tokens
from gateway.auth import gate as gates
from gateway.auth.clients import Client
from gateway.auth.gate import Gate
from gateway.auth.roles import Role

ENTRY, SHOWN = make_token("predict", 0.0)
HEADER = f"Bearer {SHOWN}".encode()
WRONG = HEADER[:-1] + (b"0" if HEADER[-1:] != b"0" else b"1")


@asynccontextmanager
async def open_gate(path: Path, wall: float = 1000.0) -> AsyncIterator[Gate]:
    write_tokens(path, [ENTRY])
    gate = Gate(path, clock=lambda: wall)
    async with trio.open_nursery() as nursery:
        await nursery.start(gate.run)
        yield gate
        nursery.cancel_scope.cancel()


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "tokens.json"


@pytest.fixture
def proofs(monkeypatch) -> list[str]:
    """What was proven by scrypt, in order."""
    made: list[str] = []
    real = gates.is_secret_of

    def counting(token, secret):
        made.append(secret)
        return real(token, secret)

    monkeypatch.setattr(gates, "is_secret_of", counting)
    return made


async def test_a_token_is_proven_once_however_many_come_with_it(path, proofs):
    async with open_gate(path) as gate:
        found: list[Client] = []

        async def ask() -> None:
            found.append(await gate.admit(HEADER, Role.PREDICT, "192.0.2.1"))

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(ask)
        assert len(set(found)) == len(proofs) == 1
        assert gate.recall(HEADER, Role.PREDICT) is found[0]


async def test_a_wrong_secret_is_refused_after_a_proof_and_an_unknown_id_without_one(path, proofs):
    async with open_gate(path) as gate:
        with pytest.raises(Unauthenticated):
            await gate.admit(WRONG, Role.PREDICT, "192.0.2.1")
        assert len(proofs) == 1
        with pytest.raises(Unauthenticated):
            await gate.admit(b"Bearer pl_000000000000_" + b"0" * 48, Role.PREDICT, "192.0.2.1")
        assert len(proofs) == 1
        assert gate.refused["unauthenticated"] == 2


async def test_who_guesses_is_stopped_before_it_costs_anything_and_who_is_known_passes(
    path, proofs, mock_clock
):
    async with open_gate(path) as gate:
        await gate.admit(HEADER, Role.PREDICT, "192.0.2.1")
        for _ in range(100):  # which costs nothing, and so counts for nothing
            with pytest.raises(Unauthenticated):
                await gate.admit(b"Bearer nonsense", Role.PREDICT, "192.0.2.1")
        for _ in range(11):
            with pytest.raises(Unauthenticated):
                await gate.admit(WRONG, Role.PREDICT, "192.0.2.1")
        with pytest.raises(RateLimited):
            await gate.admit(WRONG, Role.PREDICT, "192.0.2.1")
        assert len(proofs) == 12
        assert await gate.admit(HEADER, Role.PREDICT, "192.0.2.1")


async def test_a_role_that_does_not_hold_is_told_which_would(path):
    async with open_gate(path) as gate:
        with pytest.raises(Forbidden, match="a token of role predict may not do that: it takes admin"):
            await gate.admit(HEADER, Role.ADMIN, "192.0.2.1")
        assert await gate.admit(HEADER, Role.ANY, "192.0.2.1")
        assert gate.refused["forbidden"] == 1


async def test_a_token_that_was_revoked_is_refused_as_soon_as_the_file_says_so(path, autojump_clock):
    async with open_gate(path) as gate:
        await gate.admit(HEADER, Role.PREDICT, "192.0.2.1")
        write_tokens(path, [])
        with trio.fail_after(10):
            while len(gate.keyring):  # noqa: ASYNC110 - the gate looks by itself
                await trio.sleep(0.1)
        with pytest.raises(Unauthenticated):
            await gate.admit(HEADER, Role.PREDICT, "192.0.2.1")


@pytest.mark.parametrize("spoilt", ["{", None])
async def test_a_file_that_was_spoilt_changes_nothing(path, caplog, spoilt):
    async with open_gate(path) as gate:
        if spoilt is None:
            path.unlink()
        else:
            path.write_text(spoilt)
        gate.reload()
        assert "tokens stay as they are" in caplog.text
        assert await gate.admit(HEADER, Role.PREDICT, "192.0.2.1")


async def test_a_token_that_expired_is_refused_though_it_was_proven(path):
    write_tokens(path, [msgspec.structs.replace(ENTRY, expires=1000.0)])
    moment = [999.0]
    gate = Gate(path, clock=lambda: moment[0])
    await gate.admit(HEADER, Role.PREDICT, "192.0.2.1")
    moment[0] = 1000.0
    with pytest.raises(Unauthenticated, match="has expired"):
        gate.recall(HEADER, Role.PREDICT)


async def test_who_cannot_wait_is_told_later(path):
    async with open_gate(path) as gate:
        told, done = [], trio.Event()

        def then(outcome: Client | PipelineError) -> None:
            told.append(outcome)
            done.set()

        gate.prove_soon(gate.begin(WRONG, "192.0.2.1"), Role.PREDICT, then)
        await done.wait()
        assert isinstance(told[0], Unauthenticated)


async def test_a_proof_that_nobody_waits_for_any_more_gives_its_place_back(path):
    async with open_gate(path) as gate:
        with trio.move_on_after(0):
            await gate.admit(HEADER, Role.PREDICT, "192.0.2.1")
        assert gate._proofs == 0
        assert await gate.admit(HEADER, Role.PREDICT, "192.0.2.1")


def test_a_gateway_does_not_start_with_a_file_that_is_none(path):
    with pytest.raises(TokenError):
        Gate(path)

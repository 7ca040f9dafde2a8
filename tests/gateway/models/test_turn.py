"""Collaboration: gateway/models/turn.py in virtual time."""

from __future__ import annotations

import pytest
import trio

from gateway.models.turn import Turn

pytestmark = pytest.mark.usefixtures("virtual_time")


class Party:
    """Tasks that come at a second each, have the turn for some, and note when."""

    def __init__(self) -> None:
        self.turn = Turn()
        self.had: dict[str, tuple[float, float]] = {}

    async def alone(self, name: str, comes: float, stays: float) -> None:
        await trio.sleep(comes)
        async with self.turn:
            await self._stay(name, stays)

    async def shares(self, name: str, comes: float, stays: float) -> None:
        await trio.sleep(comes)
        async with self.turn.shared():
            await self._stay(name, stays)

    async def _stay(self, name: str, stays: float) -> None:
        began = trio.current_time()
        try:
            await trio.sleep(stays)
        finally:
            self.had[name] = began, trio.current_time()


async def test_those_who_share_it_have_it_together_and_whoever_does_not_has_it_alone():
    party = Party()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(party.shares, "a", 0, 5)
        nursery.start_soon(party.shares, "b", 1, 5)
        nursery.start_soon(party.alone, "c", 2, 5)
        nursery.start_soon(party.alone, "d", 3, 5)
    assert party.had == {"a": (0, 5), "b": (1, 6), "c": (6, 11), "d": (11, 16)}


async def test_whoever_waits_for_it_alone_is_not_overtaken_by_those_who_would_share_it():
    party = Party()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(party.shares, "a", 0, 5)
        nursery.start_soon(party.alone, "b", 1, 5)
        nursery.start_soon(party.shares, "c", 2, 5)
        nursery.start_soon(party.shares, "d", 3, 5)
    assert party.had == {"a": (0, 5), "b": (5, 10), "c": (10, 15), "d": (10, 15)}


@pytest.mark.parametrize("has", ["shares", "alone"])
@pytest.mark.parametrize("waits", ["shares", "alone"])
async def test_whoever_is_cancelled_while_waiting_or_having_it_leaves_it_to_the_next(has, waits):
    party = Party()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(party.alone, "first", 0, 4)
        with trio.move_on_after(2):
            await getattr(party, waits)("waits", 1, 5)
        assert "waits" not in party.had
        with trio.move_on_after(5):  # that is until 7
            await getattr(party, has)("has", 0, 100)
        assert party.had["has"] == (4, 7)
        nursery.start_soon(party.alone, "last", 0, 1)
    assert party.had["last"] == (7, 8)

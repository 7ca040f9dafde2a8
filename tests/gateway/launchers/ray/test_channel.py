"""collaboration: the gateway's end of the driver, and a real process that answers late, wrongly or not."""

import os
import sys
from pathlib import Path

import pytest
import trio

from common.errors import LaunchError
from gateway.launchers.ray import channel as module
from gateway.launchers.ray.channel import Channel
from gateway.launchers.ray.orders import See, Stop

DRIVER = Path(__file__).resolve().parents[3] / "services" / "scripted_driver.py"


@pytest.fixture
async def channel(monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.0)
    monkeypatch.setattr(module, "LATE_ANSWER", 10.0)
    opened = Channel([sys.executable, str(DRIVER)], dict(os.environ))
    yield opened
    await opened.aclose()


async def test_an_answer_belongs_to_its_order(channel):
    for number in (1, 2, 3):
        assert list((await channel.ask(See())).seen) == [f"a-{number}.1"]


async def test_a_late_answer_is_nobodys(channel, monkeypatch):
    await channel.ask(See())
    monkeypatch.setattr(module, "NEXT_ANSWER", 0.05)
    with pytest.raises(LaunchError, match=r"^Ray does not answer"):
        await channel.ask(Stop("hold", 1.0))
    assert list((await channel.ask(See())).seen) == ["a-3.1"]


async def test_whoever_gives_up_waiting_leaves_no_answer_to_the_next(channel):
    await channel.ask(See())
    with trio.move_on_after(0.05) as given_up:
        await channel.ask(Stop("hold", 1.0))
    assert given_up.cancelled_caught
    assert list((await channel.ask(See())).seen) == ["a-3.1"]


@pytest.mark.apart  # 25 s: it is waited for
async def test_a_driver_that_never_answers_again_is_replaced(channel, monkeypatch):
    await channel.ask(See())
    first = channel._process
    for name in ("NEXT_ANSWER", "LATE_ANSWER", "GIVE_UP"):
        monkeypatch.setattr(module, name, 0.05)
    for _ in range(2):
        with pytest.raises(LaunchError, match=r"^Ray does not answer"):
            await channel.ask(Stop("hold", 1.0))
    assert first.returncode is not None
    assert list((await channel.ask(See())).seen) == ["a-1.1"]


@pytest.mark.parametrize(
    ("what", "why"), [("end", "^Ray ended its driver: exit code 3$"), ("fail", "^Ray refused$")]
)
async def test_a_driver_that_ended_or_failed_says_why_and_the_next_one_is_asked(channel, what, why):
    await channel.ask(See())
    first = channel._process
    with pytest.raises(LaunchError, match=why):
        await channel.ask(Stop(what, 1.0))
    assert first.returncode is not None
    assert list((await channel.ask(See())).seen) == ["a-1.1"]


async def test_the_next_driver_is_not_started_at_once(channel, monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 60.0)
    for _ in range(3):
        with pytest.raises(LaunchError, match=r"^Ray refused$"):
            await channel.ask(Stop("fail", 1.0))
        assert channel._process is None


async def test_a_driver_ends_with_its_channel(channel):
    await channel.ask(See())
    process = channel._process
    await channel.aclose()
    assert process.returncode is not None

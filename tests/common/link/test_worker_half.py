"""Contract: the worker's half of a link over each of NNG's transports: threads that answer, come what may."""

from __future__ import annotations

import logging
import threading
import time

import pytest
import trio

from common.errors import WorkerLost
from common.link.worker import answer_requests, answer_surveys
from tests.common.link.conftest import Heard, NngTransport


def nobody() -> None:
    """For whoever wants no notice."""


def threads_named(name: str) -> int:
    return sum(thread.name.startswith(f"{name}-") for thread in threading.enumerate())


@pytest.fixture(params=["ipc", "tcp"])
def transport(request, nursery, folder):
    return NngTransport(nursery, request.param, folder)


@pytest.fixture
def answer():
    """`answer(url, handler)`: a worker's data plane, closed at the end at the latest."""
    started = []

    def start(url, handler, *, make=answer_requests, threads=2):
        started.append(make(url, handler, threads=threads))
        return started[-1]

    yield start
    for each in started:
        each.close()
    assert threads_named("data") == threads_named("control") == 0


async def exchange(link, question: bytes) -> bytes:
    with trio.fail_after(10):
        return bytes((await link.exchange(question)).view)


async def test_a_handler_that_raises_costs_that_one_frame(transport, answer, caplog):
    def handle(frame: memoryview) -> bytes:
        if frame == b"bug":
            raise ZeroDivisionError("a bug in the handler")
        return b"re: " + frame

    url, joined = transport.url(), Heard()
    link = transport.listen_link(url, joined, nobody)
    answer(url, handle, threads=1)
    await joined.until(1)
    with caplog.at_level(logging.ERROR), trio.move_on_after(0.05):
        await link.exchange(b"bug")
    assert await exchange(link, b"one") == b"re: one"  # by the same thread
    assert [record.message for record in caplog.records] == ["a frame's handler failed"]
    await link.aclose()


async def test_no_answer_to_one_frame_is_no_trouble_for_the_next(transport, answer):
    url, joined = transport.url(), Heard()
    link = transport.listen_link(url, joined, nobody)
    answer(url, lambda frame: None if frame == b"hush" else b"re: " + frame, threads=1)
    await joined.until(1)
    with trio.move_on_after(0.05) as scope:
        await link.exchange(b"hush")
    assert scope.cancelled_caught
    assert await exchange(link, b"one") == b"re: one"
    await link.aclose()


async def test_frames_are_handled_by_as_many_threads_as_were_asked_for(transport, answer):
    together = threading.Barrier(3)

    def handle(frame: memoryview) -> bytes:
        together.wait(10)
        return b"re: " + frame

    url, got = transport.url(), []
    link = transport.listen_link(url, nobody, nobody)
    answer(url, handle, threads=3)

    async def one(n: int) -> None:
        got.append(await exchange(link, b"%d" % n))

    async with trio.open_nursery() as nursery:
        for n in range(3):
            nursery.start_soon(one, n)
    assert sorted(got) == [b"re: 0", b"re: 1", b"re: 2"]
    await link.aclose()


async def test_a_worker_finds_a_gateway_that_comes_late_and_one_that_comes_back(transport, answer):
    url = transport.url()
    worker = answer(url, lambda frame: b"re: " + frame)
    assert not worker.is_connected
    for _ in range(3):
        link = transport.listen_link(url, nobody, nobody)
        assert await exchange(link, b"there?") == b"re: there?"
        assert worker.is_connected
        await link.aclose()


async def test_a_worker_that_hung_up_dials_anew_and_serves_as_before(transport, answer):
    url, joined, left = transport.url(), Heard(), Heard()
    link = transport.listen_link(url, joined, left)
    worker = answer(url, lambda frame: b"re: " + frame)
    await joined.until(1)
    for times in (1, 2, 3):
        assert await exchange(link, b"there?") == b"re: there?"  # so both ends know of the connection
        worker.hang_up()
        await left.until(times)
        await joined.until(times + 1)
    assert await exchange(link, b"there?") == b"re: there?"
    await link.aclose()


async def test_an_answer_for_a_gateway_that_has_gone_is_dropped_and_the_thread_goes_on(
    transport, answer, caplog
):
    free, came = threading.Event(), threading.Event()

    def handle(frame: memoryview) -> bytes:
        came.set()
        free.wait(10)
        return b"re: " + frame

    url = transport.url()
    link = transport.listen_link(url, nobody, nobody)
    answer(url, handle, threads=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.exchange, b"lost")
        assert await trio.to_thread.run_sync(came.wait, 10)
        nursery.cancel_scope.cancel()
    await link.aclose()
    free.set()
    link = transport.listen_link(url, nobody, nobody)
    assert await exchange(link, b"new") == b"re: new"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    await link.aclose()


async def test_closing_ends_the_threads_at_once_where_nothing_is_in_hand(transport, answer):
    url, joined, left = transport.url(), Heard(), Heard()
    link = transport.listen_link(url, joined, left)
    worker = answer(url, lambda frame: b"re: " + frame, threads=4)
    await joined.until(1)
    assert threads_named("data") == 4
    began = time.monotonic()
    worker.close()
    assert time.monotonic() - began < 0.5
    assert threads_named("data") == 0
    await left.until(1)
    worker.close()  # closed twice is closed
    await link.aclose()


async def test_closing_waits_for_the_answer_in_hand(transport, answer):
    came = threading.Event()

    def handle(frame: memoryview) -> bytes:
        came.set()
        time.sleep(0.1)
        return b"re: " + frame

    url, got = transport.url(), []
    link = transport.listen_link(url, nobody, nobody)
    worker = answer(url, handle)

    async def one() -> None:
        got.append(await exchange(link, b"last words"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
        await trio.to_thread.run_sync(came.wait, 10)
        await trio.to_thread.run_sync(worker.close)
    assert got == [b"re: last words"]
    await link.aclose()


async def test_closing_does_not_wait_for_ever_for_a_handler_that_is_stuck(transport, answer, monkeypatch):
    monkeypatch.setattr("common.link.worker.CLOSE_TIME", 0.1)
    free, came = threading.Event(), threading.Event()

    def handle(frame: memoryview) -> None:
        came.set()
        free.wait(10)

    url = transport.url()
    link = transport.listen_link(url, nobody, nobody)
    worker = answer(url, handle, threads=1)

    async def close() -> None:
        await trio.to_thread.run_sync(came.wait, 10)
        await trio.to_thread.run_sync(worker.close)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(close)
            with pytest.raises(WorkerLost):
                await link.exchange(b"stuck")
    free.set()
    for thread in threading.enumerate():
        if thread.name.startswith("data-"):
            await trio.to_thread.run_sync(thread.join, 5)
    await link.aclose()


async def test_a_handler_may_close_the_socket_that_it_answers(transport, answer):
    workers = []

    def handle(frame: memoryview) -> None:
        workers[0].close()

    url, left = transport.url(), Heard()
    link = transport.listen_link(url, nobody, left)
    workers.append(answer(url, handle))
    with trio.fail_after(5), pytest.raises(WorkerLost):
        await link.exchange(b"go")
    await left.until(1)
    await link.aclose()


async def test_a_long_load_delays_no_heartbeat(transport, answer):
    free = threading.Event()

    def handle(frame: memoryview) -> bytes:
        if frame == b"load":
            free.wait(10)
        return b"re: " + frame

    url, joined, got = transport.url(), Heard(), []

    async with transport.open_surveyor([url], joined, nobody) as surveyor, trio.open_nursery() as nursery:

        async def ask(question: bytes) -> None:
            with trio.fail_after(10):
                await surveyor.ask(question, 10.0, lambda frame: got.append(bytes(frame.view)) or True)

        answer(url, handle, make=answer_surveys)
        await joined.until(1)
        nursery.start_soon(ask, b"load")
        await ask(b"hello")
        await ask(b"hello")
        assert got == [b"re: hello", b"re: hello"]
        free.set()
    assert got == [b"re: hello", b"re: hello", b"re: load"]

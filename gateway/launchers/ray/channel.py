"""The gateway's end of the driver: a child process that is started when it is first asked something, and
again after it has ended. Why a process of its own: docs/decisions.md."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
import trio

from common.errors import LaunchError
from gateway.launchers.ray.orders import Answer, Kill, Order, Room, See, Start, Stop

ROOT = Path(__file__).resolve().parents[3]
FIRST_ANSWER = 25.0  # Ray is imported and connected to: two seconds on an idle machine
NEXT_ANSWER = 10.0
LATE_ANSWER = 0.5  # where it owes older answers: nobody is kept waiting for long by a cluster that is away
GIVE_UP = 120.0  # Ray itself gives a head up after a minute
PAUSE = 2.0  # from a driver's end to the start of the next
SILENCE = "Ray does not answer: its head may be away"


class Channel:
    """Asks the driver, one order at a time: its owner sees to that.

    An order whose answer did not come in time may still be carried out. Its answer is dropped when it comes.
    """

    def __init__(self, driver: list[str], environment: Mapping[str, str]) -> None:
        self._driver = driver
        self._environment = environment
        self._process: trio.Process | None = None
        self._read = b""
        self._asked = self._answered = 0
        self._owes_since = 0.0
        self._not_before = 0.0
        self._why_it_ended = ""

    async def ask(self, order: Start | Stop | Kill | See | Room) -> Answer:
        """The answer; `LaunchError` where there is none in time, or none that it was carried out."""
        process = self._process or await self._start()
        limit = NEXT_ANSWER if self._answered else FIRST_ANSWER
        if self._asked == self._answered:
            self._owes_since = trio.current_time()
        else:
            limit = LATE_ANSWER
        self._asked += 1
        with trio.move_on_after(limit):
            answer = await self._exchange(process, Order(self._asked, order))
            if answer.error:
                await self._end(answer.error)
                raise LaunchError(answer.error)
            return answer
        if trio.current_time() - self._owes_since > GIVE_UP:
            await self._end(SILENCE)
        raise LaunchError(SILENCE)

    async def aclose(self) -> None:
        """End the driver; what it had started goes on."""
        await self._end("the launcher was closed")

    async def _start(self) -> trio.Process:
        if trio.current_time() < self._not_before:
            raise LaunchError(self._why_it_ended)
        try:
            self._process = await trio.lowlevel.open_process(
                self._driver,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self._environment,
                cwd=ROOT,  # Ray has nodes look there first: a checkout that all of them share
                start_new_session=True,  # Ctrl-C is the gateway's to deal with
            )
        except OSError as error:
            raise LaunchError(f"the process that speaks with Ray cannot be started: {error}") from None
        self._read = b""
        self._asked = self._answered = 0
        return self._process

    async def _exchange(self, process: trio.Process, order: Order) -> Answer:
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(trio.BrokenResourceError), trio.CancelScope(shield=True):  # whole lines, or none
            await process.stdin.send_all(msgspec.json.encode(order) + b"\n")
        while True:
            line, separator, rest = self._read.partition(b"\n")
            if separator:
                self._read = rest
                answer = msgspec.json.decode(line, type=Answer)
                self._answered = answer.number
                if answer.number == order.number or answer.error:
                    return answer
            elif received := await process.stdout.receive_some():
                self._read += received
            else:
                return Answer(order.number, error=f"Ray ended its driver: {await _exit_code(process)}")

    async def _end(self, why: str) -> None:
        process, self._process = self._process, None
        self._why_it_ended = why
        self._not_before = trio.current_time() + PAUSE
        if process is None:
            return
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                await stream.aclose()


async def _exit_code(process: trio.Process) -> str:
    return f"exit code {await process.wait()}"

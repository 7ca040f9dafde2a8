"""Unit: what is known of a socket's connections, in whichever order NNG's threads tell of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from common.link.nng import Pipes


class Socket:
    """What pynng calls back, and the list that it keeps by itself."""

    def __init__(self) -> None:
        self._pipes: dict[int, Any] = {}
        self.comes: Callable[[Any], None]
        self.came: Callable[[Any], None]
        self.went: Callable[[Any], None]

    def add_pre_pipe_connect_cb(self, callback: Callable[[Any], None]) -> None:
        self.comes = callback

    def add_post_pipe_connect_cb(self, callback: Callable[[Any], None]) -> None:
        self.came = callback

    def add_post_pipe_remove_cb(self, callback: Callable[[Any], None]) -> None:
        self.went = callback


class Pipe:
    def __init__(self, socket: Socket, number: int) -> None:
        self.socket = socket
        self.id = number
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


class Told:
    """A socket's connections, and what was told of them."""

    def __init__(self, most: int | None = None) -> None:
        self.socket = Socket()
        self.events: list[tuple[str, int]] = []
        self.pipes = Pipes(
            self.socket,
            lambda pipe: self.events.append(("joined", pipe.id)),
            lambda pipe: self.events.append(("left", pipe.id)),
            most=most,
        )

    def pipe(self, number: int) -> Pipe:
        pipe = self.socket._pipes[number] = Pipe(self.socket, number)
        self.socket.comes(pipe)
        return pipe


def test_a_connection_is_there_from_when_it_comes_until_it_left():
    told = Told()
    pipe = told.pipe(1)
    assert list(told.pipes) == [pipe]
    assert told.events == []
    told.socket.came(pipe)
    assert list(told.pipes) == [pipe]
    told.socket.went(pipe)
    assert list(told.pipes) == []
    assert told.events == [("joined", 1), ("left", 1)]


def test_one_whose_end_is_told_first_never_was_and_keeps_nobody_out():
    told = Told(most=1)
    pipe = told.pipe(1)
    told.socket.went(pipe)
    told.socket.came(pipe)
    assert list(told.pipes) == []
    assert told.socket._pipes == {}
    assert told.events == []
    other = told.pipe(2)
    told.socket.came(other)
    assert not other.is_closed
    assert told.events == [("joined", 2)]


def test_one_too_many_is_closed_before_it_joins():
    told = Told(most=1)
    first, second = told.pipe(1), told.pipe(2)
    assert second.is_closed
    told.socket.came(first)
    assert list(told.pipes) == [first]


def test_connections_are_closed_by_their_numbers_or_all():
    told = Told()
    pipes = [told.pipe(number) for number in (1, 2, 3)]
    for pipe in pipes:
        told.socket.came(pipe)
    told.pipes.close(2)
    assert [pipe.is_closed for pipe in pipes] == [False, True, False]
    told.pipes.close()
    assert all(pipe.is_closed for pipe in pipes)

"""Pure, but for a real socket or two: listening and accepting, also when descriptors run out."""

from __future__ import annotations

import errno
import socket

import pytest

from common.sockets import accept_waiting, bind


class FailingListener:
    """Raises what the kernel would, in turn, then has no client waiting."""

    def __init__(self, *numbers: int) -> None:
        self._errors: list[OSError] = [OSError(number, "as the kernel says") for number in numbers]

    def accept(self) -> None:
        raise self._errors.pop(0) if self._errors else BlockingIOError()


def test_accepting_stops_when_the_process_has_no_descriptor_left(caplog: pytest.LogCaptureFixture) -> None:
    listener = FailingListener(errno.ECONNABORTED, errno.EMFILE, errno.EMFILE)
    assert accept_waiting(listener) == ([], False)  # type: ignore[arg-type]
    assert [r.getMessage() for r in caplog.records] == [
        "cannot accept connections for now: [Errno 24] as the kernel says"
    ]


def test_a_client_that_left_before_accept_costs_no_one_else_their_turn() -> None:
    assert accept_waiting(FailingListener(errno.ECONNABORTED)) == ([], True)  # type: ignore[arg-type]


def test_everyone_who_waits_is_accepted_at_once_without_delay_and_without_blocking() -> None:
    (listener,) = bind("127.0.0.1", 0)
    clients = [socket.create_connection(listener.getsockname()) for _ in range(20)]
    accepted, room = accept_waiting(listener)
    assert (len(accepted), room) == (20, True)
    assert all(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for sock, _ in accepted)
    assert all(not sock.getblocking() for sock, _ in accepted)
    for sock in [listener, *clients, *(sock for sock, _ in accepted)]:
        sock.close()


def test_bind_refuses_a_taken_port_and_leaves_no_socket_open() -> None:
    (first,) = bind("127.0.0.1", 0)
    with pytest.raises(OSError, match="Address already in use"):
        bind("127.0.0.1", first.getsockname()[1])
    first.close()

"""Frames over a Unix socket, with file descriptors: what processes say to those that they have forked.

A frame is six bytes (the body's length, its kind, how many descriptors came with it) and a body. What kinds
there are is for those who speak to say. There is no lock: each direction has one sender at a time.
"""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

_HEAD = struct.Struct("<IBB")
_MOST_FDS = 4
_READ = 128 << 10
# As plain numbers: to combine those of an enum takes as long as the system call.
_CLOSE_ON_EXEC = int(getattr(socket, "MSG_CMSG_CLOEXEC", 0))
_DO_NOT_WAIT = int(socket.MSG_DONTWAIT)
_HUNG_UP = getattr(select, "POLLRDHUP", select.POLLHUP)
_INT = struct.calcsize("i")


class Frame(NamedTuple):
    """A frame as it was read; its descriptors belong to whoever has it."""

    kind: int
    body: bytes
    fds: list[int]

    @property
    def fd(self) -> int | None:
        """The one descriptor, or None."""
        return self.fds[0] if self.fds else None


class Channel:
    """One end. `was_reset` tells, once it has ended, that the other end left something unread."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.was_reset = False
        self._buffer = bytearray()
        self._fds: list[int] = []

    def fileno(self) -> int:
        """For selectors."""
        return self.socket.fileno()

    def send(self, kind: int, body: bytes = b"", fds: Sequence[int] = ()) -> None:
        """Send a frame, waiting for room. `OSError` where the other end is gone."""
        data = memoryview(_HEAD.pack(len(body), kind, len(fds)) + body)
        sent = self._send(data, fds, 0)
        if sent < len(data):
            self.socket.sendall(data[sent:])

    def send_at_once(self, kind: int, body: bytes, fds: Sequence[int] = ()) -> None:
        """Send a frame that has to fit into the socket's buffer; `OSError` where it does not."""
        data = _HEAD.pack(len(body), kind, len(fds)) + body
        if self._send(data, fds, _DO_NOT_WAIT) < len(data):
            raise BrokenPipeError("the other end does not read")

    def _send(self, data: bytes | memoryview, fds: Sequence[int], flags: int) -> int:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        return self.socket.sendmsg([data], rights, flags)

    def receive(self) -> Frame | None:
        """Wait for the next frame; None at the end."""
        while (frame := self._next()) is None:
            if not self._read(0):
                return None
        return frame

    def receive_ready(self) -> tuple[list[Frame], bool]:
        """The frames that are there, without waiting, and whether more may come."""
        is_open = True
        with contextlib.suppress(BlockingIOError):
            is_open = self._read(_DO_NOT_WAIT)
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames, is_open

    def _read(self, flags: int) -> bool:
        try:
            data, rights, _, _ = self.socket.recvmsg(
                _READ, socket.CMSG_SPACE(_MOST_FDS * _INT), flags | _CLOSE_ON_EXEC
            )
        except BlockingIOError:
            raise
        except OSError:  # a reset: the other end died with something unread
            self.was_reset = True
            return False
        for level, kind, raw in rights:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._fds += array.array("i", raw[: len(raw) - len(raw) % _INT])
        self._buffer += data
        return bool(data)

    def _next(self) -> Frame | None:
        if len(self._buffer) < _HEAD.size:
            return None
        length, kind, count = _HEAD.unpack_from(self._buffer)
        end = _HEAD.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_HEAD.size : end])
        del self._buffer[:end]
        fds, self._fds = self._fds[:count], self._fds[count:]
        return Frame(kind, body, fds)

    def is_hung_up(self) -> bool:
        """Whether the other end will send nothing more, though something may be left to read."""
        poll = select.poll()
        poll.register(self.socket, _HUNG_UP)
        return bool(poll.poll(0))

    def hang_up(self) -> None:
        """Say that nothing more will be sent; what the other end says can still be read."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close it, and descriptors that nobody took."""
        self.socket.close()
        while self._fds:
            os.close(self._fds.pop())


def packed(kind: int, body: bytes) -> bytes:
    """A frame without descriptors, for whoever sends as much of it as there is room for."""
    return _HEAD.pack(len(body), kind, 0) + body


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends, for two processes."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

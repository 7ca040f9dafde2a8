"""What both halves of a link need of pynng: its threads, its limits, its errors and its buffers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import pynng
from pynng._nng import ffi, lib

from common.credentials import Credentials
from common.errors import CertificateError, LinkClosed, LinkError, NotSent, WorkerLost
from common.wire import MAX_BATCH_BYTES

# NNG sets no limit of its own, so a stranger could announce any length. Weights travel in chunks, so
# the largest honest frame is a batch of the largest request, or a survey with weights aboard. What a model
# makes of it may be larger.
MAX_FRAME = 2 * MAX_BATCH_BYTES

RECONNECT_MIN_MS = 20
RECONNECT_MAX_MS = 250


OfPipe = Callable[[Any], None]


def _ignore(_pipe: Any) -> None:
    """For who wants no notice."""


def limit_threads() -> None:
    """Keep NNG to few threads (it starts a dozen on two cores); only before the first socket of a process."""
    for parameter, value in (
        (lib.NNG_INIT_NUM_TASK_THREADS, 2),
        (lib.NNG_INIT_NUM_EXPIRE_THREADS, 1),
        (lib.NNG_INIT_NUM_POLLER_THREADS, 1),
        (lib.NNG_INIT_NUM_RESOLVER_THREADS, 1),
    ):
        lib.nng_init_set_parameter(parameter, value)


def prepare(socket: Any) -> Any:
    """A new socket with our limits set, before it listens or dials."""
    socket.recv_max_size = MAX_FRAME
    return socket


@lru_cache(maxsize=8)  # all sockets on one port have to have the same one
def tls_config(credentials: Credentials, server_name: str | None) -> Any:
    """How to speak TLS: with `server_name`, as the end that dials a server of that name, else as the server.
    Either end refuses whoever shows no certificate of the authority, and it of the wrong name or kind."""
    mode = pynng.TLSConfig.MODE_SERVER if server_name is None else pynng.TLSConfig.MODE_CLIENT
    try:
        return pynng.TLSConfig(
            mode,
            server_name=server_name,
            ca_string=credentials.ca,
            own_cert_string=credentials.cert,
            own_key_string=credentials.key,
            auth_mode=pynng.TLSConfig.AUTH_MODE_REQUIRED,
        )
    except pynng.exceptions.NNGException as error:
        raise CertificateError(
            f"NNG cannot use the certificate, its key or the authority's: {error}"
        ) from None


@contextlib.contextmanager
def mapped_errors() -> Iterator[None]:
    """The one place where pynng's exceptions become ours."""
    try:
        yield
    except pynng.exceptions.Closed:
        raise LinkClosed("the socket was closed") from None
    except pynng.exceptions.ConnectionReset:
        raise WorkerLost("the worker's connection broke") from None
    except pynng.exceptions.AddressInUse as error:
        raise LinkError("the address is in use: is another gateway running?") from error
    except pynng.exceptions.TryAgain:
        raise NotSent("no worker is connected") from None
    except pynng.exceptions.NNGException as error:
        raise LinkError(str(error)) from error


class Frame:
    """A received message. Its memory lives as long as `view` or any part of it: an answer of megabytes goes
    to its client piece by piece, long after whoever received the frame is done with it."""

    __slots__ = ("_message", "view")

    def __init__(self, message: Any) -> None:
        self._message = message._nng_msg
        # A view keeps the cffi object that it was made of, whose end is the message's.
        body = ffi.cast("char *", lib.nng_msg_body(message._nng_msg))
        owner = ffi.gc(body, lambda _: message)
        self.view = memoryview(ffi.buffer(owner, lib.nng_msg_len(message._nng_msg))).cast("B")

    @property
    def pipe(self) -> int:
        """Which connection it came by."""
        return int(lib.nng_pipe_id(lib.nng_msg_get_pipe(self._message)))

    @property
    def number(self) -> int:
        """Which request it answers, where a raw socket received it."""
        return int.from_bytes(ffi.buffer(lib.nng_msg_header(self._message), 4), "big")


def receive_descriptor(socket: Any) -> int:
    """What is readable while a message can be received without waiting; NNG closes it with the socket."""
    descriptor = ffi.new("int *")
    pynng.exceptions.check_err(lib.nng_socket_get_int(socket.socket, b"recv-fd", descriptor))
    return int(descriptor[0])


class Pipes:
    """The connections of a socket that is about to listen or dial: `most` of them at once, if that is said.

    NNG's threads call `joined(pipe)` and `left(pipe)`, which may only hop to another thread. Two of them tell
    of a connection that ends as it begins, and the end may be told first: then it never was. (pynng's own
    list has it for ever.) pynng has one callback of a socket run at a time, so nothing is locked here.
    """

    def __init__(
        self, socket: Any, joined: OfPipe = _ignore, left: OfPipe = _ignore, *, most: int | None = None
    ) -> None:
        self._joined, self._left = joined, left
        self._most = most
        self._known: dict[int, Any] = {}  # by their numbers
        self._told: set[int] = set()  # who have joined
        socket.add_pre_pipe_connect_cb(self._comes)
        socket.add_post_pipe_connect_cb(self._came)
        socket.add_post_pipe_remove_cb(self._went)

    def __iter__(self) -> Iterator[Any]:
        return iter(tuple(self._known.values()))

    def close(self, *numbers: int) -> None:
        """End the connections of these numbers, or all."""
        for pipe in self:
            if not numbers or pipe.id in numbers:
                with contextlib.suppress(pynng.exceptions.NNGException):
                    pipe.close()

    def _comes(self, pipe: Any) -> None:
        if len(self._known) == self._most:
            pipe.close()
        else:
            self._known[pipe.id] = pipe

    def _came(self, pipe: Any) -> None:
        if pipe.id in self._known:
            self._told.add(pipe.id)
            self._joined(pipe)
        else:
            pipe.socket._pipes.pop(pipe.id, None)

    def _went(self, pipe: Any) -> None:
        self._known.pop(pipe.id, None)
        if pipe.id in self._told:
            self._told.remove(pipe.id)
            self._left(pipe)


def is_sent(code: int, message: Any) -> bool:
    """Whether NNG has taken a message, by what its `sendmsg` said without waiting: else it is sent later."""
    if code == lib.NNG_EAGAIN:
        return False
    pynng.exceptions.check_err(code)
    message._mem_freed = True
    return True


def set_survey_time(context: Any, seconds: float) -> None:
    """How long the next survey on this context takes answers (−1 does not mean for ever to NNG)."""
    milliseconds = max(1, round(seconds * 1000))
    pynng.exceptions.check_err(lib.nng_ctx_set_ms(context.context, b"surveyor:survey-time", milliseconds))


def free_unsent(aio: Any) -> None:
    """Free the message that NNG left with an aio when its send did not happen (pynng leaks it)."""
    message = lib.nng_aio_get_msg(aio)
    if message != ffi.NULL:
        lib.nng_msg_free(message)

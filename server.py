"""The model server's main, and its two classes: y = X @ coefs over gRPC, remembered. `python server.py -h`.

Both classes are thin faces: the cache is the engine's, the service is modelserver.proto's.

Exit codes: 0 stopped in good order, 1 it could not start (an address in use), 2 a flag that makes no sense.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":  # first of all: until somebody hears it, Ctrl-C is quiet, while we import too
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import array
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what goes wrong is said here, once, as a sentence
try:
    import grpc
    import numpy as np
    import torch
    import trio
    from google.protobuf.message import DecodeError

    import modelserver_pb2
    import modelserver_pb2_grpc
    from common.grpc.call import Call, Method, unary
    from common.grpc.limits import GrpcLimits
    from common.grpc.server import GrpcServer
    from common.grpc.statuses import Refused, Status
except ModuleNotFoundError as error:
    sentence = f"server.py needs {error.name}: pip install 'pipeline-inference[grpc,worker]'"
    if __name__ == "__main__":
        sys.exit(sentence)
    raise ModuleNotFoundError(sentence, name=error.name) from None

import engine.cache
from common.addresses import is_loopback_host
from common.errors import InvalidRequest, NoWeights, PipelineError
from common.log import configure, event
from common.sockets import bind

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2

CACHE_SIZE = 10
DECIMALS = 4
MAX_MESSAGE = 4 << 20
# A message up to this size is answered where it arrives: to hand it to a thread and back takes longer.
SHORT = 16 << 10
MAX_WAITING = 1000  # longer ones beyond so many are refused at once
LIMITS = GrpcLimits(max_message=MAX_MESSAGE, max_held=64 * MAX_MESSAGE)
GRACE = 30.0  # seconds that calls in flight have when the server is told to stop

_log = logging.getLogger("pipeline.server")


class PredictionCache(engine.cache.PredictionCache):
    """y = X @ coefs for the last ten X, of numbers rounded to four decimals. Thread-safe.

    The lock is the engine's: held whenever what is shared changes, let go of whatever happens. `Predict`
    gives `(y, hit)`; equal X asked for at once are computed once, and for all but the first that is a hit.
    """

    def __init__(self) -> None:
        super().__init__(CACHE_SIZE, round_decimals=DECIMALS, model=_no_coefs)

    def SetCoefs(self, coefs: torch.Tensor) -> None:
        """Answer with these from now on, a vertical float32 tensor, and forget all answers.

        `InvalidRequest` for what is none; the coefs of before stay then.
        """
        if coefs.dtype != torch.float32 or coefs.dim() != 2 or coefs.shape[1] != 1 or not len(coefs):
            raise InvalidRequest(
                "coefs have to be a float32 tensor of shape [n, 1], n at least 1,"
                f" not a {str(coefs.dtype).removeprefix('torch.')} one of shape {list(coefs.shape)}"
            )
        coefs, width = coefs.detach().clone(), len(coefs)  # the caller's own may change later

        def product(X: torch.Tensor) -> torch.Tensor:
            if X.dim() != 2 or X.shape[1] != width:
                raise InvalidRequest(
                    f"there are {width} coefs, so X has to be of shape [rows, {width}], not {list(X.shape)}"
                )
            return X @ coefs

        self.use(product)


def _no_coefs(_: torch.Tensor) -> torch.Tensor:
    raise NoWeights("there are no coefs yet: call SetCoefs first")


class ModelServer(modelserver_pb2_grpc.ModelServerServicer):
    """The service of modelserver.proto. A bad request is answered with an `error`, and harms nobody."""

    def __init__(self) -> None:
        self._cache = PredictionCache()

    def SetCoefs(
        self, request: modelserver_pb2.SetCoefsRequest, context: grpc.ServicerContext | None
    ) -> modelserver_pb2.SetCoefsResponse:
        """Use these coefficients from now on."""
        try:
            self._cache.SetCoefs(_tensor(request.coefs, (len(request.coefs), 1)))
        except Exception as error:
            return modelserver_pb2.SetCoefsResponse(error=_said("SetCoefs", error))
        return modelserver_pb2.SetCoefsResponse()

    def Predict(
        self, request: modelserver_pb2.PredictRequest, context: grpc.ServicerContext | None
    ) -> modelserver_pb2.PredictResponse:
        """One row's answer, and whether it was remembered."""
        try:
            y, hit = self._cache.Predict(_tensor(request.X, (1, len(request.X))))
        except Exception as error:
            return modelserver_pb2.PredictResponse(error=_said("Predict", error))
        return modelserver_pb2.PredictResponse(y=y.item(), hit=hit)


def _tensor(numbers: Sequence[float], shape: tuple[int, int]) -> torch.Tensor:
    # By way of an array: torch.tensor takes six times as long for a million numbers (measured).
    return torch.from_numpy(np.asarray(array.array("f", numbers)).reshape(shape))


def _said(call: str, error: Exception) -> str:
    """What a response says of it; what is not the caller's fault is logged as well."""
    if isinstance(error, PipelineError):
        return str(error)
    event(_log, logging.ERROR, "a call failed", call=call, error=error)
    return f"{call} failed: {type(error).__name__}: {error}"


# --- the main


@dataclass(frozen=True)
class Settings:
    """What `server.py` is told. An address that others can reach takes `insecure`."""

    host: str
    port: int
    threads: int
    insecure: bool

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"--port must be 0 to 65535, not {self.port}")
        if self.threads < 1:
            raise ValueError(f"--threads must be 1 or more, not {self.threads}")
        if not is_loopback_host(self.host) and not self.insecure:
            raise ValueError(
                f"--host {self.host} can be reached from other machines, and anybody who reaches it can"
                " use it and replace the coefs: give --insecure if that is what you want"
            )

    @property
    def address(self) -> str:
        """Host and port as one writes them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop; an exit code."""
    settings = _read_settings(sys.argv[1:] if argv is None else argv)
    configure("info")
    # The calls are what runs side by side: with threads of torch's own in each, they would be in their way.
    torch.set_num_threads(1)
    try:
        sockets = bind(settings.host, settings.port)
    except OSError as error:
        print(f"server.py: cannot listen on {settings.address}: {error.strerror}", file=sys.stderr)
        return EXIT_FAILED
    port = sockets[0].getsockname()[1]
    where = settings.address.rpartition(":")[0]
    greeting = f'{where}:{port}. Next: python client.py {port} "1.0,2.0,3.0" x1.csv'
    trio.run(_serve, sockets, settings.threads, f"The model server listens on {greeting}")
    return EXIT_OK


async def _serve(sockets: list[socket.socket], threads: int, greeting: str) -> None:
    """Until a signal comes, and what was asked before is answered."""
    server = GrpcServer(make_methods(ModelServer(), threads), LIMITS)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drain_on, signals, server)
            print(greeting, flush=True)
            await server.run(sockets)
            nursery.cancel_scope.cancel()


async def _drain_on(signals: AsyncIterator[int], server: GrpcServer) -> None:
    async for _ in signals:
        server.drain(GRACE)


def make_methods(service: modelserver_pb2_grpc.ModelServerServicer, threads: int) -> dict[bytes, Method]:
    """The service's two calls, as the server takes them; so many threads answer what is not short."""
    limiter = trio.CapacityLimiter(threads)
    return {
        b"/ModelServer/SetCoefs": _method(service.SetCoefs, modelserver_pb2.SetCoefsRequest, limiter),
        b"/ModelServer/Predict": _method(service.Predict, modelserver_pb2.PredictRequest, limiter),
    }


def _method(function: Callable[..., Any], request: Any, limiter: trio.CapacityLimiter) -> Method:
    def answer(message: bytes) -> bytes:
        try:
            decoded = request.FromString(message)
        except DecodeError:
            raise Refused(Status.INTERNAL, f"the message is no {request.DESCRIPTOR.name}") from None
        answered: bytes = function(decoded, None).SerializeToString()
        return answered

    async def in_a_thread(_: Call, message: bytes) -> bytes:
        if limiter.statistics().tasks_waiting >= MAX_WAITING:
            raise Refused(Status.RESOURCE_EXHAUSTED, f"as many long calls wait as may: {MAX_WAITING}")
        return await trio.to_thread.run_sync(answer, message, limiter=limiter, abandon_on_cancel=True)

    def at_once(call: Call, message: bytes) -> None:
        call.respond(answer(message))

    return unary(in_a_thread, short=at_once, short_size=SHORT)


def _read_settings(argv: Sequence[str]) -> Settings:
    parser = argparse.ArgumentParser(prog="server.py", description="Serve y = X @ coefs over gRPC.")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    parser.add_argument("--port", type=int, default=5440, help="0: any that is free (default: %(default)s)")
    parser.add_argument(
        "--threads", type=int, default=4, help="long calls run at once (default: %(default)s)"
    )
    parser.add_argument("--insecure", action="store_true", help="listen where others can reach it and use it")
    try:
        return Settings(**vars(parser.parse_args(argv)))
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())

"""The gateway put together: what it opens, in which order, who owns which task, and how it ends.

    state ─ launcher ─ surveyor ─ fleet (heartbeats, links) ─ batch loops
                                ─ deadlines
                                ─ autoscaler
                                ─ workforce (starts, replaces and stops workers)
                                ─ HTTP lane
                                ─ gRPC server

On SIGTERM or Ctrl-C the doors stop accepting, what was admitted is answered, then everything is cancelled.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio

from common import wire
from common.addresses import (
    Address,
    advertised,
    link_address,
    link_endpoint,
    parse_address,
    parse_link_base,
    service_url,
)
from common.credentials import Credentials
from common.errors import LinkError, PipelineError
from common.grpc.limits import GrpcLimits
from common.grpc.server import GrpcServer
from common.link.gateway import Link, listen_link, open_surveyor
from common.log import event
from gateway.autoscaler.policy import Parameters
from gateway.autoscaler.scaling import Scaling
from gateway.bell import Bell
from gateway.core import Core, Doors
from gateway.doors.rest import body_limit
from gateway.doors.shape import error_body
from gateway.fleet import OpenLink
from gateway.http1 import HttpLimits, Lane
from gateway.launchers.choose import Hiring, open_launcher
from gateway.launchers.launcher import Launcher
from gateway.model_folder import ModelFolder
from gateway.predictions import Predictions
from gateway.scheduler import Scheduler
from gateway.state import open_state
from gateway.workforce import Limits, Workforce

log = logging.getLogger("pipeline.gateway")

MAX_BATCH = 1024  # rows in one frame, unless one request has more
WORKER_WAIT = 5.0  # how long a request waits for any worker at all before it is told 503
TCP_PORTS = 1000  # each worker's link on plain tcp takes a port of its own, from --addr_worker's up
DRAIN_GRACE = 30.0


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """What a gateway is made of; all values, nothing open."""

    rest: list[socket.socket]
    grpc: list[socket.socket]
    addr_service: str
    addr_worker: str
    credentials: Credentials | None = None  # for wss and tls+tcp
    state: Path | None
    hiring: Hiring
    queue_max: int
    timeout: float
    max_body: int
    max_upload: int
    max_rows: int
    models: Path | None = None
    watch: bool = False
    batch_root: Path | None = None
    webhook_hosts: tuple[str, ...] = ()
    jobs_max: int = 1000
    policy: Parameters = field(default_factory=Parameters)


async def serve(gateway: Gateway, on_ready: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint) -> None:
    """Run until SIGTERM or SIGINT has been answered with a drain, or until cancelled.

    `on_ready` is called when clients may come, and cancelled if that ends before it does; what it raises ends
    the gateway. Raises `StateError` and `LinkError` if it cannot start.
    """
    becoming_ready = trio.CancelScope()
    failures: list[PipelineError] = []
    with open_state(gateway.state) as state, _local_directory(gateway) as directory:
        state.blobs.sweep(state.referenced())
        services = [service_url(parse_address(gateway.addr_service)), f"ipc://{directory}/service"]
        came = Bell()
        async with (
            _held_port(gateway),
            open_launcher(gateway.hiring, gateway.state) as launcher,
            open_surveyor(services, came.ring, came.ring, gateway.credentials) as surveyor,
        ):
            core = Core(
                state, surveyor, came, _link_opener(gateway, directory),
                Scheduler(queue_max=gateway.queue_max, max_batch=MAX_BATCH, worker_wait=WORKER_WAIT),
                timeout=gateway.timeout, max_rows=gateway.max_rows, batch_root=gateway.batch_root,
                webhook_hosts=gateway.webhook_hosts, jobs_max=gateway.jobs_max,
            )  # fmt: skip
            workforce = _employ(gateway, directory, launcher, core)
            http = Doors(core, max_upload=gateway.max_upload, max_body=gateway.max_body)
            listeners: list[Lane | GrpcServer] = [_make_lane(gateway, http)]
            if gateway.grpc:
                listeners.append(_make_grpc(gateway, core, http))

            def drain(grace: float) -> None:
                becoming_ready.cancel()
                core.drain()
                http.drain()
                for listener in listeners:
                    listener.drain(grace)

            async with trio.open_nursery() as outer:
                # Signals are heard until the workers have ended: an impatient second Ctrl-C is no accident.
                await outer.start(_drain_on_signal, drain, core.predictions)
                async with trio.open_nursery() as nursery:
                    await nursery.start(core.run)
                    if gateway.models is not None:
                        nursery.start_soon(_serve_folder, gateway.models, gateway.watch, core)
                    # Workers end before the heartbeats do: they leave as soon as one has heard so.
                    async with trio.open_nursery() as working:
                        working.start_soon(workforce.run)
                        async with trio.open_nursery() as listening:
                            for each, sockets in zip(listeners, (gateway.rest, gateway.grpc), strict=False):
                                await listening.start(each.run, sockets)
                            try:
                                with becoming_ready:
                                    await on_ready()
                            except PipelineError as error:
                                failures.append(error)  # raised below, where no nursery makes a group of it
                                drain(0.0)
                        working.cancel_scope.cancel()
                    nursery.cancel_scope.cancel()
                outer.cancel_scope.cancel()
    for failure in failures:
        raise failure


async def _serve_folder(directory: Path, watch: bool, core: Core) -> None:
    """A folder that cannot be served costs its models, and nothing else."""
    core.folder = folder = ModelFolder(directory, core.rollouts, core.configuring, core.catalog, core.state)
    try:
        await folder.load()
    except OSError as error:
        event(log, logging.ERROR, "folder of models cannot be read", folder=directory, error=error)
    if watch:
        await folder.run()


def _make_lane(gateway: Gateway, doors: Doors) -> Lane:
    """The doors on their lane."""

    def max_body_of(method: str, path: str) -> int | None:
        if (method, path) == ("PUT", "/set_weights"):
            return body_limit(gateway.max_upload)
        ours = doors.v2.body_limit(method, path, body_limit(gateway.max_upload))
        return ours or doors.models.body_limit(method, path)

    return Lane(
        doors.app,
        find_direct=doors.find_direct,
        limits=HttpLimits(max_body=gateway.max_body, max_body_of=max_body_of),
        error_body=error_body,
    )


def _make_grpc(gateway: Gateway, core: Core, doors: Doors) -> GrpcServer:
    """The services, which need a library that not every gateway has."""
    try:
        from gateway.doors.grpc.services import make_methods
    except ModuleNotFoundError as error:
        raise PipelineError(
            f"--addr_grpc needs {error.name}: pip install 'pipeline-inference[grpc]'"
        ) from None
    return GrpcServer(
        make_methods(core, doors), GrpcLimits(max_message=gateway.max_upload, max_held=gateway.max_upload)
    )


def _link_opener(gateway: Gateway, directory: str) -> OpenLink:
    """What makes a new worker's link, on the transport that it dials: the gateway's own, or, for workers
    on this machine, a Unix socket."""
    ours = parse_address(gateway.addr_worker)
    bases = {ours.scheme: ours, "ipc": _local_base(gateway, directory)}
    ports = itertools.count()  # from where the last one was found: each attempt costs a socket

    def open_link(
        hello: wire.HelloAnswer, joined: Callable[[], None], left: Callable[[], None]
    ) -> tuple[Link, str]:
        base = bases.get(hello.scheme)
        if base is None:
            raise LinkError(f"it dials {hello.scheme}, and this gateway listens on {', '.join(bases)}")
        if base.scheme not in ("tcp", "tls+tcp"):
            endpoint = link_endpoint(base, hello.worker)
            return listen_link(str(link_address(base, endpoint)), joined, left, gateway.credentials), endpoint
        for _ in range(TCP_PORTS):
            port = base.port + next(ports) % TCP_PORTS
            with contextlib.suppress(LinkError):
                url = str(base._replace(port=port))
                return listen_link(url, joined, left, gateway.credentials), str(port)
        raise LinkError(f"no port from {base.port} to {base.port + TCP_PORTS - 1} can be listened on")

    return open_link


@contextlib.asynccontextmanager
async def _held_port(gateway: Gateway) -> AsyncIterator[None]:
    """The port of all links, taken at once: a port in use is said at start, not when a worker comes."""
    base = parse_address(gateway.addr_worker)
    if base.scheme not in ("ws", "wss"):
        yield
        return
    url = str(base._replace(path=f"{base.path}/link"))
    door = listen_link(url, lambda: None, lambda: None, gateway.credentials)
    try:
        yield
    finally:
        await door.aclose()


def _local_base(gateway: Gateway, directory: str) -> Address:
    """Where links of workers on this machine are: the gateway's own address, if that is a Unix socket."""
    ours = parse_address(gateway.addr_worker)
    return ours if ours.scheme == "ipc" else Address("ipc", path=f"{directory}/link")


def _employ(gateway: Gateway, directory: str, launcher: Launcher, core: Core) -> Workforce:
    """The worker manager, whose workers are told where this gateway is, as their host sees it; and where
    there may be any, an autoscaler that tells it how many."""
    hiring = gateway.hiring
    service, worker = f"ipc://{directory}/service", str(_local_base(gateway, directory))
    if not hiring.is_local:
        service, worker = (
            str(advertised(parse_address(each), hiring.advertise))
            for each in (gateway.addr_service, gateway.addr_worker)
        )
    addresses = ("--addr_service", service, "--addr_worker", worker)
    workforce = Workforce(
        launcher,
        replace(hiring.spec, arguments=(*addresses, *hiring.spec.arguments)),
        core.fleet,
        Limits(hiring.scale.least, hiring.scale.most),
        first=hiring.scale.first,
        scale_to_zero=hiring.scale_to_zero,
        one_use=hiring.spot,
        start_time=hiring.worker_timeout,
        leaves_workers=hiring.leaves_workers,
    )
    core.employ(workforce)
    if hiring.scale.most:
        least, most = hiring.scale.least, hiring.scale.most
        scaling = Scaling(
            min_workers=least, max_workers=most, scale_to_zero=hiring.scale_to_zero, policy=gateway.policy
        )
        core.scale(workforce, scaling)
    return workforce


async def _drain_on_signal(
    drain: Callable[[float], None],
    predictions: Predictions,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """The first signal drains; one more cuts what is still in progress."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        grace = DRAIN_GRACE
        async for number in signals:
            event(
                log, logging.INFO, "draining",
                because=signal.Signals(number).name, in_progress=predictions.in_progress, grace=grace,
            )  # fmt: skip
            drain(grace)
            grace = 0.0


@contextlib.contextmanager
def _local_directory(gateway: Gateway) -> Iterator[str]:
    """Where this gateway's Unix sockets are; only its own user may look inside. Workers that outlive it look
    for the next one in the same place."""
    if gateway.hiring.keep and gateway.state is not None:
        directory = gateway.state.resolve() / "sockets"
        directory.mkdir(mode=0o700, exist_ok=True)
        try:
            parse_link_base(f"ipc://{directory}/service")
        except ValueError as error:
            raise PipelineError(f"--keep needs a shorter --state, where its sockets are: {error}") from None
        yield str(directory)
        return
    with tempfile.TemporaryDirectory(prefix="pipeline-") as temporary:
        yield temporary

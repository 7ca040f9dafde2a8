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

import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio

from common.credentials import Credentials
from common.errors import PipelineError
from common.grpc.limits import GrpcLimits
from common.grpc.server import GrpcServer
from common.limit_settings import LimitSettings
from common.link.gateway import open_surveyor
from common.log import event
from common.tracing import Spans
from gateway.auth.asking import public
from gateway.auth.calls import CallGuard
from gateway.auth.gate import Gate
from gateway.auth.lane import LaneGuard
from gateway.autoscaler.policy import Parameters
from gateway.autoscaler.scaling import Scaling
from gateway.autoscaler.workforce import Limits, Workforce
from gateway.bell import Bell
from gateway.core import Core, Doors
from gateway.doors.cross_origin import CrossOrigin
from gateway.doors.rest import body_limit
from gateway.doors.shape import error_body
from gateway.fleet.links import Links, socket_directory
from gateway.fleet.proving import open_contact
from gateway.fronts.fronts import Fronts
from gateway.http1 import HttpLimits
from gateway.http1.lane import Lane
from gateway.launchers.choose import Hiring, open_launcher
from gateway.launchers.launcher import Launcher
from gateway.models.model_folder import ModelFolder
from gateway.observing.tracing import Tracing
from gateway.recovery.weights import check_weights
from gateway.scheduling.fairness import FairQueue
from gateway.scheduling.predictions import Predictions
from gateway.scheduling.scheduler import Scheduler
from gateway.state.state import open_state
from gateway.tls import GRPC, HTTP, Certificate, TlsListener

log = logging.getLogger("pipeline.gateway")

MAX_BATCH = 1024  # rows in one frame, unless one request has more
WORKER_WAIT = 5.0  # how long a request waits for any worker at all before it is told 503
DRAIN_GRACE = 30.0
OF_GRPC = ("max_connections", "max_connections_per_address", "max_calls")
OF_HTTP = (
    "max_connections", "max_connections_per_address", "max_head", "max_target", "head_time", "body_time",
    "min_body_rate",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """What a gateway is made of; all values, nothing open."""

    rest: list[socket.socket]
    fronts: Sequence[list[socket.socket]] = ()  # what each process in front listens on, instead of `rest`
    grpc: list[socket.socket]
    addr_service: str
    addr_worker: str
    credentials: Credentials | None = None  # for wss and tls+tcp
    token: str | None = None  # the fleet's
    certificate: Certificate | None = None  # of the doors
    state: Path | None
    hiring: Hiring
    queue_max: int
    timeout: float
    max_body: int
    max_upload: int
    max_rows: int
    limits: LimitSettings = field(default_factory=LimitSettings)
    models: Path | None = None
    watch: bool = False
    batch_root: Path | None = None
    webhook_hosts: tuple[str, ...] = ()
    jobs_max: int = 1000
    metrics_triton: bool = False
    access_log: float = 0.0
    spans: Spans | None = None
    policy: Parameters = field(default_factory=Parameters)
    admin: list[socket.socket] = field(default_factory=list)  # where what needs `admin` is served alone
    gate: Gate | None = None
    cors_origins: tuple[str, ...] = ()


Listener = Lane | Fronts | GrpcServer | TlsListener


async def serve(
    gateway: Gateway,
    on_ready: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    reloading: Callable[[Core], Callable[[], None]] | None = None,
) -> None:
    """Run until SIGTERM or SIGINT has been answered with a drain, or until cancelled.

    `on_ready` is called when clients may come, and cancelled if that ends before it does; what it raises ends
    the gateway. What `reloading` makes of the core is called on every SIGHUP. Raises `StateError` and
    `LinkError` if it cannot start.
    """
    kept = gateway.state if gateway.hiring.keep else None
    with open_state(gateway.state) as state, socket_directory(kept) as directory:
        if gateway.state is not None:
            check_weights(state, gateway.state)
        state.blobs.sweep(state.referenced())
        links = Links(gateway.addr_service, gateway.addr_worker, directory, gateway.credentials)
        came = Bell()
        async with (
            links.held_port(),
            open_launcher(gateway.hiring, gateway.state) as launcher,
            open_surveyor(links.services, came.ring, came.ring, gateway.credentials) as surveyor,
            open_contact(gateway.token, surveyor, links, came) as contact,
        ):
            core = Core(
                state, contact.asker, came, contact.open_link,
                Scheduler(queue_max=gateway.queue_max, max_batch=MAX_BATCH, worker_wait=WORKER_WAIT),
                timeout=gateway.timeout, max_rows=gateway.max_rows, batch_root=gateway.batch_root,
                webhook_hosts=gateway.webhook_hosts, jobs_max=gateway.jobs_max,
            )  # fmt: skip
            if gateway.gate is not None:
                core.scheduler.new_queue = FairQueue
            core.fleet.strangers = contact.strangers
            if gateway.spans is not None:
                core.predictions.tracing = Tracing(gateway.spans)
            workforce = _employ(gateway, links, launcher, core)
            reload = None if reloading is None else reloading(core)
            failure = await _run(gateway, core, workforce, on_ready, reload)
    if failure is not None:
        raise failure  # here, where no nursery makes a group of it


async def _run(
    gateway: Gateway,
    core: Core,
    workforce: Workforce,
    on_ready: Callable[[], Awaitable[None]],
    reload: Callable[[], None] | None,
) -> PipelineError | None:
    """Every task, until it is over; what `on_ready` raised."""
    doors = _make_doors(gateway, core)
    listeners = _make_listeners(gateway, core, doors)
    becoming_ready = trio.CancelScope()
    failure = None

    def drain(grace: float) -> None:
        becoming_ready.cancel()
        core.drain()
        doors.drain()
        for listener, _ in listeners:
            listener.drain(grace)

    async with trio.open_nursery() as outer:
        # Signals are heard until the workers have ended: an impatient second Ctrl-C is no accident.
        await outer.start(_drain_on_signal, drain, core.predictions)
        if reload is not None:
            await outer.start(_reload_on_hangup, _with_tokens(reload, gateway.gate))
        async with trio.open_nursery() as nursery:
            await nursery.start(core.run)
            if gateway.gate is not None:
                await nursery.start(gateway.gate.run)
            if gateway.models is not None:
                core.health.starting = "the folder of models is being loaded"
                nursery.start_soon(_serve_folder, gateway.models, gateway.watch, core)
            # Workers end before the heartbeats do: they leave as soon as one has heard so.
            async with trio.open_nursery() as working:
                working.start_soon(workforce.run)
                async with trio.open_nursery() as listening:
                    for listener, sockets in listeners:
                        await listening.start(listener.run, sockets)
                    try:
                        with becoming_ready:
                            await on_ready()
                    except PipelineError as error:
                        failure = error
                        drain(0.0)
                working.cancel_scope.cancel()
            nursery.cancel_scope.cancel()
        outer.cancel_scope.cancel()
    return failure


async def _serve_folder(directory: Path, watch: bool, core: Core) -> None:
    """A folder that cannot be served costs its models, and nothing else."""
    core.folder = folder = ModelFolder(directory, core.rollouts, core.configuring, core.catalog, core.state)
    try:
        await folder.load()
    except OSError as error:
        event(log, logging.ERROR, "folder of models cannot be read", folder=directory, error=error)
    core.health.starting = ""
    if watch:
        await folder.run()


def _make_doors(gateway: Gateway, core: Core) -> Doors:
    return Doors(
        core,
        max_upload=gateway.max_upload,
        max_body=gateway.max_body,
        metrics_triton=gateway.metrics_triton,
        gate=gateway.gate,
        cors_origins=gateway.cors_origins,
        ws_window=gateway.limits.ws_window,
        ws_messages_per_second=gateway.limits.ws_messages_per_second,
        access_log=gateway.access_log,
    )


def _make_listeners(gateway: Gateway, core: Core, doors: Doors) -> list[tuple[Listener, list[socket.socket]]]:
    """What clients meet, and where; behind TLS, or processes of their own, nothing listens by itself."""
    lane = _make_lane(gateway, doors, is_public=bool(gateway.admin))
    found: list[tuple[Lane | GrpcServer, list[socket.socket], tuple[str, ...]]] = [(lane, gateway.rest, HTTP)]
    if gateway.admin:
        found.append((_make_lane(gateway, doors, is_public=False), gateway.admin, HTTP))
    if gateway.grpc:
        found.append((_make_grpc(gateway, core, doors), gateway.grpc, GRPC))
    if gateway.certificate is None:
        others = [(server, sockets) for server, sockets, _ in found[1:]]
        return [(_make_fronts(gateway, lane), []) if gateway.fronts else (lane, gateway.rest), *others]
    listeners: list[tuple[Listener, list[socket.socket]]] = []
    for server, sockets, protocols in found:
        listeners += [(server, []), (TlsListener(gateway.certificate, protocols, server.adopt), sockets)]
    return listeners


def _make_lane(gateway: Gateway, doors: Doors, *, is_public: bool) -> Lane:
    """The doors on a lane; all but those for administration where it `is_public`."""

    def max_body_of(method: str, path: str) -> int | None:
        if (method, path) == ("PUT", "/set_weights"):
            return body_limit(gateway.max_upload)
        ours = doors.v2.body_limit(method, path, body_limit(gateway.max_upload))
        return ours or doors.models.body_limit(method, path)

    pages = CrossOrigin(gateway.cors_origins)
    return Lane(
        doors.access.around(pages.app(public(doors.app) if is_public else doors.app)),
        find_direct=doors.find_direct,
        limited=doors.limited.http,
        guard=None if doors.gate is None else LaneGuard(doors.gate, pages.lines),
        limits=HttpLimits(
            max_body=gateway.max_body,
            max_body_of=max_body_of,
            **{name: getattr(gateway.limits, name) for name in OF_HTTP},
        ),
        error_body=error_body,
        observer=pages.around(doors.access),
    )


def _make_fronts(gateway: Gateway, lane: Lane) -> Fronts:
    """The processes before a lane. Only what the gateway puts into words itself has a length to be logged."""
    return Fronts(lane, gateway.fronts, with_rows=not gateway.access_log)


def _make_grpc(gateway: Gateway, core: Core, doors: Doors) -> GrpcServer:
    """The services, which need a library that not every gateway has."""
    try:
        from gateway.doors.grpc.services import make_methods
    except ModuleNotFoundError as error:
        raise PipelineError(
            f"--addr_grpc needs {error.name}: pip install 'pipeline-inference[grpc]'"
        ) from None
    return GrpcServer(
        make_methods(core, doors),
        GrpcLimits(
            max_message=gateway.max_upload,
            max_held=gateway.max_upload,
            **{name: getattr(gateway.limits, name) for name in OF_GRPC},
        ),
        limited=doors.limited.grpc,
        guard=CallGuard(doors.gate, is_public=bool(gateway.admin)),
        observer=doors.access,
    )


def _employ(gateway: Gateway, links: Links, launcher: Launcher, core: Core) -> Workforce:
    """The worker manager, whose workers are told where this gateway is, as their host sees it; and where
    there may be any, an autoscaler that tells it how many."""
    hiring = gateway.hiring
    addresses = links.flags_here() if hiring.is_local else links.flags_elsewhere(hiring.advertise)
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


def _with_tokens(reload: Callable[[], None], gate: Gate | None) -> Callable[[], None]:
    def both() -> None:
        reload()
        if gate is not None:
            gate.reload()

    return both


async def _reload_on_hangup(
    reload: Callable[[], None], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            reload()

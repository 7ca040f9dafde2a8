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
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import trio

from common.errors import PipelineError
from common.link.gateway import open_surveyor
from common.log import event
from gateway.auth.gate import Gate
from gateway.autoscaler.scaling import Scaling
from gateway.autoscaler.workforce import Limits, Workforce
from gateway.bell import Bell
from gateway.core import Core
from gateway.fleet.links import Links, socket_directory
from gateway.fleet.proving import open_contact
from gateway.launchers.choose import open_launcher
from gateway.launchers.launcher import Launcher
from gateway.listening import make_doors, make_listeners
from gateway.models.model_folder import ModelFolder
from gateway.observing.tracing import Tracing
from gateway.parts import Gateway
from gateway.recovery.weights import check_weights
from gateway.scheduling.fairness import FairQueue
from gateway.scheduling.predictions import Predictions
from gateway.scheduling.scheduler import Scheduler
from gateway.state.state import open_state

log = logging.getLogger("pipeline.gateway")

MAX_BATCH = 1024  # rows in one frame, unless one request has more
WORKER_WAIT = 5.0  # how long a request waits for any worker at all before it is told 503
DRAIN_GRACE = 30.0


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
                max_json_depth=gateway.limits.max_json_depth,
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
    doors = make_doors(gateway, core)
    listeners = make_listeners(gateway, core, doors)
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

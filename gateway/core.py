"""The inside of a gateway, put together: everything between the doors and the links.

doors ─ predictions ─ scheduler ─ dispatcher ─ links
        catalog     ─ holders
        rollouts    ─ switching ─ delivery
        configuring
        syncing     ─ fleet     ─ surveys
        demand
        jobs
        autoscaler
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import trio

from gateway.auth.gate import Gate
from gateway.autoscaler.autoscaler import Autoscaler
from gateway.autoscaler.scaling import Scaling
from gateway.autoscaler.workforce import Workforce
from gateway.bell import Bell
from gateway.doors.autodep import AutodepDoor
from gateway.doors.fleet.autoscaler import autoscaler_routes
from gateway.doors.fleet.fleet import fleet_routes
from gateway.doors.jobs import JobsDoor, callback_body
from gateway.doors.json import MAX_DEPTH, JsonReader
from gateway.doors.models.experiments import experiment_routes
from gateway.doors.models.models import ModelsDoor
from gateway.doors.monitoring.events import EventsDoor
from gateway.doors.monitoring.health import HealthDoor
from gateway.doors.monitoring.live import LiveDoor
from gateway.doors.monitoring.metrics import MetricsDoor
from gateway.doors.monitoring.status import StatusDoor
from gateway.doors.pages.dashboard import dashboard_routes
from gateway.doors.predict.predict import PredictDoor
from gateway.doors.rest import make_app
from gateway.doors.shape import is_v2
from gateway.doors.v2.describe import Description
from gateway.doors.v2.infer import Inference
from gateway.doors.v2.repository import Repository
from gateway.doors.v2.rest import InferDoor, V2Door
from gateway.doors.ws.session import SocketLimits
from gateway.doors.ws.ws import SocketDoor
from gateway.experiments.experimenting import Experimenting
from gateway.experiments.experiments import Experiments
from gateway.fleet.fleet import Fleet, OpenLink
from gateway.fleet.surveys import Asker, Surveys
from gateway.jobs.computing import Computing
from gateway.jobs.going import Going
from gateway.jobs.running import Jobs
from gateway.jobs.storage import Storage
from gateway.jobs.webhooks import Webhooks
from gateway.metrics.limits import Limited
from gateway.metrics.page import Page
from gateway.models.catalog import Catalog
from gateway.models.configuring import Configuring
from gateway.models.delivery import Delivery
from gateway.models.demand import Demand
from gateway.models.holders import Holders
from gateway.models.model_folder import ModelFolder
from gateway.models.rollout import Rollouts
from gateway.models.switching import Switching
from gateway.models.syncing import Syncing
from gateway.observing.access import Access
from gateway.observing.events import Events
from gateway.observing.health import Health
from gateway.observing.sampling import Sampling
from gateway.scheduling.dispatch import Dispatcher
from gateway.scheduling.predictions import Predictions
from gateway.scheduling.scheduler import Scheduler
from gateway.state.state import State


class Core:
    """Nothing in it is open or runs before `run`. `came` is rung when the survey socket sees somebody come or
    go; `open_link` makes a worker's link."""

    def __init__(
        self,
        state: State,
        asker: Asker,
        came: Bell,
        open_link: OpenLink,
        scheduler: Scheduler,
        *,
        timeout: float,
        max_rows: int,
        batch_root: Path | None = None,
        webhook_hosts: Sequence[str] = (),
        jobs_max: int = 1000,
        max_json_depth: int = MAX_DEPTH,
    ) -> None:
        self.state = state
        self.scheduler = scheduler
        experiments = Experiments()
        self.catalog = Catalog(experiments.active)
        self.dispatcher = Dispatcher(scheduler)
        self.statistics, self.recorder = self.dispatcher.statistics, self.dispatcher.recorder
        self.recorder.is_model = lambda name: self.catalog.get(name) is not None
        self.predictions = Predictions(self.dispatcher, timeout=timeout, max_rows=max_rows)
        self.json = JsonReader(max_json_depth)
        self.surveys = Surveys(asker)
        self.fleet = Fleet(self.surveys, self.dispatcher, open_link=open_link, came=came)
        self.holders = Holders(self.dispatcher, self.fleet)
        self.health = Health(self.catalog, self.holders, self.fleet, self.predictions)
        delivery = Delivery(self.fleet, state.blobs)
        self.switching = Switching(self.fleet, self.catalog, self.holders, scheduler, state, delivery)
        self.rollouts = Rollouts(self.switching, self.catalog, state)
        self.configuring = Configuring(
            self.switching, self.catalog, self.holders, self.fleet, delivery, state
        )
        self.syncing = Syncing(
            self.fleet, self.catalog, self.holders, self.switching, scheduler, state, delivery
        )
        self.fleet.sync, self.fleet.left = self.syncing.sync, self.syncing.left
        self.configuring.moved = self.syncing.move
        self.demand = Demand(self.fleet, self.holders, self.switching, self.dispatcher, delivery)
        self.dispatcher.is_served = self.switching.is_served
        self.dispatcher.on_missing = delivery.on_evicted = self.demand.missing
        self.dispatcher.on_unserved = self._unserved
        self.folder: ModelFolder | None = None  # whoever serves one says so
        self.autoscaler: Autoscaler | None = None  # where workers are started; made before doors are
        self.experimenting = Experimenting(experiments, self.catalog, self.dispatcher, self.rollouts, state)
        self.predictions.join, self.switching.is_held = self.experimenting.join, self.experimenting.holds
        computing = Computing(self.predictions, self.fleet, self.holders, self.switching.is_served)
        self.going = Going(computing, state.jobs, Storage(batch_root), self.json)
        self.webhooks = Webhooks(webhook_hosts, callback_body)
        self.jobs = Jobs(
            state, self.catalog, self.switching, self.going, self.webhooks.call, jobs_max=jobs_max
        )
        self.switching.is_kept = lambda key: self.jobs.needs(key) is not None
        self.switching.of_jobs = lambda key: computing.live[key]
        self.workforce: Workforce | None = None  # whoever starts workers says so
        self.events = Events(uuid.uuid4().hex[:8], clock=time.time)
        for publisher in (self.fleet, self.switching, self.experimenting, self.jobs):
            publisher.publish = self.events.publish
        self.sampling = Sampling(self.dispatcher, self.fleet)

    async def load_folder(self, model: str) -> bool:
        """Serve what the folder of models holds of one now; whether it holds any, where there is a folder."""
        return self.folder is not None and await self.folder.load_again(model)

    def employ(self, workforce: Workforce) -> None:
        """Workers are started by this; whoever runs the gateway runs it."""
        self.workforce = workforce
        workforce.publish = self.events.publish

    def scale(self, workforce: Workforce, started: Scaling) -> None:
        """Have an autoscaler decide how many workers there are, from `run` on."""
        self.autoscaler = Autoscaler(
            workforce, self.dispatcher, self.state, started, is_needed=lambda: bool(self.jobs.line)
        )
        self.autoscaler.publish = self.events.publish
        self.health.autoscaler = self.autoscaler

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve what the state remembers with whoever comes, until cancelled. Raises `StateError`."""
        await self.rollouts.restore()
        await self.experimenting.restore()
        await self.jobs.restore()
        if self.autoscaler is not None:
            await self.autoscaler.restore()
        async with trio.open_nursery() as nursery:
            await nursery.start(self.fleet.run)
            nursery.start_soon(self.dispatcher.expire)
            nursery.start_soon(self.syncing.keep_placed)
            nursery.start_soon(self.demand.run)
            nursery.start_soon(self.experimenting.run)
            nursery.start_soon(self.jobs.run)
            nursery.start_soon(self.sampling.run)
            if self.autoscaler is not None:
                nursery.start_soon(self.autoscaler.run)
            task_status.started()

    def _unserved(self) -> None:
        self.demand.notice()
        if self.autoscaler is not None:
            self.autoscaler.notice()

    def drain(self) -> None:
        """Take nothing new in; what was admitted is answered, and jobs go on after the next start."""
        self.predictions.draining = True
        self.jobs.drain()


class Doors:
    """What clients come through: `app` for everything, and a shorter way for predictions over HTTP/1.1.
    gRPC's doors (gateway.doors.grpc) lead to the same `inference`, `description` and `repository`."""

    def __init__(
        self,
        core: Core,
        *,
        max_upload: int,
        max_body: int = 8 << 20,
        metrics_triton: bool = False,
        gate: Gate | None = None,
        cors_origins: Sequence[str] = (),
        ws_window: int = 64,
        ws_messages_per_second: float = 20_000.0,
        access_log: float = 0.0,
    ) -> None:
        self.access = Access(uuid.uuid4().hex[:8], access_log)
        self.gate = gate
        self.limited = Limited({} if gate is None else gate.refused, core.json)
        self.predict = PredictDoor(core.predictions, core.catalog, json=core.json)
        self.description = Description(core.catalog, core.health, core.state, core.statistics)
        self.repository = Repository(
            core.rollouts, core.state, core.load_folder, max_upload=max_upload, json=core.json
        )
        self.inference = Inference(core.predictions, core.catalog)
        infer = InferDoor(self.inference, core.catalog, max_body=max_body, json=core.json)
        self.v2 = V2Door(infer, self.description, self.repository)
        self.models = ModelsDoor(
            self.predict, core.catalog, core.holders, core.fleet, core.rollouts, core.configuring, core.state,
            max_upload=max_upload,
        )  # fmt: skip
        limits = SocketLimits(
            window=ws_window, messages_per_second=ws_messages_per_second,
            max_bytes=max_body, max_bytes_in_flight=4 * max_body,
        )  # fmt: skip
        self.socket = SocketDoor(core.predictions, core.catalog, limits, self.access, cors_origins, core.json)
        self.events = EventsDoor(core.events)
        jobs = JobsDoor(core.jobs, core.going, core.catalog, core.webhooks, core.predictions)
        status = StatusDoor(core.fleet, core.predictions, core.catalog, core.workforce)
        page = Page(
            core.recorder, core.statistics, core.catalog, core.scheduler, core.fleet, status.carried,
            None if core.autoscaler is None else core.workforce, with_triton=metrics_triton,
            limited=self.limited,
        )  # fmt: skip
        self.live = LiveDoor(status, core.events, core.sampling)
        self.app = make_app(
            self.predict,
            status,
            self.models,
            core.rollouts,
            core.state.blobs,
            max_upload=max_upload,
            also=[
                *experiment_routes(core.experimenting),
                *jobs.routes(),
                *self.v2.routes(),
                *self.socket.routes(),
                *self.events.routes(),
                *AutodepDoor(core.predictions, core.catalog, status, core.json).routes(),
                *autoscaler_routes(core.autoscaler),
                *MetricsDoor(page, status).routes(),
                *HealthDoor(core.health).routes(),
                *self.live.routes(),
                *dashboard_routes(),
                *fleet_routes(core.fleet),
            ],
        )
        self.app.state.gate, self.app.state.json = gate, core.json
        self.app.state.origins = frozenset(each.encode() for each in cors_origins)

    def drain(self) -> None:
        """Have what stays open for long come to its end."""
        self.socket.drain()
        self.events.drain()
        self.live.drain()

    def find_direct(self, method: str, path: str) -> PredictDoor | InferDoor | None:
        """What answers a request without the app; None for most."""
        if path == "/predict":
            return self.predict if method == "POST" else None
        if is_v2(path):
            return self.v2.find_direct(method, path)
        return self.models.find_direct(method, path)

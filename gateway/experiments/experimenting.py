"""Experiments at work: kept before they are answered, and what requests do that take part in one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import msgspec
import trio

from common.errors import Overloaded, PipelineError
from common.log import event
from gateway.experiments.experiments import Arm, Experiment, Experiments
from gateway.experiments.plans import ACTIVE, Plan, Record
from gateway.experiments.shadows import Pair
from gateway.metrics.recorder import SHADOW
from gateway.models.catalog import Catalog, Part
from gateway.models.rollout import Rollouts
from gateway.models.switching import Rolled
from gateway.observing.events import EXPERIMENT, Publish, nobody
from gateway.scheduling.dispatch import Dispatcher
from gateway.scheduling.requests import Answer, ModelKey, Request
from gateway.state.state import State

log = logging.getLogger("pipeline.experiments")

Reply = Callable[[Answer | PipelineError], None]


class Experimenting:
    """Changes come one at a time, in the rollouts' turn: what one needs is not taken away meanwhile."""

    publish: Publish = staticmethod(nobody)

    def __init__(
        self,
        experiments: Experiments,
        catalog: Catalog,
        dispatcher: Dispatcher,
        rollouts: Rollouts,
        state: State,
    ) -> None:
        self.experiments = experiments
        self._catalog = catalog
        self._dispatcher = dispatcher
        self._rollouts = rollouts
        self._state = state
        self._tripped: set[str] = set()
        self._news = trio.Event()

    # --- what doors ask for

    async def put(self, name: str, plan: Plan) -> Experiment:
        """Begin an experiment or change it. `InvalidRequest`, `Conflict`, `NotFound` for versions that do not
        serve, `StateError`; then all is as it was."""
        async with self._rollouts.turn:
            record = self.experiments.planned(name, plan, time.time())
            for version in plan.versions:
                self._catalog.find(plan.model, version)
            await trio.to_thread.run_sync(self._keep, record)
            self.experiments.adopt(record)
        event(
            log,
            logging.INFO,
            "experiment runs",
            experiment=name,
            model=plan.model,
            arms=dict(record.plan.arms),
        )
        told = {"experiment": name, "model": plan.model, "arms": dict(record.plan.arms)}
        self.publish(EXPERIMENT, "experiment runs", **told)
        return self.experiments.get(name)

    async def promote(self, name: str, arm: str | None) -> tuple[Experiment, Rolled]:
        """Make an arm the model's active version, and end the split; nothing ends if a worker refuses it."""
        experiment = self.experiments.get(name)
        record = experiment.promoted(arm)
        rolled = await self._rollouts.activate(record.plan.model, record.winner)
        if rolled.ok:
            async with self._rollouts.turn:
                await trio.to_thread.run_sync(self._keep, record)
                self.experiments.adopt(record)
            event(log, logging.INFO, "experiment promoted", experiment=name, version=record.winner)
            self.publish(EXPERIMENT, "experiment promoted", experiment=name, version=record.winner)
        return experiment, rolled

    async def end(self, name: str) -> Experiment:
        """Forget an experiment: its model's active version answers again. `NotFound`."""
        self.experiments.get(name)
        async with self._rollouts.turn:
            await trio.to_thread.run_sync(self._state.forget_experiment, name)
            experiment = self.experiments.remove(name)
        event(log, logging.INFO, "experiment ended", experiment=name)
        self.publish(EXPERIMENT, "experiment ended", experiment=name)
        return experiment

    # --- what the gateway does

    async def restore(self) -> None:
        """Go on with what the state directory remembers. What an arm did before is not remembered."""
        for name, body in (await trio.to_thread.run_sync(self._state.experiments)).items():
            try:
                self.experiments.adopt(msgspec.json.decode(body, type=Record))
            except (msgspec.MsgspecError, ValueError, PipelineError) as error:
                event(log, logging.ERROR, "experiment cannot be read", experiment=name, error=error)

    async def run(self) -> None:
        """Keep what guards decide, until cancelled."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            while self._tripped:
                async with self._rollouts.turn:
                    await self._keep_tripped(self._tripped.pop())

    async def _keep_tripped(self, name: str) -> None:
        try:
            record = self.experiments.get(name).record
            await trio.to_thread.run_sync(self._keep, record)
        except PipelineError as error:  # it is back at 0, and would be again after a restart
            event(log, logging.ERROR, "experiment not kept", experiment=name, error=error)

    def _keep(self, record: Record) -> None:
        versions = record.plan.versions if record.state in ACTIVE else []
        body = msgspec.json.encode(record)
        self._state.put_experiment(record.name, body, record.plan.model, versions)

    def holds(self, key: ModelKey) -> bool:
        """Whether a version has to serve on, as an experiment needs it."""
        experiment = self.experiments.active.get(key.model)
        return experiment is not None and key.version in experiment.plan.versions

    # --- what requests do

    def join(self, part: Part, request: Request) -> None:
        """A request was admitted under an arm: have its end counted, and copies sent to the shadows."""
        experiment, arm = part
        pairs = [self._copy(shadow, request) for shadow in experiment.shadows.values()]
        answered = request.reply

        def reply(answer: Answer | PipelineError) -> None:
            try:
                answered(answer)
            finally:
                self._count(experiment, arm, request, answer)
                for pair in pairs:
                    if pair is not None:
                        pair.given(answer)

        request.reply = reply

    def _count(
        self, experiment: Experiment, arm: Arm, request: Request, answer: Answer | PipelineError
    ) -> None:
        # Rows that a version refuses count: bad clients meet every arm alike, so a canary that has more of
        # them takes other rows than its control did.
        if isinstance(answer, Overloaded):
            return  # nothing of the version's doing
        seconds = trio.current_time() - request.admitted
        tripped = experiment.finished(arm, seconds, failed=isinstance(answer, PipelineError))
        if tripped is not None:
            event(log, logging.WARNING, "canary taken back", experiment=tripped.name, because=tripped.reason)
            told = {"experiment": tripped.name, "because": tripped.reason}
            self.publish(EXPERIMENT, "canary taken back", **told)
            self._tripped.add(tripped.name)
            self._news.set()

    def _copy(self, shadow: Arm, request: Request) -> Pair | None:
        """Send a shadow its copy, unless that could cost a client a place in the queue."""
        key = ModelKey(request.key.model, shadow.name)
        scheduler = self._dispatcher.scheduler
        if not self._catalog.serves(key) or scheduler.waiting * 2 > scheduler.queue_max:
            shadow.left_out += 1
            return None
        pair = Pair(shadow)

        def reply(answer: Answer | PipelineError) -> None:
            if not isinstance(answer, Overloaded):
                shadow.record(trio.current_time() - copy.admitted, failed=isinstance(answer, PipelineError))
            pair.shown(answer)

        copy = Request(
            key,
            request.signature,
            tuple(bytes(buffer) for buffer in request.buffers),  # the client's go when it has its answer
            request.rows,
            admitted=request.admitted,
            deadline=request.deadline,
            route=request.route,
            reply=reply,
            count=self._dispatcher.recorder.of(SHADOW, key, shadow.name),
        )
        try:
            self._dispatcher.submit(copy)
        except Overloaded:
            shadow.left_out += 1
            return None
        return pair

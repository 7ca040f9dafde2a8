"""Workers as bare Pods: level-triggered, so what a lost answer hid is seen in the next list."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Generic, TypeVar

import trio

from common.errors import LaunchError
from gateway.launchers.ids import WorkerId, fresh_ids, parse_id
from gateway.launchers.kubernetes import pods
from gateway.launchers.kubernetes.access import find_access, read_yaml
from gateway.launchers.kubernetes.api import FORBIDDEN, NOT_FOUND, NOT_STARTED, Api, Refused, open_api
from gateway.launchers.kubernetes.pods import Json
from gateway.launchers.kubernetes.room import count_room
from gateway.launchers.launcher import Launched, WorkerSpec

LISTED_FOR = 0.5  # how old the list of our own Pods may be, unless we ordered something since
COUNTED_FOR = 10.0  # how old that of all nodes and Pods may be

T = TypeVar("T")


class _Kept(Generic[T]):
    """What was fetched, for a while; not what was asked for before `forget`, though it came after."""

    def __init__(self, seconds: float, fetch: Callable[[], Awaitable[T]]) -> None:
        self._seconds = seconds
        self._fetch = fetch
        self._last: tuple[float, T] | None = None
        self._forgotten = 0

    async def get(self) -> T:
        """It, at most so old."""
        if self._last is not None and trio.current_time() < self._last[0] + self._seconds:
            return self._last[1]
        began, forgotten = trio.current_time(), self._forgotten
        value = await self._fetch()
        if forgotten == self._forgotten:
            self._last = began, value
        return value

    def forget(self) -> None:
        """Something changed."""
        self._last = None
        self._forgotten += 1


class KubernetesLauncher:
    """Orders Pods for one service in one namespace; a `Launcher`."""

    def __init__(self, api: Api, *, service: str, image: str | None, template: Json) -> None:
        self._api = api
        self._service = service
        self._image = image
        self._template = template
        self._ordering = trio.Lock()  # else two orders at once take the same free slots
        self._pods = _Kept(LISTED_FOR, lambda: api.list_pods(pods.selector(service)))
        self._cluster = _Kept(COUNTED_FOR, self._look_at_cluster)

    async def start(self, n: int, spec: WorkerSpec) -> list[str]:
        """Create n Pods; where one is refused, those that were created are in the next list."""
        async with self._ordering:
            self._forget()
            ids = fresh_ids(n, self._service, await self.alive(), time.time())
            await self._create([self._make_pod(id, spec) for id in ids])
        return [str(id) for id in ids]

    async def _create(self, ordered: list[Json]) -> None:
        failures: list[LaunchError] = []

        async def create(pod: Json) -> None:
            try:
                await self._api.create_pod(pod)
            except LaunchError as error:
                failures.append(error)

        try:
            async with trio.open_nursery() as nursery:
                for pod in ordered:
                    nursery.start_soon(create, pod)
        finally:
            self._forget()
        if failures:
            raise failures[0]

    async def stop(self, id: str, grace: float) -> None:
        """Delete its Pod. Kubernetes counts the grace in whole seconds, and at least one: with none it
        forgets a Pod before its processes have ended."""
        worker = parse_id(id)
        if worker is None or worker.service != self._service:
            return
        try:
            await self._api.delete_pod(pods.pod_name(worker), max(1, math.ceil(grace)))
        finally:
            self._forget()

    async def alive(self) -> dict[str, Launched]:
        """Every Pod of ours that nobody has deleted. One whose node is being drained is gone from here
        at once, though it may still be answering: its replacement need not wait."""
        pairs = ((pods.read_id(pod, self._service), pods.read_state(pod)) for pod in await self._pods.get())
        return {str(id): state for id, state in pairs if id is not None and state is not None}

    async def capacity(self, spec: WorkerSpec) -> int | None:
        """By what nodes have and all Pods asked for; none while a Pod of ours finds no node. None where
        we may not see nodes, as it should be on clusters that add nodes when a Pod waits."""
        if any(pods.unschedulable(pod) for pod in await self._pods.get() if pods.read_state(pod) is not None):
            return 0
        cluster = await self._cluster.get()
        if cluster is None:
            return None
        return count_room(self._make_pod(WorkerId(self._service, 0, 0), spec), *cluster)

    async def log(self, id: str, lines: int = 100) -> str:
        """The last lines that a worker has printed; empty where it has not begun, or is no more."""
        worker = parse_id(id)
        if worker is None:
            return ""
        try:
            return await self._api.read_log(pods.pod_name(worker), pods.CONTAINER, lines)
        except Refused as error:
            if error.answered in (NOT_FOUND, NOT_STARTED):
                return ""
            raise

    def _make_pod(self, id: WorkerId, spec: WorkerSpec) -> Json:
        return pods.make_pod(id, spec, image=self._image, template=self._template)

    def _forget(self) -> None:
        self._pods.forget()
        self._cluster.forget()

    async def _look_at_cluster(self) -> tuple[list[Json], list[Json]] | None:
        """All nodes and Pods; None where a Role does not let us."""
        try:
            return await self._api.list_nodes(), await self._api.list_all_pods()
        except Refused as error:
            if error.answered == FORBIDDEN:
                return None
            raise


@asynccontextmanager
async def open_kubernetes(
    service: str, *, config: Path | str | None = None, namespace: str | None = None, image: str | None = None,
    template: Path | str | None = None,
) -> AsyncIterator[KubernetesLauncher]:  # fmt: skip
    """A launcher for one service. `config` is a kubeconfig, `template` a Pod in YAML or JSON that says
    what the order does not; `LaunchError` where one of them cannot be used. Nothing is asked of the cluster
    yet."""
    pod = {} if template is None else read_yaml(Path(template))
    try:
        pods.check_template(pod)
    except ValueError as error:
        raise LaunchError(f"{template} {error}") from None
    if not image and not pods.names_image(pod):
        raise LaunchError(
            "nothing says what image workers run: give --kubernetes_image, or a --kubernetes_template"
            f" whose container {pods.CONTAINER!r} has one"
        )
    async with open_api(find_access(None if config is None else Path(config), namespace)) as api:
        yield KubernetesLauncher(api, service=service, image=image, template=pod)

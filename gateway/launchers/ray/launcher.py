"""Workers as detached, named actors of a Ray cluster: a name is a worker's id, a namespace is a service."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from common.errors import PipelineError
from gateway.launchers.ids import fresh_ids, parse_id
from gateway.launchers.launcher import Launched, LaunchState, WorkerSpec
from gateway.launchers.ray.channel import Channel
from gateway.launchers.ray.orders import Kill, Needs, Room, See, Start, Stop

MARGIN = 2.0  # after a worker's grace, until it is ended from here: where it runs may be out of reach
DEFAULT_TOKEN = "~/.ray/auth_token"


@asynccontextmanager
async def open_ray(
    service: str, *, address: str, token_file: str | None = None
) -> AsyncIterator[RayLauncher]:
    """A launcher on the cluster at `address`; `PipelineError` if that cannot be without asking it."""
    if importlib.util.find_spec("ray") is None:
        raise PipelineError("--launcher ray needs ray: pip install 'pipeline-inference[ray]'")
    driver = [sys.executable, "-m", "gateway.launchers.ray.driver", address, f"pipeline-{service}"]
    channel = Channel(driver, _environment(os.environ, token_file))
    try:
        yield RayLauncher(service, channel)
    finally:
        await channel.aclose()


def _environment(environ: Mapping[str, str], token_file: str | None) -> dict[str, str]:
    """The driver's: the gateway's own, without its settings, and with the token on."""
    kept = {name: value for name, value in environ.items() if not name.startswith("PIPELINE_")}
    if token_file is not None:
        kept["RAY_AUTH_TOKEN_PATH"] = str(Path(token_file).resolve())
    path = Path(kept.get("RAY_AUTH_TOKEN_PATH") or DEFAULT_TOKEN).expanduser()
    mode = kept.setdefault("RAY_AUTH_MODE", "token")
    if mode == "token" and not kept.get("RAY_AUTH_TOKEN") and not path.is_file():
        raise PipelineError(
            f"Ray is asked with a token, and there is no file {path}: give --ray_token_file with the"
            " cluster's own (ray get-auth-token --generate makes one)"
        )
    kept.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    return kept


class RayLauncher:
    """The launcher of one service. See `launcher.Launcher` for what its methods promise.

    Ray remembers what was ordered, by name; what is remembered here is only of workers that Ray forgets at
    once: how those ended, until `stop`, and when those that were told to stop are to be gone.
    """

    def __init__(self, service: str, channel: Channel) -> None:
        self._service = service
        self._channel = channel
        self._turn = trio.Lock()
        self._known: dict[str, Launched] = {}
        self._stopped: dict[str, float] = {}  # id -> when to force it

    async def start(self, n: int, spec: WorkerSpec) -> list[str]:
        """Order n actors; each waits until a node has room for it."""
        async with self._turn:
            ids = fresh_ids(n, self._service, await self._look(), time.time())
            workers = {
                str(id): ("--name", id.name, "--incarnation", str(id.incarnation), *spec.arguments)
                for id in ids
            }
            await self._channel.ask(Start(workers, spec.environment, Needs.of(spec)))
            self._known |= {id: Launched(LaunchState.PENDING) for id in workers}
            return list(workers)

    async def stop(self, id: str, grace: float) -> None:
        """Have the actor ask its worker, and see to it in `alive` that both end."""
        async with self._turn:
            if id not in self._stopped:
                await self._channel.ask(Stop(id, grace))
                self._known.pop(id, None)
                self._stopped[id] = trio.current_time() + grace + MARGIN

    async def alive(self) -> dict[str, Launched]:
        """What Ray has by name, and what it had and has no more."""
        async with self._turn:
            return await self._look()

    async def capacity(self, spec: WorkerSpec) -> int | None:
        """Room on each node by what Ray says is left there, without what waits for it already."""
        async with self._turn:
            room = (await self._channel.ask(Room(Needs.of(spec)))).room
            pending = sum(each.state is LaunchState.PENDING for each in self._known.values())
            return None if room is None else max(0, room - pending)

    async def _look(self) -> dict[str, Launched]:
        seen = {
            id: Launched(state, why)
            for id, (state, why) in (await self._channel.ask(See())).seen.items()
            if (parsed := parse_id(id)) is not None and parsed.service == self._service
        }
        self._stopped = {id: at for id, at in self._stopped.items() if id in seen}
        over = await self._force(seen)
        lost = {
            id: was if was.state is LaunchState.GONE else Launched(LaunchState.GONE, "Ray has it no more")
            for id, was in self._known.items()
            if id not in seen
        }
        self._known = {id: each for id, each in seen.items() if id not in self._stopped} | lost
        return {id: each for id, each in seen.items() if id not in over} | lost

    async def _force(self, seen: dict[str, Launched]) -> set[str]:
        """End those that were stopped, and whose time is over or whose worker has ended."""
        now = trio.current_time()
        over = {id for id, at in self._stopped.items() if seen[id].state is LaunchState.GONE or now >= at}
        for id in over:  # again and again, until Ray lists it no more
            await self._channel.ask(Kill(id))
        return over

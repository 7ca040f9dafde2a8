"""Contract, with real processes: what every launcher promises, whatever engine is under it.

A launcher is in `LAUNCHERS`: by its name, what opens it in an empty folder, with whatever has to run for it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio

from common.processes import send_signal
from gateway.launchers.ids import parse_id
from gateway.launchers.kubernetes.launcher import KubernetesLauncher, open_kubernetes
from gateway.launchers.launcher import Launched, LaunchState, WorkerSpec
from gateway.launchers.local import LocalLauncher, open_local
from tests.gateway.launchers.hands import Hands
from tests.gateway.launchers.ray.contract import open_hands, open_head
from tests.services.fake_kubernetes import open_kubernetes_api, write_kubeconfig

SCRIPT = Path(__file__).resolve().parents[2] / "services" / "scripted_worker.py"
SIGKILL = 9


@asynccontextmanager
async def local(folder: Path) -> AsyncIterator[Hands]:
    """Workers that end with their gateway."""
    async with open_local("pipeline", program=SCRIPT) as launcher:
        yield Hands(launcher, WorkerSpec(), lambda id: kill_local(launcher, id))


@asynccontextmanager
async def kept(folder: Path) -> AsyncIterator[Hands]:
    """Workers that outlive it."""

    def again() -> AbstractAsyncContextManager[LocalLauncher]:
        return open_local("pipeline", program=SCRIPT, records=folder / "workers.json", keep=True)

    async with again() as launcher:
        try:
            yield Hands(launcher, WorkerSpec(), lambda id: kill_local(launcher, id), again)
        finally:
            for id in launcher._workers:
                kill_local(launcher, id)


def kill_local(launcher: LocalLauncher, id: str) -> None:
    worker = launcher._workers[id]
    send_signal(worker.pid, worker.started, SIGKILL)


@asynccontextmanager
async def kubernetes(folder: Path) -> AsyncIterator[Hands]:
    """Pods of an API server that runs them on this machine."""
    container = {"name": "worker", "image": "x", "command": ["python", str(SCRIPT)]}
    (folder / "pod.json").write_text(json.dumps({"spec": {"containers": [container]}}))
    async with open_kubernetes_api(folder, runs=True) as server:
        config = write_kubeconfig(folder / "kubeconfig", server)

        def again() -> AbstractAsyncContextManager[KubernetesLauncher]:
            return open_kubernetes("pipeline", config=config, template=folder / "pod.json")

        def kill(id: str) -> None:
            os.kill(server.cluster.pid(id.replace(".", "-")), SIGKILL)

        async with again() as launcher:
            yield Hands(launcher, WorkerSpec(), kill, again)


LAUNCHERS: dict[str, Callable[[Path], AbstractAsyncContextManager[Hands]]] = {
    "local": local,
    "kept": kept,
    "kubernetes": kubernetes,
    "ray": open_hands,
}


@pytest.fixture(scope="module")
def ray_head():
    """The folder of a cluster that all its tests share; its path is short, as Unix sockets are in it."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[apart]'")
    with tempfile.TemporaryDirectory(prefix="ray-") as made, open_head(folder := Path(made)):
        yield folder


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.apart if name == "ray" else ()) for name in LAUNCHERS]
)
async def hands(request, tmp_path):
    folder = request.getfixturevalue("ray_head") if request.param == "ray" else tmp_path
    async with LAUNCHERS[request.param](folder) as opened:
        yield opened


async def until(hands: Hands, holds: Callable[[dict[str, Launched]], bool]) -> dict[str, Launched]:
    """What the launcher says as soon as it is so."""
    with trio.fail_after(hands.patience):
        while not holds(alive := await hands.launcher.alive()):  # noqa: ASYNC110 - other processes make it so
            await trio.sleep(0.02)
    return alive


async def running(hands: Hands, n: int) -> list[str]:
    """The ids of so many new workers, which run."""
    ids = await hands.launcher.start(n, hands.spec)
    await until(hands, lambda alive: states(alive, *ids) == {LaunchState.RUNNING})
    return ids


def states(alive: dict[str, Launched], *ids: str) -> set[LaunchState | None]:
    return {alive[id].state if id in alive else None for id in ids}


async def test_whom_it_was_told_to_start_it_knows_at_once_and_they_run_soon(hands):
    assert await hands.launcher.alive() == {}
    ids = await hands.launcher.start(3, hands.spec)
    alive = await hands.launcher.alive()
    assert set(alive) == set(ids)
    assert states(alive, *ids) <= {LaunchState.PENDING, LaunchState.RUNNING}
    parsed = [parse_id(id) for id in ids]
    assert [(each.service, each.slot) for each in parsed if each] == [
        (hands.spec.service, n) for n in range(3)
    ]
    assert all(each is not None and each.incarnation > 0 for each in parsed)
    await until(hands, lambda alive: states(alive, *ids) == {LaunchState.RUNNING})


async def test_none_at_all_is_none(hands):
    assert await hands.launcher.start(0, hands.spec) == []
    assert await hands.launcher.alive() == {}


async def test_one_that_is_killed_is_gone_until_it_is_stopped_and_nobody_starts_it_again(hands):
    lost, left = await running(hands, 2)
    hands.kill(lost)
    alive = await until(hands, lambda alive: states(alive, lost) == {LaunchState.GONE})
    assert alive[lost].why
    assert alive[left].state is LaunchState.RUNNING
    for _ in range(20):
        await trio.sleep(0.05)
        assert states(await hands.launcher.alive(), lost) == {LaunchState.GONE}
    await hands.launcher.stop(lost, 5.0)
    assert set(await until(hands, lambda alive: lost not in alive)) == {left}


async def test_one_that_is_stopped_ends_and_is_forgotten_and_the_others_run_on(hands):
    first, second, third = await running(hands, 3)
    await hands.launcher.stop(second, 10.0)
    assert set(await until(hands, lambda alive: second not in alive)) == {first, third}
    assert states(await hands.launcher.alive(), first, third) == {LaunchState.RUNNING}


async def test_stopping_again_or_somebody_unknown_or_gone_is_no_error(hands):
    [id] = await running(hands, 1)
    for _ in range(3):
        await hands.launcher.stop(id, 10.0)
    await until(hands, lambda alive: alive == {})
    await hands.launcher.stop(id, 10.0)
    await hands.launcher.stop(f"{hands.spec.service}-7.12345", 10.0)
    assert await hands.launcher.alive() == {}


async def test_one_that_is_stopped_before_it_runs_never_stays(hands):
    [id] = await hands.launcher.start(1, hands.spec)
    await hands.launcher.stop(id, 10.0)
    await until(hands, lambda alive: alive == {})


async def test_a_successor_has_the_free_place_and_a_later_incarnation(hands):
    first, second = await running(hands, 2)
    hands.kill(first)
    await until(hands, lambda alive: states(alive, first) == {LaunchState.GONE})
    [successor] = await running(hands, 1)
    before, after = parse_id(first), parse_id(successor)
    assert before is not None
    assert after is not None
    assert (after.name, after.incarnation > before.incarnation) == (before.name, True)
    assert set(await hands.launcher.alive()) == {first, second, successor}
    await hands.launcher.stop(first, 5.0)
    alive = await until(hands, lambda alive: first not in alive)
    assert states(alive, second, successor) == {LaunchState.RUNNING}


async def test_how_many_more_have_room_is_a_number_or_unknown(hands):
    room = await hands.launcher.capacity(hands.spec)
    assert room is None or room >= 0


async def test_orders_that_come_together_are_all_obeyed(hands):
    ids: list[str] = []

    async def start() -> None:
        ids.extend(await hands.launcher.start(1, hands.spec))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(start)
    assert len(set(ids)) == 4
    await until(hands, lambda alive: states(alive, *ids) == {LaunchState.RUNNING})
    async with trio.open_nursery() as nursery:
        for id in ids:
            nursery.start_soon(hands.launcher.stop, id, 10.0)
    await until(hands, lambda alive: alive == {})


async def test_after_a_restart_of_the_gateway_it_knows_them_all_and_can_stop_them(hands):
    if hands.again is None:
        pytest.skip("these workers end with their gateway")
    ids = await running(hands, 2)
    async with hands.again() as launcher:
        restarted = hands._replace(launcher=launcher)
        await until(restarted, lambda alive: states(alive, *ids) == {LaunchState.RUNNING})
        [third] = await running(restarted, 1)
        assert third not in ids
        hands.kill(ids[0])
        await until(restarted, lambda alive: states(alive, ids[0]) == {LaunchState.GONE})
        for id in (*ids, third):
            await launcher.stop(id, 10.0)
        await until(restarted, lambda alive: alive == {})

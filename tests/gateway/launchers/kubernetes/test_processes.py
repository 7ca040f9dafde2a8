"""Collaboration, with real child processes: Pods that run programs of this machine."""

from __future__ import annotations

import json

import psutil
import pytest
import trio

from gateway.launchers.kubernetes.launcher import open_kubernetes
from gateway.launchers.launcher import Launched, LaunchState, WorkerSpec
from tests.services.fake_kubernetes import open_kubernetes_api, write_kubeconfig

RUNNING = Launched(LaunchState.RUNNING)
OBEYS = "import signal, sys; print('worker', *sys.argv[1:], flush=True); signal.sigwait({signal.SIGTERM})"
IGNORES = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
)
FAILS = "import sys; print('first', flush=True); sys.exit('worker.py: no such flag')"


@pytest.fixture
async def server(tmp_path):
    async with open_kubernetes_api(tmp_path, runs=True) as server:
        yield server


@pytest.fixture
def cluster(server):
    return server.cluster


@pytest.fixture
async def started(server, tmp_path):
    """Starts one worker that is this program; its launcher and its id."""
    async with trio.open_nursery() as nursery:

        async def start(program):
            template = tmp_path / "pod.json"
            container = {"name": "worker", "image": "x", "command": ["python", "-c", program]}
            template.write_text(json.dumps({"spec": {"containers": [container]}}))
            config = write_kubeconfig(tmp_path / "kubeconfig", server)
            launcher = await nursery.start(keep_open, open_kubernetes("s", config=config, template=template))
            [id] = await launcher.start(1, WorkerSpec(service="s", arguments=("--device", "cpu")))
            return launcher, id

        yield start
        nursery.cancel_scope.cancel()


async def keep_open(manager, *, task_status):
    async with manager as opened:
        task_status.started(opened)
        await trio.sleep_forever()


async def until(holds):
    with trio.fail_after(20):
        while not (found := await holds()):  # noqa: ASYNC110 - other processes do it
            await trio.sleep(0.01)
    return found


async def test_a_worker_is_told_who_it_is_and_may_say_goodbye(started, cluster):
    launcher, id = await started(OBEYS)
    await until(lambda: launcher.log(id))
    assert await launcher.alive() == {id: RUNNING}
    name, _, incarnation = id.partition(".")
    said = f"worker --name {name} --incarnation {incarnation} --device cpu\n"
    assert await launcher.log(id) == said
    [pod] = cluster.pods.values()
    process = psutil.Process(cluster.pid(pod["metadata"]["name"]))
    await launcher.stop(id, 20.0)
    assert await launcher.alive() == {}
    await trio.to_thread.run_sync(process.wait, 20)
    await until(lambda: gone(cluster))


async def gone(cluster):
    return not cluster.pods


async def test_a_worker_that_does_not_go_is_ended_when_its_grace_is_over(started, cluster):
    launcher, id = await started(IGNORES)
    await until(lambda: launcher.log(id))
    await launcher.stop(id, 0.1)  # a second: less is none
    await until(lambda: gone(cluster))


async def test_a_worker_that_fails_says_why_and_is_not_started_again(started, cluster):
    launcher, id = await started(FAILS)

    async def ended():
        return (await launcher.alive())[id].state is LaunchState.GONE

    await until(ended)
    assert await launcher.alive() == {
        id: Launched(LaunchState.GONE, "exit code 1: worker.py: no such flag"),
    }
    assert await launcher.log(id) == "first\nworker.py: no such flag\n"
    await launcher.stop(id, 0.0)
    assert cluster.pods == {}


async def test_a_worker_that_the_kernel_kills_says_so(started, cluster):
    launcher, id = await started(OBEYS)
    await until(lambda: launcher.log(id))
    [pod] = cluster.pods.values()
    process = psutil.Process(cluster.pid(pod["metadata"]["name"]))
    cluster.kill(pod["metadata"]["name"])
    launcher._pods.forget()
    assert await launcher.alive() == {id: Launched(LaunchState.GONE, "OOMKilled (exit code 137)")}
    await trio.to_thread.run_sync(process.wait, 20)

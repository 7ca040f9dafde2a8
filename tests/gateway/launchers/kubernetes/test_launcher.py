"""Collaboration: the launcher and an API server over real sockets; Pods that only say that they run."""

from __future__ import annotations

import sys

import pytest
import trio

from common.errors import LaunchError
from gateway.launchers.kubernetes import launcher as module
from gateway.launchers.kubernetes.launcher import open_kubernetes
from gateway.launchers.launcher import Launched, LaunchState, WorkerSpec
from tests.services.fake_kubernetes import write_kubeconfig
from tests.services.kubernetes_cluster import Fault, waits

SPEC = WorkerSpec(service="shop")
RUNNING, PENDING = Launched(LaunchState.RUNNING), Launched(LaunchState.PENDING)


def name_of(id):
    return id.replace(".", "-")


def pod_of(cluster, id):
    return cluster.pods["default", name_of(id)]


@pytest.fixture(autouse=True)
def always_asked(monkeypatch):
    """Tests change the cluster behind the launcher's back."""
    monkeypatch.setattr(module, "LISTED_FOR", 0.0)
    monkeypatch.setattr(module, "COUNTED_FOR", 0.0)


async def test_what_is_started_runs_until_it_is_stopped(launcher, cluster):
    ids = await launcher.start(2, SPEC)
    assert [id.partition(".")[0] for id in ids] == ["shop-0", "shop-1"]
    assert await launcher.alive() == dict.fromkeys(ids, RUNNING)
    await launcher.stop(ids[0], 5.0)
    assert await launcher.alive() == {ids[1]: RUNNING}
    [third] = await launcher.start(1, SPEC)
    assert third.startswith("shop-0.")
    assert third != ids[0]


async def test_stopping_is_done_once_however_often_it_is_asked(launcher, cluster):
    [id] = await launcher.start(1, SPEC)
    for _ in range(2):
        await launcher.stop(id, 0.0)
    await launcher.stop("shop-7.7", 1.0)
    for stranger in ("", "other-1.1", "shop", "shop-0"):
        await launcher.stop(stranger, 1.0)
    assert cluster.pods == {}
    assert cluster.calls.count("delete pods") == 3


async def test_workers_of_before_a_restart_of_the_gateway_are_there(launcher, server, tmp_path):
    ids = await launcher.start(2, SPEC)
    config = write_kubeconfig(tmp_path / "other", server)
    async with open_kubernetes("shop", config=config, image="pipeline:2") as next_one:
        assert list(await next_one.alive()) == ids
    async with open_kubernetes("shop-eu", config=config, image="pipeline:2") as stranger:
        assert await stranger.alive() == {}
        [id] = await stranger.start(1, WorkerSpec(service="shop-eu"))
        assert id.startswith("shop-eu-0.")
    assert list(await launcher.alive()) == ids
    async with open_kubernetes("shop", namespace="else", config=config, image="x") as elsewhere:
        assert await elsewhere.alive() == {}


async def test_a_worker_that_ended_is_gone_until_it_is_stopped(launcher, cluster):
    first, second = await launcher.start(2, SPEC)
    cluster.end(name_of(first), 2, message="starting\nno such flag: --foo\n")
    cluster.kill(name_of(second))
    assert await launcher.alive() == {
        first: Launched(LaunchState.GONE, "exit code 2: no such flag: --foo"),
        second: Launched(LaunchState.GONE, "OOMKilled (exit code 137)"),
    }
    for id in (first, second):
        await launcher.stop(id, 0.0)
    assert await launcher.alive() == {}


async def test_a_pod_that_waits_says_for_what(launcher, cluster):
    cluster.missing_images.add("pipeline:1")
    [id] = await launcher.start(1, SPEC)
    why = 'ImagePullBackOff: Back-off pulling image "pipeline:1"'
    assert await launcher.alive() == {id: Launched(LaunchState.PENDING, why)}
    waits(pod_of(cluster, id), "ContainerCreating", "")
    assert await launcher.alive() == {id: Launched(LaunchState.PENDING, "ContainerCreating")}


async def test_where_nodes_are_seen_room_is_counted(launcher, cluster):
    spec = WorkerSpec(service="shop", cpus=3)
    assert await launcher.capacity(spec) == 5
    await launcher.start(3, spec)
    assert await launcher.capacity(spec) == 2
    cluster.add_node("two", cpu="8")
    assert await launcher.capacity(spec) == 4
    assert await launcher.capacity(WorkerSpec(service="shop", gpus=1)) == 0


async def test_while_a_pod_finds_no_node_there_is_no_room(launcher, cluster):
    spec = WorkerSpec(service="shop", cpus=12)
    [placed], [waiting] = await launcher.start(1, spec), await launcher.start(1, spec)
    states = await launcher.alive()
    assert states[placed] == RUNNING
    assert states[waiting].state is LaunchState.PENDING
    assert states[waiting].why.startswith("Unschedulable: 0/1 nodes are available")
    assert await launcher.capacity(WorkerSpec(service="shop", cpus=1)) == 0
    await launcher.stop(placed, 1.0)
    assert await launcher.alive() == {waiting: RUNNING}
    assert await launcher.capacity(WorkerSpec(service="shop", cpus=1)) == 4


async def test_where_nodes_are_not_to_be_seen_nobody_knows_until_a_pod_waits(launcher, cluster):
    cluster.forbidden.add(("list", "nodes"))
    assert await launcher.capacity(SPEC) is None
    await launcher.start(1, WorkerSpec(service="shop", cpus=99))
    assert await launcher.capacity(SPEC) == 0


async def test_a_worker_on_a_silent_node_is_let_go_and_its_place_is_free(launcher, cluster):
    [id] = await launcher.start(1, SPEC)
    cluster.silent.add("one")
    await launcher.stop(id, 1.0)
    assert "deletionTimestamp" in pod_of(cluster, id)["metadata"]  # nobody has confirmed its end
    assert await launcher.alive() == {}
    assert (await launcher.start(1, SPEC))[0].startswith("shop-0.")


async def test_an_order_whose_answer_was_lost_is_carried_out_once(launcher, cluster):
    cluster.fail("create", Fault(lose=True), Fault(cut=True))
    [id] = await launcher.start(1, SPEC)
    assert cluster.calls.count("create pods") == 3
    assert list(await launcher.alive()) == [id]
    cluster.fail("delete", Fault(lose=True))
    await launcher.stop(id, 1.0)
    assert cluster.pods == {}


async def test_an_order_that_failed_half_way_is_seen_in_the_next_list(launcher, cluster):
    cluster.quota = 2
    with pytest.raises(LaunchError) as raised:
        await launcher.start(3, SPEC)
    assert "(403): pods" in str(raised.value)
    assert "exceeded quota: few" in str(raised.value)
    assert "Role" not in str(raised.value)  # it is not a permission that is missing
    assert len(await launcher.alive()) == 2


async def test_an_order_of_which_nothing_can_be_made_is_no_order(launcher, cluster):
    with pytest.raises(LaunchError, match="GPUs whole"):
        await launcher.start(2, WorkerSpec(service="shop", gpus=0.5))
    assert cluster.pods == {}


async def test_what_is_cancelled_half_way_leaves_nothing_but_what_the_list_shows(launcher, cluster):
    held = trio.Event()
    cluster.fail("create", Fault(), Fault(until=held))
    with trio.move_on_after(0.2):
        await launcher.start(2, SPEC)
    held.set()
    states = await launcher.alive()
    assert set(map(name_of, states)) == {name for _, name in cluster.pods}
    assert len(await launcher.start(1, SPEC)) == 1


async def test_a_log_is_read_to_its_end_and_only_where_there_is_one(launcher, cluster):
    [id] = await launcher.start(1, SPEC)
    assert await launcher.log(id) == ""
    cluster.log(pod_of(cluster, id)).write_text("one\ntwo\nthree\n")
    assert await launcher.log(id, lines=2) == "two\nthree\n"
    assert await launcher.log("shop-9.9") == ""
    assert await launcher.log("no id") == ""
    cluster.forbidden.add(("get", "pods/log"))
    with pytest.raises(LaunchError, match='a Role has to allow the verb "get" on "pods/log"'):
        await launcher.log(id)


async def test_a_list_is_asked_for_once_in_a_while_and_again_after_an_order(launcher, cluster, monkeypatch):
    launcher._pods._seconds = 60.0
    [id] = await launcher.start(1, SPEC)
    before = cluster.calls.count("list pods")
    for _ in range(3):
        assert list(await launcher.alive()) == [id]
    assert cluster.calls.count("list pods") == before + 1
    await launcher.stop(id, 1.0)
    assert await launcher.alive() == {}


async def test_a_list_that_an_order_overtook_is_not_kept(launcher, cluster):
    launcher._pods._seconds = 60.0
    held = trio.Event()
    cluster.fail("list", Fault(until=held))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(launcher.alive)
        await trio.testing.wait_all_tasks_blocked(0.05)
        [id] = await launcher.start(1, SPEC)
        await launcher.stop(id, 1.0)
        held.set()
    assert await launcher.alive() == {}


async def test_a_template_reaches_the_pods(server, cluster, tmp_path):
    template = tmp_path / "pod.yaml"
    template.write_text(
        "spec:\n  nodeSelector: {disk: fast}\n  containers:\n  - {name: worker, image: 'own:1'}\n"
    )
    config = write_kubeconfig(tmp_path / "kubeconfig", server)
    async with open_kubernetes("shop", config=config, template=template) as launcher:
        [id] = await launcher.start(1, SPEC)
    spec = pod_of(cluster, id)["spec"]
    assert spec["nodeSelector"] == {"disk": "fast"}
    assert [each["image"] for each in spec["containers"]] == ["own:1"]


async def test_what_cannot_work_is_said_before_anything_is_asked(server, tmp_path, monkeypatch):
    config = write_kubeconfig(tmp_path / "kubeconfig", server)
    with pytest.raises(LaunchError) as raised:
        async with open_kubernetes("shop", config=config):
            pass
    assert str(raised.value) == (
        "nothing says what image workers run: give --kubernetes_image, or a --kubernetes_template"
        " whose container 'worker' has one"
    )
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(LaunchError) as raised:
        async with open_kubernetes("shop", config=config, image="x"):
            pass
    assert str(raised.value) == (
        "--launcher kubernetes needs httpx: pip install 'pipeline-inference[kubernetes]'"
    )

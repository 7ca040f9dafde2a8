"""End to end: workers that a gateway starts, loses, replaces, keeps and gets rid of."""

from __future__ import annotations

import signal
from typing import Any

import psutil
import pytest

from tests.e2e.load import run_load, wait_answered
from tests.e2e.processes import Gateway, Site, wait_for
from tests.e2e.weights import ONE, is_right, stored

LONG = "20000"  # ms; on a busy machine a replacement takes its time


def fork_server(gateway: Gateway) -> psutil.Process:
    (server,) = psutil.Process(gateway.pid).children()
    return server


def pids(workers: list[dict[str, Any]]) -> set[int]:
    return {worker["pid"] for worker in workers}


def ready(site: Site, *flags: str, workers: int = 2, **how: Any) -> tuple[Gateway, set[int]]:
    """A gateway with so many workers that serve, and their process ids."""
    gateway = site.start_gateway("--workers", str(workers), *flags, **how)
    found = pids(gateway.wait_ready(workers))
    return gateway, found


def test_workers_outlive_the_process_they_are_forked_from_and_are_replaced_by_another(site):
    gateway, first = ready(site)
    assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    with run_load(gateway, clients=4, x_timeout_ms=LONG) as load:
        wait_answered(load, 50)
        fork_server(gateway).kill()
        gateway.wait_for_line("fork server ended", "killed by SIGKILL")
        wait_answered(load, 100)
        assert pids(gateway.status()["workers"]) == first
        lost = first.pop()
        psutil.Process(lost).kill()
        gateway.wait_state(lost, None)
        second = pids(gateway.wait_ready(2))
        wait_answered(load, 100)
    assert load.wrong == []
    assert second > first
    assert gateway.status()["manager"]["wanted"] == 2
    gateway.send(signal.SIGTERM)
    assert gateway.wait() == 0
    assert site.survivors() == []


def test_workers_end_with_a_killed_gateway_though_their_fork_server_was_killed_before(site):
    gateway, _ = ready(site)
    fork_server(gateway).kill()
    gateway.wait_for_line("fork server ended")
    gateway.kill()
    wait_for(lambda: not site.survivors(), "the workers end", 15.0)


@pytest.mark.apart  # 30 s: silence has to last
def test_a_stopped_worker_is_replaced_and_killed(site):
    gateway, first = ready(site)
    frozen = first.pop()
    psutil.Process(frozen).suspend()
    gateway.wait_for_line("worker ended", "it was silent for 15 s")
    assert first < pids(gateway.wait_ready(2))
    wait_for(lambda: not psutil.pid_exists(frozen), "it is killed when its grace is over")


def test_workers_that_cannot_start_are_tried_ever_more_slowly_and_people_are_told(site):
    gateway = site.start_gateway("--workers", "2", "--device", "cuda")
    gateway.wait_for_line("crash loop", "ended: exit code 2; the next is tried in")
    wait_for(lambda: gateway.lines("worker ended", "again_in=1.6"), "the fifth try")
    pauses = [float(line.rpartition("again_in=")[2]) for line in gateway.lines("worker ended", "again_in")]
    steps = list(
        dict.fromkeys(round(pause, 1) for pause in pauses if round(pause, 1) in (0.1, 0.2, 0.4, 0.8))
    )
    assert steps == [0.1, 0.2, 0.4, 0.8]
    manager = gateway.status()["manager"]
    assert (manager["wanted"], manager["ready"]) == (2, 0)
    assert "ended: exit code 2; the next is tried in" in manager["trouble"]
    assert gateway.ask("GET", "/status").status == 200


def test_of_two_workers_of_one_name_the_newer_serves_and_the_older_leaves(site):
    gateway = site.start_gateway()
    older = site.spawn_worker("--name", "w-0", "--incarnation", "5")
    gateway.wait_ready(1)
    assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    with run_load(gateway, clients=4, x_timeout_ms=LONG) as load:
        wait_answered(load, 50)
        newer = site.spawn_worker("--name", "w-0", "--incarnation", "6")
        gateway.wait_state(newer.pid, "ready")
        assert older.wait() == 0
        wait_answered(load, 100)
    assert load.wrong == []
    again = site.spawn_worker("--name", "w-0", "--incarnation", "5")
    assert again.wait() == 0
    assert pids(gateway.wait_ready(1)) == {newer.pid}
    assert [line for line in gateway.lines("worker joining") if f"pid={again.pid}" in line] == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_leaves_some_time_after_its_gateway_has_gone(site, how):
    gateway = site.start_gateway()
    worker = site.spawn_worker("--gateway_timeout", "2")
    gateway.wait_ready(1)
    gateway.send(how)
    assert worker.wait() == 0
    assert worker.lines("without a gateway")


def test_workers_for_one_use_answer_one_batch_and_are_replaced(site):
    gateway, first = ready(site, "--spot_workers")
    assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    for n in range(6):
        answer = gateway.predict(0.5, n / 10, x_timeout_ms=LONG)
        assert is_right(answer.json["result"], ONE, 0.5, n / 10)
    wait_for(lambda: len(gateway.lines("worker started")) >= 6, "others came in their place")
    assert not first & pids(gateway.wait_ready(2))
    assert gateway.lines("crash loop") == []
    assert gateway.status()["manager"]["trouble"] == ""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_kept_workers_are_found_by_the_next_gateway_and_no_others_are_started(site, how):
    gateway, workers = ready(site, "--keep", ephemeral=False)
    assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    gateway.send(how)
    gateway.wait()
    gateway, again = ready(site, "--keep", ephemeral=False)
    assert again == workers
    answer = gateway.predict(0.5, 0.25)
    assert is_right(answer.json["result"], ONE, 0.5, 0.25)
    assert gateway.lines("worker started") == []
    lost = workers.pop()
    psutil.Process(lost).kill()
    gateway.wait_state(lost, None)
    assert workers < pids(gateway.wait_ready(2))
    gateway.kill()
    gateway = site.start_gateway(ephemeral=False)  # one that keeps none
    wait_for(lambda: not gateway.children(), "it has none")
    wait_for(lambda: len(site.survivors()) == 1, "theirs end")


def test_fewer_at_first_than_at_most(site):
    flags = ("--min_workers", "1", "--num_init_workers", "2", "--max_workers", "3")
    gateway = site.start_gateway(*flags)
    gateway.wait_ready(2)
    manager = gateway.status()["manager"]
    assert (manager["min_workers"], manager["max_workers"], manager["wanted"]) == (1, 3, 2)

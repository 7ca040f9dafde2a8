"""end to end: workers and gateways that are killed, stopped, told to leave or restarted under load. Nothing
that a client sent is lost, and nothing is answered wrongly."""

from __future__ import annotations

import http.client
import re
import signal
import time
from itertools import cycle

import pytest

from tests.e2e.held import start_held
from tests.e2e.load import Outcome, run_load, wait_answered
from tests.e2e.processes import ROOT, Gateway, Process, Site, Worker, wait_for
from tests.e2e.weights import ONE, TWO, bad_tensors, expected, is_right, padded, stored, upload

LONG = "10000"  # X-Timeout-Ms of requests that a stopped worker had in hand


def start_fleet(site: Site, workers: int, **flags: str) -> tuple[Gateway, list[Worker]]:
    """A gateway with workers on ws that it did not start, serving the first network."""
    gateway = site.start_gateway()
    spawned = [site.spawn_worker() for _ in range(workers)]
    gateway.wait_ready(workers)
    assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    return gateway, spawned


@pytest.fixture(scope="module")
def fleet(shared_site) -> tuple[Gateway, list[Worker]]:
    """Three workers; a test leaves as many ready as it found."""
    return start_fleet(shared_site, 3)


@pytest.mark.apart  # five workers import torch one after the other
def test_five_workers_killed_one_at_a_time_cost_no_request(shared_site, fleet):
    gateway, workers = fleet
    with run_load(gateway, x_timeout_ms=LONG) as load:
        for _ in range(5):
            wait_answered(load, 200)
            dying = workers.pop(0)
            dying.kill()
            workers.append(shared_site.spawn_worker())
            gateway.wait_state(workers[-1].pid, "ready")
            gateway.wait_state(dying.pid, None)
        wait_answered(load, 200)
    assert load.wrong == []
    assert {outcome.answer.version for outcome in load.outcomes} == {ONE}
    print(f"5 kills: {len(load.outcomes)} requests, none failed, the slowest took {load.slowest:.3f} s")


def test_a_stopped_worker_is_stood_in_for_and_taken_back(fleet):
    gateway, workers = fleet
    gateway.wait_ready(3)
    with run_load(gateway, x_timeout_ms=LONG) as load:
        wait_answered(load, 200)
        workers[0].send(signal.SIGSTOP)
        try:
            gateway.wait_state(workers[0].pid, "suspect")
            wait_answered(load, 200)
            assert time_of_status(gateway) < 0.1  # it waits 12 ms for those who do not answer
        finally:
            workers[0].send(signal.SIGCONT)
        began = time.monotonic()
        gateway.wait_state(workers[0].pid, "ready")
        back = time.monotonic() - began
        wait_answered(load, 200)
    assert load.wrong == []
    assert load.slowest < 8
    print(f"SIGSTOP: the slowest request took {load.slowest:.3f} s; ready {back:.3f} s after SIGCONT")


def time_of_status(gateway: Gateway) -> float:
    """The median of a few, in seconds."""
    times = []
    for _ in range(9):
        began = time.monotonic()
        gateway.status()
        times.append(time.monotonic() - began)
    return sorted(times)[4]


def test_a_worker_stopped_so_long_that_it_was_given_up_comes_back_too(fleet):
    gateway, workers = fleet
    gateway.wait_ready(3)
    workers[1].send(signal.SIGSTOP)
    try:
        gateway.wait_state(workers[1].pid, None)
    finally:
        workers[1].send(signal.SIGCONT)
    gateway.wait_ready(3)
    with run_load(gateway, clients=4, x_timeout_ms=LONG) as load:
        wait_answered(load, 200)
    assert load.wrong == []


def test_weights_switched_under_load_never_mix(fleet):
    gateway, _ = fleet
    gateway.wait_ready(3)

    def telling(chance):  # rows on which the two networks plainly differ
        return chance.uniform(2, 4), chance.uniform(2, 4)

    assert abs(expected(ONE, 3, 3) - expected(TWO, 3, 3)) > 1e-3
    switched: list[tuple[float, float, str]] = []
    with run_load(gateway, rows=telling, x_timeout_ms=LONG) as load:
        for nn_id, _ in zip(cycle((TWO, ONE)), range(8), strict=False):
            wait_answered(load, 100)
            began = time.monotonic()
            answer = gateway.set_weights(nn_id, stored(nn_id))
            assert (answer.status, answer.json["message"]) == (200, "OK")
            switched.append((began, time.monotonic(), nn_id))
        wait_answered(load, 100)
    assert load.wrong == []
    for outcome in load.outcomes:
        allowed = versions_allowed(outcome, switched)
        assert outcome.answer is not None
        assert outcome.answer.version in allowed, f"{outcome}: {outcome.answer.version}, not {allowed}"
    assert {outcome.answer.version for outcome in load.outcomes if outcome.answer} == {ONE, TWO}
    times = [ended - began for began, ended, _ in switched]
    print(f"set_weights under load: {len(load.outcomes)} requests, slowest switch {max(times):.3f} s")


def test_weights_refused_under_load_leave_the_old_ones_serving(fleet):
    gateway, _ = fleet
    gateway.wait_ready(3)
    assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    with run_load(gateway, x_timeout_ms=LONG) as load:
        for blob in (bad_tensors(), stored(TWO)[:-100], b"no weights at all") * 2:
            wait_answered(load, 100)
            said = gateway.set_weights(TWO, blob).json
            assert (said["status"], [worker["result"] for worker in said["workers"]]) == (False, [False] * 3)
        wait_answered(load, 100)
    assert [str(outcome) for outcome in load.outcomes if not outcome.is_right(ONE)] == []


def versions_allowed(outcome: Outcome, switched: list[tuple[float, float, str]]) -> set[str]:
    """The version that served when the request began, and any that a switch brought before its end."""
    before = [nn_id for _, ended, nn_id in switched if ended < outcome.began]
    during = [nn_id for began, ended, nn_id in switched if ended >= outcome.began and began <= outcome.ended]
    return {before[-1] if before else ONE, *during}


def test_a_request_admitted_before_a_switch_is_answered_by_the_old_version(site, tmp_path):
    hold = tmp_path / "hold"
    gateway = start_held(site, hold)
    clients = [gateway.client() for _ in range(5)]
    for i, client in enumerate(clients):
        client.send_row(3.0, float(i))
        gateway.wait_status(lambda status, n=i + 1: status["requests_in_progress"] == n, f"{i + 1} admitted")
    setter, late = gateway.client(), gateway.client()
    body, content_type = upload(TWO, stored(TWO))
    setter.send("PUT", "/set_weights", body, content_type=content_type)
    gateway.wait_for_line("version serves", TWO)
    late.send_row(3.0, 3.0)
    gateway.wait_status(lambda status: status["requests_in_progress"] == 6, "one more admitted")
    hold.unlink()
    assert setter.receive().json["message"] == "OK"
    for i, client in enumerate(clients):
        answer = client.receive()
        assert (answer.status, answer.version) == (200, ONE)
        assert is_right(answer.json["result"], ONE, 3.0, float(i))
    answer = late.receive()
    assert (answer.status, answer.version) == (200, TWO)
    assert is_right(answer.json["result"], TWO, 3.0, 3.0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_told_to_leave_under_load_fails_no_request(shared_site, fleet, number):
    gateway, workers = fleet
    gateway.wait_ready(3)
    with run_load(gateway, x_timeout_ms=LONG) as load:
        wait_answered(load, 200)
        leaving = workers.pop(0)
        leaving.send(number)
        assert leaving.wait() == 0
        wait_answered(load, 200)
        workers.append(shared_site.spawn_worker())
        gateway.wait_state(workers[-1].pid, "ready")
        gateway.wait_state(leaving.pid, None)
    assert load.wrong == []
    assert "Traceback" not in leaving.output
    assert leaving.lines("leaving", "finished=True")


# --- the gateway itself


def refused_or_shut(outcome: Outcome) -> bool:
    """What a client may meet once a gateway drains: nothing listens, an idle connection was closed as it
    was sent on, or it is told so."""
    if outcome.answer is None:
        kinds = ("ConnectionRefusedError", "RemoteDisconnected", "ConnectionResetError", "BrokenPipeError")
        return outcome.error.startswith(kinds)
    return outcome.answer.status == 503 and b"shutting down" in outcome.answer.body


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "Ctrl-C"])
def test_a_gateway_told_to_stop_answers_what_it_has(site, how):
    gateway = site.start_gateway("--workers", "2")
    gateway.wait_ready(2)
    assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    with run_load(gateway) as load:
        wait_answered(load, 300)
        if how == "Ctrl-C":
            gateway.interrupt_terminal()
        else:
            gateway.send(signal.Signals[how])
        assert gateway.wait() == 0
        load.stop()
    wrong = [str(o) for o in load.outcomes if not o.is_right() and not refused_or_shut(o)]
    assert wrong == []
    assert "Traceback" not in gateway.output
    assert site.survivors() == []


@pytest.mark.parametrize("how", ["SIGTERM", "Ctrl-C"])
def test_requests_in_progress_are_all_answered_before_the_gateway_ends(site, tmp_path, how):
    hold = tmp_path / "hold"
    gateway = start_held(site, hold)
    clients = [gateway.client() for _ in range(20)]
    for i, client in enumerate(clients):
        client.send_row(0.5, i / 20)
    gateway.wait_status(lambda status: status["requests_in_progress"] == 20, "all admitted")

    gateway.send(signal.SIGTERM if how == "SIGTERM" else signal.SIGINT)
    gateway.wait_for_line("draining", "in_progress=20")
    wait_for(lambda: is_refused(gateway), "the gateway takes no new connection")
    hold.unlink()
    for i, client in enumerate(clients):
        answer = client.receive()
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert is_right(answer.json["result"], ONE, 0.5, i / 20)
    assert gateway.wait() == 0
    assert "Traceback" not in gateway.output


def is_refused(gateway: Gateway) -> bool:
    try:
        gateway.ask("GET", "/status")
    except ConnectionRefusedError:
        return True
    except (http.client.HTTPException, OSError):
        return False
    return False


@pytest.mark.parametrize(
    ("program", "imported"),
    [("gw", "msgspec"), ("gw", "trio"), ("gw", "starlette"), ("worker", "argparse"), ("worker", "numpy")],
)
def test_ctrl_c_while_a_program_still_imports_is_quiet(site, program, imported):
    process = site.spawn(
        Process,
        ROOT / f"{program}.py",
        *site.fleet,
        PYTHONPROFILEIMPORTTIME="1",
        PIPELINE_ADDR_REST=f"127.0.0.1:{site.rest_port}",
        PIPELINE_EPHEMERAL="1",
    )
    line = re.compile(rf"\| +{imported}$", re.MULTILINE)
    wait_for(lambda: line.search(process.output), f"{program} has imported {imported}")
    process.send(signal.SIGINT)
    assert process.wait() in (0, -signal.SIGINT)
    assert "Traceback" not in process.output


@pytest.mark.parametrize("moment", ["worker started", "looking for the gateway", "worker ready"])
def test_ctrl_c_twice_at_any_moment_of_the_start_prints_no_stack_trace(site, moment):
    gateway = site.start_gateway("--workers", "2")
    gateway.wait_for_line(moment)
    gateway.interrupt_terminal()
    gateway.wait_for_line("draining")
    gateway.interrupt_terminal()
    assert gateway.wait() in (0, -signal.SIGINT)
    wait_for(lambda: not site.survivors(), "the workers end")
    assert "Traceback" not in gateway.output


def test_a_killed_gateway_comes_back_with_its_weights_and_its_workers(site):
    # Over ws NNG 1.11 aborts a worker that is refused as it dials, once in some hundred times: decisions.md.
    site.use_scheme("tcp")
    gateway = site.start_gateway(ephemeral=False)
    workers = [site.spawn_worker() for _ in range(2)]
    gateway.wait_ready(2)
    assert gateway.set_weights(TWO, stored(TWO)).json["message"] == "OK"
    assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    for _ in range(3):
        gateway.kill()
        gateway = site.start_gateway(ephemeral=False)
        began = time.monotonic()
        ready = gateway.wait_ready(2)
        took = time.monotonic() - began
        print(f"workers ready {took:.3f} s after the restarted gateway answered")
        assert took <= 2
        assert {worker["pid"] for worker in ready} == {worker.pid for worker in workers}
        answer = gateway.predict(3.0, 2.0)
        assert (answer.status, answer.version) == (200, ONE)
        assert is_right(answer.json["result"], ONE, 3.0, 2.0)


def test_weights_survive_without_any_worker_and_reach_the_first_that_comes(site):
    gateway = site.start_gateway(ephemeral=False)
    assert gateway.set_weights(TWO, stored(TWO)).json["workers_count"] == 0
    gateway.kill()
    gateway = site.start_gateway(ephemeral=False)
    site.spawn_worker()
    gateway.wait_ready(1)
    answer = gateway.predict(3.0, 2.0)
    assert (answer.version, is_right(answer.json["result"], TWO, 3.0, 2.0)) == (TWO, True)


def test_the_workers_of_a_killed_gateway_end_by_themselves(site):
    gateway = site.start_gateway("--workers", "2")
    gateway.wait_ready(2)
    children = gateway.children()
    assert len(children) >= 2
    gateway.kill()
    wait_for(lambda: not site.survivors(), "the workers end", 15.0)


def test_a_local_worker_that_dies_is_started_again(site):
    gateway = site.start_gateway("--workers", "2")
    first = gateway.wait_ready(2)
    assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    with run_load(gateway, clients=4, x_timeout_ms=LONG) as load:
        for child in gateway.children():
            if child.pid == first[0]["pid"]:
                child.kill()
        gateway.wait_state(first[0]["pid"], None)
        second = gateway.wait_ready(2)
        wait_answered(load, 100)
    assert load.wrong == []
    assert {worker["name"] for worker in second} == {"local-0", "local-1"}
    assert first[0]["pid"] not in {worker["pid"] for worker in second}
    assert gateway.lines("worker ended", "killed by SIGKILL")


# --- a row that kills


def test_a_row_that_kills_workers_is_found_out_and_nobody_else_pays(site):
    gateway = site.start_gateway()
    workers = [site.spawn_worker(program="deadly_worker") for _ in range(3)]
    gateway.wait_ready(3)
    assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    with run_load(gateway, clients=8, x_timeout_ms=LONG) as load:
        wait_answered(load, 100)
        answer = gateway.predict(666.0, 1.0, x_timeout_ms=LONG)
        wait_answered(load, 100)
    assert answer.status == 500
    assert answer.json == {"status": False, "message": "the request was on 2 workers as they died"}
    assert load.wrong == []
    assert [worker.is_alive for worker in workers].count(False) == 2
    assert gateway.lines("request poisoned", "strikes=2")


# --- large weights


@pytest.mark.parametrize("size", [15 << 20, 40 << 20], ids=["in a survey", "in chunks"])
def test_a_worker_killed_while_it_is_sent_weights_holds_up_nobody(shared_site, fleet, size):
    gateway, workers = fleet
    gateway.wait_ready(3)
    with run_load(gateway, clients=4, x_timeout_ms=LONG) as load, gateway.client() as client:
        for left, nn_id in ((2, TWO), (1, ONE)):
            body, content_type = upload(nn_id, padded(nn_id, size))
            client.send("PUT", "/set_weights", body, content_type=content_type)
            workers.pop(0).kill()
            said = client.receive().json
            assert said["message"] == "OK"
            assert said["workers"] in ([{"result": True}] * left, [{"result": True}] * (left + 1))
        wait_answered(load, 100)
    assert load.wrong == []
    workers += [shared_site.spawn_worker() for _ in range(2)]
    gateway.wait_ready(3)


def test_weights_over_16_mib_reach_workers_on_ws_while_predictions_go_on(fleet):
    gateway, _ = fleet
    gateway.wait_ready(3)
    large = padded(TWO, 20 << 20)
    assert len(large) > 20 << 20
    with run_load(gateway, clients=4, x_timeout_ms=LONG) as load:
        wait_answered(load, 50)
        began = time.monotonic()
        answer = gateway.set_weights(TWO, large)
        took = time.monotonic() - began
        wait_answered(load, 50)
    assert answer.json == {
        "status": True,
        "message": "OK",
        "workers_count": 3,
        "workers": [{"result": True}] * 3,
    }
    print(f"{len(large) >> 20} MiB to 3 workers in {took:.3f} s, {len(load.outcomes)} predictions meanwhile")
    assert any(began < outcome.began and outcome.ended < began + took for outcome in load.outcomes)

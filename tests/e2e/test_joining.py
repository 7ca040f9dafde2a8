"""end to end: workers that come early, late or over another transport, and weights on their way to them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.e2e.load import run_load, wait_answered
from tests.e2e.processes import Gateway, Site, Worker
from tests.e2e.weights import ONE, TWO, expected, is_right, padded, stored

SCHEMES = ["ws", "tcp", "ipc"]
LARGE = 17 << 20  # over what rides in a survey
LENIENT = 1.0  # a join takes milliseconds; a busy machine, not ours, takes the rest


def answers_rightly(gateway: Gateway, nn_id: str, *row: float) -> bool:
    answer = gateway.predict(*row)
    return answer.status == 200 and is_right(answer.json["result"], nn_id, *row)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_worker_is_ready_soon_after_it_dials(site, scheme):
    site.use_scheme(scheme)
    gateway = site.start_gateway()
    workers = [site.spawn_worker("--name", f"joiner-{i}") for i in range(3)]
    gateway.wait_ready(3)
    took = [
        gateway.said_at("worker ready", f"worker=joiner-{i}")[0]
        - worker.said_at("looking for the gateway")[0]
        for i, worker in enumerate(workers)
    ]
    print(f"{scheme}: ready {', '.join(f'{each * 1000:.0f}' for each in took)} ms after it dialled")
    assert max(took) < LENIENT


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_worker_may_be_started_before_its_gateway(site, scheme):
    site.use_scheme(scheme)
    worker = site.spawn_worker()
    worker.wait_for_line("looking for the gateway")
    gateway = site.start_gateway()
    (ready,) = gateway.wait_ready(1)
    assert ready["pid"] == worker.pid
    assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    assert answers_rightly(gateway, ONE, 3.0, 2.0)


def test_a_late_joiner_holds_the_weights_before_it_is_sent_a_request(site):
    gateway = site.start_gateway()
    site.spawn_worker("--name", "first")
    gateway.wait_ready(1)
    assert gateway.set_weights(ONE, padded(ONE, LARGE)).json["message"] == "OK"
    with run_load(gateway, clients=6) as load:
        wait_answered(load, 100)
        late = site.spawn_worker("--name", "late")
        gateway.wait_state(late.pid, "ready")
        wait_answered(load, 300)
    assert load.wrong == []
    assert {outcome.answer.headers["x-worker"] for outcome in load.outcomes} == {"first", "late"}
    assert late.said_at("weights loaded")[0] <= gateway.said_at("worker ready", "worker=late")[0]
    assert gateway.lines("version not held") == []


def way_of(worker: Worker, blob: bytes) -> str:
    """How the weights that a worker holds came to it, as the files that it has mapped tell."""
    mapped = [line.split(maxsplit=5) for line in Path(f"/proc/{worker.pid}/maps").read_text().splitlines()]
    sizes = {}
    for addresses, *_, path in (fields for fields in mapped if len(fields) == 6):
        begin, end = (int(address, 16) for address in addresses.split("-"))
        sizes[path] = sizes.get(path, 0) + end - begin
    large = {path for path, size in sizes.items() if size >= len(blob)}
    if any(path.endswith(hashlib.sha256(blob).hexdigest()) for path in large):
        return "by path"
    if any(path.endswith(" (deleted)") for path in large):
        return "in chunks"
    return "in the survey"


def check_delivery(site: Site, way: str) -> None:
    """Small weights, then large ones; to the workers that are there, and to one that comes late."""
    gateway = site.start_gateway(ephemeral=False)
    workers = [site.spawn_worker("--name", f"worker-{i}") for i in range(2)]
    gateway.wait_ready(2)
    assert gateway.set_weights(ONE, stored(ONE)).json["workers"] == [{"result": True}] * 2
    assert abs(expected(ONE, 3.0, 2.0) - expected(TWO, 3.0, 2.0)) > 1e-3
    assert answers_rightly(gateway, ONE, 3.0, 2.0)
    large = padded(TWO, LARGE)
    assert gateway.set_weights(TWO, large).json["workers"] == [{"result": True}] * 2
    workers.append(site.spawn_worker("--name", "worker-2"))
    gateway.wait_ready(3)
    assert [way_of(worker, large) for worker in workers] == [way] * 3
    answered_by = set()
    for i in range(60):
        answer = gateway.predict(3.0, i / 60)
        assert is_right(answer.json["result"], TWO, 3.0, i / 60)
        answered_by.add(answer.headers["x-worker"])
    assert answered_by == {"worker-0", "worker-1", "worker-2"}


@pytest.mark.parametrize("scheme", ["ws", "tcp"])
def test_weights_over_16_mib_reach_workers_anywhere_in_chunks(site, scheme):
    site.use_scheme(scheme)
    check_delivery(site, "in chunks")


def test_weights_over_16_mib_reach_workers_on_a_unix_socket_by_path(site):
    site.use_scheme("ipc")
    check_delivery(site, "by path")


def test_local_and_distant_workers_are_one_fleet(site):
    gateway = site.start_gateway("--workers", "1")
    site.spawn_worker("--name", "distant")
    gateway.wait_ready(2)
    for nn_id, blob in ((ONE, stored(ONE)), (TWO, padded(TWO, LARGE))):
        assert gateway.set_weights(nn_id, blob).json["workers"] == [{"result": True}] * 2
        answers = [gateway.predict(3.0, i / 40) for i in range(40)]
        assert all(is_right(a.json["result"], nn_id, 3.0, i / 40) for i, a in enumerate(answers))
        assert {answer.headers["x-worker"] for answer in answers} == {"local-0", "distant"}


def test_a_worker_that_dials_another_transport_is_told_why_it_stays_out(site):
    gateway = site.start_gateway()
    site.addr_worker = "tcp://127.0.0.1:9"
    worker = site.spawn_worker("--name", "strange")
    gateway.wait_for_line("no link for a worker", "worker=strange")
    shown = gateway.worker(worker.pid)
    assert shown["state"] == "joining"
    assert shown["trouble"] == "it dials tcp, and this gateway listens on ws, ipc"
    assert len(gateway.lines("no link for a worker")) == 1

"""end to end: a gateway and a worker by a file of settings, which they read again on SIGHUP."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from typing import Any

from tests.e2e.processes import ROOT, Gateway, Site, Worker, clean_environment, wait_for

AGAIN = "settings read again"


def hang_up(process: Gateway | Worker, said: str = AGAIN) -> str:
    """Send SIGHUP, and wait for the line that it brings."""
    before = len(process.lines(said))
    process.send(signal.SIGHUP)
    found: list[str] = wait_for(
        lambda: process.lines(said) if len(process.lines(said)) > before else None, "the settings are read"
    )
    return found[-1]


def scaling(gateway: Gateway) -> tuple[Any, ...]:
    shown = gateway.ask("GET", "/autoscaler").json
    return shown["min_workers"], shown["max_workers"], shown["policy"]["target_queue_ms"]


def test_a_gateway_goes_by_its_file_and_by_what_it_says_now_on_sighup(site: Site, tmp_path):
    file = tmp_path / "gateway.toml"
    first = "[limits]\nqueue_max = 11\ntimeout = 5\n[manager]\nmin_workers = 1\nmax_workers = 2\n"
    file.write_text(first)
    gateway = site.start_gateway("--config", str(file), "--timeout", "7")
    gateway.wait_ready(1)
    assert gateway.status()["queue_requests_max"] == 11
    assert scaling(gateway) == (1, 2, 100.0)

    file.write_text(
        "[limits]\nqueue_max = 12\ntimeout = 6\nmax_body = '1M'\n[process]\nlog_level = 'debug'\n"
        "[manager]\nmin_workers = 2\nmax_workers = 3\n[autoscaler]\ntarget_queue_ms = 50\n"
    )
    line = hang_up(gateway)
    assert "WARN" in line
    assert (
        'changed="log_level info -> debug, target_queue_ms 100.0 -> 50.0, min_workers 1 -> 2,'
        ' max_workers 2 -> 3, queue_max 11 -> 12" needs_restart="max_body 8 MiB -> 1 MiB"' in line
    )  # and not the timeout, which a flag says
    assert gateway.status()["queue_requests_max"] == 12
    assert scaling(gateway) == (2, 3, 50.0)
    gateway.wait_ready(2)

    file.write_text("[limits]\nqueue_max = 0\nmax_rowz = 1\n")
    line = hang_up(gateway, "settings stay as they are")
    assert f"{file}:2: queue_max must be 1 or more, not 0; {file}:3: there is no max_rowz in [limits]" in line
    assert gateway.status()["queue_requests_max"] == 12

    file.write_text(first)
    assert "needs_restart=nothing" in hang_up(gateway)
    assert scaling(gateway) == (1, 2, 100.0)
    assert gateway.ask("GET", "/status").status == 200


def test_a_change_over_rest_outlives_the_file_read_again(site: Site, tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text("[manager]\nmin_workers = 0\nmax_workers = 4\n")
    gateway = site.start_gateway(PIPELINE_CONFIG=str(file))
    assert gateway.ask("PUT", "/autoscaler", b'{"max_workers": 3}').status == 200
    file.write_text("[manager]\nmin_workers = 1\nmax_workers = 5\n")
    hang_up(gateway)
    assert scaling(gateway)[:2] == (1, 3)
    gateway.wait_ready(1)  # whose worker, in the same environment, has a file of another name, or none


def test_a_service_manager_is_told_when_clients_may_come(site: Site):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(site.folder / "notify"))
        told.settimeout(30)
        site.start_gateway(NOTIFY_SOCKET=str(site.folder / "notify"))
        assert told.recv(100) == b"READY=1"


def test_without_a_file_sighup_ends_a_gateway_as_a_terminal_that_closes_does(site: Site):
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup ignores, and children inherit that
    try:
        gateway = site.start_gateway()
    finally:
        signal.signal(signal.SIGHUP, before)
    gateway.send(signal.SIGHUP)
    assert gateway.wait() == -signal.SIGHUP


def test_a_worker_takes_its_log_level_from_its_file_and_says_what_waits(site: Site, tmp_path):
    file = tmp_path / "worker.toml"
    file.write_text(f"[addresses]\naddr_service = '{site.addr_service}'\n[workers]\ncache_size = 10\n")
    gateway = site.start_gateway()
    worker = site.spawn_worker("--config", str(file))
    gateway.wait_ready(1)
    file.write_text("[workers]\ncache_size = 20\n[process]\nlog_level = 'debug'\n")
    line = hang_up(worker)
    assert 'changed="log_level info -> debug" needs_restart="cache_size 10 -> 20"' in line
    file.write_text("[workers]\nqueue_max = 20\n")
    assert f"{file}:2: there is no queue_max in [workers]" in hang_up(worker, "settings stay as they are")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_file_that_makes_no_sense_starts_nothing(tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text("[limits]\nqueue_max = 0\ntimeout = 'soon'\n")
    done = subprocess.run(
        [sys.executable, "gw.py", "--config", str(file)], cwd=ROOT, env=clean_environment(),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.splitlines()) == (
        2,
        [
            f"gw.py: error: {file}:2: queue_max must be 1 or more, not 0",
            f"gw.py: error: {file}:3: timeout must be a number of seconds, not 'soon'",
        ],
    )

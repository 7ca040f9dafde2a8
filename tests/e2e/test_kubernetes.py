"""End to end: a gateway that orders its workers as Pods, of an API server that runs them here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import ROOT, Gateway, Site
from tests.e2e.weights import ONE, stored


@pytest.fixture
def config(site: Site) -> Iterator[Path]:
    """The kubeconfig of a cluster; at its end all its Pods end."""
    command = [sys.executable, "-m", "tests.services.fake_kubernetes", str(site.folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as cluster:
        assert cluster.stdout is not None
        assert cluster.stdout.readline().startswith("kubernetes at http://127.0.0.1:")
        yield site.folder / "kubeconfig"
        cluster.terminate()
        assert cluster.wait(20) == 0


def start(site: Site, config: Path, *flags: str) -> Gateway:
    """A gateway with two workers in Pods."""
    return site.start_gateway(
        "--launcher", "kubernetes", "--kubernetes_config", str(config), "--kubernetes_image", "pipeline:1",
        "--min_workers", "2", "--max_workers", "3", "--worker_cpus", "1", "--worker_memory", "1GiB", *flags,
    )  # fmt: skip


def incarnations(gateway: Gateway) -> dict[str, int]:
    """Of the workers that are ready, two of them: their names and pids."""
    return {worker["name"]: worker["pid"] for worker in gateway.wait_ready(2)}


def test_workers_in_pods_serve_and_are_replaced(site: Site, config: Path) -> None:
    gateway = start(site, config)
    before = incarnations(gateway)
    assert before.keys() == {"pipeline-0", "pipeline-1"}
    assert gateway.set_weights(ONE, stored(ONE)).json["status"] is True
    assert gateway.predict(0.3, 0.7).json["result"] == pytest.approx(1.0, abs=1e-3)
    os.kill(before["pipeline-0"], signal.SIGKILL)
    gateway.wait_for_line("worker ended", "worker=pipeline-0", "exit code 137")
    gateway.wait_state(before["pipeline-0"], None)
    after = incarnations(gateway)
    assert after["pipeline-1"] == before["pipeline-1"]
    assert gateway.predict(0.3, 0.7).json["result"] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.apart  # many processes start one after the other
def test_workers_outlive_their_gateway_and_serve_the_next_one(site: Site, config: Path) -> None:
    gateway = start(site, config)
    before = incarnations(gateway)
    gateway.kill()
    assert incarnations(start(site, config)) == before


def test_what_a_cluster_refuses_is_said_and_the_gateway_serves_on(site: Site, config: Path) -> None:
    text = config.read_text().replace('"secret"', '"expired"')
    config.write_text(text)
    gateway = start(site, config)
    gateway.wait_for_line("launcher in trouble", "(401)", "which may have expired")
    assert gateway.ask("GET", "/v2/health/live").status == 200
    assert gateway.ask("GET", "/v2/health/ready").status != 200


def test_without_a_cluster_it_says_so_and_ends(site: Site) -> None:
    gateway = site.spawn_gateway(
        "--launcher", "kubernetes", "--kubernetes_config", "/nowhere", "--min_workers", "1",
        "--kubernetes_image", "x",
    )  # fmt: skip
    assert gateway.wait() == 1
    assert gateway.output == "gw.py: /nowhere cannot be read: No such file or directory\n"


def test_flags_of_another_engine_are_refused(site: Site) -> None:
    gateway = site.spawn_gateway("--kubernetes_image", "x")
    assert gateway.wait() == 2
    assert gateway.output.endswith("--kubernetes_image is for --launcher kubernetes, and this is local\n")
    gateway = site.spawn_gateway("--worker_cpus", "2")
    assert gateway.wait() == 2
    assert gateway.output.endswith(
        "--worker_cpus is for ray and kubernetes: local workers take what there is\n"
    )

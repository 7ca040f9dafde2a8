"""A cluster that pretends to run Pods, and the launcher that orders them."""

from __future__ import annotations

import pytest

from gateway.launchers.kubernetes.launcher import open_kubernetes
from tests.services.fake_kubernetes import open_kubernetes_api, write_kubeconfig


@pytest.fixture
async def server(tmp_path):
    async with open_kubernetes_api(tmp_path) as server:
        yield server


@pytest.fixture
def cluster(server):
    return server.cluster


@pytest.fixture
async def launcher(server, tmp_path):
    config = write_kubeconfig(tmp_path / "kubeconfig", server)
    async with open_kubernetes("shop", config=config, image="pipeline:1") as launcher:
        yield launcher

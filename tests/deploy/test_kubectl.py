"""Collaboration: kubectl itself, against the API server that our tests use."""

from __future__ import annotations

import base64
import json
import ssl

import pytest
import trio
import yaml

from gateway.launchers.kubernetes.access import from_kubeconfig
from gateway.launchers.kubernetes.api import open_api
from gateway.launchers.kubernetes.launcher import KubernetesLauncher
from gateway.launchers.launcher import WorkerSpec
from tests.deploy.conftest import ROOT
from tests.services.certificates import Authority
from tests.services.fake_kubernetes import open_kubernetes_api, write_kubeconfig

pytestmark = pytest.mark.apart

MANIFESTS = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))


@pytest.fixture
async def server(tmp_path):
    authority = Authority()
    signed = authority.sign("server")
    (tmp_path / "server.pem").write_bytes(signed.certificate + signed.key)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "server.pem")
    trusted = {"certificate-authority-data": base64.b64encode(authority.certificate).decode()}
    async with open_kubernetes_api(tmp_path, tls=tls) as server:
        write_kubeconfig(tmp_path / "kubeconfig", server, **trusted)
        yield server


@pytest.fixture
def kubectl(run, server, tmp_path):
    """Runs it, and gives what it printed."""

    async def kubectl(*arguments):
        command = ("kubectl", "--kubeconfig", str(tmp_path / "kubeconfig"), *arguments)
        done = await trio.to_thread.run_sync(lambda: run(*command))
        assert done.returncode == 0, done.stderr
        return done.stdout

    return kubectl


@pytest.mark.parametrize("path", MANIFESTS, ids=[each.stem for each in MANIFESTS])
async def test_kubectl_would_create_every_object(kubectl, path):
    out = await kubectl("create", "--dry-run=client", "--validate=false", "-f", str(path))
    objects = [each for each in yaml.safe_load_all(path.read_text()) if each]
    assert len(out.splitlines()) == len(objects)
    assert all(line.endswith(" created (dry run)") for line in out.splitlines())


async def test_kubectl_and_the_launcher_see_the_same_pods(kubectl, server, tmp_path):
    async with open_api(from_kubeconfig(tmp_path / "kubeconfig")) as api:
        launcher = KubernetesLauncher(api, service="shop", image="pipeline:1", template={})
        [id] = await launcher.start(1, WorkerSpec(service="shop"))
        name = id.replace(".", "-")
        assert (
            await kubectl("get", "pods", "-l", "pipeline-inference/service=shop", "-o", "name")
            == f"pod/{name}\n"
        )
        [(_, pod)] = server.cluster.pods.items()
        copy = {"apiVersion": "v1", "kind": "Pod", "metadata": {**pod["metadata"]}, "spec": pod["spec"]}
        copy["metadata"]["name"] = "shop-9-9"
        copy["metadata"]["labels"] = pod["metadata"]["labels"] | {
            "pipeline-inference/slot": "9",
            "pipeline-inference/incarnation": "9",
        }
        (tmp_path / "pod.json").write_text(json.dumps(copy))
        await kubectl("create", "--validate=false", "-f", str(tmp_path / "pod.json"))
        launcher._pods.forget()
        assert list(await launcher.alive()) == [id, "shop-9.9"]
        await kubectl("delete", "pod", name, "--wait=false")
        launcher._pods.forget()
        assert list(await launcher.alive()) == ["shop-9.9"]

"""Collaboration: the five calls over real sockets, what befalls them, and what is said then."""

from __future__ import annotations

import base64
import json
import ssl

import pytest
import trio

from common.errors import LaunchError
from gateway.launchers.ids import WorkerId
from gateway.launchers.kubernetes import api as module
from gateway.launchers.kubernetes.access import Access, from_kubeconfig
from gateway.launchers.kubernetes.api import open_api
from gateway.launchers.kubernetes.pods import make_pod, selector
from gateway.launchers.launcher import WorkerSpec
from tests.services.certificates import Authority
from tests.services.fake_kubernetes import open_kubernetes_api, write_kubeconfig
from tests.services.kubernetes_cluster import Fault

PODS = selector("shop")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(module, "PAUSES", (0.0, 0.0))


def pod(slot=0):
    return make_pod(WorkerId("shop", slot, 1), WorkerSpec(), image="x", template={})


@pytest.fixture
async def api(server):
    access = Access(server=server.url, namespace="default", token=b"secret")
    async with open_api(access, call_timeout=30.0) as api:
        yield api


async def ask_all(api):
    """Every call once, in the order of the table below."""
    yield "list pods in namespace default", lambda: api.list_pods(PODS)
    yield "list pods in all namespaces", api.list_all_pods
    yield "list nodes in all namespaces", api.list_nodes
    yield "create pods in namespace default", lambda: api.create_pod(pod())
    yield "delete pods in namespace default", lambda: api.delete_pod("shop-0-1", 1)
    yield "get pods/log in namespace default", lambda: api.read_log("shop-0-1", "worker", 5)


async def test_a_pod_is_created_listed_and_deleted(api, cluster):
    assert await api.list_pods(PODS) == []
    await api.create_pod(pod())
    [listed] = await api.list_pods(PODS)
    assert listed == cluster.pods["default", "shop-0-1"]
    assert [each["metadata"]["name"] for each in await api.list_all_pods()] == ["shop-0-1"]
    assert [each["metadata"]["name"] for each in await api.list_nodes()] == ["one"]
    await api.delete_pod("shop-0-1", 1)
    assert await api.list_pods(PODS) == []


async def test_a_pod_that_is_there_and_one_that_is_gone_are_as_they_should_be(api, cluster):
    await api.create_pod(pod())
    await api.create_pod(pod())
    assert len(cluster.pods) == 1
    await api.delete_pod("shop-0-1", 1)
    await api.delete_pod("shop-0-1", 1)


async def test_a_list_of_many_pages_is_whole(api, cluster):
    cluster.page = 2
    for slot in range(5):
        await api.create_pod(pod(slot))
    names = [each["metadata"]["name"] for each in await api.list_pods(PODS)]
    assert names == [f"shop-{slot}-1" for slot in range(5)]
    assert cluster.calls.count("list pods") == 3


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_what_may_pass_is_tried_three_times(api, cluster, status):
    cluster.fail("create", *[Fault(status=status, message="etcd")] * 2)
    await api.create_pod(pod())
    cluster.fail("create", *[Fault(status=status, message="etcd")] * 3)
    with pytest.raises(LaunchError) as raised:
        await api.create_pod(pod(1))
    assert str(raised.value) == (
        f"the Kubernetes API refused to create pods in namespace default ({status}): etcd"
    )
    assert cluster.calls.count("create pods") == 6


async def test_what_cannot_pass_is_not_tried_again(api, cluster):
    with pytest.raises(LaunchError) as raised:
        await api.create_pod({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "X"}})
    assert str(raised.value) == (
        'the Kubernetes API refused to create pods in namespace default (422): Pod "X" is invalid:'
        " metadata.name: Invalid value: 'X': a lowercase RFC 1123 subdomain; spec.containers: Required value"
    )
    assert cluster.calls == ["create pods"]


async def test_a_permission_that_is_missing_is_named_for_every_call(api, cluster):
    await api.create_pod(pod())
    async for what, call in ask_all(api):
        verb, resource, _, where = what.split(" ", 3)
        cluster.forbidden = {(verb, resource)}
        with pytest.raises(LaunchError) as raised:
            await call()
        role = "Role" if where.startswith("namespace") else "ClusterRole"
        assert str(raised.value).startswith(
            f"the Kubernetes API refused to {what} (403):"
            f' a {role} has to allow the verb "{verb}" on "{resource}". It says: {resource} is forbidden'
        )


async def test_a_token_that_is_not_taken_is_said(server, tmp_path):
    (tmp_path / "token").write_text("old")
    access = Access(server=server.url, namespace="default", token=tmp_path / "token")
    async with open_api(access) as api:
        with pytest.raises(LaunchError) as raised:
            await api.list_pods(PODS)
        assert str(raised.value) == (
            "the Kubernetes API refused to list pods in namespace default (401): it does not take our token"
            " or certificate, which may have expired. It says: Unauthorized"
        )
        (tmp_path / "token").write_text("secret\n")  # the cluster has given out a new one
        assert await api.list_pods(PODS) == []


async def test_no_call_waits_for_ever(api, cluster, server, monkeypatch):
    api._timeout = 0.1
    async for what, call in ask_all(api):
        cluster.fail(what.split()[0], Fault(until=trio.Event()))
        with trio.fail_after(30), pytest.raises(LaunchError) as raised:
            await call()
        assert str(raised.value) == f"the Kubernetes API at {server.url} did not {what} within 0.1 s"


async def test_a_server_that_cuts_every_call_is_said_to_be_out_of_reach(api, cluster, server):
    async for what, call in ask_all(api):
        cluster.fail(what.split()[0], *[Fault(cut=True)] * 3)
        with pytest.raises(LaunchError) as raised:
            await call()
        assert str(raised.value) == (
            f"the Kubernetes API at {server.url} cannot be reached:"
            " Server disconnected without sending a response."
        )


async def test_where_nobody_listens_that_is_said(server):
    async with open_api(Access(server="http://127.0.0.1:1", namespace="default")) as api:
        with pytest.raises(LaunchError, match=r"http://127.0.0.1:1 cannot be reached: .*[cC]onnect"):
            await api.list_pods(PODS)


NONSENSE = [
    b"", b"<html>hello</html>", b"[]", b"{}", b'{"items":3,"metadata":{}}', b'{"items":[1],"metadata":{}}',
    b'{"items":[{}],"metadata":{"continue":1}}', b"\xff", b'{"kind":"Status"}',
]  # fmt: skip


@pytest.mark.parametrize("answer", NONSENSE)
@pytest.mark.parametrize("status", [200, 302, 404])
async def test_something_else_on_its_port_is_told_from_it(nursery, answer, status):
    async def serve(stream):
        await stream.receive_some(65536)
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(answer)}\r\n\r\n"
        await stream.send_all(head.encode() + answer)

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, serve, [listener])
    url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
    async with open_api(Access(server=url, namespace="default")) as api:
        with pytest.raises(LaunchError) as raised:
            await api.list_pods(PODS)
    what = "list pods in namespace default"
    if status == 200:
        assert str(raised.value) == f"{url} is no Kubernetes API: it answered, to {what}, {answer!r}"
    else:
        assert str(raised.value).startswith(f"the Kubernetes API refused to {what} ({status}): ")


async def test_an_empty_list_may_be_null(nursery):
    async def serve(stream):
        await stream.receive_some(65536)
        answer = b'{"items":null,"metadata":{"resourceVersion":"1"}}'
        await stream.send_all(b"HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, serve, [listener])
    url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
    async with open_api(Access(server=url, namespace="default")) as api:
        assert await api.list_pods(PODS) == []


def server_context(authority, tmp_path, *, wants_client):
    signed = authority.sign("server")
    (tmp_path / "server.pem").write_bytes(signed.certificate + signed.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.pem")
    if wants_client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as the API server, which is written in Go
        context.load_verify_locations(cadata=authority.certificate.decode())
    return context


async def test_tls_takes_the_clusters_authority_and_no_other_and_follows_a_new_one(tmp_path):
    authority, other = Authority(), Authority()
    tls = server_context(authority, tmp_path, wants_client=False)
    async with open_kubernetes_api(tmp_path, tls=tls) as server:
        (tmp_path / "ca.crt").write_bytes(other.certificate)
        access = Access(
            server=server.url, namespace="default", token=b"secret", authority=tmp_path / "ca.crt"
        )
        async with open_api(access) as api:
            with pytest.raises(LaunchError, match=r"cannot be reached: .*certificate verify failed"):
                await api.list_pods(PODS)
            (tmp_path / "ca.crt").write_bytes(authority.certificate)
            assert await api.list_pods(PODS) == []
            (tmp_path / "ca.crt").write_text("nonsense")
            with pytest.raises(LaunchError, match=f"the certificates for the Kubernetes API at {server.url}"):
                await api.list_pods(PODS)


async def test_a_client_certificate_of_a_kubeconfig_is_shown(tmp_path):
    def encoded(data):
        return base64.b64encode(data).decode()

    authority = Authority()
    client = authority.sign("me")
    tls = server_context(authority, tmp_path, wants_client=True)
    async with open_kubernetes_api(tmp_path, tls=tls) as server:
        trusted = {"certificate-authority-data": encoded(authority.certificate)}
        path = write_kubeconfig(tmp_path / "config", server, **trusted)
        async with open_api(from_kubeconfig(path)) as api:
            with pytest.raises(LaunchError, match="cannot be reached"):
                await api.list_pods(PODS)
        config = json.loads(path.read_text())
        config["users"][0]["user"] |= {
            "client-certificate-data": encoded(client.certificate),
            "client-key-data": encoded(client.key),
        }
        path.write_text(json.dumps(config))
        async with open_api(from_kubeconfig(path)) as api:
            assert await api.list_pods(PODS) == []

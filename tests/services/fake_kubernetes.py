"""A small Kubernetes API server over real sockets: Pods and nodes, as far as our launcher asks.

As a program it runs Pods as processes of this machine, until it is ended:

    python -m tests.services.fake_kubernetes DIRECTORY    # writes DIRECTORY/kubeconfig
"""

from __future__ import annotations

import json
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import h11
import trio

from tests.services.kubernetes_admission import Denied
from tests.services.kubernetes_cluster import Cluster, Fault

Json = dict[str, Any]


# What kubectl asks for before it does anything: which kinds there are, and where.
KINDS = {
    "v1": [
        ("configmaps", "ConfigMap"), ("nodes", "Node"), ("pods", "Pod"),
        ("serviceaccounts", "ServiceAccount"), ("services", "Service"),
    ],
    "apps/v1": [("deployments", "Deployment"), ("statefulsets", "StatefulSet")],
    "networking.k8s.io/v1": [("networkpolicies", "NetworkPolicy")],
    "policy/v1": [("poddisruptionbudgets", "PodDisruptionBudget")],
    "rbac.authorization.k8s.io/v1": [
        ("clusterroles", "ClusterRole"), ("clusterrolebindings", "ClusterRoleBinding"), ("roles", "Role"),
        ("rolebindings", "RoleBinding"),
    ],
}  # fmt: skip


class Cut(Exception):
    """Raised to close a connection without an answer."""


class Request(NamedTuple):
    """One call, taken apart."""

    method: str
    path: str
    parameters: dict[str, str]
    token: str
    body: bytes

    @property
    def parts(self) -> list[str]:
        return self.path.strip("/").split("/")

    @property
    def namespace(self) -> str:
        return self.parts[3] if self.parts[2:3] == ["namespaces"] else ""

    @property
    def resource(self) -> list[str]:
        """Its path behind the version and the namespace: ["pods", NAME, "log"]."""
        return self.parts[4:] if self.namespace else self.parts[2:]

    @property
    def verb(self) -> str:
        verbs = {"POST": "create", "DELETE": "delete", "GET": "list" if len(self.resource) == 1 else "get"}
        return verbs.get(self.method, "")


class ApiServer:
    """Answers calls from a cluster; `url` is where."""

    def __init__(self, cluster: Cluster, tls: ssl.SSLContext | None) -> None:
        self.cluster = cluster
        self.url = ""
        self._tls = tls

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        scheme = "https" if self._tls else "http"
        self.url = f"{scheme}://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        await trio.serve_listeners(self._connection, listeners, task_status=task_status)

    async def _connection(self, stream: trio.abc.Stream) -> None:
        if self._tls is not None:
            stream = trio.SSLStream(stream, self._tls, server_side=True, https_compatible=True)
        connection = h11.Connection(h11.SERVER)
        async with stream:
            try:
                while True:
                    await self._answer(connection, stream, await read_request(connection, stream))
                    connection.start_next_cycle()
            except (Cut, trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError):
                pass

    async def _answer(self, connection: h11.Connection, stream: trio.abc.Stream, request: Request) -> None:
        try:
            status, content = await self._carry_out(request)
        except Denied as denied:
            status = denied.code
            message = {
                "kind": "Status",
                "status": "Failure",
                "reason": denied.reason,
                "message": denied.message,
            }
            content = {"apiVersion": "v1", "metadata": {}, **message, "code": status}
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        for each in (h11.Response(status_code=status, headers=headers), h11.Data(body), h11.EndOfMessage()):
            await stream.send_all(connection.send(each) or b"")

    async def _carry_out(self, request: Request) -> tuple[int, Json | str]:
        """Who asks, what befalls this call, whether it is allowed; and then what it says."""
        cluster, kind = self.cluster, "".join(request.resource[:1])
        if request.token != cluster.token:
            raise Denied(401, "Unauthorized", "Unauthorized")
        if request.path in DISCOVERY:
            return 200, DISCOVERY[request.path]
        if len(request.resource) > 2:
            kind = f"{kind}/{request.resource[2]}"
        cluster.calls.append(f"{request.verb} {kind}")
        waiting = cluster.faults.get(request.verb)
        fault = waiting.popleft() if waiting else Fault()
        if fault.until is not None:
            await fault.until.wait()
        if fault.cut:
            raise Cut
        if fault.status:
            raise Denied(fault.status, "Fault", fault.message)
        if (request.verb, kind) in cluster.forbidden:
            raise Denied(403, "Forbidden", forbidden(request, kind))
        answer = self._carried_out(request)
        if fault.lose:
            raise Cut
        return answer

    def _carried_out(self, request: Request) -> tuple[int, Json | str]:
        cluster = self.cluster
        match request.method, request.resource:
            case "GET", ["nodes"]:
                return 200, self._page("NodeList", list(cluster.nodes.values()), request)
            case "GET", ["pods"]:
                pods = [pod for _, pod in sorted(cluster.pods.items()) if selects(request, pod)]
                return 200, self._page("PodList", pods, request)
            case "POST", ["pods"]:
                return 201, cluster.create(request.namespace, json.loads(request.body))
            case "DELETE", ["pods", name]:
                grace = json.loads(request.body or b"{}").get("gracePeriodSeconds")
                return 200, cluster.delete(request.namespace, name, grace)
            case "GET", ["pods", name]:
                return 200, self._pod(request, name)
            case "GET", ["pods", name, "log"]:
                return 200, self._log(request, name)
        raise Denied(404, "NotFound", "the server could not find the requested resource")

    def _pod(self, request: Request, name: str) -> Json:
        pod = self.cluster.pods.get((request.namespace, name))
        if pod is None:
            raise Denied(404, "NotFound", f'pods "{name}" not found')
        return pod

    def _log(self, request: Request, name: str) -> str:
        pod = self._pod(request, name)
        if not self.cluster.log(pod).exists():
            waiting = f'container "worker" in pod "{name}" is waiting to start: ContainerCreating'
            raise Denied(400, "BadRequest", waiting)
        lines = self.cluster.log(pod).read_text(errors="replace").splitlines(keepends=True)
        return "".join(lines[-int(request.parameters["tailLines"]) :])

    def _page(self, kind: str, items: list[Json], request: Request) -> Json:
        """As many items as were asked for, from where the page before ended."""
        start = int(request.parameters.get("continue", 0))
        end = start + (self.cluster.page or int(request.parameters.get("limit", 0)) or len(items))
        more = {"continue": str(end)} if end < len(items) else {}
        return {"kind": kind, "apiVersion": "v1", "metadata": more, "items": items[start:end]}


def discovery() -> dict[str, Json]:
    """By path, what the API server says of itself."""
    groups = []
    documents: dict[str, Json] = {"/api": {"kind": "APIVersions", "versions": ["v1"]}}
    for version, kinds in KINDS.items():
        resources = [
            {
                "name": name,
                "kind": kind,
                "singularName": kind.lower(),
                "namespaced": name != "nodes" and not name.startswith("cluster"),
                "verbs": ["create", "delete", "get", "list"],
            }
            for name, kind in kinds
        ]
        path = f"/apis/{version}" if "/" in version else f"/api/{version}"
        documents[path] = {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
        if "/" in version:
            each = {"groupVersion": version, "version": version.partition("/")[2]}
            group = {"name": version.partition("/")[0], "versions": [each], "preferredVersion": each}
            groups.append(group)
    return documents | {"/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}}


DISCOVERY = discovery()


def forbidden(request: Request, kind: str) -> str:
    """How the real one says so."""
    who = 'User "system:serviceaccount:default:pipeline"'
    where = f'in the namespace "{request.namespace}"' if request.namespace else "at the cluster scope"
    return f'{kind} is forbidden: {who} cannot {request.verb} resource "{kind}" in API group "" {where}'


def selects(request: Request, pod: Json) -> bool:
    """Whether the namespace and the selectors of a list are of this Pod."""
    labels = pod["metadata"].get("labels", {})
    fields = {"spec.nodeName": pod["spec"].get("nodeName", ""), "status.phase": pod["status"]["phase"]}
    if request.namespace not in ("", pod["metadata"]["namespace"]):
        return False
    for each in filter(None, request.parameters.get("labelSelector", "").split(",")):
        name, equals, value = each.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    for each in filter(None, request.parameters.get("fieldSelector", "").split(",")):
        name, _, value = each.partition("!=")
        if fields[name] == value:
            return False
    return True


async def read_request(connection: h11.Connection, stream: trio.abc.Stream) -> Request:
    """The next one on a connection; `Cut` when there is none."""
    head, body = None, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(65536))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            parts = urlsplit(head.target.decode())
            token = dict(head.headers).get(b"authorization", b"").decode().removeprefix("Bearer ")
            return Request(head.method.decode(), parts.path, dict(parse_qsl(parts.query)), token, body)
        else:
            raise Cut


@asynccontextmanager
async def open_kubernetes_api(
    directory: Path, *, runs: bool = False, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ApiServer]:
    """An API server on a free port, with one node of 16 cores; at the end all its processes are killed."""
    async with trio.open_nursery() as nursery:
        server = ApiServer(Cluster(directory, nursery, runs), tls)
        server.cluster.add_node("one", cpu="16", memory="32Gi")
        await nursery.start(server.serve)
        yield server
        nursery.cancel_scope.cancel()


def write_kubeconfig(path: Path, server: ApiServer, namespace: str = "default", **cluster: str) -> Path:
    """What kubectl would be given to reach it."""
    named = {"server": server.url, **cluster}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fake",
        "contexts": [{"name": "fake", "context": {"cluster": "here", "user": "me", "namespace": namespace}}],
        "clusters": [{"name": "here", "cluster": named}],
        "users": [{"name": "me", "user": {"token": server.cluster.token}}],
    }
    path.write_text(json.dumps(config))
    return path


async def main(directory: Path) -> None:
    """Serve until ended."""
    async with open_kubernetes_api(directory, runs=True) as server:
        path = write_kubeconfig(directory / "kubeconfig", server)
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            print(f"kubernetes at {server.url}, kubeconfig {path}", flush=True)
            await anext(aiter(signals))


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]))

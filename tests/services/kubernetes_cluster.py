"""A Kubernetes cluster in memory, as far as one that orders bare Pods can tell: admission, a scheduler that
knows what nodes have, and a kubelet that runs Pods as local processes (or says that it does).

What it says and does is as the real one's: names, statuses, reasons and the words of its messages.
"""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import trio

from tests.services.kubernetes_admission import Denied, admit, amount, requests

Json = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
TAIL = 2048  # bytes of its log that a failed container's message holds


@dataclass
class Fault:
    """What happens to one call: an answer of its own, none at all (before it is carried out, or after),
    or none for a while."""

    status: int = 0
    message: str = ""
    cut: bool = False
    lose: bool = False
    until: trio.Event | None = None


@dataclass
class Cluster:
    """Everything that the API server knows, for tests to read and to change.

    `faults` holds, by verb, what happens to the next calls; `forbidden` the (verb, resource) that RBAC does
    not allow; `quota` the most Pods. Nodes in `silent` keep what they run, and say nothing.
    """

    directory: Path
    nursery: trio.Nursery
    runs: bool = False
    token: str = "secret"
    nodes: dict[str, Json] = field(default_factory=dict)
    pods: dict[tuple[str, str], Json] = field(default_factory=dict)
    faults: dict[str, deque[Fault]] = field(default_factory=dict)
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    quota: int | None = None
    silent: set[str] = field(default_factory=set)
    missing_images: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    page: int | None = None
    _processes: dict[str, trio.Process] = field(default_factory=dict)
    _versions: Any = field(default_factory=lambda: itertools.count(1))

    def add_node(
        self, name: str, *, labels: Json | None = None, taints: list[Json] | None = None, **has: str
    ) -> None:
        """A node that is ready; `has` as in cpu="4", memory="8Gi", gpu="2"."""
        if "gpu" in has:
            has["nvidia.com/gpu"] = has.pop("gpu")
        self.nodes[name] = {
            "metadata": {"name": name, "labels": labels or {}},
            "spec": {"taints": taints} if taints else {},
            "status": {
                "allocatable": {"pods": "110", **has},
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
        self.schedule()

    def fail(self, verb: str, *faults: Fault) -> None:
        """What happens to the next calls of this verb."""
        self.faults.setdefault(verb, deque()).extend(faults)

    def create(self, namespace: str, pod: Json) -> Json:
        """Admit a Pod, and look for a node for it."""
        admit(pod, namespace)
        name = pod["metadata"]["name"]
        if (namespace, name) in self.pods:
            raise Denied(409, "AlreadyExists", f'pods "{name}" already exists')
        if self.quota is not None and len(self.pods) >= self.quota:
            used = f"requested: pods=1, used: pods={len(self.pods)}, limited: pods={self.quota}"
            raise Denied(403, "Forbidden", f'pods "{name}" is forbidden: exceeded quota: few, {used}')
        pod["metadata"] |= {
            "namespace": namespace,
            "uid": str(uuid.uuid4()),
            "resourceVersion": str(next(self._versions)),
            "creationTimestamp": now(),
        }
        pod["spec"].setdefault("terminationGracePeriodSeconds", 30)
        pod["status"] = {"phase": "Pending"}
        self.pods[namespace, name] = pod
        self.schedule()
        return pod

    def schedule(self) -> None:
        """Give every Pod that waits the first node with room, and start it there."""
        for pod in [each for each in self.pods.values() if "nodeName" not in each["spec"]]:
            node = next((name for name in self.nodes if self._has_room(name, pod)), None)
            if node is None:
                message = (
                    f"0/{len(self.nodes)} nodes are available: {len(self.nodes)} Insufficient resources."
                )
                condition = {"status": "False", "reason": "Unschedulable", "message": message}
                pod["status"]["conditions"] = [{"type": "PodScheduled", **condition}]
            else:
                pod["spec"]["nodeName"] = node
                pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "True"}]
                self._launch(pod)

    def _has_room(self, node: str, pod: Json) -> bool:
        if self.nodes[node]["spec"].get("taints"):
            return False
        here = [
            each for each in self.pods.values() if each["spec"].get("nodeName") == node and not ended(each)
        ]
        has = self.nodes[node]["status"]["allocatable"]
        if len(here) + 1 > int(has["pods"]):
            return False
        return all(
            sum(requests(each).get(name, 0) for each in here) + wanted <= amount(has.get(name, "0"))
            for name, wanted in requests(pod).items()
        )

    def _launch(self, pod: Json) -> None:
        image = container_of(pod)["image"]
        if image in self.missing_images:
            waits(pod, "ImagePullBackOff", f'Back-off pulling image "{image}"')
        elif self.runs:
            waits(pod, "ContainerCreating", "")
            self.nursery.start_soon(self._run, pod)
        else:
            runs(pod)

    async def _run(self, pod: Json) -> None:
        """The kubelet's part: the container's process, its log, and how it ended."""
        container, uid = container_of(pod), pod["metadata"]["uid"]
        command = [*container.get("command", ()), *container.get("args", ())]
        command = [sys.executable, *command[1:]] if command[0] == "python" else command
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.directory)}
        environment |= {each["name"]: each["value"] for each in container.get("env", ())}
        with self.log(pod).open("wb") as file:
            start = partial(
                trio.lowlevel.open_process, command,
                cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip
            try:
                process = self._processes[uid] = await start()
            except OSError as error:
                ends(pod, 128, "StartError", str(error))
                return
        runs(pod)
        if pod not in self.pods.values():  # deleted before it had begun
            process.kill()
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()
            del self._processes[uid]
        self.end(
            pod["metadata"]["name"], 128 - code if code < 0 else code, namespace=pod["metadata"]["namespace"]
        )

    def end(
        self, name: str, code: int, reason: str = "", message: str = "", namespace: str = "default"
    ) -> None:
        """A Pod's container has ended."""
        pod = self.pods.get((namespace, name))
        if pod is None or ended(pod):
            return
        log = self.log(pod)
        if code and not message and log.exists():
            message = log.read_text(errors="replace")[-TAIL:]
        ends(pod, code, reason or ("Error" if code else "Completed"), message)
        if "deletionTimestamp" in pod["metadata"]:
            self._remove(pod)
        self.schedule()

    def kill(self, name: str, namespace: str = "default") -> None:
        """What the kernel does to a container that wants too much memory."""
        pod = self.pods[namespace, name]
        process = self._processes.get(pod["metadata"]["uid"])
        if process is not None:
            process.kill()
        self.end(name, 137, "OOMKilled", " ", namespace)

    def delete(self, namespace: str, name: str, grace: int | None) -> Json:
        """Ask a Pod to end, or to end sooner; without grace, forget it."""
        pod = self.pods.get((namespace, name))
        if pod is None:
            raise Denied(404, "NotFound", f'pods "{name}" not found')
        seconds = pod["spec"]["terminationGracePeriodSeconds"] if grace is None else grace
        pod["metadata"] |= {"deletionTimestamp": now(seconds), "deletionGracePeriodSeconds": seconds}
        is_placed = "nodeName" in pod["spec"] and not ended(pod)
        if is_placed and seconds and pod["spec"]["nodeName"] in self.silent:
            return pod
        process = self._processes.get(pod["metadata"]["uid"])
        if is_placed and process is not None and seconds:
            process.terminate()
            self.nursery.start_soon(self._kill_later, process, seconds)
        else:
            self._remove(pod)
        return pod

    async def _kill_later(self, process: trio.Process, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await process.wait()
            return
        process.kill()

    def _remove(self, pod: Json) -> None:
        self.pods.pop((pod["metadata"]["namespace"], pod["metadata"]["name"]), None)
        self.schedule()

    def log(self, pod: Json) -> Path:
        """Where its container's output is."""
        return self.directory / f"{pod['metadata']['uid']}.log"

    def pid(self, name: str, namespace: str = "default") -> int:
        """The process of a Pod that runs."""
        return self._processes[self.pods[namespace, name]["metadata"]["uid"]].pid


def now(seconds: float = 0) -> str:
    return (datetime.now(timezone.utc) + timedelta(seconds=math.ceil(seconds))).strftime("%Y-%m-%dT%H:%M:%SZ")


def container_of(pod: Json) -> Json:
    """The container that is run; the others are only admitted."""
    found: Json = next(each for each in pod["spec"]["containers"] if each["name"] == "worker")
    return found


def ended(pod: Json) -> bool:
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def set_state(pod: Json, phase: str, state: Json) -> None:
    pod["status"]["phase"] = phase
    pod["status"]["containerStatuses"] = [{"name": "worker", "ready": "running" in state, "state": state}]


def waits(pod: Json, reason: str, message: str) -> None:
    """Its container cannot be started, or not yet."""
    set_state(pod, "Pending", {"waiting": {"reason": reason, "message": message}})


def runs(pod: Json) -> None:
    """Its container has been started."""
    set_state(pod, "Running", {"running": {"startedAt": now()}})


def ends(pod: Json, code: int, reason: str, message: str) -> None:
    """Its container has ended, and with it the Pod: none of ours is started again."""
    ended = {"exitCode": code, "reason": reason, "message": message, "finishedAt": now()}
    set_state(pod, "Failed" if code else "Succeeded", {"terminated": ended})

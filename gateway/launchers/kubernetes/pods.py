"""The Pod of a worker: what is ordered, what it is called, and what its status means. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from common.errors import LaunchError
from gateway.launchers.ids import WorkerId
from gateway.launchers.kubernetes.quantities import cores, whole
from gateway.launchers.launcher import Launched, LaunchState, WorkerSpec

Json = dict[str, Any]

CONTAINER = "worker"
GPU = "nvidia.com/gpu"
# Ours begin with a domain of their own, as those of everybody but the cluster have to.
SERVICE, SLOT, INCARNATION = (f"pipeline-inference/{each}" for each in ("service", "slot", "incarnation"))

MAX_SERVICE = 34  # of a name's 63 characters; the rest is for 9 digits of slot, 18 of incarnation, 2 hyphens
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_RESOURCE = re.compile(
    r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?|ephemeral-storage|hugepages-\w+"
)

# Lists whose elements are told apart by one of their fields, as `kubectl apply` merges them.
_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
}

# What a Pod is where neither a template nor the order says otherwise.
_DEFAULTS: Json = {
    # A bare Pod keeps a cluster autoscaler from removing its node, unless it says that it may go.
    "metadata": {"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}},
    "spec": {
        "automountServiceAccountToken": False,
        # Else the variables of a Service called pipeline look like settings of ours, and mistyped ones.
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": CONTAINER,
                "command": ["python", "worker.py"],
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                    "privileged": False,
                    "readOnlyRootFilesystem": True,
                },
                # The end of its log is kept with its exit code: the Pod is deleted as soon as it is known.
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # nosec B108  # of the pod alone
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    },
}


def service_label(service: str) -> str:
    """A service's name as a DNS label: itself where it is one, else what is left of it and a digest."""
    if _LABEL.fullmatch(service) and len(service) <= MAX_SERVICE:
        return service
    digest = hashlib.blake2b(service.encode(), digest_size=4).hexdigest()
    kept = re.sub(r"[^a-z0-9]+", "-", service.lower())[: MAX_SERVICE - 9].strip("-")
    return f"{kept}-{digest}" if kept else digest


def pod_name(id: WorkerId) -> str:
    """A DNS label, as it becomes the host name inside; no two ids have the same."""
    return f"{service_label(id.service)}-{id.slot}-{id.incarnation}"


def selector(service: str) -> str:
    """What the Pods of a service's workers are found by."""
    return f"{SERVICE}={service_label(service)},{SLOT},{INCARNATION}"


def read_id(pod: Json, service: str) -> WorkerId | None:
    """The id of a Pod's worker; None where its labels are not ours."""
    labels = pod["metadata"].get("labels") or {}
    slot, incarnation = labels.get(SLOT, ""), labels.get(INCARNATION, "")
    return (
        WorkerId(service, int(slot), int(incarnation))
        if slot.isdecimal() and incarnation.isdecimal()
        else None
    )


def make_pod(id: WorkerId, spec: WorkerSpec, *, image: str | None, template: Json) -> Json:
    """The Pod to create. The template stands where the order says nothing; `LaunchError` where it cannot be
    said in a Pod."""
    container: Json = {
        "name": CONTAINER,
        "args": ["--name", id.name, "--incarnation", str(id.incarnation), *spec.arguments],
        "env": [{"name": name, "value": value} for name, value in spec.environment.items()],
        "resources": _resources(spec),
        **({"image": image} if image else {}),
    }
    labels = {
        "app.kubernetes.io/name": "pipeline",
        "app.kubernetes.io/component": "worker",
        "app.kubernetes.io/managed-by": "pipeline-gateway",
        SERVICE: service_label(id.service),
        SLOT: str(id.slot),
        INCARNATION: str(id.incarnation),
    }
    ours: Json = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod_name(id), "labels": labels},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    pod: Json = merge(merge(_DEFAULTS, template), ours)
    return pod


def check_template(template: Json) -> None:
    """`ValueError` with the rest of a sentence where a Pod cannot be made of a template."""
    strange = template.keys() - {"apiVersion", "kind", "metadata", "spec"}
    if strange or template.get("kind", "Pod") != "Pod":
        raise ValueError("should be a Pod: kind, metadata and spec, and nothing beside them")
    spec = template.get("spec", {})
    if not isinstance(spec, dict) or not isinstance(template.get("metadata", {}), dict):
        raise ValueError("should have mappings for metadata and spec")
    for each, key in _named_lists(spec):
        if not isinstance(each, dict) or not isinstance(each.get(key), str):
            raise ValueError(f"should give each element of its lists a {key}, and one has none: {each}")


def names_image(template: Json) -> bool:
    """Whether a template that was checked says what image workers run."""
    containers = template.get("spec", {}).get("containers") or ()
    return any(each["name"] == CONTAINER and each.get("image") for each in containers)


def _named_lists(spec: Json) -> Iterator[tuple[Any, str]]:
    """Every element that `merge` looks for by a field, and the field."""
    for name, key in _KEYS.items():
        if not isinstance(spec.get(name) or [], list):
            raise ValueError(f"should have a list for {name}")
        for each in spec.get(name) or ():
            yield each, key
            if isinstance(each, dict):
                yield from _named_lists(each)


def _resources(spec: WorkerSpec) -> Json:
    """Cores are a share (a limit would only slow a worker that has idle neighbours); the rest is a bound."""
    try:
        bounds = {name: whole(amount, name) for name, amount in spec.resources.items()}
        if spec.gpus:
            bounds[GPU] = whole(spec.gpus, "GPUs")
    except ValueError as error:
        raise LaunchError(f"no Pod can be ordered: {error}") from None
    wrong = [name for name in bounds if not _RESOURCE.fullmatch(name)]
    if wrong:
        raise LaunchError(f"no Pod can be ordered: {wrong[0]!r} is no resource: write example.com/fpga")
    if spec.memory is not None:
        bounds["memory"] = str(spec.memory)
    requests = {**({"cpu": cores(spec.cpus)} if spec.cpus else {}), **bounds}
    return {"requests": requests, "limits": bounds}


def merge(under: Any, over: Any, key: str = "") -> Any:
    """`over`, and what only `under` says: in mappings, and in lists of things that have names."""
    if isinstance(under, Mapping) and isinstance(over, Mapping):
        both = {name: merge(under[name], over[name], name) for name in under if name in over}
        return {**under, **over, **both}
    if isinstance(under, list) and isinstance(over, list) and key in _KEYS:
        field = _KEYS[key]
        named = {each[field]: each for each in under}
        added = {each[field]: merge(named.get(each[field], {}), each) for each in over}
        return [*(named | added).values()]
    return over


def read_state(pod: Json) -> Launched | None:
    """What a Pod's status says of its worker; None of one that is being deleted: the order is out already,
    by us or by whoever drains its node, and its place is free."""
    if pod["metadata"].get("deletionTimestamp"):
        return None
    status = pod.get("status") or {}
    phase = status.get("phase", "Pending")
    containers = {each["name"]: each for each in status.get("containerStatuses") or ()}
    state = containers.get(CONTAINER, {}).get("state") or {}
    if phase in ("Failed", "Succeeded") or "terminated" in state:
        return Launched(LaunchState.GONE, _ending(status, state.get("terminated") or {}))
    if "running" in state:
        return Launched(LaunchState.RUNNING, "its node does not answer" if phase == "Unknown" else "")
    return Launched(LaunchState.PENDING, unschedulable(pod) or _said(state.get("waiting") or {}))


def unschedulable(pod: Json) -> str:
    """Why no node has room for a Pod; empty where one has, or nobody has looked yet."""
    for each in (pod.get("status") or {}).get("conditions") or ():
        if (each["type"], each["status"], each.get("reason")) == ("PodScheduled", "False", "Unschedulable"):
            return _said(each)
    return ""


def _ending(status: Json, ended: Json) -> str:
    """How it ended: the container's story where there is one, else the Pod's (Evicted, DeadlineExceeded)."""
    if not ended:
        return _said(status) or str(status["phase"])
    code = f"exit code {ended.get('exitCode')}"
    reason = ended.get("reason", "")
    how = code if reason in ("", "Error", "Completed") else f"{reason} ({code})"
    last = (ended.get("message") or "").strip().rpartition("\n")[2]
    return f"{how}: {last}" if last else how


def _said(each: Json) -> str:
    return ": ".join(text for text in (each.get("reason"), each.get("message")) if text)

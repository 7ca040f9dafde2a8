"""pure: the Pod of a worker, what a template adds, and what its status means."""

from __future__ import annotations

import pytest

from common.errors import LaunchError
from gateway.launchers.ids import WorkerId
from gateway.launchers.kubernetes.pods import (
    check_template,
    make_pod,
    names_image,
    pod_name,
    read_id,
    read_state,
    selector,
    service_label,
    unschedulable,
)
from gateway.launchers.launcher import Launched, LaunchState, WorkerSpec
from tests.services.kubernetes_admission import LABEL, admit

ID = WorkerId("shop", 3, 1795278459123)


def make(spec=None, *, id=ID, image="pipeline:1", template=None):
    pod = make_pod(id, spec or WorkerSpec(service=id.service), image=image, template=template or {})
    admit(pod, "default")
    return pod


def worker_of(pod):
    [container] = [each for each in pod["spec"]["containers"] if each["name"] == "worker"]
    return container


def test_a_pod_says_whose_worker_it_is_and_runs_it_once():
    pod = make(
        WorkerSpec(service="shop", arguments=("--addr_service", "ws://gw:54000"), environment={"A": "1"})
    )
    assert pod["metadata"]["name"] == "shop-3-1795278459123"
    assert pod["metadata"]["labels"] == {
        "app.kubernetes.io/name": "pipeline",
        "app.kubernetes.io/component": "worker",
        "app.kubernetes.io/managed-by": "pipeline-gateway",
        "pipeline-inference/service": "shop",
        "pipeline-inference/slot": "3",
        "pipeline-inference/incarnation": "1795278459123",
    }
    assert pod["spec"]["restartPolicy"] == "Never"
    worker = worker_of(pod)
    assert worker["command"] == ["python", "worker.py"]
    assert worker["args"] == [
        "--name", "shop-3", "--incarnation", "1795278459123", "--addr_service", "ws://gw:54000",
    ]  # fmt: skip
    assert worker["env"] == [{"name": "A", "value": "1"}]
    assert worker["image"] == "pipeline:1"


def test_a_pod_may_do_nothing_that_a_worker_need_not():
    pod = make()
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["enableServiceLinks"] is False
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert worker_of(pod)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
    }


def test_its_id_is_read_back_from_its_labels():
    assert read_id(make(), "shop") == ID
    assert read_id({"metadata": {}}, "shop") is None
    assert read_id({"metadata": {"labels": {"pipeline-inference/slot": "3"}}}, "shop") is None
    assert selector("shop") == (
        "pipeline-inference/service=shop,pipeline-inference/slot,pipeline-inference/incarnation"
    )


@pytest.mark.parametrize("service", ["Shop", "shop_eu", "a.b", "über", "-x-", "x" * 35, "日本", "a" * 300])
def test_a_service_of_any_name_has_a_label_of_its_own(service):
    label = service_label(service)
    assert LABEL.fullmatch(label)
    assert len(label) <= 34
    assert label != service_label(service + "x")
    pod = make(id=WorkerId(service, 999_999_999, 10**18 - 1))
    assert len(pod["metadata"]["name"]) <= 63


def test_names_that_differ_only_in_what_dns_has_no_letters_for_stay_apart():
    assert len({service_label(each) for each in ("Shop", "shop", "SHOP", "shop.", "shop-")}) == 5
    assert pod_name(WorkerId("a", 1, 23)) != pod_name(WorkerId("a-1", 2, 3))


def test_cores_are_asked_for_and_everything_else_is_bounded_too():
    spec = WorkerSpec(
        cpus=0.25, gpus=2, memory=3 << 30, resources={"example.com/fpga": 1, "ephemeral-storage": 1e9}
    )
    bounds = {
        "nvidia.com/gpu": "2",
        "example.com/fpga": "1",
        "ephemeral-storage": "1000000000",
        "memory": "3221225472",
    }
    assert worker_of(make(spec))["resources"] == {"requests": {"cpu": "250m", **bounds}, "limits": bounds}


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (WorkerSpec(gpus=0.5), "no Pod can be ordered: Kubernetes gives GPUs whole, not 0.5 of one"),
        (
            WorkerSpec(resources={"example.com/fpga": 1.5}),
            "no Pod can be ordered: Kubernetes gives example.com/fpga whole, not 1.5 of one",
        ),
        (
            WorkerSpec(resources={"my gpu": 1}),
            "no Pod can be ordered: 'my gpu' is no resource: write example.com/fpga",
        ),
        (
            WorkerSpec(resources={"fpga": 1}),
            "no Pod can be ordered: 'fpga' is no resource: write example.com/fpga",
        ),
    ],
)
def test_what_kubernetes_cannot_give_is_refused_with_a_sentence(spec, sentence):
    with pytest.raises(LaunchError) as raised:
        make_pod(ID, spec, image="x", template={})
    assert str(raised.value) == sentence


TEMPLATE = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"labels": {"team": "search", "pipeline-inference/slot": "9"}, "annotations": {"a": "b"}},
    "spec": {
        "restartPolicy": "Always",
        "nodeSelector": {"disk": "fast"},
        "securityContext": {"runAsUser": 2000},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "volumes": [{"name": "models", "emptyDir": {}}],
        "containers": [
            {"name": "logs", "image": "logs:1", "securityContext": {
                "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}},
            {
                "name": "worker",
                "image": "other:2",
                "command": ["pipeline-worker"],
                "args": ["--nonsense"],
                "env": [{"name": "A", "value": "theirs"}, {"name": "B", "value": "2"}],
                "volumeMounts": [{"name": "models", "mountPath": "/models"}],
            },
        ],
    },
}  # fmt: skip


def test_a_template_says_what_the_order_does_not_and_nothing_that_it_does():
    pod = make(WorkerSpec(service="shop", environment={"A": "1"}), template=TEMPLATE)
    assert pod["metadata"]["labels"]["team"] == "search"
    assert pod["metadata"]["labels"]["pipeline-inference/slot"] == "3"
    assert pod["metadata"]["annotations"]["a"] == "b"
    spec = pod["spec"]
    assert spec["restartPolicy"] == "Never"
    assert spec["nodeSelector"] == {"disk": "fast"}
    assert (spec["securityContext"]["runAsUser"], spec["securityContext"]["runAsNonRoot"]) == (2000, True)
    assert sorted(each["name"] for each in spec["containers"]) == ["logs", "worker"]
    worker = worker_of(pod)
    assert worker["image"] == "pipeline:1"
    assert worker["command"] == ["pipeline-worker"]
    assert worker["args"] == ["--name", "shop-3", "--incarnation", "1795278459123"]
    assert worker["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    assert [each["mountPath"] for each in worker["volumeMounts"]] == ["/tmp", "/models"]
    assert [each["name"] for each in spec["volumes"]] == ["tmp", "models"]
    assert worker_of(make(image=None, template=TEMPLATE))["image"] == "other:2"


def test_merging_changes_no_template():
    before = repr(TEMPLATE)
    make(template=TEMPLATE)
    assert repr(TEMPLATE) == before


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ({"kind": "Deployment"}, "should be a Pod: kind, metadata and spec, and nothing beside them"),
        ({"replicas": 3}, "should be a Pod: kind, metadata and spec, and nothing beside them"),
        ({"spec": []}, "should have mappings for metadata and spec"),
        ({"metadata": 3}, "should have mappings for metadata and spec"),
        ({"spec": {"containers": {"name": "x"}}}, "should have a list for containers"),
        (
            {"spec": {"containers": ["worker"]}},
            "should give each element of its lists a name, and one has none: worker",
        ),
        (
            {"spec": {"containers": [{"name": "worker", "env": [{"value": "x"}]}]}},
            "should give each element of its lists a name, and one has none: {'value': 'x'}",
        ),
    ],
)
def test_a_template_that_no_pod_can_be_made_of_is_refused_with_a_sentence(template, sentence):
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - its sentence is compared
        check_template(template)
    assert str(raised.value) == sentence


def test_a_template_may_name_the_image():
    assert names_image(TEMPLATE)
    assert not names_image({})
    assert not names_image({"spec": {"containers": [{"name": "main", "image": "x"}, {"name": "worker"}]}})


def status(phase, state=None, **more):
    containers = [{"name": "logs", "state": {"running": {}}}, {"name": "worker", "state": state}]
    known = {"containerStatuses": containers} if state else {}
    return {"metadata": {}, "status": {"phase": phase, **known, **more}}


UNSCHEDULABLE = {
    "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
    "message": "0/2 nodes are available: 2 Insufficient nvidia.com/gpu.",
}  # fmt: skip


@pytest.mark.parametrize(
    ("pod", "launched"),
    [
        ({"metadata": {}}, Launched(LaunchState.PENDING)),
        (status("Pending"), Launched(LaunchState.PENDING)),
        (
            status("Pending", conditions=[{"type": "Ready", "status": "False"}, UNSCHEDULABLE]),
            Launched(
                LaunchState.PENDING,
                "Unschedulable: 0/2 nodes are available: 2 Insufficient nvidia.com/gpu.",
            ),
        ),
        (
            status("Pending", {"waiting": {"reason": "ContainerCreating"}}),
            Launched(LaunchState.PENDING, "ContainerCreating"),
        ),
        (
            status("Pending", {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling"}}),
            Launched(LaunchState.PENDING, "ImagePullBackOff: Back-off pulling"),
        ),
        (status("Running", {"running": {}}), Launched(LaunchState.RUNNING)),
        (
            status("Unknown", {"running": {}}),
            Launched(LaunchState.RUNNING, "its node does not answer"),
        ),
        (
            status("Succeeded", {"terminated": {"exitCode": 0, "reason": "Completed"}}),
            Launched(LaunchState.GONE, "exit code 0"),
        ),
        (
            status("Failed", {"terminated": {"exitCode": 2, "message": "usage\nno flag\n"}}),
            Launched(LaunchState.GONE, "exit code 2: no flag"),
        ),
        (
            status("Failed", {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
            Launched(LaunchState.GONE, "OOMKilled (exit code 137)"),
        ),
        (
            status("Running", {"terminated": {"exitCode": 1, "reason": "Error"}}),  # a sidecar goes on
            Launched(LaunchState.GONE, "exit code 1"),
        ),
        (
            status("Failed", reason="Evicted", message="The node was low on resource: memory."),
            Launched(LaunchState.GONE, "Evicted: The node was low on resource: memory."),
        ),
        (status("Failed"), Launched(LaunchState.GONE, "Failed")),
    ],
)  # fmt: skip
def test_a_status_means(pod, launched):
    assert read_state(pod) == launched


def test_a_pod_that_is_being_deleted_is_nobodys_any_more():
    pod = status("Running", {"running": {}})
    pod["metadata"]["deletionTimestamp"] = "2026-11-21T10:00:00Z"
    assert read_state(pod) is None


def test_no_room_is_told_from_other_waiting():
    assert unschedulable(status("Pending", conditions=[UNSCHEDULABLE])).startswith("Unschedulable: 0/2")
    gated = {**UNSCHEDULABLE, "reason": "SchedulingGated"}
    assert unschedulable(status("Pending", conditions=[gated])) == ""
    assert unschedulable(status("Pending")) == ""

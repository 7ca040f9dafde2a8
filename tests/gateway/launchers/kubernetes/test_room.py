"""pure: amounts as Kubernetes writes them, and how many Pods find room."""

from __future__ import annotations

from fractions import Fraction

import pytest

from gateway.launchers.kubernetes.quantities import cores, parse_quantity, whole
from gateway.launchers.kubernetes.room import count_room, requested


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", 0),
        ("4", 4),
        ("500m", Fraction(1, 2)),
        ("1.5", Fraction(3, 2)),
        (".5", Fraction(1, 2)),
        ("2.", 2),
        ("100n", Fraction(1, 10_000_000)),
        ("250u", Fraction(1, 4000)),
        ("1k", 1000),
        ("1Ki", 1024),
        ("1.5Gi", 3 << 29),
        ("16384Mi", 16 << 30),
        ("2M", 2_000_000),
        ("1E", 10**18),
        ("1Ei", 1 << 60),
        ("2e3", 2000),
        ("12E-1", Fraction(6, 5)),
        ("-1", -1),
    ],
)
def test_a_quantity_is(text, amount):
    assert parse_quantity(text) == amount


@pytest.mark.parametrize("text", ["", "m", "1 Gi", "1gi", "1K", "1mi", "one", "1e", "1e999", "٣", "0x1"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(ValueError, match=r"is no quantity: write 2, 500m or 1.5Gi"):
        parse_quantity(text)


def test_cores_are_rounded_up_to_thousandths():
    assert [cores(each) for each in (1, 0.25, 0.1, 2.0005, 0.0001)] == [
        "1000m",
        "250m",
        "100m",
        "2001m",
        "1m",
    ]


def test_what_is_whole_stays_so():
    assert whole(2.0, "GPUs") == "2"
    with pytest.raises(ValueError, match=r"\AKubernetes gives GPUs whole, not 0.5 of one\Z"):
        whole(0.5, "GPUs")


def pod(*, on=None, phase="Running", spec=None, **asks):
    return {
        "metadata": {"name": "x"},
        "spec": {
            "nodeName": on,
            "containers": [{"name": "c", "resources": {"requests": asks}}],
            **(spec or {}),
        },
        "status": {"phase": phase},
    }


def node(name, *, labels=None, ready="True", spec=None, **has):
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": spec or {},
        "status": {
            "allocatable": {"pods": "110", **has},
            "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": ready}],
        },
    }


def test_room_is_counted_node_by_node():
    nodes = [node("a", cpu="4", memory="8Gi"), node("b", cpu="3500m", memory="2Gi")]
    assert count_room(pod(cpu="1500m"), nodes, []) == 2 + 2  # and not the 5 that their sum has room for
    assert count_room(pod(cpu="1500m", memory="2Gi"), nodes, []) == 2 + 1


def test_what_pods_asked_for_is_taken_while_they_are_there():
    nodes = [node("a", cpu="4")]
    there = [
        pod(on="a", cpu="2"),
        pod(on="a", cpu="8", phase="Succeeded"),
        pod(on="other", cpu="4"),
        pod(cpu="4"),
    ]
    assert count_room(pod(cpu="1"), nodes, there) == 2


def test_a_node_that_is_too_full_already_has_no_less_than_no_room():
    nodes = [node("a", cpu="1"), node("b", cpu="1")]
    assert count_room(pod(cpu="1"), nodes, [pod(on="a", cpu="5")]) == 1


def test_nodes_without_a_resource_have_none_of_it():
    assert count_room(pod(**{"nvidia.com/gpu": "1"}), [node("a", cpu="64")], []) == 0


def test_a_node_holds_only_so_many_pods():
    assert count_room(pod(cpu="1m"), [node("a", cpu="64", pods="3")], [pod(on="a")]) == 2


@pytest.mark.parametrize(
    ("node", "room"),
    [
        (node("a", cpu="1"), 1),
        (node("a", cpu="1", ready="False"), 0),
        (node("a", cpu="1", ready="Unknown"), 0),
        (node("a", cpu="1", spec={"unschedulable": True}), 0),
        (node("a", cpu="1", spec={"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}), 0),
        (node("a", cpu="1", spec={"taints": [{"key": "k", "effect": "NoExecute"}]}), 0),
        (node("a", cpu="1", spec={"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}), 1),
    ],
)
def test_a_node_that_takes_no_pods_has_no_room(node, room):
    assert count_room(pod(cpu="1"), [node], []) == room


@pytest.mark.parametrize(
    ("toleration", "room"),
    [
        ({"key": "k", "operator": "Exists"}, 1),
        ({"operator": "Exists"}, 1),
        ({"key": "k", "value": "v"}, 1),
        ({"key": "k", "value": "v", "effect": "NoSchedule"}, 1),
        ({"key": "k", "value": "w"}, 0),
        ({"key": "k", "value": "v", "effect": "NoExecute"}, 0),
        ({"key": "j", "operator": "Exists"}, 0),
    ],
)
def test_a_taint_is_tolerated_by(toleration, room):
    tainted = node("a", cpu="1", spec={"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]})
    assert count_room(pod(cpu="1", spec={"tolerations": [toleration]}), [tainted], []) == room


def test_only_nodes_that_are_selected_count():
    nodes = [node("a", cpu="1", labels={"disk": "fast"}), node("b", cpu="1")]
    assert count_room(pod(cpu="1", spec={"nodeSelector": {"disk": "fast"}}), nodes, []) == 1


def test_a_pod_takes_what_its_containers_take_together_or_one_before_them_alone():
    def asks(cpu, **more):
        return {"resources": {"requests": {"cpu": cpu}}, **more}

    spec = {
        "containers": [asks("1"), asks("500m"), {"resources": {"limits": {"cpu": "500m"}}}, {}],
        "initContainers": [asks("2"), asks("1", restartPolicy="Always")],
        "overhead": {"cpu": "250m"},
    }
    assert requested({"spec": spec}) == {"cpu": Fraction(13, 4), "pods": 1}
    spec["initContainers"].append(asks("7"))
    assert requested({"spec": spec}) == {"cpu": Fraction(29, 4), "pods": 1}
